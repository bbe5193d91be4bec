// The steps that turn one map state into another, in an order that is safe to stop anywhere.
//
// Traffic never pauses for us: connect() may run between any two map writes, and weftd may be
// killed between them. So order is the contract here, and plan_test.cc checks it after every prefix
// of random plans. Make before break:
//   1. labels, names, endpoints, slot ranges     nobody reads them yet
//      policies                                   field by field, each right by itself
//   2. records                                    one atomic store moves a service to its new range
//   3. frontends: upserts, then erases
//   4. records of services that are left with nobody: an address that moved on has moved by now
//   -- an RCU grace period: no program still holds anything of the old state --
//   5. records, endpoints and names that nothing points to any more
// Hence at every prefix a frontend names a published record, a record a range that is whole and
// names its service, a slot an endpoint in use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "agent/compile/ids.h"
#include "agent/compile/map_state.h"

namespace weft::reconcile {

struct BeginGeneration {
  std::uint64_t generation;
};
struct WriteLabel {
  std::uint32_t id;
  std::string text;
};
struct WriteInfo {
  std::uint32_t index;
  weft_service_info info;
};
struct WriteEndpoint {
  std::uint32_t id;
  weft_endpoint endpoint;
  bool fresh;  // the id is new to its owner: counters start at zero under a new incarnation
};
struct WriteRange {
  std::uint32_t base;
  std::vector<std::uint64_t> words;
};
struct WritePolicy {
  std::uint32_t index;
  weft_policy policy;
};
struct PublishRecord {
  std::uint32_t index;
  std::uint64_t word;
  bool fresh;  // the index is new to its owner: counters start at zero
};
struct UpsertFrontend {
  weft_frontend_key key;
  std::uint32_t index;
};
// Erases the key only while it names that index: an address may have moved to another service
// since.
struct EraseFrontend {
  weft_frontend_key key;
  std::uint32_t index;
};
struct CommitGeneration {
  std::uint64_t generation;
};
struct ClearEndpoint {
  std::uint32_t id;
};
struct ClearRecord {
  std::uint32_t index;
};
struct EraseInfo {
  std::uint32_t index;
};
struct EraseLabel {
  std::uint32_t id;
};

using MapOp = std::variant<BeginGeneration, WriteLabel, WriteInfo, WriteEndpoint, WriteRange,
                           WritePolicy, PublishRecord, UpsertFrontend, EraseFrontend,
                           CommitGeneration, ClearEndpoint, ClearRecord, EraseInfo, EraseLabel>;

struct Plan {
  std::vector<MapOp> ops;      // apply front to back; each is idempotent
  std::vector<MapOp> cleanup;  // after a grace period, front to back
  compile::Releases releases;  // numbers that are free once `cleanup` is done

  bool empty() const { return ops.empty() && cleanup.empty(); }
};

// Pure and total: no I/O, no clock, no failure. diff(s, s) is empty, and replaying diff(a, b) on a
// gives b. Cost follows what changed: services shared by pointer are not looked at.
[[nodiscard]] Plan diff(const compile::MapState& actual, const compile::MapState& desired);

// "12 endpoints, 3 ranges, 3 records": for the log. `entries` counts map entries written.
struct PlanSize {
  std::size_t entries = 0;
  std::size_t labels = 0, infos = 0, endpoints = 0, slots = 0, policies = 0, records = 0,
              frontends = 0, erased = 0;
};
PlanSize size_of(const Plan& plan);

}  // namespace weft::reconcile
