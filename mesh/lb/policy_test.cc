#include "mesh/lb/policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <numeric>
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

// Weights that differ, each service with somebody light and somebody heavy.
const std::vector<std::vector<std::uint16_t>> kUneven = {{1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9},
                                                         {9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
                                                         {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
                                                         {1000, 1},
                                                         {1000, 1, 1, 1},
                                                         {1000, 1000, 1000, 1},
                                                         {300, 100, 100, 100},
                                                         {3, 7, 11, 500, 1000}};

std::vector<Endpoint> weighted(const std::vector<std::uint16_t>& weights, std::uint64_t seed) {
  auto all = endpoints(static_cast<int>(weights.size()), seed);
  for (std::size_t i = 0; i < all.size(); ++i) all[i].weight = weights[i];
  return all;
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
    EXPECT_EQ(fill({}, {}, 0), Slots{});
}

TEST(Policy, GivesWeightZeroNothing) {
  for (const auto fill : {fill_in_turn, fill_maglev, fill_ring_hash}) {
    auto two = endpoints(2);
    two[1].weight = 0;
    for (const auto slot : fill(two, everyone(two), 0)) EXPECT_EQ(slot, 0u);
    auto one = endpoints(1);
    one[0].weight = 0;
    EXPECT_EQ(fill(one, everyone(one), 0), Slots{});
  }
}

TEST(Policy, FillsFromTheCandidatesOnly) {
  const auto five = endpoints(5);
  const Slots chosen = {1, 3};
  for (const auto fill : {fill_in_turn, fill_maglev, fill_ring_hash}) {
    const auto slots = fill(five, chosen, 0);
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

TEST(Maglev, GivesSharesByWeightAtTheExtremesAndNobodyNothing) {
  for (const auto& weights : kUneven) {
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    const auto all = weighted(weights, 1);
    const auto slots = fill_maglev(all, everyone(all));
    auto share = shares(slots);
    for (std::uint32_t i = 0; i < all.size(); ++i) {
      EXPECT_GT(share[i], 0);
      EXPECT_NEAR(share[i], weights[i] / sum, 2.0 / static_cast<double>(slots.size()) + 0.01)
          << weights[i] << " of " << sum;
    }
  }
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

// The part of all keys that change hands: a key's slot is its hash modulo the table's size
// (bpf/lib/pick.bpf.h), so that every key is another one in a table of another size.
double moved(const Slots& before, const Slots& after) {
  double count = 0;
  if (before.size() == after.size()) {
    for (std::size_t i = 0; i < before.size(); ++i) count += before[i] != after[i];
    return count / static_cast<double>(before.size());
  }
  constexpr int kKeys = 5000;
  std::mt19937_64 keys(5);
  for (int i = 0; i < kKeys; ++i) {
    const auto key = keys();
    count += before[key % before.size()] != after[key % after.size()];
  }
  return count / kKeys;
}

// What moves as the endpoint leaves a port with that table; nothing may stay its own.
double moved_by(Fill fill, const std::vector<Endpoint>& all, const Slots& members,
                const Slots& table, std::uint32_t leaver) {
  Slots rest = members;
  std::erase(rest, leaver);
  const auto after = fill(all, rest, static_cast<std::uint32_t>(table.size()));
  EXPECT_EQ(std::count(after.begin(), after.end(), leaver), 0);
  return moved(table, after);
}
double moved_by(Fill fill, const std::vector<Endpoint>& all, std::uint32_t leaver) {
  return moved_by(fill, all, everyone(all), fill(all, everyone(all), 0), leaver);
}

// A port's whole life: it grows one by one, in any order, and at every size one may leave.
struct Growth {
  int redeals = 0;  // more than three shares moved
  std::set<std::size_t> sizes;
};
Growth grow(Fill fill, int most, std::uint64_t seed) {
  const auto all = endpoints(most, seed);
  auto order = everyone(all);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  Growth growth;
  Slots members, table;
  for (int count = 1; count <= most; ++count) {
    const auto newcomer = order[static_cast<std::size_t>(count - 1)];
    members.insert(std::lower_bound(members.begin(), members.end(), newcomer), newcomer);
    auto grown = fill(all, members, static_cast<std::uint32_t>(table.size()));
    EXPECT_GE(grown.size(), table.size()) << "a table never shrinks";
    if (!table.empty() && moved(table, grown) > 3.0 / count) {
      ++growth.redeals;
      EXPECT_NE(table.size(), grown.size()) << count << " endpoints, seed " << seed;
    }
    table = std::move(grown);
    growth.sizes.insert(table.size());
    if (count < 2) continue;
    const auto leaver = members[seed * 7919 % members.size()];
    const auto own = shares(table)[leaver];
    EXPECT_LE(moved_by(fill, all, members, table, leaver), std::max(2.0 / count, own + 1.0 / count))
        << count << " endpoints in " << table.size() << " slots, seed " << seed;
  }
  return growth;
}

// 127 is as far as the largest table carries that; see maglev.cc.
TEST(Maglev, MovesLittleAtAnyNumberOfEndpointsAndDealsAnewWhereTheTableGrowsOnly) {
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    const auto growth = grow(fill_maglev, 127, seed);
    EXPECT_LE(growth.redeals, 7);
    EXPECT_EQ(growth.sizes, (std::set<std::size_t>{1, 509, 2039, 8191, 16381, 32749, 65521}));
  }
}

TEST(RingHash, MovesLittleAtAnyNumberOfEndpointsAndDealsAnewWhereTheTableGrowsOnly) {
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    const auto growth = grow(fill_ring_hash, 127, seed);
    EXPECT_LE(growth.redeals, 7);
    EXPECT_EQ(growth.sizes, (std::set<std::size_t>{1, 1021, 4093, 16381}));
  }
}

TEST(Policy, KeepsTheTableAPortHasWhileItIsOneAndLargeEnough) {
  const auto ten = endpoints(10);
  for (const auto fill : {fill_maglev, fill_ring_hash}) {
    const auto fresh = fill(ten, everyone(ten), 0);
    EXPECT_EQ(fill(ten, everyone(ten), fresh.size()), fresh) << "a restart writes nothing";
    EXPECT_EQ(fill(ten, everyone(ten), 65521).size(), 65521u);
    EXPECT_EQ(fill(ten, Slots{3}, fresh.size()), Slots(fresh.size(), 3));
    EXPECT_EQ(fill(ten, everyone(ten), 251), fresh) << "too small";
    EXPECT_EQ(fill(ten, everyone(ten), 40000), fresh) << "nobody's table";
    EXPECT_EQ(fill(ten, {}, fresh.size()), Slots{});
    EXPECT_EQ(fill(ten, Slots{3}, 0), Slots{3}) << "one needs no table";
    EXPECT_EQ(fill(ten, Slots{3}, 1), Slots{3});
  }
  EXPECT_EQ(fill_in_turn(ten, everyone(ten), 2039), everyone(ten));
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

TEST(RingHash, MovesTheLeaversOwnOnlyWhateverTheWeights) {
  for (const auto& weights : kUneven)
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      const auto all = weighted(weights, seed);
      auto table = fill_ring_hash(all, everyone(all));
      for (std::uint32_t leaver = 0; leaver < all.size(); ++leaver)
        EXPECT_NEAR(moved_by(fill_ring_hash, all, leaver), shares(table)[leaver], 1e-9)
            << weights[leaver] << " of " << weights.size() << ", seed " << seed;
    }
}

// A route's shares and a failover write the weights of all anew, in the smallest whole numbers: of
// three with 90 % and one with 10 % one leaves.
TEST(Policy, MovesNoMoreThanSharesDoWhereAllWeightsChange) {
  for (const auto fill : {fill_maglev, fill_ring_hash})
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      const auto before = weighted({3, 3, 3, 1}, seed);
      const auto table = fill(before, everyone(before), 0);
      const auto size = static_cast<std::uint32_t>(table.size());
      const auto doubled = weighted({6, 6, 6, 2}, seed);
      EXPECT_EQ(fill(doubled, everyone(doubled), size), table);
      const auto after = weighted({0, 9, 9, 2}, seed);
      EXPECT_LE(moved(table, fill(after, everyone(after), size)), shares(table).at(0) + 0.05);
    }
}

TEST(Maglev, MovesLittleButTheLeaversOwnWhateverTheWeights) {
  double worst = 0;
  for (const auto& weights : kUneven)
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      const auto all = weighted(weights, seed);
      auto table = fill_maglev(all, everyone(all));
      for (std::uint32_t leaver = 0; leaver < all.size(); ++leaver) {
        const auto own = shares(table)[leaver];
        const auto moved = moved_by(fill_maglev, all, leaver);
        EXPECT_LE(moved, own + 1.0 / static_cast<double>(all.size()))
            << weights[leaver] << " of " << weights.size() << ", seed " << seed;
        worst = std::max(worst, (moved - own) * static_cast<double>(all.size()));
      }
    }
  RecordProperty("worst_beside_own_in_shares", std::to_string(worst));
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

TEST(RingHash, GivesSharesByWeightAtTheExtremes) {
  for (const auto& weights : kUneven) {
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      const auto all = weighted(weights, seed);
      auto share = shares(fill_ring_hash(all, everyone(all)));
      for (std::uint32_t i = 0; i < all.size(); ++i)
        EXPECT_NEAR(share[i], weights[i] / sum, 0.01 + 0.35 * weights[i] / sum)
            << weights[i] << " of " << sum << ", seed " << seed;
    }
  }
}

TEST(RingHash, KeepsSharesOfManyHeavyOnes) {
  auto many = endpoints(200);
  for (auto& endpoint : many) endpoint.weight = 1000;
  many[0].weight = 65535;
  const auto start = std::chrono::steady_clock::now();
  const auto share = shares(fill_ring_hash(many, everyone(many)));
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  std::printf("the fill took %.1f ms\n", took.count());
  EXPECT_EQ(share.size(), many.size());
  EXPECT_NEAR(share.at(0), 65535.0 / (65535 + 199000), 0.01);
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
