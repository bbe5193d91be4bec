// Each candidate as often as its weight says, spread out, in address order: what rotating and
// random selection want. Equal weights give exactly one slot each.
#include <numeric>

#include "mesh/lb/policy.h"

namespace weft::lb {

std::vector<std::uint32_t> fill_in_turn(const std::vector<model::Endpoint>& endpoints,
                                        std::span<const std::uint32_t> candidates) {
  unsigned divisor = 0;
  unsigned heaviest = 0;
  for (const auto i : candidates) {
    divisor = std::gcd(divisor, unsigned{endpoints[i].weight});
    heaviest = std::max(heaviest, unsigned{endpoints[i].weight});
  }
  std::vector<std::uint32_t> slots;
  if (divisor == 0) return slots;  // nobody, or weights of 0 only
  // Round k takes everyone whose weight is above k: 3,1 becomes a b a a, never a a a b.
  for (unsigned round = 0; round < heaviest / divisor; ++round)
    for (const auto i : candidates)
      if (endpoints[i].weight / divisor > round) slots.push_back(i);
  return slots;
}

}  // namespace weft::lb
