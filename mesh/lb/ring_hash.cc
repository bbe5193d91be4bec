// What a ring (Karger et al. 1997) is asked for: one that leaves takes exactly its own slots with
// it, one that comes takes exactly its own, by weight. A ring itself cannot have it so: its points
// are counted by weights, and where all weights change together (a route's shares, a failover) half
// of all keys move although nobody's share has changed.
//
// So each candidate throws its points at the table one after the other, a heavy one faster, and a
// slot belongs to whose point came first: weighted rendezvous hashing (Schindelhauer and Schomaker
// 2005) of each slot, in N + M ln M steps and not N M. When a point comes is turn / weight: it
// depends on nobody else, and who is first does not change where all weights are doubled. Shares
// differ more than Maglev's, by some 10 % of a share.
#include <algorithm>

#include "mesh/lb/hash.h"
#include "mesh/lb/policy.h"

namespace weft::lb {
namespace {

// The spread of shares falls with the root of it; ketama's rings have 160 points.
constexpr std::uint64_t kSlotsEach = 128;

std::uint64_t slots_needed(std::uint64_t candidates) { return candidates * kSlotsEach; }

// splitmix64 (Steele et al. 2014): every bit of a point's place depends on every bit of its number.
std::uint64_t place_of(std::uint64_t base, std::uint64_t number) {
  std::uint64_t z = base + number * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

struct Thrower {
  std::uint32_t endpoint = 0;
  std::uint64_t weight = 0;
  std::uint64_t base = 0;
  std::uint64_t turn = 0;  // of its next point, in 1/65536: each begins somewhere within the first
};

struct Slot {
  std::uint64_t turn = 0;    // of the first point in it ...
  std::uint64_t weight = 0;  // ... which came at turn / weight; 0: none did
  std::uint32_t endpoint = 0;
};

constexpr std::uint64_t kTurn = 1 << 16;

// All its points that come before `end`. Returns how many slots were empty before.
std::size_t throw_until(std::uint64_t end, Thrower& thrower, std::vector<Slot>& slots) {
  std::size_t filled = 0;
  for (; thrower.turn < end * thrower.weight; thrower.turn += kTurn) {
    const auto place = place_of(thrower.base, thrower.turn / kTurn);
    auto& slot = slots[static_cast<std::size_t>((place >> 32) * slots.size() >> 32)];
    filled += slot.weight == 0;
    if (slot.weight == 0 || thrower.turn * slot.weight < slot.turn * thrower.weight)
      slot = {thrower.turn, thrower.weight, thrower.endpoint};
  }
  return filled;
}

}  // namespace

std::vector<std::uint32_t> fill_ring_hash(const std::vector<model::Endpoint>& endpoints,
                                          std::span<const std::uint32_t> candidates,
                                          std::uint32_t present) {
  std::vector<Thrower> throwers;
  std::uint64_t sum = 0;
  for (const auto i : candidates) {
    if (endpoints[i].weight == 0) continue;
    const auto base = hash_of(endpoints[i], 3);
    throwers.push_back({i, endpoints[i].weight, base, place_of(base, ~0ull) % kTurn});
    sum += endpoints[i].weight;
  }
  if (throwers.empty()) return {};
  const std::uint32_t size = table_size(slots_needed, throwers.size(), present);
  if (throwers.size() == 1) return std::vector(size, throwers[0].endpoint);

  // Until all slots have a point; how long a step is changes nothing but the work. In this one as
  // many points come as there are slots.
  const auto step = std::max<std::uint64_t>(1, kTurn * size / sum);
  std::vector<Slot> slots(size);
  std::size_t filled = 0;
  for (auto end = step; filled < slots.size(); end += step)
    for (auto& thrower : throwers) filled += throw_until(end, thrower, slots);
  std::vector<std::uint32_t> table;
  table.reserve(slots.size());
  for (const auto& slot : slots) table.push_back(slot.endpoint);
  return table;
}

}  // namespace weft::lb
