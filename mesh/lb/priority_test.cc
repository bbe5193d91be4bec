#include "mesh/lb/priority.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <random>
#include <set>

#include "mesh/lb/policy.h"

namespace weft::lb {
namespace {

using model::Endpoint;
using Indexes = std::vector<std::uint32_t>;
using Weights = std::vector<std::uint16_t>;

std::vector<Endpoint> endpoints(const std::vector<int>& priorities) {
  std::vector<Endpoint> all;
  for (const int priority : priorities) {
    Endpoint endpoint;
    endpoint.address = *model::Address::parse("10.0.0." + std::to_string(1 + all.size()));
    endpoint.priority = static_cast<std::uint8_t>(priority);
    all.push_back(endpoint);
  }
  return all;
}

// The share of the healthy ones' weight that `member` has: what the kernel's draws come to.
double load_of(const Choice& choice, const std::vector<bool>& healthy, const Indexes& members) {
  double sum = 0, own = 0;
  for (const auto i : choice.rotation)
    if (healthy[i]) sum += choice.weights[i];
  for (const auto i : members)
    if (healthy[i]) own += choice.weights[i];
  return own / sum;
}

TEST(Choose, FindsNobodyAmongNobody) {
  EXPECT_EQ(choose({}, {}, 71), Choice{});
  auto one = endpoints({0});
  one[0].state = model::EndpointState::kNotReady;
  EXPECT_EQ(choose(one, {true}, 71), (Choice{{}, {1}, {}}));
  one = endpoints({0});
  one[0].weight = 0;
  EXPECT_TRUE(choose(one, {true}, 71).rotation.empty());
}

TEST(Choose, LeavesASinglePriorityAsItIsWhoeverIsEjected) {
  for (std::size_t count = 1; count <= 3; ++count) {
    auto all = endpoints(std::vector<int>(count, 0));
    all[0].weight = 500;
    Weights weights(count, 1);
    weights[0] = 500;
    Indexes everyone(count);
    std::iota(everyone.begin(), everyone.end(), 0);
    const Choice as_it_was{everyone, weights, {}};
    EXPECT_EQ(choose(all, std::vector<bool>(count, true), 71), as_it_was);
    EXPECT_EQ(choose(all, std::vector<bool>(count, false), 71), as_it_was);
    std::vector<bool> one_out(count, true);
    one_out[0] = false;
    EXPECT_EQ(choose(all, one_out, 71).rotation, everyone);
  }
}

TEST(Choose, ServesFromTheFirstPriorityAndHasTheOthersAsSparesInOrder) {
  const auto all = endpoints({2, 0, 1, 0, 1});
  EXPECT_EQ(choose(all, {}, 71), (Choice{{1, 3}, {1, 1, 1, 1, 1}, {2, 4, 0}}));
  // Numbers need not begin with 0.
  EXPECT_EQ(choose(endpoints({9, 5}), {}, 71), (Choice{{1}, {1, 1}, {0}}));
}

TEST(Choose, KeepsAllLoadAtTheThresholdAndSpillsUnderIt) {
  const auto all = endpoints({0, 0, 0, 0, 1, 1});
  const std::vector<bool> half = {true, true, false, false, true, true};
  EXPECT_EQ(choose(all, half, 50).rotation, (Indexes{0, 1, 2, 3}));
  EXPECT_EQ(choose(all, half, 50).weights, (Weights{1, 1, 1, 1, 1, 1}));
  const auto spilled = choose(all, half, 51);
  EXPECT_EQ(spilled.rotation, (Indexes{0, 1, 2, 3, 4, 5}));
  EXPECT_NEAR(load_of(spilled, half, {4, 5}), 1.0 / 51, 0.011);
  const auto more = choose(all, half, 100);
  EXPECT_NEAR(load_of(more, half, {4, 5}), 0.5, 0.011);
  EXPECT_TRUE(more.spares.empty());
}

TEST(Choose, SplitsAsEnvoyDoes) {
  const auto all = endpoints({0, 0, 1, 1, 1});
  const std::vector<bool> one_of_two = {true, false, true, true, true};
  const auto choice = choose(all, one_of_two, 71);
  EXPECT_NEAR(load_of(choice, one_of_two, {0}), 50.0 / 71, 0.011);
  EXPECT_EQ(choice.weights[1], 1);  // to be probed
  EXPECT_EQ(choice.weights[2], choice.weights[3]);
  for (const auto weight : choice.weights) EXPECT_LE(weight, 100);
}

TEST(Choose, SpillsOverSeveralPriorities) {
  const auto all = endpoints({0, 0, 1, 1, 2, 3});
  const std::vector<bool> healthy = {true, false, true, false, true, true};
  const auto choice = choose(all, healthy, 100);  // 50 %, 50 %, rest of nothing
  EXPECT_NEAR(load_of(choice, healthy, {0}), 0.5, 0.011);
  EXPECT_NEAR(load_of(choice, healthy, {2}), 0.5, 0.011);
  EXPECT_EQ(choice.spares, (Indexes{4, 5}));
}

TEST(Choose, ProbesAPriorityThatIsOutWhollyWhileTheNextCarriesAll) {
  const auto all = endpoints({0, 0, 1, 1, 2});
  const std::vector<bool> healthy = {false, false, true, true, true};
  EXPECT_EQ(choose(all, healthy, 71), (Choice{{0, 1, 2, 3}, {1, 1, 1, 1, 1}, {4}}));
  // below_percent 0: only a priority that is out wholly gives its load away.
  EXPECT_EQ(choose(all, healthy, 0), choose(all, healthy, 71));
  EXPECT_EQ(choose(all, {false, true, true, true, true}, 0).rotation, (Indexes{0, 1}));
}

TEST(Choose, StaysAsItWasWhereEverybodyIsEjectedAndComesBack) {
  const auto all = endpoints({0, 0, 1});
  const auto before = choose(all, {true, true, true}, 71);
  EXPECT_EQ(choose(all, {false, false, false}, 71), before);
  EXPECT_NE(choose(all, {false, false, true}, 71), before);
  EXPECT_EQ(choose(all, {true, true, true}, 71), before);
}

TEST(Choose, SharesWhatIsLeftWhereAllPrioritiesAreShort) {
  const auto all = endpoints({0, 0, 0, 0, 1, 1, 1, 1});
  const std::vector<bool> healthy = {true, false, false, false, true, false, false, false};
  const auto choice = choose(all, healthy, 100);  // 25 % each: half of all each
  EXPECT_NEAR(load_of(choice, healthy, {0}), 0.5, 0.011);
}

// Whatever is ejected: the healthy ones of each priority draw what Envoy's rule gives them, nobody
// is in two lists, and tables stay small.
TEST(Choose, SplitsRandomServicesAsTheRuleSays) {
  std::mt19937_64 rng(7);
  for (int run = 0; run < 2000; ++run) {
    std::vector<int> priorities(1 + rng() % 12);
    for (auto& priority : priorities) priority = static_cast<int>(rng() % 3);
    const auto all = endpoints(priorities);
    std::vector<bool> healthy(all.size());
    std::map<int, std::pair<int, int>> count;  // -> healthy, all
    for (std::size_t i = 0; i < all.size(); ++i) {
      healthy[i] = rng() % 3 > 0;
      count[priorities[i]].first += healthy[i];
      ++count[priorities[i]].second;
    }
    const unsigned below = rng() % 101;
    const auto choice = choose(all, healthy, below);
    std::set<std::uint32_t> seen(choice.rotation.begin(), choice.rotation.end());
    seen.insert(choice.spares.begin(), choice.spares.end());
    ASSERT_EQ(seen.size(), all.size());
    ASSERT_EQ(choice.rotation.size() + choice.spares.size(), all.size());
    if (std::count(healthy.begin(), healthy.end(), true) == 0) continue;
    double left = 1;
    std::map<int, double> loads;
    for (const auto& [priority, of] : count) {
      const double share = 100.0 * of.first / of.second;
      const double takes = of.first == 0 ? 0 : share >= below ? 1 : share / below;
      loads[priority] = std::min(left, takes);
      left -= loads[priority];
    }
    for (const auto& [priority, load] : loads) {
      Indexes members;
      for (std::uint32_t i = 0; i < all.size(); ++i)
        if (priorities[i] == priority && seen.contains(i)) members.push_back(i);
      std::erase_if(members, [&](auto i) {
        return std::find(choice.spares.begin(), choice.spares.end(), i) != choice.spares.end();
      });
      ASSERT_NEAR(load_of(choice, healthy, members), load / (1 - left), 0.03) << run;
    }
  }
}

TEST(Choose, KeepsWeightsWithinAPriorityInASplit) {
  auto all = endpoints({0, 0, 1, 1});
  all[2].weight = 300;
  all[3].weight = 100;
  const std::vector<bool> healthy = {false, false, true, true};
  const auto choice = choose(all, healthy, 71);
  EXPECT_NEAR(load_of(choice, healthy, {2}), 0.75, 0.011);
  EXPECT_EQ(choice.weights, (Weights{1, 1, 3, 1}));
}

TEST(Choose, FallsBackToDrainingOnesAsCandidatesDo) {
  auto all = endpoints({0, 1});
  all[0].state = all[1].state = model::EndpointState::kDraining;
  EXPECT_EQ(choose(all, {}, 71), (Choice{{0}, {1, 1}, {1}}));
}

TEST(Choose, GivesAFillItsWeights) {
  auto all = endpoints({0, 1, 1});
  const auto choice = choose(all, {false, true, true}, 71);
  use(choice, all);
  EXPECT_EQ(fill_in_turn(all, choice.rotation), (Indexes{0, 1, 2}));
}

}  // namespace
}  // namespace weft::lb
