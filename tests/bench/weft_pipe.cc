// Two processes and one connection between them: transactions or a stream, and what they cost.
//
//   weft_pipe rr|stream SIZE SECONDS ADDR:PORT [SERVER-NETNS]
//
// The server is a child, in that network namespace if one is named; both are in the caller's
// cgroup. `rr`: SIZE bytes there and SIZE back, one at a time. `stream`: writes of SIZE bytes one
// way. Prints one JSON line: operations, seconds, and the CPU time (user and system) of both
// processes, to which the kernel charges what they cause.
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/bench/sockets.h"

namespace {

using weft::bench::connect_to;
using weft::bench::die;
using weft::bench::now_ns;
using weft::bench::parse_address;

double cpu_seconds(int who) {
  rusage usage{};
  getrusage(who, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void send_all(int fd, const char* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const auto sent = send(fd, data + done, size - done, MSG_NOSIGNAL);
    if (sent <= 0) die("send");
    done += static_cast<std::size_t>(sent);
  }
}

// False at the end of the stream.
bool receive_all(int fd, char* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const auto got = recv(fd, data + done, size - done, 0);
    if (got < 0) die("recv");
    if (got == 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return true;
}

// One byte each way first: an address is known to be of this node once it has accepted.
[[noreturn]] void serve(int listener, bool echo, std::size_t size) {
  std::vector<char> data(std::max<std::size_t>(size, 256 << 10));
  for (int i = 0; i < 2; ++i) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) die("accept");
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (receive_all(fd, data.data(), 1)) send_all(fd, data.data(), 1);
    if (echo) {
      while (receive_all(fd, data.data(), size)) send_all(fd, data.data(), size);
    } else {
      while (recv(fd, data.data(), data.size(), 0) > 0) {
      }
    }
    close(fd);
  }
  _exit(0);
}

int dial(const sockaddr_in& target) {
  const int fd = connect_to(target);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  char byte = 0;
  send_all(fd, &byte, 1);
  if (!receive_all(fd, &byte, 1)) die("the server closed");
  return fd;
}

struct Result {
  std::uint64_t ops = 0;
  double seconds = 0;
};

Result run(int fd, bool echo, std::size_t size, double seconds) {
  std::vector<char> data(size, 'w');
  Result result;
  const auto begun = now_ns();
  const auto end = begun + static_cast<std::int64_t>(seconds * 1e9);
  do {
    for (int i = 0; i < 64; ++i, ++result.ops) {
      send_all(fd, data.data(), size);
      if (echo && !receive_all(fd, data.data(), size)) die("the server closed");
    }
  } while (now_ns() < end);
  if (!echo) {
    shutdown(fd, SHUT_WR);
    while (recv(fd, data.data(), 1, 0) > 0) {
    }
  }
  result.seconds = static_cast<double>(now_ns() - begun) * 1e-9;
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() < 4 || words.size() > 5 || (words[0] != "rr" && words[0] != "stream")) {
    std::fputs("usage: weft_pipe rr|stream SIZE SECONDS ADDR:PORT [SERVER-NETNS]\n", stderr);
    return 2;
  }
  const bool echo = words[0] == "rr";
  const std::size_t size = std::stoul(words[1]);
  const auto target = parse_address(words[3]);
  int ready[2];
  if (pipe2(ready, O_CLOEXEC)) die("pipe");
  const pid_t server = fork();
  if (server < 0) die("fork");
  if (server == 0) {
    if (words.size() == 5) {
      const int netns = open(words[4].c_str(), O_RDONLY | O_CLOEXEC);
      if (netns < 0 || setns(netns, CLONE_NEWNET)) die("cannot enter the server's namespace");
    }
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, reinterpret_cast<const sockaddr*>(&target), sizeof target) ||
        listen(listener, 16))
      die("cannot listen");
    if (write(ready[1], "r", 1) != 1) die("pipe");
    serve(listener, echo, size);
  }
  close(ready[1]);
  char byte;
  if (read(ready[0], &byte, 1) != 1) die("the server did not start");
  close(dial(target));
  const int fd = dial(target);
  const double before = cpu_seconds(RUSAGE_SELF);
  const auto result = run(fd, echo, size, std::stod(words[2]));
  const double client = cpu_seconds(RUSAGE_SELF) - before;
  close(fd);
  int status = 0;
  waitpid(server, &status, 0);
  std::printf("{\"ops\":%llu,\"seconds\":%.6f,\"client_cpu\":%.6f,\"server_cpu\":%.6f}\n",
              static_cast<unsigned long long>(result.ops), result.seconds, client,
              cpu_seconds(RUSAGE_CHILDREN));
  return status ? 1 : 0;
}
