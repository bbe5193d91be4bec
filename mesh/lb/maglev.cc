// Maglev hashing (Eisenbud et al., NSDI 2016, 3.4): every candidate gets nearly the same share of
// the table, and one that leaves takes little but its own slots with it.
#include <algorithm>

#include "mesh/lb/policy.h"

namespace weft::lb {
namespace {

// Primes, so that any skip visits the whole table. 65,521 is the largest that fits the record's 16
// bits.
constexpr std::uint32_t kSizes[] = {251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521};
// Slots per candidate: at 50 the shares differ by a few percent (the paper uses 100).
constexpr std::size_t kSlotsEach = 50;

std::uint64_t hash(const model::Endpoint& endpoint, std::uint64_t seed) {
  std::uint64_t h = 0xcbf29ce484222325ull ^ seed;
  const auto mix = [&h](std::uint8_t byte) { h = (h ^ byte) * 0x100000001b3ull; };
  for (const auto byte : endpoint.address.bytes) mix(byte);
  mix(endpoint.port >> 8);
  mix(endpoint.port & 255);
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdull;
  return h ^ (h >> 33);
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

  const auto fits = std::find_if(std::begin(kSizes), std::end(kSizes), [&](std::uint32_t size) {
    return size >= walks.size() * kSlotsEach;
  });
  const std::uint32_t size = fits == std::end(kSizes) ? kSizes[std::size(kSizes) - 1] : *fits;
  for (auto& walk : walks) {
    walk.next = hash(endpoints[walk.endpoint], 1) % size;
    walk.skip = 1 + hash(endpoints[walk.endpoint], 2) % (size - 1);
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
