#include "mesh/model/merge.h"

#include <gtest/gtest.h>

#include "mesh/model/inventory.h"
#include "mesh/model/test_meshes.h"

namespace weft::model {
namespace {

using test::address;
using test::created;
using test::in_line;
using test::merged;
using test::meta;
using test::notices;
using test::only;
using test::pod;
using test::service;
using test::slice;
using test::slice_endpoint;
using test::unit;

// "10.0.0.1:8080 ready, ..." of one port.
std::string endpoints(const Service& service, std::size_t port = 0) {
  std::string text;
  for (const auto& e : service.ports.at(port).endpoints)
    text += (text.empty() ? "" : ", ") + e.address.to_text() + ":" + std::to_string(e.port) + " " +
            to_text(e.state);
  return text;
}

std::string addresses(const MeshPtr& mesh, const std::string& name) {
  std::string text;
  for (const auto& a : only(mesh, name).addresses) text += (text.empty() ? "" : " ") + a.to_text();
  return text;
}

TEST(ServiceKey, ParsesNamespaceAndName) {
  EXPECT_EQ(ServiceKey::parse("shop/web"), (ServiceKey{"shop", "web"}));
  for (const char* bad : {"", "web", "/web", "shop/", "/", "a/b/c"})
    EXPECT_FALSE(ServiceKey::parse(bad)) << bad;
}

TEST(Mesh, IsWrittenOneLineAServicePortAndEndpoint) {
  auto web = service("web", {"10.96.0.1", "fd00::1"}, {{"http", 80, Protocol::kTcp, {}}});
  web.affinity = std::chrono::seconds(30);
  auto endpoint = slice_endpoint("10.0.0.1");
  endpoint.zone = "z1";
  endpoint.node = "n1";
  EXPECT_EQ(
      to_text(*merged({web, slice("web-1", "web", {endpoint}, {{"http", 8080, Protocol::kTcp}})})),
      "service shop/web balancer=round-robin affinity=30s 10.96.0.1 fd00::1\n"
      "  port 80/TCP http\n"
      "    endpoint 10.0.0.1 port 8080 ready zone=z1 node=n1\n");
}

TEST(Slices, OfOneServiceAreJoined) {
  const auto mesh =
      merged({service("web", {"10.96.0.1"}), slice("web-1", "web", {slice_endpoint("10.0.0.2")}),
              slice("web-2", "web", {slice_endpoint("10.0.0.1"), slice_endpoint("fd00::5")}),
              slice("other", "api", {slice_endpoint("10.0.0.3")})});
  EXPECT_EQ(endpoints(only(mesh)), "10.0.0.1:8080 ready, 10.0.0.2:8080 ready, fd00::5:8080 ready");
}

TEST(Slices, GiveTheReadiestOfDuplicates) {
  const auto mesh =
      merged({service("web", {"10.96.0.1"}),
              slice("web-1", "web",
                    {slice_endpoint("10.0.0.1", false, true, true),
                     slice_endpoint("10.0.0.2", false, false, true)}),
              slice("web-2", "web",
                    {slice_endpoint("10.0.0.1"), slice_endpoint("10.0.0.2", false, true, true)})});
  EXPECT_EQ(endpoints(only(mesh)), "10.0.0.1:8080 ready, 10.0.0.2:8080 draining");
}

TEST(Slices, StateFollowsTheConditions) {
  const std::vector<SliceEndpoint> all{slice_endpoint("10.0.0.1", true, true, false),
                                       slice_endpoint("10.0.0.2", false, true, false),
                                       slice_endpoint("10.0.0.3", false, true, true),
                                       slice_endpoint("10.0.0.4", false, false, true)};
  auto web = service("web", {"10.96.0.1"});
  EXPECT_EQ(endpoints(only(merged({web, slice("web-1", "web", all)}))),
            "10.0.0.1:8080 ready, 10.0.0.2:8080 not_ready, 10.0.0.3:8080 draining, 10.0.0.4:8080 "
            "not_ready");
  web.publish_not_ready = true;
  EXPECT_EQ(
      endpoints(only(merged({web, slice("web-1", "web", all)}))),
      "10.0.0.1:8080 ready, 10.0.0.2:8080 ready, 10.0.0.3:8080 draining, 10.0.0.4:8080 not_ready");
}

TEST(Slices, MatchPortsByNameAndProtocolAndGiveTheirOwnNumber) {
  const auto web = service("web", {"10.96.0.1"},
                           {{"http", 80, Protocol::kTcp, TargetPort(std::uint16_t{1})},
                            {"dns", 53, Protocol::kUdp, {}},
                            {"dns-tcp", 53, Protocol::kTcp, {}},
                            {"admin", 90, Protocol::kTcp, {}}});
  const auto mesh =
      merged({web, slice("web-1", "web", {slice_endpoint("10.0.0.1")},
                         {{"http", 8080, Protocol::kTcp},
                          {"dns", 5353, Protocol::kUdp},
                          {"dns-tcp", 5353, Protocol::kUdp},  // another protocol: no match
                          {"admin", {}, Protocol::kTcp}})});  // "all ports": no match
  const auto& ports = only(mesh).ports;
  ASSERT_EQ(ports.size(), 4u);
  EXPECT_EQ(ports[0].name + " " + endpoints(only(mesh), 0), "dns-tcp ");
  EXPECT_EQ(ports[1].name + " " + endpoints(only(mesh), 1), "dns 10.0.0.1:5353 ready");
  EXPECT_EQ(ports[2].name + " " + endpoints(only(mesh), 2), "http 10.0.0.1:8080 ready");
  EXPECT_EQ(ports[3].name + " " + endpoints(only(mesh), 3), "admin ");
}

TEST(Slices, WithoutAPortNameMatchAServicePortWithoutName) {
  const auto with = [](std::optional<std::string> name) {
    return endpoints(only(
        merged({service("web", {"10.96.0.1"}), slice("web-1", "web", {slice_endpoint("10.0.0.1")},
                                                     {{std::move(name), 8080, Protocol::kTcp}})})));
  };
  EXPECT_EQ(with(std::nullopt), "10.0.0.1:8080 ready");
  EXPECT_EQ(with(""), "10.0.0.1:8080 ready");
  EXPECT_EQ(with("http"), "");
}

TEST(Slices, OfNoServiceAreIgnoredAndNamed) {
  const auto mesh = merged({slice("web-1", "web", {slice_endpoint("10.0.0.1")})});
  EXPECT_EQ(mesh->services.size(), 0u);
  EXPECT_EQ(notices(mesh),
            "info: EndpointSlice shop/web-1: ignored: there is no Service shop/web\n");
}

TEST(Slices, BelongToServicesOfTheirOwnNamespaceOnly) {
  auto foreign = slice("web-1", "web", {slice_endpoint("10.0.0.1")});
  foreign.meta.namespace_name = "other";
  EXPECT_EQ(endpoints(only(merged({service("web", {"10.96.0.1"}), foreign}))), "");
}

class Pods : public testing::Test {
 protected:
  Pods() : web_(service("web", {"10.96.0.1"})) {
    web_.selector = {{"app", "web"}, {"tier", "front"}};
  }

  ServiceObject web_;
  const Labels labels_{{"app", "web"}, {"tier", "front"}, {"extra", "1"}};
};

TEST_F(Pods, StandInWhereNoSliceNamesTheService) {
  const auto other = pod("b", "10.0.0.2", {{"app", "web"}});
  EXPECT_EQ(endpoints(only(merged({web_, pod("a", "10.0.0.1", labels_), other}))),
            "10.0.0.1:80 ready");
  EXPECT_EQ(
      endpoints(only(merged({web_, pod("a", "10.0.0.1", labels_), slice("web-1", "web", {})}))),
      "");
}

TEST_F(Pods, AreNotLookedAtWithoutASelector) {
  web_.selector.clear();
  EXPECT_EQ(endpoints(only(merged({web_, pod("a", "10.0.0.1", labels_)}))), "");
}

TEST_F(Pods, GiveAllTheirAddresses) {
  auto both = pod("a", "10.0.0.1", labels_);
  both.ips.push_back(address("fd00::1"));
  EXPECT_EQ(endpoints(only(merged({web_, both}))), "10.0.0.1:80 ready, fd00::1:80 ready");
}

TEST_F(Pods, StateFollowsReadinessAndTermination) {
  auto unready = pod("b", "10.0.0.2", labels_, false);
  auto leaving = pod("c", "10.0.0.3", labels_), lost = pod("d", "10.0.0.4", labels_, false);
  auto finished = pod("e", "10.0.0.5", labels_);
  leaving.terminating = lost.terminating = true;
  finished.finished = true;
  const std::vector<Object> all{web_,    pod("a", "10.0.0.1", labels_), unready, leaving, lost,
                                finished};
  EXPECT_EQ(
      endpoints(only(merged(all))),
      "10.0.0.1:80 ready, 10.0.0.2:80 not_ready, 10.0.0.3:80 draining, 10.0.0.4:80 not_ready");
  web_.publish_not_ready = true;
  auto published = all;
  published[0] = web_;
  EXPECT_EQ(endpoints(only(merged(published))),
            "10.0.0.1:80 ready, 10.0.0.2:80 ready, 10.0.0.3:80 draining, 10.0.0.4:80 not_ready");
}

TEST_F(Pods, ResolveTargetPortsByNumberAndByNameAndProtocol) {
  web_.ports = {{"a", 80, Protocol::kTcp, TargetPort(std::uint16_t{8080})},
                {"b", 81, Protocol::kTcp, TargetPort(std::string("http"))},
                {"c", 82, Protocol::kUdp, TargetPort(std::string("http"))}};
  auto named = pod("a", "10.0.0.1", labels_);
  named.ports = {{"http", 9000, Protocol::kTcp}};
  const auto mesh = merged({web_, named, pod("b", "10.0.0.2", labels_)});
  EXPECT_EQ(endpoints(only(mesh), 0), "10.0.0.1:8080 ready, 10.0.0.2:8080 ready");
  EXPECT_EQ(endpoints(only(mesh), 1), "10.0.0.1:9000 ready");
  EXPECT_EQ(endpoints(only(mesh), 2), "");
}

TEST_F(Pods, GiveSeveralPortsWithOneTarget) {
  web_.ports = {{"a", 80, Protocol::kTcp, TargetPort(std::uint16_t{8080})},
                {"b", 81, Protocol::kTcp, TargetPort(std::uint16_t{8080})}};
  const auto mesh = merged({web_, pod("a", "10.0.0.1", labels_)});
  EXPECT_EQ(endpoints(only(mesh), 0), "10.0.0.1:8080 ready");
  EXPECT_EQ(endpoints(only(mesh), 1), "10.0.0.1:8080 ready");
}

TEST_F(Pods, ComeAndGoWithTheirLabelsAndWithSlices) {
  Merger merger;
  merger.set("service", unit({web_}));
  merger.set("pod", unit({pod("a", "10.0.0.1", labels_)}));
  EXPECT_EQ(endpoints(only(merger.build())), "10.0.0.1:80 ready");
  merger.set("pod", unit({pod("a", "10.0.0.1", {{"app", "web"}})}));
  EXPECT_EQ(endpoints(only(merger.build())), "");
  merger.set("pod", unit({pod("a", "10.0.0.1", labels_)}));
  merger.set("slice", unit({slice("web-1", "web", {slice_endpoint("10.0.0.9")})}));
  EXPECT_EQ(endpoints(only(merger.build())), "10.0.0.9:8080 ready");
  merger.set("pod", unit({pod("a", "10.0.0.2", labels_)}));
  EXPECT_EQ(endpoints(only(merger.build())), "10.0.0.9:8080 ready");
  merger.set("slice", nullptr);
  EXPECT_EQ(endpoints(only(merger.build())), "10.0.0.2:80 ready");
}

TEST(Services, HeadlessKeepEndpointsAndHaveNoAddress) {
  auto web = service("web", {});
  web.headless = true;
  web.external_ips = {address("192.0.2.1")};
  const auto mesh = merged({web, slice("web-1", "web", {slice_endpoint("10.0.0.1")})});
  EXPECT_EQ(addresses(mesh, "web"), "");
  EXPECT_EQ(endpoints(only(mesh)), "10.0.0.1:8080 ready");
}

TEST(Services, OfAnUnservedTypeAreInTheMeshWithNothing) {
  auto web = service("web", {"10.96.0.1"});
  web.unserved_type = true;
  const auto mesh = merged(
      {web, slice("web-1", "web", {slice_endpoint("10.0.0.1")}), service("api", {"10.96.0.1"})});
  EXPECT_EQ(addresses(mesh, "web"), "");
  EXPECT_TRUE(only(mesh).ports.empty());
  EXPECT_EQ(addresses(mesh, "api"), "10.96.0.1");
  EXPECT_EQ(notices(mesh), "");
}

TEST(Conflicts, OverAClusterIpAreWonByTheOlderServiceAndNameBoth) {
  const auto old = in_line(
      created(service("old", {"10.96.0.1"}, {{"", 81, Protocol::kTcp, {}}}), 100), "a.yaml", 7);
  const auto young = in_line(created(service("new", {"10.96.0.1", "10.96.0.2"}), 200), "b.yaml", 3);
  const auto mesh = merged({young, old});
  EXPECT_EQ(addresses(mesh, "old"), "10.96.0.1");
  EXPECT_EQ(addresses(mesh, "new"), "10.96.0.2");
  EXPECT_EQ(notices(mesh),
            "b.yaml:3: rejected: Service shop/new: address 10.96.0.1 belongs to Service shop/old "
            "(a.yaml:7), which is older: not served here; give one of the two another address\n");
}

TEST(Conflicts, AreSettledByNameWhereNoAgeIsKnown) {
  const auto mesh = merged({service("b", {"10.96.0.1"}), service("a", {"10.96.0.1"})});
  EXPECT_EQ(addresses(mesh, "a") + "|" + addresses(mesh, "b"), "10.96.0.1|");
  const auto aged = merged({created(service("b", {"10.96.0.1"}), 5), service("a", {"10.96.0.1"})});
  EXPECT_EQ(addresses(aged, "a") + "|" + addresses(aged, "b"), "|10.96.0.1");
}

ServiceObject external(const std::string& name, std::vector<ServicePortSpec> ports) {
  auto result = service(name, {}, std::move(ports));
  result.external_ips = {address("192.0.2.1")};
  return result;
}

TEST(Conflicts, DoNotAriseOverExternalIpsWithOtherPorts) {
  const auto mesh = merged({external("a", {{"", 80, Protocol::kTcp, {}}}),
                            external("b", {{"", 80, Protocol::kUdp, {}}}),
                            external("c", {{"", 443, Protocol::kTcp, {}}}),
                            external("d", {{"", 443, Protocol::kTcp, {}}})});
  EXPECT_EQ(addresses(mesh, "a") + addresses(mesh, "b") + addresses(mesh, "c"),
            "192.0.2.1192.0.2.1192.0.2.1");
  EXPECT_EQ(addresses(mesh, "d"), "");
  EXPECT_NE(notices(mesh).find("belongs to Service shop/c"), std::string::npos) << notices(mesh);
}

TEST(Conflicts, AreNotLostToAServiceThatLostTheAddressItself) {
  const auto mesh =
      merged({external("a", {{"", 80, Protocol::kTcp, {}}}),
              external("b", {{"", 80, Protocol::kTcp, {}}, {"x", 81, Protocol::kTcp, {}}}),
              external("c", {{"", 81, Protocol::kTcp, {}}})});
  EXPECT_EQ(addresses(mesh, "b") + "|" + addresses(mesh, "c"), "|192.0.2.1");
}

TEST(Conflicts, OverAClusterIpCountWhateverThePort) {
  auto young = created(external("young", {{"", 443, Protocol::kTcp, {}}}), 2);
  const auto mesh = merged({created(service("old", {"192.0.2.1"}), 1), young});
  EXPECT_EQ(addresses(mesh, "old") + "|" + addresses(mesh, "young"), "192.0.2.1|");
}

TEST(Conflicts, EndWhenTheWinnerGoes) {
  Merger merger;
  merger.set("old", unit({created(service("old", {"10.96.0.1"}), 1)}));
  merger.set("new", unit({service("new", {"10.96.0.1"})}));
  EXPECT_EQ(addresses(merger.build(), "new"), "");
  merger.set("old", unit({created(service("old", {"10.96.0.2"}), 1)}));
  const auto mesh = merger.build();
  EXPECT_EQ(addresses(mesh, "new") + "|" + addresses(mesh, "old"), "10.96.0.1|10.96.0.2");
  EXPECT_EQ(notices(mesh), "");
}

TEST(Versions, OfOneObjectTheOlderIsInForceAndBothAreNamed) {
  const auto first = in_line(service("web", {"10.96.0.1"}), "b.yaml", 1);
  const auto second = in_line(created(service("web", {"10.96.0.2"}), 9), "c.yaml", 4);
  const auto mesh = merge({{"1", unit({first})}, {"2", unit({second})}});
  EXPECT_EQ(addresses(mesh, "web"), "10.96.0.2");
  EXPECT_EQ(
      notices(mesh),
      "b.yaml:1: rejected: Service shop/web: is described twice: the one (c.yaml:4) is older and "
      "stays in force; remove one of the two\n");
}

TEST(Versions, WithoutAgeGoByFileAndLine) {
  const auto mesh = merge({{"1", unit({in_line(service("web", {"10.96.0.1"}), "b.yaml", 1)})},
                           {"2", unit({in_line(service("web", {"10.96.0.2"}), "a.yaml", 30),
                                       in_line(service("web", {"10.96.0.3"}), "a.yaml", 4)})}});
  EXPECT_EQ(addresses(mesh, "web"), "10.96.0.3");
  EXPECT_EQ(mesh->notices->size(), 2u);
}

TEST(Versions, TakeOverWhenTheOlderIsRemoved) {
  Merger merger;
  merger.set("1", unit({in_line(service("web", {"10.96.0.1"}), "a.yaml", 1)}));
  merger.set("2", unit({in_line(service("web", {"10.96.0.2"}), "b.yaml", 1)}));
  EXPECT_EQ(addresses(merger.build(), "web"), "10.96.0.1");
  merger.set("1", nullptr);
  const auto mesh = merger.build();
  EXPECT_EQ(addresses(mesh, "web"), "10.96.0.2");
  EXPECT_EQ(notices(mesh), "");
}

TEST(Merger, KeepsTheSamePointersWhereNothingChanged) {
  Merger merger;
  for (const char* name : {"a", "b"})
    merger.set(name, unit({service(name, {}), slice(name, name, {slice_endpoint("10.0.0.1")})}));
  const auto before = merger.build();
  EXPECT_EQ(merger.build(), before);
  merger.set("a", unit({service("a", {}), slice("a", "a", {slice_endpoint("10.0.0.2")})}));
  merger.set("b",
             unit({service("b", {}), slice("b", "b", {slice_endpoint("10.0.0.1")})}));  // equal
  const auto after = merger.build();
  EXPECT_NE(*before->services.find({"shop", "a"}), *after->services.find({"shop", "a"}));
  EXPECT_EQ(*before->services.find({"shop", "b"}), *after->services.find({"shop", "b"}));
  EXPECT_EQ(before->notices, after->notices);
  EXPECT_EQ(endpoints(only(before, "a")), "10.0.0.1:8080 ready");  // a snapshot never changes
}

TEST(Merge, EndpointsTakeTheirRankFromSliceOrPod) {
  auto standby = slice("web-2", "web", {slice_endpoint("10.0.0.2")});
  standby.rank = {1, 5};
  const auto sliced =
      merged({service("web", {}), slice("web-1", "web", {slice_endpoint("10.0.0.1")}), standby});
  const auto& both = only(sliced).ports.at(0).endpoints;
  EXPECT_EQ(both.at(0).priority + both.at(0).weight, 0 + 1);
  EXPECT_EQ(both.at(1).priority, 1);
  EXPECT_EQ(both.at(1).weight, 5);
  EXPECT_NE(to_text(*sliced).find("10.0.0.2 port 8080 ready priority=1 weight=5\n"),
            std::string::npos);
  auto selecting = service("web", {});
  selecting.selector = {{"app", "web"}};
  auto ranked = pod("p", "10.0.0.3", {{"app", "web"}});
  ranked.rank = {2, 9};
  const auto podded = merged({selecting, ranked});
  EXPECT_EQ(only(podded).ports.at(0).endpoints.at(0).priority, 2);
  EXPECT_EQ(only(podded).ports.at(0).endpoints.at(0).weight, 9);
}

TEST(Merger, FollowsNodesFromRegionToRegion) {
  const auto node = [](const std::string& region, const std::string& other = "") {
    NodeObject result{meta("n1")};
    result.meta.labels = {{"topology.kubernetes.io/region", region}, {"other", other}};
    return unit({result});
  };
  auto endpoint = slice_endpoint("10.0.0.1");
  endpoint.node = "n1";
  endpoint.for_zones = {"a"};
  Merger merger;
  merger.set("web", unit({service("web", {}), slice("web", "web", {endpoint})}));
  const auto region = [&] {
    const auto mesh = merger.build();
    EXPECT_EQ(only(mesh).ports.at(0).endpoints.at(0).for_zones, endpoint.for_zones);
    return only(mesh).ports.at(0).endpoints.at(0).region;
  };
  EXPECT_EQ(region(), "");
  merger.set("node", node("eu"));
  EXPECT_EQ(region(), "eu");
  const auto before = merger.build();
  merger.set("node", node("eu", "changed"));
  EXPECT_EQ(merger.build(), before);  // nobody moved: no service is looked at
  merger.set("node", node("us"));
  EXPECT_EQ(region(), "us");
  merger.set("node", nullptr);
  EXPECT_EQ(region(), "");
}

TEST(Merger, SubzonesAreTheNodesUnlessAPodHasItsOwn) {
  NodeObject node{meta("n1")};
  node.meta.labels = {{"topology.istio.io/subzone", "r1"}};
  auto web = service("web", {});
  web.selector = {{"app", "web"}};
  auto plain = pod("a", "10.0.0.1", {{"app", "web"}}), own = pod("b", "10.0.0.2", {{"app", "web"}});
  plain.node = own.node = "n1";
  own.subzone = "r2";
  Merger merger;
  merger.set("web", unit({web, plain, own}));
  const auto subzones = [&] {
    std::string text;
    for (const auto& endpoint : only(merger.build()).ports.at(0).endpoints)
      text += endpoint.subzone + ",";
    return text;
  };
  EXPECT_EQ(subzones(), ",r2,");
  merger.set("node", unit({node}));
  EXPECT_EQ(subzones(), "r1,r2,");
  EXPECT_NE(to_text(*merger.build()).find(" subzone=r1 node=n1\n"), std::string::npos);
  node.meta.labels = {{"topology.istio.io/subzone", "r3"}};
  merger.set("node", unit({node}));
  EXPECT_EQ(subzones(), "r3,r2,");
  merger.set("node", nullptr);
  EXPECT_EQ(subzones(), ",r2,");
}

TEST(Merger, CarriesTheReadersNoticesSortedByFileAndLine) {
  const auto at = [](const char* file, int line) {
    return Notice{Severity::kWarning, {std::make_shared<const std::string>(file), line}, "", "x"};
  };
  Merger merger;
  merger.set("2", unit({}, {at("b", 10), at("b", 9)}));
  merger.set("1", unit({}, {at("c", 1)}));
  EXPECT_EQ(notices(merger.build()), "b:9: warning: x\nb:10: warning: x\nc:1: warning: x\n");
  merger.set("2", nullptr);
  EXPECT_EQ(notices(merger.build()), "c:1: warning: x\n");
}

}  // namespace
}  // namespace weft::model
