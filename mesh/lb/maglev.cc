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
std::uint64_t slots_needed(std::uint64_t candidates) {
  return std::max(candidates * kSlotsEach, 4 * candidates * candidates);
}

struct Walk {
  std::uint32_t endpoint = 0;
  std::uint32_t weight = 0;
  std::uint32_t turns = 0;  // taken
  std::uint32_t next = 0;
  std::uint32_t skip = 0;
};

// Whose turn is later: a walk's turn k is at k / weight, so that nobody's turns depend on who else
// is there, nobody is left out however light, and equal weights take turns.
bool is_later(const Walk& a, const Walk& b) {
  const auto left = std::uint64_t{a.turns} * b.weight, right = std::uint64_t{b.turns} * a.weight;
  return left != right ? left > right : a.endpoint > b.endpoint;
}

std::vector<Walk> walks_of(const std::vector<model::Endpoint>& endpoints,
                           std::span<const std::uint32_t> candidates) {
  std::vector<Walk> walks;
  for (const auto i : candidates)
    if (endpoints[i].weight) walks.push_back({.endpoint = i, .weight = endpoints[i].weight});
  return walks;
}

}  // namespace

std::vector<std::uint32_t> fill_maglev(const std::vector<model::Endpoint>& endpoints,
                                       std::span<const std::uint32_t> candidates,
                                       std::uint32_t present) {
  auto walks = walks_of(endpoints, candidates);
  if (walks.empty()) return {};
  const std::uint32_t size = table_size(slots_needed, walks.size(), present);
  if (walks.size() == 1) return std::vector(size, walks[0].endpoint);

  for (auto& walk : walks) {
    walk.next = static_cast<std::uint32_t>(hash_of(endpoints[walk.endpoint], 1) % size);
    walk.skip = static_cast<std::uint32_t>(1 + hash_of(endpoints[walk.endpoint], 2) % (size - 1));
  }
  constexpr std::uint32_t kFree = ~0u;
  std::vector<std::uint32_t> table(size, kFree);
  std::make_heap(walks.begin(), walks.end(), is_later);
  for (std::uint32_t filled = 0; filled < size; ++filled) {
    std::pop_heap(walks.begin(), walks.end(), is_later);
    auto& walk = walks.back();
    while (table[walk.next] != kFree) {
      walk.next += walk.skip;
      if (walk.next >= size) walk.next -= size;
    }
    table[walk.next] = walk.endpoint;
    ++walk.turns;
    std::push_heap(walks.begin(), walks.end(), is_later);
  }
  return table;
}

}  // namespace weft::lb
