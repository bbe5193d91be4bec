#include "userspace_proxy/net/local_cluster.h"

#include <gtest/gtest.h>

#include <map>

namespace weft::net {
namespace {

constexpr auto kV4 = model::Family::kIpv4;

struct Fleet {
  std::shared_ptr<Cluster> cluster = std::make_shared<Cluster>();
  Breaker breaker{nullptr};
  Random random{42};
  std::uint64_t now = 1000000;

  Endpoint& add(std::uint16_t port, std::uint16_t weight = 1, std::uint8_t priority = 0) {
    Endpoint endpoint;
    endpoint.address = *model::Address::parse("10.0.0.1");
    endpoint.port = port;
    endpoint.weight = weight;
    endpoint.priority = priority;
    endpoint.shares = std::make_shared<Shares>();
    auto& shares = *endpoint.shares;
    shares.state = &shares.own_state;
    shares.policy = &shares.own_policy;
    shares.total = &shares.own_total;
    shares.requests = &shares.own_state.requests[0];
    shares.own_policy.max_ejected = 100;
    shares.own_policy.base_ejection_ms = 30000;
    shares.own_policy.max_ejection_ms = 300000;
    shares.own_policy.lease_ms = 15000;
    return cluster->endpoints.emplace_back(std::move(endpoint));
  }
  void open(Endpoint& endpoint, std::uint64_t until) {
    endpoint.shares->own_state.breaker =
        weft_breaker_make(WEFT_BREAKER_OPEN, WEFT_BREAKER_REFUSED, 0, 1, until);
  }
  std::map<std::uint16_t, int> draw(int times) {
    LocalCluster local(cluster);
    std::map<std::uint16_t, int> counts;
    for (int i = 0; i < times; ++i)
      if (const auto picked = local.pick(kV4, {}, breaker, random, now); picked.endpoint)
        ++counts[picked.endpoint->port];
    return counts;
  }
};

TEST(LocalCluster, TurnsGoRound) {
  Fleet fleet;
  for (std::uint16_t port : {1, 2, 3}) fleet.add(port);
  const auto counts = fleet.draw(300);
  for (std::uint16_t port : {1, 2, 3}) EXPECT_EQ(counts.at(port), 100);
}

TEST(LocalCluster, WeightsAreShares) {
  Fleet fleet;
  fleet.add(1, 10);
  fleet.add(2, 30);
  fleet.add(3, 0);
  const auto counts = fleet.draw(4000);
  EXPECT_EQ(counts.at(1), 1000);
  EXPECT_EQ(counts.at(2), 3000);
  EXPECT_FALSE(counts.contains(3));
}

TEST(LocalCluster, DrainingOnesServeOnlyWhileNobodyIsReady) {
  Fleet fleet;
  fleet.add(1).state = model::EndpointState::kDraining;
  EXPECT_EQ(fleet.draw(10).at(1), 10);
  fleet.add(2);
  EXPECT_FALSE(fleet.draw(10).contains(1));
}

TEST(LocalCluster, ReadyOnesOfWeight0KeepDrainingOnesOut) {
  Fleet fleet;
  fleet.add(1).state = model::EndpointState::kDraining;
  fleet.add(2, 0);
  EXPECT_TRUE(fleet.draw(10).empty());
}

TEST(LocalCluster, WhoseBreakerIsOpenGetsNothing) {
  Fleet fleet;
  fleet.add(1);
  fleet.add(2);
  fleet.open(fleet.cluster->endpoints[0], fleet.now + 1000);
  const auto counts = fleet.draw(100);
  EXPECT_FALSE(counts.contains(1));
  EXPECT_EQ(counts.at(2), 100);
}

TEST(LocalCluster, AllOpenIsSaid) {
  Fleet fleet;
  fleet.add(1);
  fleet.open(fleet.cluster->endpoints[0], fleet.now + 1000);
  LocalCluster local(fleet.cluster);
  const auto picked = local.pick(kV4, {}, fleet.breaker, fleet.random, fleet.now);
  EXPECT_EQ(picked.endpoint, nullptr);
  EXPECT_TRUE(picked.all_ejected);
}

TEST(LocalCluster, WhenItsTimeIsOverExactlyOneIsTheProbe) {
  Fleet fleet;
  fleet.add(1);
  fleet.open(fleet.cluster->endpoints[0], fleet.now - 1);
  LocalCluster local(fleet.cluster);
  int probes = 0;
  for (int i = 0; i < 100; ++i)
    probes += local.pick(kV4, {}, fleet.breaker, fleet.random, fleet.now).probe;
  EXPECT_EQ(probes, 1);
}

TEST(LocalCluster, TheNextPriorityServesWhenTheFirstIsBroken) {
  Fleet fleet;
  fleet.add(1);
  fleet.add(2, 1, 1);
  EXPECT_EQ(fleet.draw(50).at(1), 50);
  fleet.open(fleet.cluster->endpoints[0], fleet.now + 1000);
  EXPECT_EQ(fleet.draw(50).at(2), 50);
}

TEST(LocalCluster, OneThatFailedTheRequestComesLast) {
  Fleet fleet;
  fleet.add(1);
  fleet.add(2);
  LocalCluster local(fleet.cluster);
  const Shares* tried[] = {fleet.cluster->endpoints[0].shares.get()};
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(local.pick(kV4, tried, fleet.breaker, fleet.random, fleet.now).endpoint->port, 2);
  const Shares* both[] = {tried[0], fleet.cluster->endpoints[1].shares.get()};
  EXPECT_NE(local.pick(kV4, both, fleet.breaker, fleet.random, fleet.now).endpoint, nullptr);
}

TEST(LocalCluster, ADialledAddressGetsEndpointsOfItsOwnFamily) {
  Fleet fleet;
  fleet.add(1);
  fleet.add(2).address = *model::Address::parse("fd00::1");
  LocalCluster both(fleet.cluster);
  for (int i = 0; i < 20; ++i) {
    const auto v4 = both.pick(kV4, {}, fleet.breaker, fleet.random, fleet.now);
    const auto v6 = both.pick(model::Family::kIpv6, {}, fleet.breaker, fleet.random, fleet.now);
    EXPECT_EQ(v4.endpoint->port, 1);
    EXPECT_EQ(v6.endpoint->port, 2);
  }
}

TEST(LocalCluster, WhereAFamilyHasNoEndpointsThoseOfTheOtherServe) {
  Fleet fleet;
  fleet.add(1);
  LocalCluster local(fleet.cluster);
  const auto picked = local.pick(model::Family::kIpv6, {}, fleet.breaker, fleet.random, fleet.now);
  ASSERT_NE(picked.endpoint, nullptr);
  EXPECT_EQ(picked.endpoint->port, 1);
}

TEST(LocalCluster, LeastRequestAvoidsTheBusyOne) {
  Fleet fleet;
  fleet.cluster->balancer = model::Balancer::kLeastRequest;
  for (std::uint16_t port : {1, 2, 3, 4}) fleet.add(port);
  fleet.cluster->endpoints[2].shares->own_state.requests[1] = 1000;  // seen by another generation
  const auto counts = fleet.draw(2000);
  EXPECT_FALSE(counts.contains(3));
}

TEST(LocalCluster, PeakEwmaWeighsByResponseTime) {
  Fleet fleet;
  fleet.cluster->balancer = model::Balancer::kPeakEwma;
  for (std::uint16_t port : {1, 2, 3, 4}) {
    fleet.add(port).shares->response_time.note(1000, fleet.now);
  }
  fleet.cluster->endpoints[0].shares->response_time.note(50000, fleet.now);
  EXPECT_FALSE(fleet.draw(2000).contains(1));
}

TEST(LocalCluster, PeakEwmaAsksOneThatWasSlowOnceAgain) {
  Fleet fleet;
  fleet.cluster->balancer = model::Balancer::kPeakEwma;
  for (std::uint16_t port : {1, 2}) fleet.add(port);
  fleet.cluster->endpoints[0].shares->response_time.note(1'000'000, fleet.now);
  fleet.now += 120'000;
  fleet.cluster->endpoints[1].shares->response_time.note(1000, fleet.now);
  EXPECT_EQ(fleet.draw(100).at(1), 100);
}

TEST(LocalCluster, PeakEwmaTriesOneThatNeverAnsweredWithOneAtATime) {
  Fleet fleet;
  fleet.cluster->balancer = model::Balancer::kPeakEwma;
  for (std::uint16_t port : {1, 2}) fleet.add(port);
  fleet.cluster->endpoints[1].shares->response_time.note(1000, fleet.now);
  EXPECT_EQ(fleet.draw(100).at(1), 100);
  fleet.cluster->endpoints[0].shares->own_state.requests[0] = 1;
  EXPECT_EQ(fleet.draw(100).at(2), 100);
}

TEST(LocalCluster, WhoComparesLoadsDrawsTheOneThatIsNotCutOff) {
  for (const auto balancer : {model::Balancer::kPeakEwma, model::Balancer::kLeastRequest}) {
    Fleet fleet;
    fleet.cluster->balancer = balancer;
    for (std::uint16_t port : {1, 2, 3}) {
      auto& shares = *fleet.add(port).shares;
      shares.own_state.requests[0] = port == 1 ? 0 : port == 2 ? 5 : 9;
      shares.response_time.note(port == 1 ? 300 : 1000, fleet.now);
    }
    fleet.open(fleet.cluster->endpoints[0], fleet.now + 1000);
    // Two of three pairs have the open one: 2 gets all but the third that is between 1 and 3.
    const auto counts = fleet.draw(3000);
    EXPECT_FALSE(counts.contains(1));
    EXPECT_GT(counts.at(2), 1800);
  }
}

TEST(ResponseTime, AFailureKeepsWhatIsKnownFromAgeing) {
  ResponseTime time;
  time.renew(5);
  EXPECT_EQ(time.at(5), 0u) << "nothing is known";
  time.note(800, 5);
  time.renew(5 + WEFT_EWMA_HALF_MS);
  EXPECT_EQ(time.at(5 + WEFT_EWMA_HALF_MS), 400u);
  EXPECT_EQ(time.at(5 + 2 * WEFT_EWMA_HALF_MS), 200u);
}

TEST(ResponseTime, ASlowerAnswerCountsAtOnceAFasterOneByAnEighth) {
  ResponseTime time;
  EXPECT_EQ(time.at(5), 0u);
  time.note(800, 5);
  time.note(1600, 5);
  EXPECT_EQ(time.at(5), 1600u);
  time.note(800, 5);
  EXPECT_EQ(time.at(5), 1500u);
  EXPECT_EQ(time.at(5 + WEFT_EWMA_HALF_MS), 750u);
  EXPECT_EQ(time.at(4), 1500u) << "of a clock that is behind";
  EXPECT_EQ(time.at(5 + 40 * WEFT_EWMA_HALF_MS), 1u) << "a known one never becomes unknown";
}

TEST(Breaker, AStreakOf5xxOpensItAndASuccessEndsTheStreak) {
  Fleet fleet;
  auto& shares = *fleet.add(1).shares;
  shares.own_policy.threshold_5xx = 3;
  for (const int status : {500, 500, 200, 500, 502})
    fleet.breaker.on_status(shares, static_cast<std::uint16_t>(status), false, fleet.now);
  EXPECT_FALSE(fleet.breaker.is_open(shares, fleet.now));
  fleet.breaker.on_status(shares, 500, false, fleet.now);
  EXPECT_TRUE(fleet.breaker.is_open(shares, fleet.now));
  EXPECT_EQ(weft_breaker_reason(shares.own_state.breaker), WEFT_BREAKER_HTTP_5XX);
  EXPECT_EQ(shares.own_total.ejected, 1u);
}

TEST(Breaker, GatewayErrorsHaveAThresholdOfTheirOwn) {
  Fleet fleet;
  auto& shares = *fleet.add(1).shares;
  shares.own_policy.threshold_gateway = 2;
  for (const int status : {500, 500, 503, 500, 503})
    fleet.breaker.on_status(shares, static_cast<std::uint16_t>(status), false, fleet.now);
  EXPECT_FALSE(fleet.breaker.is_open(shares, fleet.now));
  fleet.breaker.on_status(shares, 504, false, fleet.now);
  EXPECT_TRUE(fleet.breaker.is_open(shares, fleet.now));
}

TEST(Breaker, TheFloorKeepsTheLastOnes) {
  Fleet fleet;
  auto& shares = *fleet.add(1).shares;
  shares.own_policy.threshold = 1;
  shares.own_policy.max_ejected = 0;
  fleet.breaker.charge(shares, WEFT_BREAKER_REFUSED, false, fleet.now);
  EXPECT_FALSE(fleet.breaker.is_open(shares, fleet.now));
  EXPECT_EQ(shares.own_total.ejected, 0u);
}

TEST(Breaker, AProbeThatFailsReopensForLongerAndOneThatSucceedsCloses) {
  Fleet fleet;
  auto& shares = *fleet.add(1).shares;
  shares.own_policy.threshold = 1;
  fleet.breaker.charge(shares, WEFT_BREAKER_REFUSED, false, fleet.now);
  const auto first = weft_breaker_until_ms(shares.own_state.breaker);
  EXPECT_EQ(first, fleet.now + 30000);
  ASSERT_EQ(fleet.breaker.admit(shares, first, 0), Admission::kProbe);
  fleet.breaker.charge(shares, WEFT_BREAKER_REFUSED, true, first);
  const auto second = weft_breaker_until_ms(shares.own_state.breaker);
  EXPECT_EQ(second, first + 60000);
  ASSERT_EQ(fleet.breaker.admit(shares, second, 0), Admission::kProbe);
  EXPECT_EQ(fleet.breaker.admit(shares, second, 0), Admission::kEjected);
  fleet.breaker.on_status(shares, 200, true, second);
  EXPECT_EQ(fleet.breaker.admit(shares, second, 0), Admission::kYes);
  EXPECT_EQ(shares.own_total.ejected, 0u);
}

TEST(Breaker, ALostProbeIsDueAgainAtOnce) {
  Fleet fleet;
  auto& shares = *fleet.add(1).shares;
  fleet.open(fleet.cluster->endpoints[0], fleet.now);
  ASSERT_EQ(fleet.breaker.admit(shares, fleet.now, 0), Admission::kProbe);
  fleet.breaker.lose(shares, fleet.now);
  EXPECT_EQ(fleet.breaker.admit(shares, fleet.now, 0), Admission::kProbe);
}

TEST(Breaker, WordsOfAnotherIncarnationAreLeftAlone) {
  Fleet fleet;
  auto& shares = *fleet.add(1).shares;
  shares.own_policy.threshold = shares.own_policy.threshold_5xx = 1;
  shares.own_state.incarnation = 7;
  fleet.breaker.charge(shares, WEFT_BREAKER_REFUSED, false, fleet.now);
  fleet.breaker.on_status(shares, 503, false, fleet.now);
  EXPECT_EQ(shares.own_state.breaker, 0u);
  EXPECT_EQ(shares.own_state.failed, 0u);
}

}  // namespace
}  // namespace weft::net
