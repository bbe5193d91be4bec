#include "mesh/model/routes.h"

#include <gtest/gtest.h>

#include "mesh/model/test_meshes.h"

namespace weft::model {
namespace {

using test::merged;
using test::notices;
using test::only;
using test::pod;
using test::pod_labels;
using test::says;
using test::service;
using test::slice;
using test::slice_endpoint;
using test::unit;

// "10.0.1.1=9 ..." of one port.
std::string weights(const MeshPtr& mesh, const std::string& name = "web", std::size_t port = 0) {
  std::string text;
  for (const auto& e : only(mesh, name).ports.at(port).endpoints)
    text += (text.empty() ? "" : " ") + e.address.to_text() + "=" + std::to_string(e.weight);
  return text;
}

DestinationRuleObject subsets_of(const std::string& host) {
  DestinationRuleObject rule;
  rule.meta = test::meta("versions");
  rule.host = host;
  rule.subsets = {{"v1", {{"version", "v1"}}}, {"v2", {{"version", "v2"}}}, {"all", {}}};
  return rule;
}

Labels web(const std::string& version) { return {{"app", "web"}, {"version", version}}; }

RouteDestination to(const std::string& host, const std::string& subset = "",
                    std::uint32_t weight = 1) {
  RouteDestination destination;
  destination.host = host;
  destination.subset = subset;
  destination.weight = weight;
  destination.origin = {std::make_shared<const std::string>("routes.yaml"), 7};
  return destination;
}

VirtualServiceObject routes(std::vector<RouteDestination> destinations,
                            const std::string& host = "web", const std::string& name = "canary") {
  VirtualServiceObject result;
  result.meta = test::meta(name);
  result.hosts = {host};
  TcpRule rule;
  rule.destinations = std::move(destinations);
  rule.origin = {std::make_shared<const std::string>("routes.yaml"), 5};
  result.tcp.push_back(std::move(rule));
  return result;
}

// web with three pods of v1 and two of v2, by its selector.
std::vector<Object> canary() {
  auto object = service("web", {"10.96.0.1"});
  object.selector = {{"app", "web"}};
  return {object,
          subsets_of("web"),
          pod("a", "10.0.1.1", web("v1")),
          pod("b", "10.0.1.2", web("v1")),
          pod("c", "10.0.1.3", web("v1")),
          pod("d", "10.0.2.1", web("v2")),
          pod("e", "10.0.2.2", web("v2"))};
}

template <class T>
std::vector<Object> with(std::vector<Object> objects, T object) {
  objects.push_back(std::move(object));
  return objects;
}

// A service named db with one endpoint of its own.
std::vector<Object> db(const std::string& ip = "10.0.9.1",
                       std::vector<ServicePortSpec> ports = {{"", 80, Protocol::kTcp, {}}}) {
  return {service("db", {"10.96.0.9"}, std::move(ports)),
          slice("db-1", "db", {slice_endpoint(ip)})};
}

std::vector<Object> both(std::vector<Object> a, const std::vector<Object>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(Routes, OfACanaryHoldTheirWeightsWhateverTheNumbersOfPods) {
  const auto mesh = merged(with(canary(), routes({to("web", "v1", 90), to("web", "v2", 10)})));
  EXPECT_EQ(weights(mesh), "10.0.1.1=6 10.0.1.2=6 10.0.1.3=6 10.0.2.1=1 10.0.2.2=1");
  EXPECT_EQ(notices(mesh), "");
  const auto& routed_by = only(mesh).ports[0].routed_by;
  ASSERT_TRUE(routed_by);
  EXPECT_EQ(routed_by->virtual_service, "shop/canary");
  EXPECT_EQ(routed_by->origin.to_text(), "routes.yaml:5");
}

TEST(Routes, AreShownWithThePort) {
  EXPECT_EQ(to_text(*merged(
                both(with(db(), routes({to("db")}, "web")), {service("web", {"10.96.0.1"})}))),
            "service shop/db balancer=round-robin 10.96.0.9\n"
            "  port 80/TCP\n"
            "    endpoint 10.0.9.1 port 8080 ready\n"
            "service shop/web balancer=round-robin 10.96.0.1\n"
            "  port 80/TCP routed by VirtualService shop/canary\n"
            "    endpoint 10.0.9.1 port 8080 ready\n");
}

TEST(Routes, ToWeightZeroAreShownAndNotUsed) {
  EXPECT_EQ(weights(merged(with(canary(), routes({to("web", "v1", 1), to("web", "v2", 0)})))),
            "10.0.1.1=1 10.0.1.2=1 10.0.1.3=1 10.0.2.1=0 10.0.2.2=0");
}

TEST(Routes, FollowTheLabelsOfPods) {
  Merger merger;
  merger.set("all", unit(with(canary(), routes({to("web", "v2")}))));
  merger.set("pod", unit({pod("f", "10.0.2.3", web("v1"))}));
  EXPECT_EQ(weights(merger.build()), "10.0.2.1=1 10.0.2.2=1");
  merger.set("pod", unit({pod("f", "10.0.2.3", web("v2"))}));
  EXPECT_EQ(weights(merger.build()), "10.0.2.1=1 10.0.2.2=1 10.0.2.3=1");
  merger.set("pod", nullptr);
  EXPECT_EQ(weights(merger.build()), "10.0.2.1=1 10.0.2.2=1");
}

// As in a cluster: slices say who is an endpoint, Pods say what labels it has.
class SlicesAndPods : public testing::Test {
 protected:
  SlicesAndPods() {
    auto named = slice_endpoint("10.0.1.1");
    named.pod = "a";
    merger.set("web", unit({service("web", {"10.96.0.1"}), subsets_of("web"),
                            slice("web-1", "web", {named, slice_endpoint("10.0.1.2")}),
                            routes({to("web", "v2")})}));
  }
  Merger merger;
};

TEST_F(SlicesAndPods, MeetByTargetRefOrByAddress) {
  merger.set("a", unit({pod("a", "10.0.7.7", web("v2"))}));
  merger.set("b", unit({pod("b", "10.0.1.2", web("v1"))}));
  EXPECT_EQ(weights(merger.build()), "10.0.1.1=1");
  merger.set("a", unit({pod("a", "10.0.7.7", web("v1"))}));
  EXPECT_EQ(weights(merger.build()), "");
  merger.set("b", unit({pod("b", "10.0.1.2", web("v2"))}));
  EXPECT_EQ(weights(merger.build()), "10.0.1.2=1");
  EXPECT_EQ(notices(merger.build()), "");
}

TEST_F(SlicesAndPods, AnEndpointWithoutAPodIsInNoSubsetAndSaidToBe) {
  EXPECT_EQ(weights(merger.build()), "");
  EXPECT_TRUE(says(merger.build(),
                   "VirtualService shop/canary: 2 endpoints of Service shop/web (10.0.1.1, ...) "
                   "are in no subset"));
  merger.set("a", unit({pod("a", "10.0.1.1", web("v2"))}));
  EXPECT_TRUE(says(merger.build(), "1 endpoints of Service shop/web (10.0.1.2) are in no subset"));
  EXPECT_EQ(weights(merger.build()), "10.0.1.1=1");
}

TEST_F(SlicesAndPods, OfPodsOfOtherNodesTheLabelsAreEnough) {
  merger.set("a", unit({pod_labels("a", web("v2"))}));
  EXPECT_EQ(weights(merger.build()), "10.0.1.1=1");
  EXPECT_TRUE(says(merger.build(), "1 endpoints of Service shop/web (10.0.1.2) are in no subset"))
      << "labels alone have no address";
  merger.set("a", unit({pod_labels("a", web("v1"))}));
  EXPECT_EQ(weights(merger.build()), "");
  merger.set("a", nullptr);
  EXPECT_TRUE(says(merger.build(), "2 endpoints of Service shop/web"));
}

TEST_F(SlicesAndPods, AWholePodSaysMoreThanItsLabelsInWhateverOrderTheyCome) {
  merger.set("labels", unit({pod_labels("a", web("v2"))}));
  EXPECT_EQ(weights(merger.build()), "10.0.1.1=1");
  merger.set("pod", unit({pod("a", "10.0.1.1", web("v1"))}));
  EXPECT_EQ(weights(merger.build()), "");
  EXPECT_EQ(notices(merger.build()).find("twice"), std::string::npos);
  merger.set("pod", nullptr);
  EXPECT_EQ(weights(merger.build()), "10.0.1.1=1") << "a pod of that name runs elsewhere now";
}

TEST(Routes, LabelsAloneMakeNoEndpoint) {
  EXPECT_EQ(
      weights(merged(with(with(canary(), pod_labels("f", web("v2"))), routes({to("web", "v2")})))),
      "10.0.2.1=1 10.0.2.2=1");
}

TEST_F(SlicesAndPods, AnAddressOfSeveralPodsIsNobodys) {
  merger.set("b", unit({pod("b", "10.0.1.2", web("v2")), pod("c", "10.0.1.2", web("v2"))}));
  EXPECT_EQ(weights(merger.build()), "");
  auto finished = pod("c", "10.0.1.2", web("v2"));
  finished.finished = true;
  merger.set("b", unit({pod("b", "10.0.1.2", web("v2")), finished}));
  EXPECT_EQ(weights(merger.build()), "10.0.1.2=1");
}

TEST_F(SlicesAndPods, ASubsetWithoutLabelsIsEverybody) {
  merger.set("routes", unit({routes({to("web", "all")}, "api"), service("api", {"10.96.0.2"})}));
  EXPECT_EQ(weights(merger.build(), "api"), "10.0.1.1=1 10.0.1.2=1");
}

TEST(Routes, ToAnotherServiceFollowItsEndpoints) {
  Merger merger;
  merger.set("web", unit(with(canary(), routes({to("web", "v2", 50), to("db", "", 50)}))));
  EXPECT_EQ(weights(merger.build()), "10.0.2.1=1 10.0.2.2=1");
  merger.set("db", unit(db()));
  EXPECT_EQ(weights(merger.build()), "10.0.2.1=1 10.0.2.2=1 10.0.9.1=2");
  merger.set("db", unit(db("10.0.9.2")));
  EXPECT_EQ(weights(merger.build()), "10.0.2.1=1 10.0.2.2=1 10.0.9.2=2");
  EXPECT_EQ(weights(merger.build(), "db"), "10.0.9.2=1");
}

TEST(Routes, FollowTheSubsetsOfARuleThatComesLater) {
  auto objects = canary();
  objects.erase(objects.begin() + 1);
  Merger merger;
  merger.set("web", unit(with(objects, routes({to("web", "v2", 50), to("web", "v3", 50)}))));
  EXPECT_EQ(weights(merger.build()), "");
  EXPECT_TRUE(says(merger.build(),
                   "routes.yaml:7: warning: VirtualService shop/canary: no "
                   "DestinationRule of Service shop/web has a subset \"v2\""));
  merger.set("rule", unit({subsets_of("web")}));
  EXPECT_EQ(weights(merger.build()), "10.0.2.1=1 10.0.2.2=1");
  EXPECT_EQ(notices(merger.build()),
            "routes.yaml:7: warning: VirtualService shop/canary: DestinationRule shop/versions has "
            "no subset \"v3\": nobody is sent there, other destinations have its share\n");
}

TEST(Routes, ThatGoGiveTheServiceItsOwnEndpointsBack) {
  Merger merger;
  merger.set("web", unit(canary()));
  const auto before = merger.build();
  merger.set("routes", unit({routes({to("web", "v2")})}));
  EXPECT_EQ(weights(merger.build()), "10.0.2.1=1 10.0.2.2=1");
  merger.set("routes", nullptr);
  const auto after = merger.build();
  EXPECT_EQ(to_text(*after), to_text(*before));
  EXPECT_EQ(only(after), only(before));
}

TEST(Routes, SubsetsThatNoneChoosesAreReported) {
  const std::string warning =
      "DestinationRule shop/versions: spec.subsets have no effect: no route chooses one";
  Merger merger;
  merger.set("web", unit(canary()));
  EXPECT_TRUE(says(merger.build(), warning));
  merger.set("routes", unit({routes({to("web")})}));
  EXPECT_TRUE(says(merger.build(), warning));
  merger.set("routes", unit({routes({to("web.shop", "v1")}, "elsewhere")}));
  EXPECT_FALSE(says(merger.build(), warning));
}

TEST(Routes, OfSeveralForAHostTheOldestWins) {
  auto old = routes({to("web", "v1")}, "web", "old");
  old.meta.created = 1;
  auto fresh = routes({to("web", "v2")}, "web.shop.svc.cluster.local", "fresh");
  fresh.meta.created = 2;
  Merger merger;
  merger.set("web", unit(canary()));
  merger.set("fresh", unit({fresh}));
  merger.set("old", unit({old}));
  EXPECT_EQ(only(merger.build()).ports[0].routed_by->virtual_service, "shop/old");
  EXPECT_TRUE(says(merger.build(),
                   "VirtualService shop/fresh: has no effect on Service shop/web: VirtualService "
                   "shop/old is for the same host and older"));
  merger.set("old", nullptr);
  EXPECT_EQ(weights(merger.build()), "10.0.2.1=1 10.0.2.2=1");
  EXPECT_EQ(notices(merger.build()), "");
}

TEST(Routes, TheFirstRuleThatMatchesThePortDecides) {
  auto rules = routes({to("db", "", 1)});
  rules.tcp[0].ports = {81};
  rules.tcp.push_back(routes({to("web", "v2")}).tcp[0]);
  rules.tcp.push_back(routes({to("web", "v1")}).tcp[0]);
  auto objects = canary();
  std::get<ServiceObject>(objects[0]).ports = {
      {"a", 80, Protocol::kTcp, {}}, {"b", 81, Protocol::kTcp, {}}, {"c", 81, Protocol::kUdp, {}}};
  const auto mesh = merged(both(with(objects, rules), db()));
  EXPECT_EQ(weights(mesh, "web", 0), "10.0.2.1=1 10.0.2.2=1");
  EXPECT_EQ(weights(mesh, "web", 1), "10.0.9.1=1");
  EXPECT_FALSE(only(mesh).ports[2].routed_by);  // UDP
}

TEST(Routes, ARuleForAPortThatTheServiceDoesNotHaveIsReported) {
  auto rules = routes({to("web", "v2")});
  rules.tcp[0].ports = {81};
  const auto mesh = merged(with(canary(), rules));
  EXPECT_FALSE(only(mesh).ports[0].routed_by);
  EXPECT_TRUE(says(mesh,
                   "routes.yaml:5: warning: VirtualService shop/canary: the rule has no "
                   "effect on Service shop/web, which has no TCP port that it matches"));
}

TEST(Routes, TheDestinationsPortIsItsOnlyOneOrTheOneThatWasDialled) {
  const std::vector<ServicePortSpec> two = {
      {"a", 80, Protocol::kTcp, TargetPort(std::uint16_t{8080})}, {"b", 5432, Protocol::kTcp, {}}};
  const auto ports_of = [&](std::vector<ServicePortSpec> ports,
                            std::optional<std::uint16_t> wanted) {
    auto destination = to("api");
    destination.port = wanted;
    auto api = service("api", {}, std::move(ports));
    api.selector = {{"app", "web"}};
    const auto mesh = merged(both(canary(), {Object(api), Object(routes({destination}))}));
    const auto& port = only(mesh).ports[0];
    return !port.routed_by          ? "passed over"
           : port.endpoints.empty() ? "nobody"
                                    : std::to_string(port.endpoints[0].port);
  };
  EXPECT_EQ(ports_of({{"", 5432, Protocol::kTcp, {}}}, {}), "5432");
  EXPECT_EQ(ports_of(two, {}), "8080");
  EXPECT_EQ(ports_of(two, 5432), "5432");
  EXPECT_EQ(ports_of(two, 99), "nobody");
  EXPECT_EQ(ports_of({{"a", 81, Protocol::kTcp, {}}, {"b", 82, Protocol::kTcp, {}}}, {}),
            "passed over");
  EXPECT_EQ(ports_of({{"a", 80, Protocol::kUdp, {}}}, {}), "nobody");
}

TEST(Routes, APortThatIsNotClearIsReportedWithItsRule) {
  auto objects = both(
      canary(), db("10.0.9.1", {{"a", 81, Protocol::kTcp, {}}, {"b", 82, Protocol::kTcp, {}}}));
  const auto mesh = merged(with(objects, routes({to("db")})));
  EXPECT_TRUE(says(mesh,
                   "routes.yaml:7: warning: VirtualService shop/canary: the rule is passed over "
                   "for port 80 of Service shop/web: Service shop/db has 2 TCP ports, none of that "
                   "number; write destination.port.number"));
}

TEST(Routes, AnUnknownDestinationLeavesItsShareToTheOthers) {
  const auto mesh = merged(with(canary(), routes({to("gone", "", 90), to("web", "v2", 10)})));
  EXPECT_EQ(weights(mesh), "10.0.2.1=1 10.0.2.2=1");
  EXPECT_TRUE(says(mesh,
                   "routes.yaml:7: warning: VirtualService shop/canary: there is no Service for "
                   "the destination \"gone\": nobody is sent there"));
}

TEST(Routes, ToNobodyLeaveThePortWithoutEndpoints) {
  const auto mesh = merged(with(canary(), routes({to("gone")})));
  EXPECT_EQ(weights(mesh), "");
  EXPECT_TRUE(only(mesh).ports[0].routed_by);
}

TEST(Routes, AreFollowedOneStep) {
  const auto mesh = merged(both(both(canary(), db()), {Object(routes({to("db")}, "web", "there")),
                                                       Object(routes({to("web")}, "db", "back"))}));
  EXPECT_EQ(weights(mesh, "web"), "10.0.9.1=1");
  EXPECT_EQ(weights(mesh, "db"), "10.0.1.1=1 10.0.1.2=1 10.0.1.3=1 10.0.2.1=1 10.0.2.2=1");
}

TEST(Routes, OfAnotherNamespaceApplyWhereTheyAreExportedTo) {
  const auto routed = [](std::vector<std::string> export_to) {
    auto other = routes({to("web.shop", "v2")}, "web.shop");
    other.meta.namespace_name = "ops";
    other.export_to = std::move(export_to);
    return only(merged(with(canary(), other))).ports[0].routed_by.has_value();
  };
  EXPECT_TRUE(routed({}));
  EXPECT_TRUE(routed({"*"}));
  EXPECT_TRUE(routed({"ops", "shop"}));
  EXPECT_FALSE(routed({"."}));
  EXPECT_FALSE(routed({"ops"}));
}

TEST(Routes, HostsThatAreNoServicesAreReported) {
  EXPECT_TRUE(says(merged({routes({to("web")}, "*")}),
                   "VirtualService shop/canary: tcp rules have no effect: host \"*\" is no "
                   "Service's"));
  EXPECT_TRUE(says(merged({routes({to("web")}, "gone")}),
                   "VirtualService shop/canary: tcp rules have no effect: there is no Service "
                   "shop/gone"));
}

TEST(Routes, HintsAreKeptForOneDestinationAndNotForSeveral) {
  auto endpoint = slice_endpoint("10.0.9.1");
  endpoint.for_zones = {"a"};
  const std::vector<Object> hinted = {service("db", {"10.96.0.9"}), slice("db-1", "db", {endpoint}),
                                      service("web", {"10.96.0.1"})};
  const auto zones = [&](std::vector<RouteDestination> destinations) {
    return only(merged(with(hinted, routes(std::move(destinations)))))
        .ports[0]
        .endpoints[0]
        .for_zones.size();
  };
  EXPECT_EQ(zones({to("db")}), 1u);
  EXPECT_EQ(zones({to("db"), to("web")}), 0u);
}

}  // namespace
}  // namespace weft::model
