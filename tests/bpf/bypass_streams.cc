#include "tests/bpf/bypass_streams.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

namespace weft::tests {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kCycle = 61;  // a prime: no buffer, page or segment is a multiple of it
constexpr int kHangMilliseconds = 60'000;

// The bytes of a writer, over and over: from kCycle of its beginnings a message may begin.
const std::string& pattern(unsigned writer) {
  static const auto patterns = [] {
    std::array<std::string, 4> all;
    for (unsigned w = 0; w < all.size(); ++w)
      for (std::size_t n = 0; n < (1 << 20) + kCycle; ++n)
        all[w].push_back(static_cast<char>(w << 6 | n % kCycle));
    return all;
  }();
  return patterns[writer];
}

std::string text_of_errno(const char* call) {
  return std::string(call) + ": " + std::strerror(errno);
}

bool wait_for(int fd, short events) {
  pollfd waited{fd, events, 0};
  return poll(&waited, 1, kHangMilliseconds) == 1;
}

// All magnitudes alike, so that a stream has tiny messages and huge ones.
std::size_t draw_size(std::mt19937& random, std::size_t most) {
  const unsigned bits = std::bit_width(most);
  const std::size_t below = std::size_t{1} << (1 + random() % bits);
  return std::min<std::size_t>(1 + random() % below, most);
}

std::string send_all(int fd, const char* data, std::size_t size) {
  while (size) {
    const ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN && wait_for(fd, POLLOUT)) continue;
    if (sent <= 0) return text_of_errno("send");
    data += sent;
    size -= static_cast<std::size_t>(sent);
  }
  return "";
}

// Readiness, as each way to ask for it tells it.
class Readiness {
 public:
  Readiness(int fd, Reading reading) : fd_(fd), reading_(reading) {
    if (reading == Reading::kBlocking) return;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (reading != Reading::kEpollLevel && reading != Reading::kEpollEdge) return;
    epoll_ = base::Fd(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = reading == Reading::kEpollEdge ? EPOLLIN | EPOLLRDHUP | EPOLLET : EPOLLIN;
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  }

  bool wait() {
    epoll_event event{};
    if (epoll_) return epoll_wait(epoll_.get(), &event, 1, kHangMilliseconds) == 1;
    if (reading_ != Reading::kSelect) return wait_for(fd_, POLLIN);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd_, &set);
    timeval patience{kHangMilliseconds / 1000, 0};
    return select(fd_ + 1, &set, nullptr, nullptr, &patience) == 1;
  }
  bool until_again() const { return reading_ == Reading::kEpollEdge; }

 private:
  int fd_;
  Reading reading_;
  base::Fd epoll_;
};

// fork() without exec(): the child shares the socket.
std::string write_in_a_process(int fd, unsigned writer, const Traffic& traffic) {
  pattern(writer);
  const pid_t child = fork();
  if (!child) _exit(write_stream(fd, writer, traffic, nullptr).empty() ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  return status ? "a writing process failed" : "";
}

}  // namespace

std::string make_bytes(unsigned writer, std::uint64_t n, std::size_t size) {
  return pattern(writer).substr(n % kCycle, size);
}

std::string check_bytes(const char* data, std::size_t size, Heard& heard) {
  for (std::size_t i = 0; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(data[i]);
    const unsigned writer = byte >> 6;
    const auto wanted = heard.from[writer]++ % kCycle;
    if ((byte & 63) == wanted) continue;
    return "writer " + std::to_string(writer) + " at " + std::to_string(heard.from[writer] - 1) +
           ": " + std::to_string(byte & 63) + " instead of " + std::to_string(wanted);
  }
  return "";
}

std::string write_stream(int fd, unsigned writer, const Traffic& traffic, std::mutex* mutex) {
  std::mt19937 random(traffic.seed * 8 + writer);
  for (std::uint64_t done = 0; done < traffic.bytes;) {
    const auto size =
        std::min<std::uint64_t>(draw_size(random, traffic.most), traffic.bytes - done);
    std::unique_lock<std::mutex> lock;
    if (mutex) lock = std::unique_lock(*mutex);
    auto wrong = send_all(fd, pattern(writer).data() + done % kCycle, size);
    if (!wrong.empty()) return wrong + " after " + std::to_string(done);
    if (lock) lock.unlock();
    done += size;
    if (traffic.pauses && random() % 256 == 0)
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
  }
  return "";
}

Heard read_stream(int fd, Reading reading) {
  const timeval patience{kHangMilliseconds / 1000, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  Heard heard;
  Readiness readiness(fd, reading);
  std::vector<char> buffer(128 << 10);
  std::mt19937 random(fd);
  for (bool ready = reading == Reading::kBlocking;;) {
    if (!ready && !readiness.wait()) return heard.wrong = "nothing became readable", heard;
    const auto began = Clock::now();
    const auto got = recv(fd, buffer.data(), 1 + random() % buffer.size(), 0);
    if (got == 0) return heard;
    if (got < 0 && errno != EAGAIN) return heard.wrong = text_of_errno("recv"), heard;
    if (got < 0 && reading == Reading::kBlocking) {
      if (Clock::now() - began > std::chrono::milliseconds(kHangMilliseconds - 1000))
        return heard.wrong = "nothing to read", heard;
      ++heard.again;
      continue;
    }
    ready = got > 0 && readiness.until_again();
    ready = ready || reading == Reading::kBlocking;
    if (got < 0) continue;
    heard.wrong = check_bytes(buffer.data(), static_cast<std::size_t>(got), heard);
    if (!heard.wrong.empty()) return heard;
  }
}

std::string exchange(const Connection& connection, const Traffic& traffic,
                     std::atomic<std::uint64_t>* again) {
  std::mutex mutexes[2], says;
  std::string wrong;
  std::vector<std::thread> threads;
  const auto note = [&](const std::string& what) {
    const std::lock_guard lock(says);
    if (wrong.empty()) wrong = what;
  };
  std::atomic<int> writing[2] = {traffic.writers, traffic.writers};
  for (const int side : {0, 1}) {
    const int fd = (side ? connection.server : connection.client).get();
    if (traffic.send_buffer)
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &traffic.send_buffer, sizeof traffic.send_buffer);
    for (int writer = 0; writer < traffic.writers; ++writer)
      threads.emplace_back([&, side, fd, writer] {
        auto own = traffic;
        own.seed = own.seed * 2 + static_cast<unsigned>(side);
        const auto number = static_cast<unsigned>(writer);
        auto* mutex = traffic.shared_mutex ? &mutexes[side] : nullptr;
        const auto failed = traffic.processes ? write_in_a_process(fd, number, own)
                                              : write_stream(fd, number, own, mutex);
        if (!failed.empty()) note(failed);
        if (--writing[side] == 0) shutdown(fd, SHUT_WR);
      });
    threads.emplace_back([&, fd] {
      const auto heard = read_stream(fd, traffic.reading);
      if (!heard.wrong.empty()) note(heard.wrong);
      for (int writer = 0; heard.wrong.empty() && writer < traffic.writers; ++writer)
        if (heard.from[static_cast<unsigned>(writer)] != traffic.bytes) note("bytes are missing");
      if (!heard.wrong.empty()) shutdown(fd, SHUT_RDWR);  // nobody waits for what is lost
      if (again) *again += heard.again;
    });
  }
  for (auto& thread : threads) thread.join();
  return wrong;
}

bool sleeps(int tid) {
  std::ifstream stat("/proc/self/task/" + std::to_string(tid) + "/stat");
  std::string line;
  std::getline(stat, line);
  const auto end = line.rfind(')');
  return end != std::string::npos && line.size() > end + 2 &&
         (line[end + 2] == 'S' || line[end + 2] == 'D');  // D: for a socket's lock
}

}  // namespace weft::tests
