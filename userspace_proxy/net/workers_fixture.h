// Workers as the process has them, on threads of their own, between clients that choose their
// worker and an endpoint that answers when the test says so. Real sockets on the loopback, no
// clock: what a test waits for is counted under a lock.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <future>
#include <list>
#include <mutex>
#include <thread>

#include "userspace_proxy/net/config_builder.h"
#include "userspace_proxy/net/standalone.h"
#include "userspace_proxy/net/worker.h"

namespace weft::net::tests {

inline Dialled at(const std::string& text) { return *parse_address(text); }

inline std::uint16_t port_of(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

inline base::Fd any_port() {
  auto opened = listen_at({*model::Address::parse("127.0.0.1"), 0});
  return std::move(*opened);
}

// Answers with the status that `script` gives to the Nth request (from 1), or keeps it (0) until
// let_go().
class Backend {
 public:
  explicit Backend(std::function<int(int)> script) : script_(std::move(script)) {
    const int flags = fcntl(listener_.get(), F_GETFL);
    fcntl(listener_.get(), F_SETFL, flags & ~O_NONBLOCK);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~Backend() {
    let_go();
    shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    for (auto& peer : peers_) {
      shutdown(peer.fd.get(), SHUT_RDWR);
      peer.thread.join();
    }
  }
  Dialled address() const {
    return {*model::Address::parse("127.0.0.1"), port_of(listener_.get())};
  }
  void wait_arrived(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ >= count; });
  }
  // Requests that are kept are answered with 200, and so is all that comes.
  void let_go() {
    const std::lock_guard lock(mutex_);
    free_ = true;
    changed_.notify_all();
  }
  int connections() {
    const std::lock_guard lock(mutex_);
    return static_cast<int>(peers_.size());
  }
  int most_at_once() {
    const std::lock_guard lock(mutex_);
    return most_;
  }

 private:
  struct Peer {
    base::Fd fd;
    std::thread thread;
  };
  void accept_all() {
    while (true) {
      base::Fd fd(accept(listener_.get(), nullptr, nullptr));
      if (!fd) return;
      const std::lock_guard lock(mutex_);
      auto& peer = peers_.emplace_back();
      peer.fd = std::move(fd);
      most_ = std::max(most_, ++open_);
      peer.thread = std::thread([this, fd = peer.fd.get()] { serve(fd); });
    }
  }
  void serve(int fd) {
    std::string text;
    char bytes[4096];
    while (true) {
      const auto got = read(fd, bytes, sizeof bytes);
      if (got <= 0) break;
      text.append(bytes, static_cast<std::size_t>(got));
      if (text.find("\r\n\r\n") == text.npos) continue;
      text.clear();
      const auto answer =
          "HTTP/1.1 " + std::to_string(status()) + " X\r\nContent-Length: 0\r\n\r\n";
      if (send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
    }
    shutdown(fd, SHUT_RDWR);
    const std::lock_guard lock(mutex_);
    --open_;
  }
  int status() {
    std::unique_lock lock(mutex_);
    const int status = free_ ? 200 : script_(++arrived_);
    changed_.notify_all();
    if (status) return status;
    changed_.wait(lock, [&] { return free_; });
    return 200;
  }

  std::function<int(int)> script_;
  base::Fd listener_ = any_port();
  std::thread acceptor_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Peer> peers_;
  int arrived_ = 0, open_ = 0, most_ = 0;
  bool free_ = false;
};

// One connection to a worker.
class Caller {
 public:
  explicit Caller(std::uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  Caller& ask(std::string_view request = "GET / HTTP/1.1\r\nHost: service\r\n\r\n") {
    EXPECT_EQ(send(fd_.get(), request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
    return *this;
  }
  // The status, with the body of an answer that the proxy gave.
  std::string answer() {
    std::string text;
    char bytes[4096];
    while (true) {
      const auto head = text.find("\r\n\r\n");
      if (head != text.npos) {
        const auto at = text.find("ontent-length: ");
        const auto other = text.find("ontent-Length: ");
        const auto length = std::stoul(text.substr(std::min(at, other) + 15));
        if (text.size() >= head + 4 + length)
          return text.substr(9, 3) + (length ? " " + text.substr(head + 4, length) : "");
      }
      const auto got = read(fd_.get(), bytes, sizeof bytes);
      if (got <= 0) return "ended after \"" + text + "\"";
      text.append(bytes, static_cast<std::size_t>(got));
    }
  }
  // With a reset: an end alone is half of a close, and whoever sent it may still wait.
  void leave() {
    const linger at_once{1, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    fd_ = base::Fd();
  }

 private:
  base::Fd fd_;
};

// What the kernel's tables hold of a service.
struct Tables {
  weft_policy policy{};
  weft_service_state total{};
  std::shared_ptr<std::atomic<std::uint32_t>> waiting =
      std::make_shared<std::atomic<std::uint32_t>>(0);

  // Places that the proxy holds.
  std::uint32_t held() const { return weft_proxy_connections(total.connections); }
};

class Workers {
 public:
  // `config`: one service, which is what every connection is taken to have dialled.
  Workers(std::size_t count, const weft::v1::Config& config, Tables* tables = nullptr)
      : tables_(tables) {
    WorkerOptions options;
    options.assume = at("10.96.0.1:80");
    // A test that is slow to ask is no client that waits for a greeting: for that one an endpoint
    // would be connected, with a place that nobody here counts.
    options.detect_timeout = std::chrono::hours(1);
    for (std::size_t i = 0; i < count; ++i) {
      auto& one = workers_.emplace_back();
      one.worker = std::make_unique<Worker>(
          options, [](Loop&) { return std::make_unique<OwnSockets>(); }, nullptr, i + 1);
    }
    post(config);
    for (auto& one : workers_) {
      one.worker->set_peers([this](auto task) {
        for (auto& each : workers_)
          each.worker->loop().post([task, worker = each.worker.get()] { task(*worker); });
      });
      one.worker->loop().post(
          [&one] { one.worker->listen(std::move(one.listener), std::make_shared<net::Caller>()); });
      one.thread = std::thread([&one] { one.worker->run(); });
    }
  }
  ~Workers() {
    for (auto& one : workers_) one.worker->loop().post([&one] { one.worker->loop().stop(); });
    for (auto& one : workers_) one.thread.join();
  }
  void apply(const weft::v1::Config& message) {
    post(message);
    for (std::size_t i = 0; i < workers_.size(); ++i) on(i, [](Worker&) {});
  }
  Caller caller(std::size_t worker) { return Caller(workers_[worker].port); }
  std::string get(std::size_t worker) { return caller(worker).ask().answer(); }
  // Until so many requests to the cluster wait for a connection.
  void wait_pending(std::uint32_t count, const std::string& subset = "") {
    const auto& clusters = config_->clusters;
    const auto cluster = std::find_if(clusters.begin(), clusters.end(), [&](const auto& entry) {
      return entry.second->who->subset == subset;
    });
    while (cluster->second->counts->pending != count)
      for (std::size_t i = 0; i < workers_.size(); ++i) on(i, [](Worker&) {});
  }
  weft_endpoint_state& state(std::size_t endpoint) {
    return *config_->clusters.begin()->second->endpoints[endpoint].shares->state;
  }
  // Runs on the worker's thread, and is over when this returns.
  void on(std::size_t worker, const std::function<void(Worker&)>& task) {
    std::promise<void> done;
    auto& one = *workers_[worker].worker;
    one.loop().post([&] {
      task(one);
      done.set_value();
    });
    done.get_future().wait();
  }

 private:
  void post(const weft::v1::Config& message) {
    std::vector<std::string> rejected;
    const auto config = config_ = builder_.apply(message, rejected);
    EXPECT_TRUE(rejected.empty());
    for (const auto& [name, cluster] : config->clusters)
      for (const auto& endpoint : cluster->endpoints) use_tables(*endpoint.shares);
    for (auto& one : workers_)
      one.worker->loop().post([&one, config] { one.worker->apply(config); });
  }

  void use_tables(Shares& shares) {
    if (!tables_) return;
    shares.policy = &tables_->policy;
    shares.total = &tables_->total;
    shares.waiting = tables_->waiting;
  }

  struct One {
    std::unique_ptr<Worker> worker;
    base::Fd listener = any_port();
    std::uint16_t port = port_of(listener.get());
    std::thread thread;
  };
  Tables* tables_;
  ConfigPtr config_;
  ConfigBuilder builder_{std::nullopt, 0};
  std::deque<One> workers_;
};

}  // namespace weft::net::tests
