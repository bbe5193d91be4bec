#include "agent/compile/policy.h"

#include <gtest/gtest.h>

#include "agent/compile/compile.h"

namespace weft::compile {
namespace {

using namespace std::chrono_literals;

std::optional<model::OutlierDetection> outlier(std::optional<std::uint8_t> percent = {},
                                               std::uint8_t healthy = 0) {
  model::OutlierDetection detection;
  detection.max_ejection_percent = percent;
  detection.min_health_percent = healthy;
  return detection;
}

TEST(MaxEjected, IsNoneWithoutOutlierDetection) { EXPECT_EQ(max_ejected({}, 10, 0), 0u); }

TEST(MaxEjected, IsOneOfTwoToNineteenAtTheDefault) {
  for (std::size_t n = 2; n < 20; ++n) EXPECT_EQ(max_ejected(outlier(), n, 0), 1u) << n;
  EXPECT_EQ(max_ejected(outlier(), 20, 0), 2u);
  EXPECT_EQ(max_ejected(outlier(), 100, 0), 10u);
}

TEST(MaxEjected, NeverTakesTheLastOneUnlessAsked) {
  EXPECT_EQ(max_ejected(outlier(), 0, 0), 0u);
  EXPECT_EQ(max_ejected(outlier(), 1, 0), 0u);
  for (const std::uint8_t percent : {1, 10, 50, 99}) {
    EXPECT_EQ(max_ejected(outlier(percent), 1, 0), 0u) << +percent;
    EXPECT_EQ(max_ejected(outlier(percent), 2, 0), 1u) << +percent;
  }
  for (std::size_t n : {1u, 2u, 3u, 10u}) EXPECT_EQ(max_ejected(outlier(100), n, 0), n);
}

TEST(MaxEjected, RoundsDownOfThree) {
  EXPECT_EQ(max_ejected(outlier(33), 3, 0), 1u);
  EXPECT_EQ(max_ejected(outlier(66), 3, 0), 1u);
  EXPECT_EQ(max_ejected(outlier(67), 3, 0), 2u);
  EXPECT_EQ(max_ejected(outlier(99), 3, 0), 2u);
}

TEST(MaxEjected, IsNoneAtZeroPercent) {
  for (std::size_t n : {1u, 2u, 3u, 100u}) EXPECT_EQ(max_ejected(outlier(0), n, 0), 0u);
}

TEST(MaxEjected, KeepsWhatMinHealthPercentAsksFor) {
  EXPECT_EQ(max_ejected(outlier(100, 50), 3, 0), 1u);  // two of three must stay
  EXPECT_EQ(max_ejected(outlier(100, 50), 2, 0), 1u);
  EXPECT_EQ(max_ejected(outlier(100, 100), 10, 0), 0u);
  EXPECT_EQ(max_ejected(outlier(50, 1), 10, 0), 5u);
  EXPECT_EQ(max_ejected(outlier(100, 1), 1, 0), 0u);
}

TEST(MaxEjected, MayTakeAllPrimariesWhereSparesServe) {
  EXPECT_EQ(max_ejected(outlier(), 3, 1), 3u);
  EXPECT_EQ(max_ejected(outlier(), 1, 1), 1u);
  EXPECT_EQ(max_ejected(outlier(50), 3, 1), 2u) << "what somebody wrote counts";
}

model::ServicePort tcp_port() { return {"http", 80, model::Protocol::kTcp, {}}; }

// Of a service whose endpoints have those weights and, where given, priorities.
std::uint32_t floor_of(const model::OutlierDetection& detection,
                       const std::vector<std::uint16_t>& weights,
                       const std::vector<std::uint8_t>& priorities = {}) {
  model::Service service;
  service.traffic.outlier = detection;
  service.ports.push_back({"http", 80, model::Protocol::kTcp, {}});
  for (std::size_t i = 0; i < weights.size(); ++i) {
    model::Endpoint endpoint;
    endpoint.address = *model::Address::parse("10.0.0." + std::to_string(i + 1));
    endpoint.weight = weights[i];
    if (i < priorities.size()) endpoint.priority = priorities[i];
    service.ports[0].endpoints.push_back(endpoint);
  }
  return lay_out(service).at(0).policy.max_ejected;
}

TEST(MaxEjected, CountsNobodyWhoHasNoShareOfTheTraffic) {
  EXPECT_EQ(floor_of(*outlier(50), {1, 1, 1, 1}), 2u);
  EXPECT_EQ(floor_of(*outlier(50), {1, 1, 0, 0}), 1u) << "blue 100, green 0: one blue stays";
  EXPECT_EQ(floor_of(*outlier(50), {1, 0, 0, 0}), 0u) << "the last one";
  EXPECT_EQ(floor_of(*outlier(100, 50), {1, 1, 0, 0}), 1u) << "half of two must stay";
  EXPECT_EQ(floor_of(*outlier(100, 50), {1, 1, 1, 0, 0, 0}), 1u) << "two of three must stay";
  EXPECT_EQ(floor_of(*outlier(100), {0, 0}), 0u);
}

TEST(MaxEjected, CountsNoPrimariesAndNoSparesWithoutWeight) {
  EXPECT_EQ(floor_of(*outlier(), {1, 1, 1}, {0, 0, 1}), 2u) << "the spare serves then";
  EXPECT_EQ(floor_of(*outlier(), {1, 1, 0}, {0, 0, 1}), 1u) << "it would not serve";
  EXPECT_EQ(floor_of(*outlier(), {0, 1, 1, 1}, {0, 1, 1, 2}), 2u)
      << "who serves first is of priority 1";
}

TEST(PolicyOf, LeavesTimesForBreakersOpenedByHandWhereNothingIsAsked) {
  const auto policy = policy_of({}, tcp_port(), 3, 0);
  EXPECT_EQ(policy.threshold, 0u);
  EXPECT_EQ(policy.failing_for_ms, 0u);
  EXPECT_EQ(policy.max_ejected, 0u);
  EXPECT_EQ(policy.base_ejection_ms, 30000u);
  EXPECT_GT(policy.lease_ms, policy.connect_timeout_ms);
  EXPECT_EQ(policy.flags, 0u);
}

TEST(PolicyOf, HasTheServicesLimitsAndThresholds) {
  model::Service service;
  service.balancer = model::Balancer::kPeakEwma;
  service.traffic.limits = {.max_connections = 100, .max_per_endpoint = 10, .connect_timeout = 2s};
  service.traffic.outlier = outlier();
  service.traffic.outlier->consecutive_failures = 1;
  service.traffic.outlier->failing_for = 5s;
  service.traffic.warmup.duration = 60s;
  const auto policy = policy_of(service, tcp_port(), 10, 0);
  EXPECT_EQ(policy.max_connections, 100u);
  EXPECT_EQ(policy.max_per_endpoint, 10u);
  EXPECT_EQ(policy.connect_timeout_ms, 2000u);
  EXPECT_EQ(policy.lease_ms, 6000u);
  EXPECT_EQ(policy.threshold, 1u);
  EXPECT_EQ(policy.failing_for_ms, 5000u);
  EXPECT_EQ(policy.warmup_ms, 60000u);
  EXPECT_EQ(policy.max_ejected, 1u);
  EXPECT_EQ(policy.flags, unsigned{WEFT_POLICY_WATCH_TIMEOUT | WEFT_POLICY_WATCH_RTT});
}

TEST(ProxyFlags, AreOfTcpPortsWithRules) {
  model::Service service;
  model::ServicePort port;
  EXPECT_EQ(proxy_flags(service, port), 0u);
  port.http = std::make_shared<const model::HttpRoutes>();
  EXPECT_EQ(proxy_flags(service, port), unsigned{WEFT_POLICY_PROXY});
  service.traffic.proxy_down = model::ProxyDown::kDirect;
  EXPECT_EQ(proxy_flags(service, port), unsigned{WEFT_POLICY_PROXY | WEFT_POLICY_PROXY_DIRECT});
  port.protocol = model::Protocol::kUdp;
  EXPECT_EQ(proxy_flags(service, port), 0u);
}

TEST(ProxyFlags, AreInALayoutWhereThereIsAProxyOnly) {
  model::Service service;
  service.ports.push_back({"http", 80, model::Protocol::kTcp, {}});
  service.ports[0].http = std::make_shared<const model::HttpRoutes>();
  EXPECT_EQ(lay_out(service).at(0).policy.flags, 0u);
  View view;
  view.proxy = true;
  EXPECT_NE(lay_out(service, view).at(0).policy.flags & WEFT_POLICY_PROXY, 0u);
}

TEST(ServicePort, IsEqualByItsRulesNotByTheirPlace) {
  model::ServicePort a, b;
  a.http = std::make_shared<const model::HttpRoutes>();
  EXPECT_FALSE(a == b);
  b.http = std::make_shared<const model::HttpRoutes>();
  EXPECT_TRUE(a == b);
  model::HttpRoutes other;
  other.kind = "HTTPRoute";
  b.http = std::make_shared<const model::HttpRoutes>(other);
  EXPECT_FALSE(a == b);
}

TEST(PolicyOf, IsThePortsOwnWhereARuleGivesItOne) {
  model::Service service;
  service.traffic.limits.max_connections = 100;
  service.traffic.outlier = outlier();
  model::PortPolicy own;
  own.balancer = model::Balancer::kPeakEwma;
  own.traffic.limits.max_connections = 7;
  auto port = tcp_port();
  port.policy = std::make_shared<const model::PortPolicy>(own);
  const auto policy = policy_of(service, port, 10, 0);
  EXPECT_EQ(policy.max_connections, 7u);
  EXPECT_EQ(policy.threshold, 0u) << "nothing is taken from the service's";
  EXPECT_EQ(policy.flags, unsigned{WEFT_POLICY_WATCH_RTT});
  EXPECT_EQ(policy_of(service, tcp_port(), 10, 0).max_connections, 100u);
}

TEST(PolicyOf, LocalOriginIsCountedApartWhereThatIsAskedFor) {
  model::Service service;
  service.traffic.outlier = outlier(100);
  EXPECT_EQ(policy_of(service, tcp_port(), 3, 0).flags & WEFT_POLICY_SPLIT_LOCAL, 0u);
  service.traffic.outlier->split_local_origin = true;
  EXPECT_NE(policy_of(service, tcp_port(), 3, 0).flags & WEFT_POLICY_SPLIT_LOCAL, 0u);
}

TEST(PolicyOf, AsksNothingOfDatagrams) {
  model::Service service;
  service.traffic.limits.max_connections = 1;
  service.traffic.outlier = outlier(100);
  auto port = tcp_port();
  port.protocol = model::Protocol::kUdp;
  const auto policy = policy_of(service, port, 3, 0);
  EXPECT_EQ(policy.max_connections, 0u);
  EXPECT_EQ(policy.max_ejected, 0u);
  EXPECT_EQ(policy.threshold, 0u);
}

}  // namespace
}  // namespace weft::compile
