// All maps of the data path as one thing: opened from their pins, by weftd to write and by weftctl
// to read, with or without an agent running.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "abi/breaker.h"
#include "abi/capture.h"
#include "abi/event.h"
#include "abi/meta.h"
#include "abi/socket.h"
#include "abi/why.h"
#include "abi/workload.h"
#include "agent/compile/ids.h"
#include "agent/compile/map_state.h"
#include "agent/kernel/map.h"

namespace weft::kernel {

// Where things are pinned below --bpffs.
struct Pins {
  std::string root;

  std::string maps() const { return root + "/maps"; }
  std::string links() const { return root + "/links"; }
  std::string programs() const { return root + "/progs"; }
  std::string map(const std::string& name) const { return maps() + "/" + name; }
  std::string link(const std::string& hook) const { return links() + "/" + hook; }
  std::string program(const std::string& name) const { return programs() + "/" + name; }
};

struct Maps {
  ArrayMap<weft_meta> meta;
  HashMap<weft_frontend_key, weft_frontend> frontends;
  ArrayMap<std::uint64_t> services;
  ArrayMap<weft_service_state> service_states;
  ArrayMap<std::uint64_t> slots;
  ArrayMap<weft_endpoint> endpoints;
  ArrayMap<weft_endpoint_state> endpoint_states;
  ArrayMap<weft_policy> policies;
  HashMap<std::uint32_t, weft_service_info> names;
  HashMap<std::uint32_t, weft_label> labels;
  HashMap<weft_affinity_key, weft_affinity> affinities;
  HashMap<std::uint64_t, std::uint64_t> workloads;  // cgroup id -> weft_workload_flag
  HashMap<std::uint64_t, std::uint64_t> captures;   // netns cookie -> weft_capture_make()
  HashMap<weft_origin_key, weft_original> originals;
  ArrayMap<weft_proxy_state> proxy_state;

  // NotFound where nothing is pinned; FailedPrecondition where the layout is another build's.
  static absl::StatusOr<Maps> open(const Pins& pins, Access access);
  static absl::StatusOr<Maps> open_dir(const std::string& maps_dir, Access access);

  compile::Limits limits() const;
};

// What the maps hold now. Whatever a killed writer left half done reads as "not there" or as
// something that diff() removes; it is never an error.
absl::StatusOr<compile::MapState> read_state(const Maps& maps);

// The same for whoever only looks while weftd may write: tried again where a plan was written
// meanwhile, of which one might see half. A plan that never ends, or one upon the other, is taken
// as it is.
absl::StatusOr<compile::MapState> read_settled_state(const Maps& maps);

// One look. `settled`: no plan was being written meanwhile, and none was left half done;
// `generation` was in force before it.
struct Look {
  compile::MapState state;
  std::uint64_t generation = 0;
  bool settled = false;
};
absl::StatusOr<Look> look_at(const Maps& maps);

// Where a writer died between a plan's last operation and its end, and the next one found nothing
// to write: what is in the maps is the generation in force. For the writer, whose plan is done.
void settle(const Maps& maps);

// What is wrong between the maps themselves: a frontend whose record is missing, a record whose
// range is not its own, a slot that names an unused endpoint. One line each; empty is right.
std::vector<std::string> inconsistencies(const Maps& maps);

// The same while weftd may write, tried again as in read_settled_state().
std::vector<std::string> settled_inconsistencies(const Maps& maps);

// Slots that the record's range occupies, header and spares with it.
std::uint64_t slots_of(std::uint64_t record, std::span<const std::uint64_t> slots);

// Sums over CPUs of weft_events, indexed by enum weft_event.
absl::StatusOr<std::array<std::uint64_t, WEFT_EVENT_COUNT>> read_events(const Pins& pins);
const char* event_label(weft_event event);
const char* event_help(weft_event event);

// For `weftctl map`.
struct MapSummary {
  std::string name;
  std::string type;  // "hash", "array", ...
  std::uint32_t id = 0;
  std::uint32_t key_size = 0, value_size = 0;
  std::uint32_t max_entries = 0;
  std::uint64_t entries = 0;  // in use
  double pressure = 0;        // share of max_entries in use; 0 where it cannot change
  std::uint64_t bytes = 0;    // memory charged by the kernel (fdinfo memlock)
};
// Those of the data path, and of the bypass where it was loaded.
absl::StatusOr<std::vector<MapSummary>> summarise(const Pins& pins);

// Runs the decision of connect() on the live maps through the pinned weft_why program. Needs root.
absl::StatusOr<weft_answer> ask(const Pins& pins, const weft_query& query);

}  // namespace weft::kernel
