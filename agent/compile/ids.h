// Who holds which number in the kernel's arrays: service indexes, endpoint ids, slot ranges,
// labels.
//
// Numbers are stable: whatever stays in the model keeps its own, also across restarts (Ids is
// rebuilt from the maps). A number that falls free is given away again only after release(), which
// the reconciler calls when an RCU grace period has passed since the maps stopped naming it. Not
// thread-safe; belongs to the reconciler.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/compile/map_state.h"

namespace weft::compile {

// max_entries of the maps; each comes from a flag, which errors name.
struct Limits {
  std::uint32_t services = 32768;    // --max-services: ports x families
  std::uint32_t frontends = 65536;   // 2 x --max-services
  std::uint32_t endpoints = 131072;  // --max-endpoints
  std::uint32_t slots = 524288;      // 4 x --max-endpoints
  std::uint32_t labels = 16384;

  static Limits of(std::uint32_t max_services, std::uint32_t max_endpoints);
  bool operator==(const Limits&) const = default;
};

// First-fit over free extents of one array, lowest address first; neighbours are joined on release.
class RangeAllocator {
 public:
  explicit RangeAllocator(std::uint32_t size);

  std::optional<std::uint32_t> take(std::uint32_t length);
  void take_at(std::uint32_t base, std::uint32_t length);  // for what the maps already hold
  void release(std::uint32_t base, std::uint32_t length);
  std::uint32_t used() const { return used_; }

 private:
  void insert(std::uint32_t base, std::uint32_t length);
  void remove(std::map<std::uint32_t, std::uint32_t>::iterator at);

  std::map<std::uint32_t, std::uint32_t> free_;  // base -> length
  std::set<std::pair<std::uint32_t, std::uint32_t>>
      by_length_;  // (length, base): best fit in O(log n)
  std::uint32_t used_ = 0;
};

// Dense numbers from 1 up (0 means "none" in the maps), lowest free first.
class NumberAllocator {
 public:
  explicit NumberAllocator(std::uint32_t size) : size_(size) {}

  std::optional<std::uint32_t> take();
  void take_at(std::uint32_t number);
  void release(std::uint32_t number);
  std::uint32_t used() const { return used_; }

 private:
  std::uint32_t size_;      // numbers are < size_
  std::uint32_t next_ = 1;  // never given away so far
  std::set<std::uint32_t> free_;
  std::uint32_t used_ = 0;
};

// What a plan leaves behind once it is applied; to be given back after the grace period.
struct Releases {
  struct Range {
    std::uint32_t base, length;
  };
  std::vector<std::uint32_t> services;
  std::vector<std::uint32_t> endpoints;
  std::vector<std::uint32_t> labels;
  std::vector<Range> ranges;
  std::uint32_t frontends = 0;

  bool empty() const {
    return services.empty() && endpoints.empty() && labels.empty() && ranges.empty() && !frontends;
  }
};

struct Ids {
  explicit Ids(const Limits& limits);
  // All numbers that `state` uses are taken.
  Ids(const Limits& limits, const MapState& state);

  // The label's id, taking a new one where needed; 0 for the empty text or where the map is full (a
  // label is a name for people: running out of them stops nothing). Labels nobody uses any more
  // stay until a full compile, at the next start, drops them.
  std::uint32_t label(const std::string& text);
  void release(const Releases& releases);

  Limits limits;
  NumberAllocator services;
  NumberAllocator endpoints;
  RangeAllocator slots;
  std::uint32_t frontends_used = 0;
  std::unordered_map<std::string, std::uint32_t> label_ids;
  NumberAllocator label_numbers;
};

}  // namespace weft::compile
