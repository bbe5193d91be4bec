// Shares of a route's destinations (mesh/model/shares.h), seen where they end: in the slots.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "mesh/lb/policy.h"
#include "mesh/lb/priority.h"
#include "mesh/model/shares.h"
#include "mesh/model/test_objects.h"

namespace weft::lb {
namespace {

model::Endpoint endpoint(const std::string& ip, model::EndpointState state) {
  model::Endpoint result;
  result.address = model::test::address(ip);
  result.port = 8080;
  result.state = state;
  return result;
}

// The law: of the slots that the fill makes, every group with a ready endpoint has its share.
TEST(RouteShares, ComeOutInTheSlots) {
  std::mt19937 random(3);
  const auto below = [&](unsigned n) {
    return std::uniform_int_distribution<unsigned>(0, n - 1)(random);
  };
  for (int round = 0; round < 200; ++round) {
    std::vector<model::ShareGroup> groups;
    double total = 0;
    for (unsigned g = 0; g < 1 + below(3); ++g) {
      groups.push_back({{}, below(100)});
      for (unsigned i = 0; i < 1 + below(12); ++i)
        groups.back().endpoints.push_back(
            endpoint("10.0." + std::to_string(g) + "." + std::to_string(i + 1),
                     static_cast<model::EndpointState>(i ? below(3) : 0)));
      total += groups.back().share;
    }
    if (total == 0) continue;
    const auto shared = model::share_out(groups);
    const auto slots = fill_in_turn(shared, choose(shared, {}, 71).rotation);
    std::map<unsigned, double> filled;
    for (const auto slot : slots)
      filled[shared[slot].address.bytes[14]] += 1.0 / static_cast<double>(slots.size());
    for (unsigned g = 0; g < groups.size(); ++g)
      EXPECT_NEAR(filled[g], groups[g].share / total, 0.005) << "round " << round;
  }
}

}  // namespace
}  // namespace weft::lb
