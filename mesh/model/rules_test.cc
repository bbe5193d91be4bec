// DestinationRules in the mesh: whose they are, and what of their policies holds.
#include <gtest/gtest.h>

#include "mesh/model/test_meshes.h"

namespace weft::model {
namespace {

using test::in_line;
using test::merged;
using test::notices;
using test::only;
using test::rule;
using test::service;
using test::unit;

TEST(Rules, SetTheBalancerOfTheHostsService) {
  for (const char* host : {"web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"})
    EXPECT_EQ(only(merged({service("web", {}), rule("r", host, Balancer::kRandom)})).balancer,
              Balancer::kRandom)
        << host;
  auto foreign = rule("r", "web", Balancer::kRandom);
  foreign.meta.namespace_name = "other";
  const auto mesh = merged({service("web", {}), foreign});
  EXPECT_EQ(only(mesh).balancer, Balancer::kRoundRobin);
  EXPECT_EQ(notices(mesh),
            "warning: DestinationRule other/r: has no effect: there is no Service other/web\n");
}

TEST(Rules, ForNoServiceAreNamed) {
  for (const char* host : {"*", "*.shop", "*.shop.svc.cluster.local", ".shop", "web..svc"}) {
    const auto mesh = merged({service("web", {}), rule("r", host, Balancer::kRandom)});
    EXPECT_EQ(only(mesh).balancer, Balancer::kRoundRobin) << host;
    EXPECT_NE(notices(mesh).find("host \"" + std::string(host) + "\" is no Service's"),
              std::string::npos)
        << notices(mesh);
  }
}

TEST(Rules, YieldToTheServicesOwnAnnotation) {
  auto web = service("web", {});
  web.balancer = Balancer::kSourceHash;
  EXPECT_EQ(only(merged({web, rule("r", "web", Balancer::kRandom)})).balancer,
            Balancer::kSourceHash);
}

TEST(Rules, ForOneHostAreWonByTheOlderAndBothAreNamed) {
  auto old = in_line(rule("z", "web", Balancer::kRandom), "z.yaml", 1);
  old.meta.created = 1;
  const auto mesh =
      merged({service("web", {}),
              in_line(rule("a", "web.shop", Balancer::kSourceHash), "a.yaml", 2), old});
  EXPECT_EQ(only(mesh).balancer, Balancer::kRandom);
  EXPECT_EQ(
      notices(mesh),
      "a.yaml:2: warning: DestinationRule shop/a: has no effect: DestinationRule shop/z (z.yaml:1) "
      "is for the same host, Service shop/web, and older\n");
}

TEST(Rules, TheOldestRulesTrafficPolicyHoldsAndTheServiceAddsToIt) {
  auto web = service("web", {"10.96.0.1"});
  web.traffic.max_per_endpoint = 3;
  auto old_rule = rule("a", "web", Balancer::kRandom), young = rule("b", "web", Balancer::kRandom);
  old_rule.meta.created = 1;
  old_rule.traffic.max_connections = 7;
  old_rule.traffic.outlier.emplace();
  young.traffic.max_connections = 9;
  const auto traffic = only(merged({web, young, old_rule})).traffic;
  EXPECT_EQ(traffic.limits.max_connections, 7u);
  EXPECT_EQ(traffic.limits.max_per_endpoint, 3u);
  EXPECT_TRUE(traffic.outlier);
}

TEST(Rules, WhatHasNothingToWorkOnIsSaid) {
  auto web = service("web", {"10.96.0.1"});
  web.traffic.base_ejection = std::chrono::seconds(5);
  auto near = rule("near", "web", Balancer::kRandom);
  near.traffic.locality.emplace().enabled = true;
  const auto said = notices(merged({web, near}));
  EXPECT_NE(said.find("warning: DestinationRule shop/near: localityLbSetting has no effect without "
                      "outlierDetection"),
            said.npos);
  EXPECT_NE(said.find("Service shop/web: weft.mesh/breaker-base-ejection has no effect"),
            said.npos);
}

// --- one port's own policy ---

// A Service with ports 80 (TCP and UDP) and 81.
ServiceObject two_ports() {
  return service(
      "web", {"10.96.0.1"},
      {{"", 80, Protocol::kTcp, {}}, {"", 80, Protocol::kUdp, {}}, {"", 81, Protocol::kTcp, {}}});
}
PortRule port_rule(std::uint16_t port, Balancer balancer) {
  PortRule result;
  result.port = port;
  result.balancer = balancer;
  result.origin = {std::make_shared<const std::string>("r.yaml"), port};
  return result;
}

TEST(PortPolicies, TakeNothingFromTheRuleAndAllFromTheService) {
  auto web = two_ports();
  web.traffic.max_per_endpoint = 3;
  auto rule = test::rule("r", "web", Balancer::kRandom);
  rule.traffic.max_connections = 7;
  rule.traffic.outlier.emplace();
  rule.ports.push_back(port_rule(80, Balancer::kLeastRequest));
  rule.ports[0].traffic.connect_timeout = std::chrono::seconds(1);
  const auto mesh = merged({web, rule});
  EXPECT_EQ(notices(mesh), "");
  const auto& made = only(mesh);
  EXPECT_EQ(made.balancer, Balancer::kRandom);
  for (const std::size_t i : {0u, 1u}) {
    EXPECT_EQ(made.balancer_of(made.ports.at(i)), Balancer::kLeastRequest);
    const auto& traffic = made.traffic_of(made.ports[i]);
    EXPECT_EQ(traffic.limits.max_connections, 0u);
    EXPECT_EQ(traffic.limits.max_per_endpoint, 3u);
    EXPECT_EQ(traffic.limits.connect_timeout, std::chrono::seconds(1));
    EXPECT_FALSE(traffic.outlier);
  }
  EXPECT_EQ(made.balancer_of(made.ports.at(2)), Balancer::kRandom);
  EXPECT_EQ(&made.traffic_of(made.ports[2]), &made.traffic);
  EXPECT_NE(to_text(*mesh).find("  port 80/UDP\n    policy balancer=least-request "
                                "max_per_endpoint=3 connect_timeout=1000ms\n"),
            std::string::npos)
      << to_text(*mesh);
}

TEST(PortPolicies, YieldToTheServicesAnnotationsOnAllPorts) {
  auto web = two_ports();
  web.balancer = Balancer::kSourceHash;
  web.traffic.failing_for = std::chrono::seconds(5);
  web.traffic.base_ejection = std::chrono::seconds(6);
  auto rule = test::rule("r", "web", Balancer::kRandom);
  rule.ports.push_back(port_rule(81, Balancer::kLeastRequest));
  rule.ports[0].traffic.outlier.emplace().consecutive_failures = 2;
  const auto mesh = merged({web, rule});
  const auto& made = only(mesh);
  EXPECT_EQ(made.balancer_of(made.ports.at(2)), Balancer::kSourceHash);
  const auto& own = made.traffic_of(made.ports[2]).outlier.value();
  EXPECT_EQ(own.consecutive_failures, 2u);
  EXPECT_EQ(own.failing_for, std::chrono::seconds(5));
  EXPECT_EQ(own.base_ejection, std::chrono::seconds(6));
  EXPECT_EQ(made.traffic.outlier.value().consecutive_failures, 0u);
}

TEST(PortPolicies, OfNoPortOfTheServiceAreNamedByTheirLine) {
  auto rule = test::rule("r", "web", Balancer::kRandom);
  rule.ports = {port_rule(82, Balancer::kRandom), port_rule(81, Balancer::kRandom)};
  rule.ports[1].traffic.locality.emplace().enabled = true;
  EXPECT_EQ(notices(merged({two_ports(), rule})),
            "r.yaml:81: warning: DestinationRule shop/r: portLevelSettings of port 81: "
            "localityLbSetting has no effect without outlierDetection beside it, as in Istio\n"
            "r.yaml:82: warning: DestinationRule shop/r: portLevelSettings of port 82 have no "
            "effect: Service shop/web has no such port\n");
}

TEST(PortPolicies, TurnABreakerOnThatAnAnnotationHasTimesFor) {
  auto web = two_ports();
  web.traffic.base_ejection = std::chrono::seconds(6);
  auto rule = test::rule("r", "web", Balancer::kRandom);
  rule.ports = {port_rule(81, Balancer::kRandom)};
  EXPECT_NE(notices(merged({web, rule})).find("breaker-base-ejection has no effect"),
            std::string::npos);
  rule.ports[0].traffic.outlier.emplace();
  EXPECT_EQ(notices(merged({web, rule})), "");
}

TEST(PortPolicies, ThatAreEqualLeaveTheServiceTheSame) {
  auto rule = test::rule("r", "web", Balancer::kRandom);
  rule.ports = {port_rule(81, Balancer::kRandom)};
  Merger merger;
  merger.set("a", unit({two_ports(), rule}));
  const auto before = merger.build();
  rule.meta.labels["touched"] = "yes";
  merger.set("a", unit({two_ports(), rule}));
  const ServiceKey key{"shop", "web"};
  EXPECT_EQ(*merger.build()->services.find(key), *before->services.find(key));
  rule.ports[0].traffic.max_connections = 1;
  merger.set("a", unit({two_ports(), rule}));
  EXPECT_NE(*merger.build()->services.find(key), *before->services.find(key));
}

}  // namespace
}  // namespace weft::model
