// failoverPriority by labels: what endpoints carry of their Pods' labels, and when that changes.
#include "mesh/model/failover.h"

#include <gtest/gtest.h>

#include "mesh/model/test_meshes.h"

namespace weft::model {
namespace {

using test::pod;
using test::pod_labels;
using test::says;
using test::service;
using test::slice;
using test::slice_endpoint;
using test::unit;

DestinationRuleObject comparing(std::vector<std::string> entries, const std::string& host = "web") {
  auto rule = test::rule("r-" + host, host, Balancer::kRoundRobin);
  rule.traffic.outlier.emplace();
  rule.traffic.locality.emplace().enabled = true;
  rule.traffic.locality->failover_priority = std::move(entries);
  return rule;
}

Labels version(const std::string& value) { return {{"version", value}, {"app", "web"}}; }

// "10.0.1.1(version=v1) 10.0.1.2"
std::string shown(const MeshPtr& mesh, const std::string& name = "web") {
  std::string text;
  for (const auto& e : (*mesh->services.find({"shop", name}))->ports.at(0).endpoints) {
    text += (text.empty() ? "" : " ") + e.address.to_text();
    for (const auto& [key, value] : e.labels) text += "(" + key + "=" + value + ")";
  }
  return text;
}

TEST(FailoverLabel, IsAKeyWithOrWithoutAValue) {
  EXPECT_EQ(failover_label("a/b").key, "a/b");
  EXPECT_EQ(failover_label("a/b").value, std::nullopt);
  EXPECT_EQ(failover_label("a=").value, "");
  EXPECT_EQ(failover_label("a=b").key, "a");
  EXPECT_EQ(failover_label("a=b").value, "b");
}

TEST(ComparedLabels, AreThoseOfAllPortsWithoutPlaces) {
  auto rule = comparing({"version=v1", std::string(kZoneLabel) + "=a"});
  EXPECT_EQ(compared_labels(rule), std::set<std::string>{"version"});
  auto& port = rule.ports.emplace_back();
  port.traffic.locality = rule.traffic.locality;
  port.traffic.locality->failover_priority = {"tier=gold"};
  EXPECT_EQ(compared_labels(rule), (std::set<std::string>{"tier", "version"}));
  rule.traffic.locality->enabled = false;
  EXPECT_EQ(compared_labels(rule), std::set<std::string>{"tier"});
}

// As in a cluster: slices say who is an endpoint, Pods say what labels it has.
class Compared : public testing::Test {
 protected:
  Compared() {
    auto named = slice_endpoint("10.0.1.1");
    named.pod = "a";
    merger.set("web", unit({service("web", {"10.96.0.1"}),
                            slice("web-1", "web", {named, slice_endpoint("10.0.1.2")})}));
    merger.set("a", unit({pod_labels("a", version("v1"))}));
    merger.set("b", unit({pod("b", "10.0.1.2", version("v2"))}));
  }
  Merger merger;
};

TEST_F(Compared, EndpointsCarryOnlyLabelsThatTheirRuleCompares) {
  EXPECT_EQ(shown(merger.build()), "10.0.1.1 10.0.1.2");
  merger.set("r", unit({comparing({"version=v1"})}));
  EXPECT_EQ(shown(merger.build()), "10.0.1.1(version=v1) 10.0.1.2(version=v2)");
  EXPECT_NE(to_text(*merger.build()).find("10.0.1.1 port 8080 ready label(version=v1)\n"),
            std::string::npos);
  merger.set("r", unit({comparing({"tier=gold"})}));
  EXPECT_EQ(shown(merger.build()), "10.0.1.1 10.0.1.2");
  EXPECT_FALSE(says(merger.build(), "failoverPriority"));
}

TEST_F(Compared, APodsNewLabelIsSeenAndOnlyThatOne) {
  merger.set("r", unit({comparing({"version=v1"})}));
  const auto before = merger.build();
  merger.set("a", unit({pod_labels("a", version("v2"))}));
  EXPECT_EQ(shown(merger.build()), "10.0.1.1(version=v2) 10.0.1.2(version=v2)");
  merger.set("b", unit({pod("b", "10.0.1.2", version("v1"))}));
  EXPECT_EQ(shown(merger.build()), "10.0.1.1(version=v2) 10.0.1.2(version=v1)");
  const ServiceKey key{"shop", "web"};
  const auto after = merger.build();
  merger.set("b", unit({pod("b", "10.0.1.2", {{"version", "v1"}, {"other", "1"}})}));
  EXPECT_EQ(*merger.build()->services.find(key), *after->services.find(key));
  EXPECT_NE(*before->services.find(key), *after->services.find(key));
}

TEST_F(Compared, AnEndpointWhosePodIsNotKnownHasNoneAndIsNamed) {
  merger.set("r", unit({comparing({"version=v1"})}));
  merger.set("a", nullptr);
  EXPECT_EQ(shown(merger.build()), "10.0.1.1 10.0.1.2(version=v2)");
  EXPECT_TRUE(says(merger.build(),
                   "warning: DestinationRule shop/r-web: failoverPriority: 1 endpoints of Service "
                   "shop/web (10.0.1.1) count as without labels: their Pods are not known here"));
  merger.set("a", unit({pod("a", "10.0.7.7", version("v1"))}));
  EXPECT_EQ(shown(merger.build()), "10.0.1.1(version=v1) 10.0.1.2(version=v2)");
  EXPECT_FALSE(says(merger.build(), "count as without"));
}

TEST(ComparedLabels, OfPodsThatAServiceSelectsAreTheirs) {
  auto web = service("web", {"10.96.0.1"});
  web.selector = {{"app", "web"}};
  Merger merger;
  merger.set("web", unit({web, comparing({"version=v1"}), pod("a", "10.0.1.1", version("v1"))}));
  EXPECT_EQ(shown(merger.build()), "10.0.1.1(version=v1)");
}

// The kernel orders the endpoints of a routed port by the rule of the service that was dialled.
TEST_F(Compared, OfARoutedServiceTheRuleOfTheDialledOneAsks) {
  VirtualServiceObject routes;
  routes.meta = test::meta("move");
  routes.hosts = {"api"};
  routes.tcp.emplace_back().destinations.emplace_back().host = "web";
  merger.set("api",
             unit({service("api", {"10.96.0.2"}), comparing({"version=v1"}, "api"), routes}));
  EXPECT_EQ(shown(merger.build(), "api"), "10.0.1.1(version=v1) 10.0.1.2(version=v2)");
  EXPECT_EQ(shown(merger.build()), "10.0.1.1 10.0.1.2");
  merger.set("a", unit({pod_labels("a", version("v2"))}));
  EXPECT_EQ(shown(merger.build(), "api"), "10.0.1.1(version=v2) 10.0.1.2(version=v2)");
}

}  // namespace
}  // namespace weft::model
