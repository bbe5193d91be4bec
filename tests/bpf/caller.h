// Real sockets against a KernelNode: while it lives, this process is in the node's cgroup and this
// thread (and those it makes) in a network namespace of its own, which has a loopback and nothing
// else. Endpoints are addresses of 127/8; a service address is dialled nowhere else.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "mesh/base/fd.h"
#include "tests/bpf/kernel_node.h"

namespace weft::tests {

inline constexpr std::chrono::seconds kHangGuard{60};

// While it lives this thread is in a network namespace of its own, whose loopback is up.
class Namespace {
 public:
  Namespace();
  ~Namespace();
  Namespace(const Namespace&) = delete;
  Namespace& operator=(const Namespace&) = delete;
  int home() const { return home_.get(); }  // where the thread was

 private:
  base::Fd home_;
};

class Caller {
 public:
  // The node is started already; its programs leave the agent's process alone, which this one no
  // longer is.
  explicit Caller(KernelNode& node);
  ~Caller();
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;
  int home() const { return netns_.home(); }  // the network namespace that this thread came from

 private:
  std::string home_;  // cgroup where this process was
  Namespace netns_;
};

// Moves this process, all threads of it: sockets made from here on belong there.
bool enter_cgroup(const std::string& cgroup);

// A listening socket on ADDRESS:8080 that accepts nothing by itself: connects are answered by the
// kernel, up to the backlog.
base::Fd listen_on(const std::string& address, int backlog = 4096);
// ... whose queue is full: a SYN to it is dropped.
struct BlackHole {
  explicit BlackHole(const std::string& address);
  base::Fd listener;
  std::vector<base::Fd> fillers;
};

// connect() to ADDRESS:80, blocking: 0 or the errno. `keep` takes the socket where there is one.
int dial(const std::string& address, base::Fd* keep = nullptr, std::uint16_t port = 80);
// The same without blocking: EINPROGRESS where the answer is still to come.
int dial_now(const std::string& address, base::Fd& socket, std::uint16_t port = 80);

void close_with_reset(base::Fd& socket);
base::Fd accept_one(const base::Fd& listener);

// Until it is so, or the hang guard has passed.
template <class Condition>
bool eventually(Condition&& condition) {
  const auto end = std::chrono::steady_clock::now() + kHangGuard;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    sched_yield();
  }
  return true;
}

}  // namespace weft::tests
