// Consistent hashing on a ring (Karger et al. 1997, as ketama deals points out), sampled into a
// table: slot s belongs to whoever has the first point at or after the slot's beginning. Shares
// differ more than Maglev's, by some 10 % of a share; in return one that leaves takes exactly its
// own slots with it as long as the table keeps its size.
#include <algorithm>
#include <limits>

#include "mesh/lb/hash.h"
#include "mesh/lb/policy.h"

namespace weft::lb {
namespace {

// Of the lightest. The spread of shares falls with the root of it; ketama has 160, Envoy at least
// 1,024 for all together.
constexpr std::uint64_t kPointsEach = 128;
// Of one endpoint however heavy it is beside the others: bounds the work.
constexpr std::uint64_t kMostPoints = kPointsEach * 100;

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
                                          std::span<const std::uint32_t> candidates) {
  std::uint64_t lightest = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t count = 0;
  for (const auto i : candidates)
    if (endpoints[i].weight) {
      lightest = std::min<std::uint64_t>(lightest, endpoints[i].weight);
      ++count;
    }
  if (count == 0) return {};

  std::vector<Slot> ring(table_size(std::max<std::uint64_t>(1000, count * kPointsEach)));
  for (const auto i : candidates) {
    const auto points = std::min(kPointsEach * endpoints[i].weight / lightest, kMostPoints);
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
