// Keeps the kernel maps equal to the newest mesh.
//
//   mesh -> compile -> diff -> plan -> write -> (grace period) -> clean up -> numbers are free
//   again
//
// A failed write is tried again, same plan, with backoff; newer meshes wait behind it, only the
// newest is kept. Restart is the normal loop: what the maps hold is the first "placed" state. Not
// thread-safe: belongs to the control thread. Blocks for nothing; whoever owns it waits for grace
// periods elsewhere and calls finish().
#pragma once

#include <absl/status/status.h>

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/compile/compile.h"
#include "agent/compile/ids.h"
#include "agent/kernel/writer.h"
#include "agent/reconcile/plan.h"
#include "mesh/model/mesh.h"

namespace weft::reconcile {

struct Result {
  absl::Status status;  // of the writes; not OK: call retry() later
  PlanSize written;     // zero entries: nothing had to change
  std::uint64_t generation = 0;
  bool held_back = false;
  bool kept_api_server = false;
  std::size_t endpoints_before = 0, endpoints_after = 0;
  std::vector<std::string> refused;
};

// What must wait for a grace period.
struct Cleanup {
  std::vector<MapOp> ops;
  compile::Releases releases;
};

class Reconciler {
 public:
  // `in_maps` is what the sink's maps hold; `numbering` is where numbers are taken from: the same,
  // but for maps that are being rebuilt, which are empty while numbers stay as they were.
  Reconciler(kernel::MapSink& sink, const compile::Limits& limits, compile::MapState in_maps,
             compile::MapState numbering, lb::Where here = {}, bool proxy = false);

  struct Caution {
    bool allow_mass_removal = false;  // compile::Input
    bool keep_absent = false;
    std::size_t recent_peak = 0;
    bool confirmed = false;
    const std::set<std::uint32_t>* ejected = nullptr;  // outlives the reconciler
    std::set<model::ServiceKey> touched;
  };
  Result apply(model::MeshPtr mesh, Caution caution);
  // Tries the failed plan again, then the newest mesh that waited behind it.
  Result retry();
  bool failed() const { return failed_.has_value(); }

  // Everything that waits for a grace period to pass from now on; empty where nothing does.
  std::optional<Cleanup> take_cleanup();
  // A grace period has passed since take_cleanup().
  absl::Status finish(const Cleanup& cleanup);
  // Nothing is waiting: the maps hold just what placed() says.
  bool settled() const { return !failed_ && cleanups_.empty() && unfinished_ == 0; }

  const compile::MapState& placed() const { return placed_; }
  // Services that have no place yet (no room), or are held back: worth another apply().
  bool has_pending() const { return !pending_.empty(); }

 private:
  struct Attempt {
    Plan plan;
    compile::MapState desired;
    Result result;
  };
  Result run(Attempt attempt);

  kernel::MapSink& sink_;
  const lb::Where here_;
  const bool proxy_;
  compile::Ids ids_;
  compile::MapState in_maps_;
  compile::MapState placed_;
  model::MeshPtr mesh_;  // that placed_ was compiled from; null: compare everything
  model::MeshPtr waiting_;
  Caution waiting_caution_;
  std::set<model::ServiceKey> pending_;
  std::optional<std::size_t> allowance_;  // while a removal is held back
  std::optional<Attempt> failed_;
  std::vector<Cleanup> cleanups_;
  std::size_t unfinished_ = 0;
};

}  // namespace weft::reconcile
