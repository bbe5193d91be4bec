// Carries plans out on the kernel's maps.
#pragma once

#include <absl/status/status.h>

#include <cstddef>
#include <functional>
#include <span>

#include "agent/kernel/maps.h"
#include "agent/reconcile/plan.h"

namespace weft::kernel {

// The edge that tests replace by a map kept in memory (tests/ and plan_test.cc).
class MapSink {
 public:
  virtual ~MapSink() = default;
  // Front to back; stops at the first failure. Every operation is idempotent, so trying again from
  // the start is right.
  virtual absl::Status write(std::span<const reconcile::MapOp> ops) = 0;
};

// Array entries are memory stores; hash entries go in batches.
class MapWriter : public MapSink {
 public:
  // Called where writing moved a breaker that was not closed: its endpoint leaves (before its
  // service's name may go), or is ready again.
  using BreakerMoved =
      std::function<void(const weft_transition& told, const weft_endpoint& endpoint)>;

  explicit MapWriter(Maps& maps, BreakerMoved moved = {}) : maps_(maps), moved_(std::move(moved)) {}
  absl::Status write(std::span<const reconcile::MapOp> ops) override;

 private:
  Maps& maps_;
  BreakerMoved moved_;
};

// Returns when every program that was running at the call has ended: nobody holds an old range or
// element any more. Blocks for milliseconds; not for the control thread.
void wait_for_grace_period();

}  // namespace weft::kernel
