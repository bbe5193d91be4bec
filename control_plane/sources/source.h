// What every source of the mesh has in common: it publishes units of objects and knows nothing of
// what becomes of them. Runs on the control thread; its callbacks are called there.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "mesh/model/object.h"

namespace weft::sources {

using Clock = std::chrono::steady_clock;

struct Status {
  bool synced = false;          // the first whole state was published
  std::string error;            // what is wrong now, for people; empty: nothing
  Clock::time_point changed{};  // when it last published anything
  std::uint64_t updates = 0;    // units published
  std::uint64_t reads = 0;      // files read, or answers of a server
  std::uint64_t errors = 0;     // times that something began to be wrong
};

struct Events {
  // The unit of that name is now this; null: it is gone.
  std::function<void(const std::string& name, std::shared_ptr<const model::Unit> unit)> unit;
  // All units of one change have been published, or status() changed. `first_event` is when the
  // source first heard of it, for the propagation metric.
  std::function<void(Clock::time_point first_event)> batch;
};

class Source {
 public:
  virtual ~Source() = default;
  virtual const std::string& uri() const = 0;
  virtual const Status& status() const = 0;
  // Publishes the first whole state as soon as the control thread runs, and changes from then on.
  virtual void start() = 0;
};

}  // namespace weft::sources
