// Each candidate as often as its weight says, spread out, in address order: what rotating and
// random selection want. Equal weights give exactly one slot each.
#include <algorithm>
#include <numeric>

#include "mesh/lb/policy.h"

namespace weft::lb {
namespace {

// A table of more would be slow to write and no finer for it: a share is off by 1/4096 at most.
constexpr std::uint64_t kMostSlots = 4096;
constexpr std::uint64_t kRecordSlots = 65535;  // what the kernel's record counts, 16 bits

}  // namespace

std::vector<std::uint32_t> fill_in_turn(const std::vector<model::Endpoint>& endpoints,
                                        std::span<const std::uint32_t> candidates,
                                        std::uint32_t /*present*/) {
  unsigned divisor = 0;
  unsigned heaviest = 0;
  std::uint64_t sum = 0;
  std::uint64_t count = 0;
  for (const auto i : candidates) {
    const unsigned weight = endpoints[i].weight;
    divisor = std::gcd(divisor, weight);
    heaviest = std::max(heaviest, weight);
    sum += weight;
    count += weight > 0;
  }
  std::vector<std::uint32_t> slots;
  if (divisor == 0) return slots;  // nobody, or weights of 0 only
  // Weights that ask for more slots than that are rounded to the nearest that fit, never to none.
  const auto most = std::min(std::max<std::uint64_t>(kMostSlots, 4 * count), kRecordSlots);
  const bool fits = sum / divisor <= most;
  const std::uint64_t spare = most > count ? most - count : 0;  // "never to none" may take `count`
  const auto turns = [&](std::uint32_t i) -> std::uint64_t {
    const std::uint64_t weight = endpoints[i].weight;
    if (fits || weight == 0) return weight / divisor;
    return std::max<std::uint64_t>(1, weight * spare / sum);
  };
  // Round k takes everyone who has more than k turns: 3,1 becomes a b a a, never a a a b.
  const auto rounds =
      fits ? heaviest / divisor : std::max<std::uint64_t>(1, heaviest * spare / sum);
  for (std::uint64_t round = 0; round < rounds; ++round)
    for (const auto i : candidates)
      if (turns(i) > round) slots.push_back(i);
  return slots;
}

}  // namespace weft::lb
