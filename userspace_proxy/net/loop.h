// The event loop of one thread: level-triggered epoll, timers, and tasks from other threads.
//
// Level-triggered, since a connection is registered once and is asked for less only when its other
// side is slow: a proxied request then costs no epoll_ctl at all.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "mesh/base/fd.h"
#include "userspace_proxy/net/timers.h"

namespace weft::net {

class Loop {
 public:
  class Watcher {
   public:
    virtual ~Watcher() = default;
    virtual void on_ready(std::uint32_t events) = 0;  // EPOLLIN, ...
  };

  Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  bool add(int fd, std::uint32_t events, Watcher& watcher);
  void change(int fd, std::uint32_t events, Watcher& watcher);
  void remove(int fd);

  // A watcher may have events in the round that is going on: it is destroyed after it.
  void bury(std::unique_ptr<Watcher> dead) { buried_.push_back(std::move(dead)); }

  // From any thread; run in order, by the loop's.
  void post(std::function<void()> task);

  void run();   // until stop()
  void stop();  // from the loop's thread

  std::uint64_t now_ns() const { return now_ns_; }  // CLOCK_MONOTONIC, once a round
  std::uint64_t now_ms() const { return now_ns_ / 1000000; }
  static std::uint64_t clock_ns();
  void set(Timer& timer, std::uint64_t after_ms) { timers_.set(timer, now_ms() + after_ms); }

 private:
  void round();
  void run_posted();

  base::Fd epoll_, wake_;
  Timers timers_;
  std::vector<std::unique_ptr<Watcher>> buried_;
  std::uint64_t now_ns_ = 0;
  bool stopped_ = false;
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // under mutex_
};

}  // namespace weft::net
