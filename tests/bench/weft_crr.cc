// The load of scripts/bench: connects, requests and configuration changes, timed from the client's
// side.
//
//   weft_crr serve ADDR:PORT ...            answers every 'C' with one byte and closes, every 'R'
//   with one byte weft_crr crr SECONDS ADDR:PORT ...      connect, request, answer, close, over and
//   over; targets in turn weft_crr rr SECONDS ADDR:PORT           request and answer on one
//   connection weft_crr propagate ROUNDS ADDR:PORT FILE A B
//       FILE becomes a copy of A and of B by turns (rename over); time until a connect() reaches
//       another server than before
//
// The answer is the last byte of the address that the client reached. Prints one JSON object. A
// C-like program on blocking sockets: between two clock reads there is a system call and nothing
// else.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

namespace {

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "weft_crr: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

std::int64_t now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ll + time.tv_nsec;
}

std::int64_t cpu_ns() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto ns = [](const timeval& t) { return t.tv_sec * 1000000000ll + t.tv_usec * 1000ll; };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

sockaddr_in parse(const std::string& text) {
  sockaddr_in address{};
  const auto colon = text.rfind(':');
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(text.c_str() + colon + 1)));
  if (colon == std::string::npos ||
      inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1) {
    errno = EINVAL;
    die(text.c_str());
  }
  return address;
}

void serve_one(int fd) {
  char request;
  const ssize_t got = read(fd, &request, 1);
  if (got <= 0) {
    if (got == 0 || errno != EAGAIN) close(fd);
    return;
  }
  sockaddr_in own{};
  socklen_t length = sizeof own;
  getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length);
  const char answer = static_cast<char>(ntohl(own.sin_addr.s_addr) & 255);
  if (write(fd, &answer, 1) != 1 || request == 'C') close(fd);
}

int serve(const std::vector<std::string>& addresses) {
  const int epoll = epoll_create1(0);
  std::vector<int> listeners;
  for (const auto& text : addresses) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const auto address = parse(text);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) || listen(fd, 4096))
      die("listen");
    epoll_event event{EPOLLIN, {.fd = fd}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    listeners.push_back(fd);
  }
  std::puts("ready");
  std::fflush(stdout);
  epoll_event events[64];
  for (;;) {
    const int count = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (std::find(listeners.begin(), listeners.end(), fd) == listeners.end()) {
        serve_one(fd);
        continue;
      }
      const int accepted = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK);
      if (accepted < 0) continue;
      const int on = 1;
      setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      epoll_event event{EPOLLIN, {.fd = accepted}};
      epoll_ctl(epoll, EPOLL_CTL_ADD, accepted, &event);
    }
  }
}

int dial(const sockaddr_in& to, std::int64_t* took) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  const auto begin = now_ns();
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to)) die("connect");
  if (took) *took = now_ns() - begin;
  return fd;
}

int ask(int fd, char request) {
  unsigned char answer;
  if (send(fd, &request, 1, MSG_NOSIGNAL) != 1 || recv(fd, &answer, 1, 0) != 1) die("request");
  return answer;
}

void print_quantiles(const char* name, std::vector<std::int64_t>& values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    return values.empty()
               ? 0
               : values[std::min(values.size() - 1, static_cast<std::size_t>(q * values.size()))];
  };
  std::printf("\"%s\":{\"p10\":%ld,\"p50\":%ld,\"p90\":%ld,\"p99\":%ld,\"max\":%ld}", name, at(.1),
              at(.5), at(.9), at(.99), at(1));
}

int crr(double seconds, const std::vector<std::string>& targets) {
  std::vector<sockaddr_in> to;
  for (const auto& target : targets) to.push_back(parse(target));
  std::vector<std::int64_t> connects;
  connects.reserve(1 << 20);
  const auto begin = now_ns(), end = begin + static_cast<std::int64_t>(seconds * 1e9);
  const auto cpu = cpu_ns();
  std::size_t count = 0;
  for (; now_ns() < end; ++count) {
    std::int64_t took;
    const int fd = dial(to[count % to.size()], &took);
    connects.push_back(took);
    ask(fd, 'C');
    close(fd);
  }
  std::printf("{\"ops\":%zu,\"seconds\":%.6f,\"cpu_ns\":%ld,", count, (now_ns() - begin) / 1e9,
              cpu_ns() - cpu);
  print_quantiles("connect_ns", connects);
  std::puts("}");
  return 0;
}

int rr(double seconds, const std::string& target) {
  const int fd = dial(parse(target), nullptr);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const auto begin = now_ns(), end = begin + static_cast<std::int64_t>(seconds * 1e9);
  const auto cpu = cpu_ns();
  std::size_t count = 0;
  for (; now_ns() < end; ++count) ask(fd, 'R');
  std::printf("{\"ops\":%zu,\"seconds\":%.6f,\"cpu_ns\":%ld}\n", count, (now_ns() - begin) / 1e9,
              cpu_ns() - cpu);
  return 0;
}

std::string read_all(const char* path) {
  std::string bytes;
  FILE* file = std::fopen(path, "r");
  if (!file) die(path);
  char buffer[4096];
  for (std::size_t got; (got = std::fread(buffer, 1, sizeof buffer, file)) > 0;)
    bytes.append(buffer, got);
  std::fclose(file);
  return bytes;
}

int propagate(int rounds, const std::string& target, const char* path, const char* a,
              const char* b) {
  const auto to = parse(target);
  const std::string contents[] = {read_all(a), read_all(b)};
  const std::string temporary = std::string(path) + ".tmp";
  std::vector<std::int64_t> took;
  const auto reach = [&] {
    const int fd = dial(to, nullptr);
    const int who = ask(fd, 'C');
    close(fd);
    return who;
  };
  for (int round = 0; round < rounds; ++round) {
    const int before = reach();
    FILE* file = std::fopen(temporary.c_str(), "w");
    if (!file) die(temporary.c_str());
    const auto& bytes = contents[round % 2];
    if (std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || std::fclose(file))
      die("write");
    const auto begin = now_ns();
    if (std::rename(temporary.c_str(), path)) die("rename");
    const auto guard = begin + 10'000'000'000ll;
    std::int64_t at;
    do {
      at = now_ns();
      if (at > guard) {
        errno = ETIMEDOUT;
        die("the change was never seen");
      }
    } while (reach() == before);
    took.push_back(at - begin);
  }
  std::printf("{\"rounds\":%d,", rounds);
  print_quantiles("propagation_ns", took);
  std::puts("}");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const auto mode = words.empty() ? std::string() : words[0];
  if (mode == "serve" && words.size() > 1) return serve({words.begin() + 1, words.end()});
  if (mode == "crr" && words.size() > 2)
    return crr(std::atof(argv[2]), {words.begin() + 2, words.end()});
  if (mode == "rr" && words.size() == 3) return rr(std::atof(argv[2]), words[2]);
  if (mode == "propagate" && words.size() == 6)
    return propagate(std::atoi(argv[2]), words[2], argv[4], argv[5], argv[6]);
  std::fprintf(
      stderr,
      "usage: weft_crr serve ADDR:PORT... | crr SECONDS ADDR:PORT... | rr SECONDS ADDR:PORT | "
      "propagate ROUNDS ADDR:PORT FILE A B\n");
  return 2;
}
