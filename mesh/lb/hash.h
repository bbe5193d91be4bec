// What the hashing policies know an endpoint by: its address and port, the same on every node and
// after every restart, whatever its position in a list.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "mesh/model/mesh.h"

namespace weft::lb {

// Primes, so that any skip of Maglev's visits the whole table. 65,521 is the largest that fits the
// record's 16 bits.
inline constexpr std::uint32_t kTableSizes[] = {251,  509,   1021,  2039, 4093,
                                                8191, 16381, 32749, 65521};

// The smallest table of at least `wanted` slots, or the largest there is.
inline std::uint32_t table_size(std::uint64_t wanted) {
  for (const auto size : kTableSizes)
    if (size >= wanted) return size;
  return kTableSizes[std::size(kTableSizes) - 1];
}

// The size of a port's next table, which needs needed(candidates) slots.
//
// The kernel takes a key's hash modulo the table's size: a table of another size deals nearly all
// keys anew, however little the fill would move. So a table only grows, never because somebody
// left; and it is made for twice as many as there are, so that those who come one by one find room
// until they are more than twice as many. Beyond kMostHeadroom it is made for those that there are:
// eight services with the largest table would take all slots of the default.
inline constexpr std::uint32_t kMostHeadroom = 16381;
template <class Needed>
std::uint32_t table_size(Needed needed, std::uint64_t candidates, std::uint32_t present) {
  const bool is_table =
      std::find(std::begin(kTableSizes), std::end(kTableSizes), present) != std::end(kTableSizes);
  if (is_table && present >= table_size(needed(candidates))) return present;
  if (candidates == 1) return 1;  // nothing to choose; the first table is for two
  const auto roomy = needed(2 * candidates);
  return table_size(roomy <= kMostHeadroom ? roomy : needed(candidates));
}

// FNV-1a, then half of MurmurHash3's finaliser.
inline std::uint64_t hash_of(const model::Endpoint& endpoint, std::uint64_t seed) {
  std::uint64_t h = 0xcbf29ce484222325ull ^ seed;
  const auto mix = [&h](std::uint8_t byte) { h = (h ^ byte) * 0x100000001b3ull; };
  for (const auto byte : endpoint.address.bytes) mix(byte);
  mix(endpoint.port >> 8);
  mix(endpoint.port & 255);
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdull;
  return h ^ (h >> 33);
}

}  // namespace weft::lb
