// A whole weft-proxy inside of a test: workers with threads of their own, the control thread and
// the channel to weftd, of which the test is the other end. Beside it an endpoint, and callers.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <weft/v1/proxy.pb.h>
#include "mesh/base/fd.h"
#include "mesh/wire/frame.h"
#include "userspace_proxy/net/config.h"
#include "userspace_proxy/net/control.h"
#include "userspace_proxy/net/worker.h"

namespace weft::net {

inline constexpr std::uint64_t kCookie = 7;  // of the one workload's network namespace

// Port 0 of 127.0.0.1 and what it became.
struct Door {
  base::Fd fd;
  Dialled at;
};
Door open_door(int flags = 0);  // SOCK_NONBLOCK: for the proxy

// Blocking, HTTP/1.1 with answers that have a Content-Length.
class Conversation {
 public:
  explicit Conversation(base::Fd fd) : fd_(std::move(fd)) {}
  explicit Conversation(const Dialled& to);

  bool say(std::string_view bytes);
  // The next head and body; empty: the connection ended.
  std::string hear();

 private:
  base::Fd fd_;
  std::string buffer_;
};

std::string field_of(const std::string& message, const std::string& name);

// Answers every request with its own x-table in the body; 503 instead where `fails`.
class Echo {
 public:
  explicit Echo(bool fails = false);
  ~Echo();
  const Dialled& at() const { return door_.at; }
  std::size_t connections() const { return connections_; }  // accepted so far

 private:
  void serve(Conversation peer);

  const bool fails_;
  Door door_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> connections_{0};
  std::vector<std::thread> peers_;  // of the accepting thread until that has ended
  std::thread acceptor_;
};

// What weftd is told, counted.
struct Heard {
  std::atomic<std::uint64_t> applied{0}, rejected{0}, reports{0}, beats{0}, transitions{0};
  std::atomic<bool> drained{false};
};

class RunningProxy {
 public:
  RunningProxy(unsigned workers, const Dialled& serves);
  ~RunningProxy();

  void tell(const weft::v1::ToProxy& message, int descriptor = -1);
  const Heard& heard() const { return heard_; }
  // Until what was told is so; the test's guard is ctest's.
  void wait_for(const std::function<bool()>& so) const;

 private:
  void run(unsigned workers, const Dialled& serves, base::Fd channel);
  void listen_to_it();

  Heard heard_;
  base::Fd channel_;
  std::thread proxy_, reader_;
};

}  // namespace weft::net
