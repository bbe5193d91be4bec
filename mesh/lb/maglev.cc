// Maglev hashing (Eisenbud et al., NSDI 2016, 3.4): every candidate gets nearly the same share of
// the table, and one that leaves takes little but its own slots with it.
#include <algorithm>

#include "mesh/lb/hash.h"
#include "mesh/lb/policy.h"

namespace weft::lb {
namespace {

// Slots per candidate, the paper's figure: shares differ by a percent or two.
constexpr std::uint64_t kSlotsEach = 100;
// One that leaves sets off a chain of small moves: measured (policy_test.cc) at most 3.5 N/M of all
// slots, for N candidates and M slots. M of 4 N^2 keeps them, and its own 1/N, under 2/N. The
// largest table carries that to 127 candidates; beyond, up to 1/N + 3.5 N/65521 move.
std::uint32_t size_for(std::uint64_t candidates) {
  return table_size(std::max(candidates * kSlotsEach, 4 * candidates * candidates));
}

struct Walk {
  std::uint32_t endpoint = 0;
  std::uint64_t next = 0;
  std::uint64_t skip = 0;
  unsigned credit =
      0;  // the heaviest takes a slot in each round, the others as their weights add up to it
};

}  // namespace

std::vector<std::uint32_t> fill_maglev(const std::vector<model::Endpoint>& endpoints,
                                       std::span<const std::uint32_t> candidates) {
  std::vector<Walk> walks;
  unsigned heaviest = 0;
  for (const auto i : candidates) {
    if (endpoints[i].weight) walks.push_back({.endpoint = i});
    heaviest = std::max(heaviest, unsigned{endpoints[i].weight});
  }
  if (walks.empty()) return {};
  if (walks.size() == 1) return {walks[0].endpoint};

  const std::uint32_t size = size_for(walks.size());
  for (auto& walk : walks) {
    walk.next = hash_of(endpoints[walk.endpoint], 1) % size;
    walk.skip = 1 + hash_of(endpoints[walk.endpoint], 2) % (size - 1);
  }
  constexpr std::uint32_t kFree = ~0u;
  std::vector<std::uint32_t> table(size, kFree);
  for (std::uint32_t filled = 0;;)
    for (auto& walk : walks) {
      walk.credit += endpoints[walk.endpoint].weight;
      if (walk.credit < heaviest) continue;
      walk.credit -= heaviest;
      while (table[walk.next] != kFree) walk.next = (walk.next + walk.skip) % size;
      table[walk.next] = walk.endpoint;
      if (++filled == size) return table;
    }
}

}  // namespace weft::lb
