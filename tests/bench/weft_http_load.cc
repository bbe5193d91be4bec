// HTTP/1.1 load that does not wait for whom it measures, for scripts/bench l7.
//
//   weft_http_load open RATE SECONDS CONNECTIONS ADDR:PORT PATH
//       so many GETs a second are due, evenly, whatever becomes of the others, over so many
//       keep-alive connections, one request at a time each. Latency counts from when a request was
//       due, also where every connection was busy then: a closed loop (wrk) would not have asked
//       and so would not see a stall. Prints one JSON object.
//   weft_http_load hold CONNECTIONS ADDR:PORT PATH
//       one GET on each connection, one after the other; says "ready", holds them idle until killed
#include <sys/prctl.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/sockets.h"

namespace {

using namespace weft::bench;

// Counts by value, exact to one in 128, as HdrHistogram does: a bucket row a power of two.
class Histogram {
 public:
  void add(std::int64_t value) {
    const auto v = static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0));
    const auto index = index_of(v);
    if (index >= counts_.size()) counts_.resize(index + 1);
    ++counts_[index];
    ++total_;
    max_ = std::max(max_, v);
  }
  std::uint64_t at(double share) const {
    std::uint64_t left = static_cast<std::uint64_t>(share * total_) + 1;
    for (std::size_t index = 0; index < counts_.size(); ++index) {
      if (counts_[index] >= left) return std::min(top_of(index), max_);
      left -= counts_[index];
    }
    return max_;
  }
  std::uint64_t total() const { return total_; }
  std::uint64_t max() const { return max_; }

 private:
  static std::size_t index_of(std::uint64_t v) {
    const int shift = std::max(0, static_cast<int>(std::bit_width(v)) - 8);
    return shift * 128 + (v >> shift);
  }
  static std::uint64_t top_of(std::size_t index) {
    const auto shift = index < 256 ? 0 : index / 128 - 1;
    return ((index - shift * 128 + 1) << shift) - 1;
  }

  std::vector<std::uint64_t> counts_;
  std::uint64_t total_ = 0, max_ = 0;
};

// The end of one response, found as cheaply as this client can: it shares a CPU with the backend.
class Response {
 public:
  enum class State { kMore, kDone, kBad };

  State feed(std::string_view bytes) {
    if (!in_body_) {
      head_.append(bytes);
      const auto end = head_.find("\r\n\r\n");
      if (end == std::string::npos) return State::kMore;
      const auto arrived = head_.size() - end - 4;
      head_.resize(end + 2);
      const auto length = content_length();
      if (!head_.starts_with("HTTP/1.1 2") || length < arrived) return State::kBad;
      left_ = length - arrived;
      in_body_ = true;
    } else if (bytes.size() > left_) {
      return State::kBad;
    } else {
      left_ -= bytes.size();
    }
    return left_ ? State::kMore : State::kDone;
  }
  void clear() {
    head_.clear();
    in_body_ = false;
  }

 private:
  // 0 without one: then a body is one byte too many, and bad.
  std::uint64_t content_length() const {
    constexpr std::string_view kName = "\ncontent-length:";
    const auto found = std::search(head_.begin(), head_.end(), kName.begin(), kName.end(),
                                   [](char a, char b) { return std::tolower(a) == b; });
    if (found == head_.end()) return 0;
    const char* value = &*found + kName.size();
    while (*value == ' ') ++value;
    std::uint64_t length = 0;
    std::from_chars(value, head_.data() + head_.size(), length);
    return length;
  }

  std::string head_;
  std::uint64_t left_ = 0;
  bool in_body_ = false;
};

struct Connection {
  int fd = -1;
  std::int64_t due = 0;
  Response response;
};

class Client {
 public:
  Client(const std::string& target, const std::string& path)
      : target_(parse_address(target)),
        request_("GET " + path + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n") {}

  // One request on each before anything is counted: accept, upstream connections, first touches.
  void connect_all(int count) {
    for (int i = 0; i < count; ++i) {
      auto& connection = *connections_.emplace_back(std::make_unique<Connection>());
      open(connection);
      const auto answered = latencies_.total();  // an older connection may be closed meanwhile
      const auto give_up = now_ns() + 10'000'000'000ll;
      ask(connection, now_ns());
      while (busy_ && now_ns() < give_up) poll(1'000'000'000ll);
      if (latencies_.total() == answered) die("the first request on a connection failed");
    }
    latencies_ = {};
  }

  void open_loop(double rate, double seconds) {
    const auto begun = now_ns();
    const auto total = static_cast<std::int64_t>(rate * seconds);
    const auto give_up = begun + static_cast<std::int64_t>((seconds + 10) * 1e9);
    const auto due = [&](std::int64_t i) {
      return begun + static_cast<std::int64_t>(static_cast<double>(i) * 1e9 / rate);
    };
    std::int64_t asked = 0;
    for (auto now = begun; (asked < total || busy_) && now < give_up; now = now_ns()) {
      while (asked < total && !idle_.empty() && due(asked) <= now) ask(*pop_idle(), due(asked++));
      const bool timed = asked < total && !idle_.empty();
      poll(timed ? std::max<std::int64_t>(due(asked) - now_ns(), 0) : 1'000'000'000ll);
    }
    errors_ += static_cast<std::uint64_t>(total - asked) + busy_;
    print(static_cast<double>(now_ns() - begun) * 1e-9);
  }

 private:
  void open(Connection& connection) {
    connection.fd = connect_to(target_);
    const linger now{1, 0};  // leaves no TIME_WAIT behind
    setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    watch(epoll_, connection.fd, EPOLLIN | EPOLLRDHUP | EPOLLET, &connection);
  }
  Connection* pop_idle() {
    auto* connection = idle_.front();
    idle_.pop_front();
    return connection;
  }
  void ask(Connection& connection, std::int64_t due) {
    connection.due = due;
    connection.response.clear();
    ++busy_;
    const auto sent = send(connection.fd, request_.data(), request_.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(request_.size())) fail(connection);
  }
  void poll(std::int64_t timeout_ns) {
    epoll_event events[128];
    const timespec timeout{timeout_ns / 1000000000, timeout_ns % 1000000000};
    const int count = epoll_pwait2(epoll_, events, 128, &timeout, nullptr);
    for (int i = 0; i < count; ++i) receive(*static_cast<Connection*>(events[i].data.ptr));
  }
  void receive(Connection& connection) {
    for (;;) {
      const auto got = recv(connection.fd, chunk_, sizeof chunk_, 0);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0 || !connection.due) return fail(connection);
      const auto state = connection.response.feed({chunk_, static_cast<std::size_t>(got)});
      if (state == Response::State::kBad) return fail(connection);
      if (state == Response::State::kDone) return finish(connection);
    }
  }
  void finish(Connection& connection) {
    latencies_.add(now_ns() - connection.due);
    rest(connection);
  }
  // Also of a connection that was idle: whoever closes it loses the next request's time.
  void fail(Connection& connection) {
    ++errors_;
    close(connection.fd);
    open(connection);
    if (connection.due) rest(connection);
  }
  void rest(Connection& connection) {
    connection.due = 0;
    --busy_;
    idle_.push_back(&connection);  // in turn, so that all of them take part
  }
  void print(double seconds) const {
    const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    std::printf(
        "{\"seconds\":%.6f,\"ops\":%llu,\"errors\":%llu,\"p50_ns\":%llu,\"p99_ns\":%llu,"
        "\"p999_ns\":%llu,\"max_ns\":%llu}\n",
        seconds, number(latencies_.total()), number(errors_), number(latencies_.at(0.5)),
        number(latencies_.at(0.99)), number(latencies_.at(0.999)), number(latencies_.max()));
  }

  sockaddr_in target_;
  std::string request_;
  int epoll_ = epoll_create1(0);
  std::vector<std::unique_ptr<Connection>> connections_;
  std::deque<Connection*> idle_;
  std::uint64_t busy_ = 0, errors_ = 0;
  Histogram latencies_;
  char chunk_[64 << 10];
};

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  raise_descriptors();
  prctl(PR_SET_TIMERSLACK, 1);  // else every wait ends up to 50 us late
  if (words.size() == 6 && words[0] == "open") {
    Client client(words[4], words[5]);
    client.connect_all(std::stoi(words[3]));
    client.open_loop(std::stod(words[1]), std::stod(words[2]));
  } else if (words.size() == 4 && words[0] == "hold") {
    Client client(words[2], words[3]);
    client.connect_all(std::stoi(words[1]));
    std::puts("ready");
    std::fflush(stdout);
    for (;;) pause();
  } else {
    std::fputs(
        "usage: weft_http_load open RATE SECONDS CONNECTIONS ADDR:PORT PATH | "
        "hold CONNECTIONS ADDR:PORT PATH\n",
        stderr);
    return 2;
  }
}
