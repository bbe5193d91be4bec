// Many connections at once, for scripts/bench breaker|balance and the tests of balancing: who
// served how many, how long each took, how many failed.
//
//   weft_storm serve ADDR:PORT[@US|#US] ...       answers every byte with one byte, the last of the
//                                                 address reached, and closes; @US later, or #US
//                                                 later one at a time, the others wait
//   weft_storm closed CONNECTIONS SECONDS ADDR:PORT   so many cycles at any time: connect, byte,
//                                                 answer, close; a new one for each that ends
//   weft_storm open RATE SECONDS ADDR:PORT        RATE cycles begin a second, whatever becomes of
//   the
//                                                 others; latency counts from when one was due
//   weft_storm refused COUNT ADDR:PORT            how long connect() takes to say ECONNREFUSED
//
// Prints one JSON object. One thread, non-blocking sockets, epoll.
#include <sys/timerfd.h>

#include <algorithm>
#include <map>
#include <queue>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/bench/sockets.h"

namespace {

using weft::bench::die;
using weft::bench::now_ns;
using weft::bench::parse_address;

// A descriptor that becomes readable at the earliest of many times.
class Alarm {
 public:
  Alarm() : fd_(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)) {}
  int fd() const { return fd_; }
  void set(std::int64_t at_ns) {
    itimerspec when{};
    at_ns = std::max<std::int64_t>(at_ns, 1);
    when.it_value = {at_ns / 1000000000, at_ns % 1000000000};
    timerfd_settime(fd_, TFD_TIMER_ABSTIME, &when, nullptr);
  }
  void clear() {
    std::uint64_t count;
    while (read(fd_, &count, sizeof count) > 0) {
    }
  }

 private:
  int fd_;
};

void watch(int epoll, int fd, unsigned events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

class Server {
 public:
  explicit Server(const std::vector<std::string>& addresses) {
    watch(epoll_, alarm_.fd(), EPOLLIN);
    for (const auto& text : addresses) listen_on(text);
    std::puts("ready");
    std::fflush(stdout);
  }
  [[noreturn]] void run() {
    epoll_event events[128];
    for (;;) {
      const int count = epoll_wait(epoll_, events, 128, -1);
      for (int i = 0; i < count; ++i) handle(events[i].data.fd);
    }
  }

 private:
  struct Listener {
    std::int64_t delay_ns = 0;
    bool one_at_a_time = false;
    char answer = 0;
    std::int64_t free_at = 0;  // of one_at_a_time
  };
  struct Answer {
    std::int64_t due;
    int fd;
    char byte;
    bool operator<(const Answer& other) const { return due > other.due; }  // earliest on top
  };

  void listen_on(const std::string& text) {
    const auto at = text.find_first_of("@#");
    const auto address = parse_address(text.substr(0, at));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) || listen(fd, 4096))
      die(text.c_str());
    auto& listener = listeners_[fd];
    listener.answer = static_cast<char>(ntohl(address.sin_addr.s_addr) & 255);
    if (at != std::string::npos) {
      listener.delay_ns = std::atoll(text.c_str() + at + 1) * 1000;
      listener.one_at_a_time = text[at] == '#';
    }
    watch(epoll_, fd, EPOLLIN);
  }
  void handle(int fd) {
    if (fd == alarm_.fd()) return answer_due();
    const auto listener = listeners_.find(fd);
    if (listener == listeners_.end()) return request(fd);
    for (int accepted; (accepted = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
      clients_[accepted] = &listener->second;
      watch(epoll_, accepted, EPOLLIN);
    }
  }
  void request(int fd) {
    char byte;
    if (read(fd, &byte, 1) <= 0) {
      close(fd);
      clients_.erase(fd);
      return;
    }
    auto& listener = *clients_[fd];
    if (!listener.delay_ns) return answer({0, fd, listener.answer});
    epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    const auto begins = listener.one_at_a_time ? std::max(now_ns(), listener.free_at) : now_ns();
    listener.free_at = begins + listener.delay_ns;
    answers_.push({listener.free_at, fd, listener.answer});
    alarm_.set(answers_.top().due);
  }
  void answer(const Answer& answer) {
    [[maybe_unused]] const auto sent = send(answer.fd, &answer.byte, 1, MSG_NOSIGNAL);
    close(answer.fd);
    clients_.erase(answer.fd);
  }
  void answer_due() {
    alarm_.clear();
    for (const auto now = now_ns(); !answers_.empty() && answers_.top().due <= now; answers_.pop())
      answer(answers_.top());
    if (!answers_.empty()) alarm_.set(answers_.top().due);
  }

  int epoll_ = epoll_create1(0);
  Alarm alarm_;
  std::map<int, Listener> listeners_;  // stays where it is
  std::unordered_map<int, Listener*> clients_;
  std::priority_queue<Answer> answers_;
};

// What became of all cycles.
struct Tally {
  std::map<int, std::uint64_t> by_backend;
  std::map<int, std::uint64_t> failures;  // by errno
  std::vector<std::int64_t> latencies;

  void print(double seconds) {
    std::sort(latencies.begin(), latencies.end());
    const auto at = [&](double share) {
      return latencies.empty() ? 0ll
                               : static_cast<long long>(latencies[std::min<std::size_t>(
                                     latencies.size() * share, latencies.size() - 1)]);
    };
    std::uint64_t failed = 0;
    for (const auto& [error, count] : failures) failed += count;
    std::printf("{\"seconds\":%.6f,\"ops\":%zu,\"failed\":%llu,\"p50_ns\":%lld,\"p99_ns\":%lld",
                seconds, latencies.size(), static_cast<unsigned long long>(failed), at(0.5),
                at(0.99));
    print("by_backend", by_backend);
    print("failures", failures);
    std::puts("}");
  }
  static void print(const char* name, const std::map<int, std::uint64_t>& counts) {
    std::printf(",\"%s\":{", name);
    const char* comma = "";
    for (const auto& [key, count] : counts) {
      std::printf("%s\"%d\":%llu", comma, key, static_cast<unsigned long long>(count));
      comma = ",";
    }
    std::printf("}");
  }
};

class Client {
 public:
  explicit Client(const std::string& target) : target_(parse_address(target)) {}

  void closed(int connections, double seconds) {
    const auto begun = now_ns(), end = begun + static_cast<std::int64_t>(seconds * 1e9);
    for (int i = 0; i < connections; ++i) start(now_ns());
    while (!cycles_.empty()) {
      poll(-1);
      const auto now = now_ns();
      for (; now < end && freed_ > 0; --freed_) start(now_ns());
      if (now >= end + 10'000'000'000ll) break;
    }
    tally_.print((now_ns() - begun) * 1e-9);
  }

  void open_loop(double rate, double seconds) {
    const auto begun = now_ns();
    const auto total = static_cast<std::int64_t>(rate * seconds);
    Alarm alarm;
    watch(epoll_, alarm.fd(), EPOLLIN);
    alarm_ = &alarm;
    for (std::int64_t started = 0; started < total || !cycles_.empty();) {
      for (; started < total; ++started) {
        const auto due = begun + static_cast<std::int64_t>(started * 1e9 / rate);
        if (due > now_ns()) {
          alarm.set(due);
          break;
        }
        start(due);
      }
      if (!cycles_.empty() || started < total) poll(-1);
    }
    tally_.print((now_ns() - begun) * 1e-9);
  }

  void refused(int count) {
    const auto begun = now_ns();
    for (int i = 0; i < count; ++i) {
      const int fd = socket(AF_INET, SOCK_STREAM, 0);
      const auto before = now_ns();
      const int error = connect_to(fd) ? errno : 0;
      const auto took = now_ns() - before;
      if (error == ECONNREFUSED) tally_.latencies.push_back(took);
      if (error) ++tally_.failures[error];
      close(fd);
    }
    tally_.print((now_ns() - begun) * 1e-9);
  }

 private:
  struct Cycle {
    std::int64_t begun;
    bool asked;
  };

  int connect_to(int fd) {
    return connect(fd, reinterpret_cast<const sockaddr*>(&target_), sizeof target_);
  }
  void start(std::int64_t begun) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) die("socket");
    const linger now{1, 0};  // leaves no TIME_WAIT behind
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    if (connect_to(fd) && errno != EINPROGRESS) {
      ++tally_.failures[errno];
      ++freed_;
      close(fd);
      if (cycles_.empty()) usleep(50);  // everything is refused: do not spin
      return;
    }
    cycles_[fd] = {begun, false};
    watch(epoll_, fd, EPOLLOUT);
  }
  void poll(int timeout) {
    epoll_event events[128];
    const int count = epoll_wait(epoll_, events, 128, timeout);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (alarm_ && fd == alarm_->fd())
        alarm_->clear();
      else
        go_on(fd);
    }
  }
  void go_on(int fd) {
    auto& cycle = cycles_.at(fd);
    if (!cycle.asked) {
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
      if (error) return end(fd, error);
      if (send(fd, "C", 1, MSG_NOSIGNAL) != 1) return end(fd, errno);
      cycle.asked = true;
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.fd = fd;
      epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
      return;
    }
    unsigned char answer;
    const auto got = recv(fd, &answer, 1, 0);
    if (got != 1) return end(fd, got == 0 ? ECONNRESET : errno);
    ++tally_.by_backend[answer];
    tally_.latencies.push_back(now_ns() - cycle.begun);
    end(fd, 0);
  }
  void end(int fd, int error) {
    if (error) ++tally_.failures[error];
    close(fd);
    cycles_.erase(fd);
    ++freed_;
  }

  sockaddr_in target_;
  int epoll_ = epoll_create1(0);
  Alarm* alarm_ = nullptr;
  std::unordered_map<int, Cycle> cycles_;
  int freed_ = 0;  // cycles that have ended and were not followed by another
  Tally tally_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() >= 2 && words[0] == "serve")
    Server({words.begin() + 1, words.end()}).run();
  else if (words.size() == 4 && words[0] == "closed")
    Client(words[3]).closed(std::stoi(words[1]), std::stod(words[2]));
  else if (words.size() == 4 && words[0] == "open")
    Client(words[3]).open_loop(std::stod(words[1]), std::stod(words[2]));
  else if (words.size() == 3 && words[0] == "refused")
    Client(words[2]).refused(std::stoi(words[1]));
  else {
    std::fputs(
        "usage: weft_storm serve ADDR:PORT[@US|#US]... | closed CONNECTIONS SECONDS ADDR:PORT | "
        "open RATE SECONDS ADDR:PORT | refused COUNT ADDR:PORT\n",
        stderr);
    return 2;
  }
}
