#include <gtest/gtest.h>

#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using model::DestinationRuleObject;
using model::EndpointSliceObject;
using model::VirtualServiceObject;
using test::count;
using test::first;
using test::ids;
using test::notices;
using test::rejected;
using test::says;
using test::yaml;

ParseResult routes(const std::string& spec) {
  return yaml(
      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: "
      "shop}\nspec: {hosts: [web], " +
      spec + "}\n");
}
ParseResult rules(const std::string& tcp) { return routes("tcp: " + tcp); }
const std::string kToWeb = "route: [{destination: {host: web}}]";
const std::string kStart = "VirtualService shop/v: ";

ParseResult subsets(const std::string& list) {
  return yaml(
      "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: "
      "shop}\nspec:\n  host: web\n  subsets: " +
      list + "\n");
}

TEST(ManifestSubsets, HaveANameAndLabels) {
  const auto result =
      subsets("[{name: v1, labels: {version: v1}}, {name: all}, {name: v3, labels: {}}]");
  const auto& rule = first<DestinationRuleObject>(result);
  EXPECT_EQ(rule.subsets,
            (std::vector<model::Subset>{{"v1", {{"version", "v1"}}}, {"all", {}}, {"v3", {}}}));
  EXPECT_EQ(rule.subsets_origin.to_text(), "f:6");
  EXPECT_EQ(notices(result), "");
}

TEST(ManifestSubsets, WhatIsWrongWithThemIsSaid) {
  const std::string start = "f:6: rejected: DestinationRule shop/r: spec.subsets";
  EXPECT_EQ(notices(subsets("[{labels: {a: b}}]")), start + "[0].name is missing\n");
  EXPECT_EQ(notices(subsets("[{name: V_1}]")),
            start + "[0].name \"V_1\" is not a DNS label (RFC 1123)\n");
  EXPECT_EQ(notices(subsets("[{name: a}, {name: a}]")), start + "[1].name \"a\" is there twice\n");
  EXPECT_TRUE(says(subsets("[{name: a, labels: [b]}]"), start + "[0].labels must be a mapping"));
  EXPECT_TRUE(says(subsets("[a]"), start + "[0] must be a mapping"));
  EXPECT_TRUE(says(subsets("[{name: a, label: {}}]"), "unknown field \"spec.subsets[0].label\""));
}

TEST(ManifestSlice, KnowsThePodOfAnEndpoint) {
  const auto result = test::slice(
      "addressType: IPv4\nendpoints:\n"
      "- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-x, namespace: shop, uid: u}}\n"
      "- {addresses: [10.0.0.2], targetRef: {kind: Node, name: node-1}}\n"
      "- {addresses: [10.0.0.3]}");
  const auto& slice = first<EndpointSliceObject>(result);
  EXPECT_EQ(slice.endpoints.at(0).pod, "web-x");
  EXPECT_EQ(slice.endpoints.at(1).pod, "");
  EXPECT_EQ(slice.endpoints.at(2).pod, "");
  EXPECT_EQ(notices(result), "");
}

TEST(ManifestTcpRoutes, AreRead) {
  const auto result = routes(
      "exportTo: [., ops], gateways: [mesh], tcp: [\n"
      "  {match: [{port: 80}, {port: 81}],\n"
      "   route: [{destination: {host: web, subset: v1}, weight: 90},\n"
      "           {destination: {host: db.data, port: {number: 5432}}, weight: 10},\n"
      "           {destination: {host: idle}}]},\n"
      "  {route: [{destination: {host: web}, weight: 0}]}]");
  EXPECT_EQ(notices(result), "");
  EXPECT_EQ(ids(result), "VirtualService shop/v");
  const auto& routes = first<VirtualServiceObject>(result);
  EXPECT_EQ(routes.hosts, std::vector<std::string>{"web"});
  EXPECT_EQ(routes.export_to, (std::vector<std::string>{".", "ops"}));
  ASSERT_EQ(routes.tcp.size(), 2u);
  EXPECT_EQ(routes.tcp[0].ports, (std::vector<std::uint16_t>{80, 81}));
  EXPECT_EQ(routes.tcp[0].origin.to_text(), "f:5");
  const auto& to = routes.tcp[0].destinations;
  ASSERT_EQ(to.size(), 3u);
  EXPECT_EQ(to[0], (model::RouteDestination{"web", "v1", {}, 90, to[0].origin}));
  EXPECT_EQ(to[1], (model::RouteDestination{"db.data", "", 5432, 10, to[1].origin}));
  EXPECT_EQ(to[2].weight, 0u);
  EXPECT_EQ(to[1].origin.to_text(), "f:7");
}

TEST(ManifestTcpRoutes, TheOnlyDestinationGetsEverythingWhateverItsWeight) {
  const auto result = rules("[{route: [{destination: {host: web}, weight: 0}]}]");
  EXPECT_EQ(first<VirtualServiceObject>(result).tcp.at(0).destinations.at(0).weight, 1u);
}

TEST(ManifestTcpRoutes, AMatchThatAsksForNothingIsAnyPort) {
  for (const char* match : {"[]", "[{}]", "[{port: 80}, {}]", "null", "[{gateways: [mesh, in]}]"}) {
    const auto result = rules("[{match: " + std::string(match) + ", " + kToWeb + "}]");
    EXPECT_TRUE(first<VirtualServiceObject>(result).tcp.at(0).ports.empty()) << match;
    EXPECT_EQ(notices(result), "") << match;
  }
}

TEST(ManifestTcpRoutes, ARuleThatAsksForWhatIsNotLookedAtIsPassedOver) {
  for (const char* field :
       {"destinationSubnets: [10.0.0.0/8]", "sourceLabels: {app: a}", "sourceNamespace: a",
        "sourceSubnet: 10.0.0.0/8", "gateways: [ingress]"}) {
    const auto result = rules("[{match: [{port: 80}, {" + std::string(field) + "}], " + kToWeb +
                              "}, {" + kToWeb + "}]");
    const std::string name(field, std::string_view(field).find(':'));
    EXPECT_EQ(notices(result), "f:4: not_enforced: " + kStart + "spec.tcp[0].match[1]." + name +
                                   " is NOT ENFORCED: the rule is passed over\n");
    EXPECT_EQ(first<VirtualServiceObject>(result).tcp.size(), 1u) << field;
  }
}

TEST(ManifestTcpRoutes, WithoutARuleThatIsServedThereIsNoObject) {
  EXPECT_EQ(ids(rules("[]")), "");
  EXPECT_EQ(ids(rules("[{match: [{sourceNamespace: a}], " + kToWeb + "}]")), "");
  const auto gateway = routes("gateways: [ingress], tcp: [{" + kToWeb + "}]");
  EXPECT_EQ(ids(gateway) + rejected(gateway), "");
  EXPECT_TRUE(says(gateway, "f:4: not_enforced: " + kStart + "spec.gateways is NOT ENFORCED"));
}

TEST(ManifestTcpRoutes, WhatIsWrongWithThemIsSaid) {
  const auto wrong = [](const std::string& tcp) {
    const auto result = rules(tcp);
    EXPECT_EQ(rejected(result), "VirtualService shop/v") << tcp;
    EXPECT_EQ(count(result, model::Severity::kRejected), 1u) << notices(result);
    return notices(result);
  };
  const std::string start = "f:4: rejected: " + kStart;
  const auto to = [](const std::string& destination) {
    return "[{route: [{destination: " + destination + "}]}]";
  };
  const std::string destination = start + "spec.tcp[0].route[0].destination";
  EXPECT_EQ(wrong("[{}]"), start + "spec.tcp[0].route is missing or empty\n");
  EXPECT_EQ(wrong("[{route: [{}]}]"), destination + ".host is missing\n");
  EXPECT_EQ(wrong(to("{host: \"*.shop\"}")),
            destination + ".host \"*.shop\" is not a host's name\n");
  EXPECT_EQ(wrong(to("{host: web, port: {number: 0}}")),
            destination + ".port.number 0 is not in 1..65535\n");
  EXPECT_EQ(wrong("[{match: [{port: 70000}], " + kToWeb + "}]"),
            start + "spec.tcp[0].match[0].port 70000 is not in 1..65535\n");
  EXPECT_EQ(wrong("[{route: [{destination: {host: a}, weight: -1}]}]"),
            start + "spec.tcp[0].route[0].weight -1 is not in 0..2147483647\n");
  EXPECT_EQ(wrong("[{route: [{destination: {host: a}}, {destination: {host: b}, weight: 0}]}]"),
            start + "spec.tcp[0].route: the weights are 0 in all\n");
  EXPECT_TRUE(says(rules("[{match: {port: 80}, " + kToWeb + "}]"), "match must be a list"));
  EXPECT_TRUE(says(routes("exportTo: ."), "spec.exportTo must be a list"));
  EXPECT_TRUE(
      says(rules("[{matches: [], " + kToWeb + "}]"), "unknown field \"spec.tcp[0].matches\""));
}

}  // namespace
}  // namespace weft::manifest
