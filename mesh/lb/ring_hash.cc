// Consistent hashing on a ring (Karger et al. 1997, as ketama deals points out), sampled into a
// table: slot s belongs to whoever has the first point at or after the slot's beginning. Shares
// differ more than Maglev's, by some 10 % of a share; in return one that leaves takes exactly its
// own slots with it.
#include <algorithm>

#include "mesh/lb/hash.h"
#include "mesh/lb/policy.h"

namespace weft::lb {
namespace {

// For each unit of weight, whatever the others' weights are: who leaves or comes must not change
// anybody's points. The spread of shares falls with the root of it; ketama has 160, Envoy at least
// 1,024 for all together.
constexpr std::uint64_t kPointsEach = 128;
// Of all together: bounds the work, some 10 ms. Where weights ask for more everybody has half, a
// quarter ... of their points, the first ones. So one that comes or leaves across that limit moves
// about half of the keys, which is the one case in which more than its own slots move.
constexpr std::uint64_t kMostPoints = 4'000'000;

std::uint64_t slots_needed(std::uint64_t candidates) { return candidates * kPointsEach; }

std::uint64_t points_of(const model::Endpoint& endpoint, unsigned halvings) {
  const std::uint64_t points = kPointsEach * endpoint.weight;
  return points ? std::max<std::uint64_t>(1, points >> halvings) : 0;
}

unsigned halvings_for(const std::vector<model::Endpoint>& endpoints,
                      std::span<const std::uint32_t> candidates) {
  for (unsigned halvings = 0;; ++halvings) {
    std::uint64_t sum = 0;
    for (const auto i : candidates) sum += points_of(endpoints[i], halvings);
    if (sum <= std::max<std::uint64_t>(kMostPoints, candidates.size())) return halvings;
  }
}

// splitmix64 (Steele et al. 2014): every bit of a point's place depends on every bit of its number.
std::uint64_t place_of(std::uint64_t base, std::uint64_t number) {
  std::uint64_t z = base + number * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

struct Slot {
  std::uint64_t place = 0;  // of the first point in it
  std::uint32_t endpoint = 0;
  bool taken = false;
};

}  // namespace

std::vector<std::uint32_t> fill_ring_hash(const std::vector<model::Endpoint>& endpoints,
                                          std::span<const std::uint32_t> candidates,
                                          std::uint32_t present) {
  const auto count = static_cast<std::uint64_t>(std::count_if(
      candidates.begin(), candidates.end(), [&](auto i) { return endpoints[i].weight > 0; }));
  if (count == 0) return {};

  std::vector<Slot> ring(table_size(slots_needed, count, present));
  const auto halvings = halvings_for(endpoints, candidates);
  for (const auto i : candidates) {
    const auto points = points_of(endpoints[i], halvings);
    const auto base = hash_of(endpoints[i], 3);
    for (std::uint64_t k = 0; k < points; ++k) {
      const auto place = place_of(base, k);
      // place * size / 2^64: places keep their order as slots, and no division is needed.
      auto& slot = ring[static_cast<std::size_t>((place >> 32) * ring.size() >> 32)];
      if (!slot.taken || place < slot.place) slot = {place, i, true};
    }
  }
  // Once round and a bit: slots without a point belong to the next point's owner.
  std::vector<std::uint32_t> table(ring.size());
  std::uint32_t owner = 0;
  for (std::size_t step = 2 * ring.size(); step-- > 0;) {
    const auto& slot = ring[step % ring.size()];
    if (slot.taken) owner = slot.endpoint;
    table[step % ring.size()] = owner;
  }
  return table;
}

}  // namespace weft::lb
