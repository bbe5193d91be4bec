// What /healthz and /readyz answer.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include "agent/observe/snapshot.h"

namespace weft::observe {

// The control thread beats; others see how long ago. Beats cost one store.
class Heartbeat {
 public:
  static constexpr std::chrono::seconds kLimit{10};  // older: the control thread hangs

  void beat(Clock::time_point now = Clock::now()) { last_ = now.time_since_epoch().count(); }
  Clock::duration age(Clock::time_point now) const {
    return now - Clock::time_point(Clock::duration(last_.load()));
  }

 private:
  std::atomic<Clock::rep> last_{Clock::now().time_since_epoch().count()};
};

// One sentence; empty: alive.
std::string why_unhealthy(const Heartbeat& heartbeat, Clock::time_point now);
// One sentence: the source that is not ready, or what stands in the way; empty: ready.
std::string why_not_ready(const Snapshot& snapshot);

}  // namespace weft::observe
