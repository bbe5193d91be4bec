// A client that opens connections as fast as it can and writes down every one of them, and the
// server that tells it where it arrived. The record is what the churn test checks against the
// history of changes, so times are CLOCK_MONOTONIC, which all processes of a machine share.
//
//   weft_load serve --name a --port 9000 --port 9001      prints "listening", then serves until
//   SIGTERM weft_load connect --to 10.96.0.1:80 --to ... --count 1000 --output FILE
//
// A line of the record: start_ns end_ns target errno answer, where `target` counts --to from 0,
// end_ns is when connect() returned, errno is 0 or the first error, and answer is "name:port" or
// "-".

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

volatile std::sig_atomic_t stop_wanted = 0;

struct Target {
  sockaddr_storage address{};
  socklen_t length = 0;
};

struct Attempt {
  std::int64_t start_ns = 0;
  std::int64_t end_ns = 0;
  std::size_t target = 0;
  int error = 0;
  std::array<char, 32> answer{};  // "-" where there was none
};

std::int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "weft_load: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

// "10.0.0.1:80" or "[fd00::1]:80".
Target parse_target(const std::string& text) {
  Target target;
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) {
    errno = EINVAL;
    die("no port in " + text);
  }
  const auto port = htons(static_cast<std::uint16_t>(std::stoul(text.substr(colon + 1))));
  if (text.front() == '[') {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&target.address);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = port;
    target.length = sizeof(*v6);
    if (inet_pton(AF_INET6, text.substr(1, colon - 2).c_str(), &v6->sin6_addr) != 1) die(text);
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&target.address);
    v4->sin_family = AF_INET;
    v4->sin_port = port;
    target.length = sizeof(*v4);
    if (inet_pton(AF_INET, text.substr(0, colon).c_str(), &v4->sin_addr) != 1) die(text);
  }
  return target;
}

// The server's greeting; 0 or an errno.
int read_answer(int fd, std::array<char, 32>& answer) {
  const auto got = recv(fd, answer.data(), answer.size() - 1, 0);
  if (got < 0) return errno;
  if (got == 0) return ECONNRESET;
  answer[static_cast<std::size_t>(got)] = '\0';
  answer[std::strcspn(answer.data(), "\n")] = '\0';
  return 0;
}

Attempt attempt(const Target& target, std::size_t index) {
  Attempt result;
  result.target = index;
  result.answer[0] = '-';
  const int fd = socket(target.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  const timeval guard{10, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &guard, sizeof(guard));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &guard, sizeof(guard));  // also bounds connect()
  const linger reset{1, 0};  // leaves no TIME_WAIT: the local ports last for a minute of this
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  result.start_ns = now_ns();
  const int connected =
      connect(fd, reinterpret_cast<const sockaddr*>(&target.address), target.length);
  result.error = connected == 0 ? 0 : errno;
  result.end_ns = now_ns();
  if (connected == 0) result.error = read_answer(fd, result.answer);
  close(fd);
  return result;
}

void write_record(const std::string& path, const std::vector<Attempt>& attempts) {
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (!file) die(path);
  for (const auto& a : attempts)
    std::fprintf(file, "%lld %lld %zu %d %s\n", static_cast<long long>(a.start_ns),
                 static_cast<long long>(a.end_ns), a.target, a.error, a.answer.data());
  if (std::fclose(file) != 0) die(path);
}

int run_connect(const std::vector<std::string>& texts, std::size_t count,
                const std::string& output) {
  std::vector<Target> targets;
  for (const auto& text : texts) targets.push_back(parse_target(text));
  std::vector<Attempt> attempts;
  for (std::size_t i = 0; !stop_wanted && (count == 0 || i < count); ++i) {
    const auto result = attempt(targets[i % targets.size()], i % targets.size());
    if (stop_wanted && result.error == EINTR) break;  // our own signal, not an outcome
    attempts.push_back(result);
    if (i == 0) {
      std::puts("started");
      std::fflush(stdout);
    }
  }
  write_record(output, attempts);
  return 0;
}

int listen_at(std::uint16_t port) {
  const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  const int on = 1;
  const int off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(port);
  if (bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof(any)) != 0)
    die("bind " + std::to_string(port));
  if (listen(fd, 4096) != 0) die("listen");
  return fd;
}

void watch(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
}

// Greets everybody who waits at the listener, and keeps the connection until the client ends it.
void accept_all(int epoll, int listener, const std::string& greeting) {
  for (;;) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    if (send(fd, greeting.data(), greeting.size(), MSG_NOSIGNAL) < 0)
      close(fd);
    else
      watch(epoll, fd);
  }
}

int run_serve(const std::string& name, const std::vector<std::uint16_t>& ports) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  std::unordered_map<int, std::string> greetings;  // by listener
  for (const auto port : ports) {
    const int fd = listen_at(port);
    greetings[fd] = name + ":" + std::to_string(port) + "\n";
    watch(epoll, fd);
  }
  std::puts("listening");
  std::fflush(stdout);
  std::array<epoll_event, 64> events{};
  while (!stop_wanted) {
    const int ready = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < ready; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      const auto greeting = greetings.find(fd);
      if (greeting != greetings.end())
        accept_all(epoll, fd, greeting->second);
      else
        close(fd);  // end of file, reset or bytes nobody asked for: the conversation is over
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Opens connections, records each; or greets them.");
  app.require_subcommand(1);
  std::string name;
  std::vector<std::uint16_t> ports;
  auto* serve = app.add_subcommand("serve", "greet every connection with NAME:PORT");
  serve->add_option("--name", name)->required();
  serve->add_option("--port", ports)->required();
  std::vector<std::string> targets;
  std::size_t count = 0;
  std::string output;
  auto* connect = app.add_subcommand("connect", "connect to the targets in turn");
  connect->add_option("--to", targets)->required();
  connect->add_option("--count", count, "0: until SIGTERM");
  connect->add_option("--output", output)->required();
  CLI11_PARSE(app, argc, argv);

  // Without SA_RESTART, so that epoll_wait() returns.
  struct sigaction action {};
  action.sa_handler = [](int) { stop_wanted = 1; };
  sigaction(SIGTERM, &action, nullptr);
  return *serve ? run_serve(name, ports) : run_connect(targets, count, output);
}
