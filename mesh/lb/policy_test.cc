#include "mesh/lb/policy.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace weft::lb {
namespace {

using model::Endpoint;
using Slots = std::vector<std::uint32_t>;

std::vector<Endpoint> endpoints(int count, std::uint64_t seed = 1) {
  std::mt19937_64 rng(seed);
  std::set<int> hosts;
  while (static_cast<int>(hosts.size()) < count) hosts.insert(static_cast<int>(rng() % 60000));
  std::vector<Endpoint> all;
  for (const int host : hosts) {
    Endpoint endpoint;
    endpoint.address = *model::Address::parse("10.1." + std::to_string(host / 250) + "." +
                                              std::to_string(1 + host % 250));
    endpoint.port = 8080;
    all.push_back(endpoint);
  }
  return all;
}

Slots everyone(const std::vector<Endpoint>& endpoints) {
  Slots all(endpoints.size());
  for (std::uint32_t i = 0; i < all.size(); ++i) all[i] = i;
  return all;
}

std::map<std::uint32_t, double> shares(const Slots& slots) {
  std::map<std::uint32_t, double> share;
  for (const auto slot : slots) share[slot] += 1.0 / slots.size();
  return share;
}

TEST(Policy, KnowsEveryBalancer) {
  using model::Balancer;
  const std::map<Balancer, Selector> wanted = {
      {Balancer::kRoundRobin, Selector::kRotate},  {Balancer::kRandom, Selector::kRandom},
      {Balancer::kSourceHash, Selector::kHash},    {Balancer::kRingHash, Selector::kHash},
      {Balancer::kLeastRequest, Selector::kLeast}, {Balancer::kPeakEwma, Selector::kEwma}};
  for (int i = 0; i <= static_cast<int>(Balancer::kPeakEwma); ++i) {
    const auto balancer = static_cast<Balancer>(i);
    const auto& policy = policy_of(balancer);
    EXPECT_EQ(policy.balancer, balancer);
    EXPECT_EQ(policy.selector, wanted.at(balancer)) << model::to_text(balancer);
    ASSERT_NE(policy.fill, nullptr);
  }
}

TEST(Policy, FillsNothingFromNobody) {
  for (const auto fill : {fill_in_turn, fill_maglev, fill_ring_hash})
    EXPECT_EQ(fill({}, {}), Slots{});
}

TEST(Policy, GivesWeightZeroNothing) {
  for (const auto fill : {fill_in_turn, fill_maglev, fill_ring_hash}) {
    auto two = endpoints(2);
    two[1].weight = 0;
    for (const auto slot : fill(two, everyone(two))) EXPECT_EQ(slot, 0u);
    auto one = endpoints(1);
    one[0].weight = 0;
    EXPECT_EQ(fill(one, everyone(one)), Slots{});
  }
}

TEST(Policy, FillsFromTheCandidatesOnly) {
  const auto five = endpoints(5);
  const Slots chosen = {1, 3};
  for (const auto fill : {fill_in_turn, fill_maglev, fill_ring_hash}) {
    const auto slots = fill(five, chosen);
    EXPECT_EQ(std::set<std::uint32_t>(slots.begin(), slots.end()), (std::set<std::uint32_t>{1, 3}));
  }
}

TEST(Candidates, AreTheReadyOnes) {
  auto three = endpoints(3);
  three[0].state = model::EndpointState::kDraining;
  three[2].state = model::EndpointState::kNotReady;
  EXPECT_EQ(candidates(three), Slots{1});
}

TEST(Candidates, AreTheDrainingOnesWhereNobodyIsReady) {
  auto three = endpoints(3);
  three[0].state = model::EndpointState::kDraining;
  three[1].state = model::EndpointState::kNotReady;
  three[2].state = model::EndpointState::kDraining;
  EXPECT_EQ(candidates(three), (Slots{0, 2}));
  for (auto& endpoint : three) endpoint.state = model::EndpointState::kNotReady;
  EXPECT_EQ(candidates(three), Slots{});
}

TEST(InTurn, GivesEqualWeightsOneSlotEachInAddressOrder) {
  const auto three = endpoints(3);
  EXPECT_EQ(fill_in_turn(three, everyone(three)), (Slots{0, 1, 2}));
  auto heavy = three;
  for (auto& endpoint : heavy) endpoint.weight = 100;
  EXPECT_EQ(fill_in_turn(heavy, everyone(heavy)), (Slots{0, 1, 2}));
}

TEST(InTurn, GivesSlotsByWeight) {
  auto three = endpoints(3);
  three[0].weight = 6;
  three[1].weight = 2;
  three[2].weight = 4;
  const auto share = shares(fill_in_turn(three, everyone(three)));
  EXPECT_DOUBLE_EQ(share.at(0), 0.5);
  EXPECT_NEAR(share.at(1), 1.0 / 6, 1e-9);
  EXPECT_NEAR(share.at(2), 1.0 / 3, 1e-9);
}

TEST(InTurn, NeverServesTheSameTwiceInARowWhileOthersWait) {
  auto two = endpoints(2);
  two[0].weight = two[1].weight = 3;
  two[1].weight = 2;
  EXPECT_EQ(fill_in_turn(two, everyone(two)), (Slots{0, 1, 0, 1, 0}));
}

TEST(Maglev, GivesNearlyEqualShares) {
  for (const int count : {2, 3, 5, 7, 10, 33, 100, 1000})
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      const auto all = endpoints(count, seed);
      const auto share = shares(fill_maglev(all, everyone(all)));
      ASSERT_EQ(share.size(), all.size()) << "somebody has no slot";
      for (const auto& [endpoint, part] : share)
        EXPECT_NEAR(part * count, 1.0, 0.05) << count << " endpoints, seed " << seed;
    }
}

TEST(Maglev, GivesSharesByWeight) {
  auto four = endpoints(4);
  four[0].weight = 3;
  const auto share = shares(fill_maglev(four, everyone(four)));
  EXPECT_NEAR(share.at(0), 0.5, 0.03);
  for (const std::uint32_t other : {1, 2, 3}) EXPECT_NEAR(share.at(other), 1.0 / 6, 0.02);
}

TEST(Maglev, ServesEverybodyWhereWeightsAreLargerThanTheTable) {
  auto three = endpoints(3);
  three[0].weight = three[1].weight = 65535;
  three[2].weight = 32768;
  const auto share = shares(fill_maglev(three, everyone(three)));
  ASSERT_EQ(share.size(), 3u);
  EXPECT_NEAR(share.at(0), 0.4, 0.02);
  EXPECT_NEAR(share.at(1), 0.4, 0.02);
  EXPECT_NEAR(share.at(2), 0.2, 0.02);
}

TEST(Maglev, DependsOnAddressesAndNotOnPositions) {
  const auto ten = endpoints(10);
  // The same ten behind one that is no candidate: every index is one higher, nothing else changes.
  auto eleven = ten;
  Endpoint first = ten[0];
  first.address = *model::Address::parse("10.0.0.1");
  eleven.insert(eleven.begin(), first);
  Slots later = everyone(eleven);
  later.erase(later.begin());
  const auto a = fill_maglev(ten, everyone(ten)), b = fill_maglev(eleven, later);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i] + 1, b[i]);
}

// The part of all slots that change hands as the endpoint leaves; none may stay its own. The table
// must not change its size with it: keys would be dealt anew.
double moved_by(Fill fill, const std::vector<Endpoint>& all, std::uint32_t leaver) {
  const auto before = fill(all, everyone(all));
  Slots rest = everyone(all);
  rest.erase(rest.begin() + leaver);
  const auto after = fill(all, rest);
  EXPECT_EQ(before.size(), after.size()) << all.size();
  double moved = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    moved += before[i] != after.at(i);
    EXPECT_NE(after[i], leaver);
  }
  return moved / before.size();
}

// 127 is as far as the largest table carries that; see maglev.cc.
TEST(Maglev, MovesLittleButTheLeaversOwn) {
  for (const int count : {4, 9, 17, 30, 40, 52, 60, 73, 100, 127})
    for (std::uint64_t seed = 1; seed <= 20; ++seed)
      EXPECT_LE(moved_by(fill_maglev, endpoints(count, seed), seed % count), 2.0 / count)
          << count << " endpoints, seed " << seed;
}

TEST(Maglev, MovesLittleOfALargeServiceAlthoughMoreThanTwoShares) {
  for (const int count : {150, 230, 400, 600})
    for (std::uint64_t seed = 1; seed <= 2; ++seed)
      EXPECT_LE(moved_by(fill_maglev, endpoints(count, seed), seed % count),
                1.0 / count + 3.5 * count / 65521)
          << count << " endpoints, seed " << seed;
}

TEST(RingHash, MovesTheLeaversOwnOnly) {
  for (const int count : {2, 3, 4, 9, 17, 30, 60, 100, 150, 230, 400, 600, 1000})
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      const auto all = endpoints(count, seed);
      const std::uint32_t leaver = seed % count;
      const auto own = shares(fill_ring_hash(all, everyone(all))).at(leaver);
      const auto moved = moved_by(fill_ring_hash, all, leaver);
      EXPECT_NEAR(moved, own, 1e-9) << count;
      EXPECT_LE(moved, 2.0 / count) << count << " endpoints, seed " << seed;
    }
}

TEST(RingHash, SharesDifferByLessThanHalf) {
  for (const int count : {2, 3, 5, 10, 33, 100, 500})
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      const auto all = endpoints(count, seed);
      const auto share = shares(fill_ring_hash(all, everyone(all)));
      ASSERT_EQ(share.size(), all.size()) << "somebody has no slot";
      for (const auto& [endpoint, part] : share)
        EXPECT_NEAR(part * count, 1.0, 0.5) << count << " endpoints, seed " << seed;
    }
}

TEST(RingHash, GivesSharesByWeight) {
  auto four = endpoints(4);
  four[0].weight = 300;
  for (const int other : {1, 2, 3}) four[other].weight = 100;
  EXPECT_NEAR(shares(fill_ring_hash(four, everyone(four))).at(0), 0.5, 0.08);
}

TEST(RingHash, StaysWithinWhatARecordCounts) {
  const auto many = endpoints(3000);
  const auto slots = fill_ring_hash(many, everyone(many));
  EXPECT_EQ(slots.size(), 65521u);
  EXPECT_EQ(std::set<std::uint32_t>(slots.begin(), slots.end()).size(), 3000u);
}

TEST(InTurn, RoundsWeightsThatWouldTakeMoreSlotsThanARecordCounts) {
  auto many = endpoints(3000);
  for (std::size_t i = 0; i < many.size(); ++i) many[i].weight = i % 2 ? 1000 : 999;
  const auto slots = fill_in_turn(many, everyone(many));
  EXPECT_LE(slots.size(), 65535u);
  EXPECT_EQ(std::set<std::uint32_t>(slots.begin(), slots.end()).size(), 3000u);
  auto two = endpoints(2);
  two[0].weight = 65535;
  EXPECT_LE(fill_in_turn(two, everyone(two)).size(), 4096u);
  EXPECT_NEAR(shares(fill_in_turn(two, everyone(two))).at(0), 1.0, 0.001);
}

TEST(Maglev, StaysWithinWhatARecordCounts) {
  const auto many = endpoints(3000);
  EXPECT_LE(fill_maglev(many, everyone(many)).size(), 65535u);
}

}  // namespace
}  // namespace weft::lb
