// EndpointSlice, Pod and the Istio kinds: what endpoints and rules come from.
#include <gtest/gtest.h>

#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using model::DestinationRuleObject;
using model::EndpointSliceObject;
using model::PodObject;
using test::first;
using test::ids;
using test::notices;
using test::rejected;
using test::says;
using test::slice;
using test::yaml;

const std::string kRejected = "rejected: EndpointSlice shop/web-1: ";

TEST(ManifestSlice, ReadsEndpointsWithTheApisDefaults) {
  const auto result = slice(R"(addressType: IPv4
ports:
- {name: http, port: 8080}
- {name: dns, port: 53, protocol: UDP, appProtocol: x}
endpoints:
- {addresses: [10.0.0.1]}
- {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}, zone: a, nodeName: n1}
- {addresses: [10.0.0.3], conditions: {ready: null}, hostname: h, targetRef: {kind: Pod}, hints: {}}
)");
  ASSERT_EQ(notices(result), "");
  const auto& web = first<EndpointSliceObject>(result);
  EXPECT_EQ(web.service, "web");
  EXPECT_EQ(web.family, model::Family::kIpv4);
  ASSERT_EQ(web.ports.size(), 2u);
  EXPECT_EQ(web.ports[0].name, "http");
  EXPECT_EQ(web.ports[1].protocol, model::Protocol::kUdp);
  ASSERT_EQ(web.endpoints.size(), 3u);
  EXPECT_TRUE(web.endpoints[0].ready && web.endpoints[0].serving && !web.endpoints[0].terminating);
  EXPECT_TRUE(!web.endpoints[1].ready && web.endpoints[1].serving && web.endpoints[1].terminating);
  EXPECT_EQ(web.endpoints[1].zone + web.endpoints[1].node, "an1");
  EXPECT_TRUE(web.endpoints[2].ready);
}

TEST(ManifestSlice, AddressesAreOfItsFamily) {
  EXPECT_TRUE(
      says(slice("addressType: IPv4\nendpoints: [{addresses: [\"fd00::1\"]}]"),
           kRejected + "endpoints[0].addresses[0] \"fd00::1\" is not of the slice's addressType"));
  EXPECT_TRUE(
      says(slice("addressType: IPv6\nendpoints: [{addresses: [10.0.0.1]}]"),
           kRejected + "endpoints[0].addresses[0] \"10.0.0.1\" is not of the slice's addressType"));
  EXPECT_TRUE(says(slice("addressType: IPv4\nendpoints: [{addresses: [web]}]"),
                   kRejected + "endpoints[0].addresses[0] \"web\" is not an IP address"));
  EXPECT_TRUE(says(slice("addressType: IPv4\nendpoints: [{addresses: []}]"),
                   kRejected + "endpoints[0].addresses is missing or empty"));
  EXPECT_TRUE(says(slice("addressType: IPv4\nendpoints: [{}]"),
                   "endpoints[0].addresses is missing or empty"));
  EXPECT_TRUE(says(slice("addressType: IPv4\nendpoints: [x]"),
                   "endpoints[0] must be a mapping, not a string"));
  EXPECT_EQ(first<EndpointSliceObject>(
                slice("addressType: IPv6\nendpoints: [{addresses: [\"fd00::1\"]}]"))
                .family,
            model::Family::kIpv6);
}

TEST(ManifestSlice, OfSeveralAddressesTheFirstIsUsedAndThatIsSaidOnce) {
  const auto result = slice(
      "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1, 10.0.0.2]}, {addresses: [10.0.0.3, "
      "10.0.0.4]}]");
  EXPECT_EQ(result.notices.size(), 1u) << notices(result);
  EXPECT_TRUE(says(result, "endpoints[0].addresses has several"));
  EXPECT_EQ(first<EndpointSliceObject>(result).endpoints.at(1).address.to_text(), "10.0.0.3");
}

TEST(ManifestSlice, AddressTypeIsRequiredAndKnown) {
  EXPECT_TRUE(says(slice("endpoints: []"), kRejected + "addressType is missing"));
  EXPECT_TRUE(says(slice("addressType: IPv5"),
                   kRejected + "addressType \"IPv5\" is not IPv4, IPv6 or FQDN"));
  const auto names = slice("addressType: FQDN\nendpoints: [{addresses: [example.com]}]");
  EXPECT_EQ(ids(names) + rejected(names), "");
  EXPECT_TRUE(
      says(names, "warning: EndpointSlice shop/web-1: addressType FQDN is not supported: ignored"));
}

TEST(ManifestSlice, PortsMayLackNameAndNumber) {
  const auto result =
      slice("addressType: IPv4\nports: [{}, {name: \"\", port: 80}, {port: 81, protocol: SCTP}]");
  ASSERT_EQ(notices(result), "");
  const auto& ports = first<EndpointSliceObject>(result).ports;
  ASSERT_EQ(ports.size(), 2u);
  EXPECT_EQ(ports[0], model::SlicePort{});
  EXPECT_EQ(ports[1].name, "");
  EXPECT_TRUE(says(slice("addressType: IPv4\nports: [{port: 70000}]"),
                   "ports[0].port 70000 is not in 1..65535"));
  EXPECT_TRUE(says(slice("addressType: IPv4\nports: [{port: 80, protocol: ICMP}]"),
                   "ports[0].protocol \"ICMP\" is not"));
}

TEST(ManifestSlice, WithoutTheServiceLabelItBelongsToNobody) {
  const auto result = yaml(
      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: "
      "IPv4\n");
  EXPECT_TRUE(says(
      result, "warning: EndpointSlice default/x: label kubernetes.io/service-name is missing"));
  EXPECT_EQ(first<EndpointSliceObject>(result).service, "");
}

TEST(ManifestSlice, HintsNameZones) {
  const auto result = slice(
      "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], hints: {forZones: [{name: a}, {name: "
      "b}], forNodes: [{name: n}]}}]");
  ASSERT_EQ(notices(result), "");
  EXPECT_EQ(first<EndpointSliceObject>(result).endpoints.at(0).for_zones,
            (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(says(slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], hints: {forZones: "
                         "[a]}}]"),
                   "endpoints[0].hints.forZones[0] must be a mapping, not a string"));
}

TEST(ManifestPod, ReadsWhatEndpointsNeed) {
  const auto result = yaml(R"(apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web, topology.kubernetes.io/zone: a, topology.istio.io/subzone: r1}}
spec:
  nodeName: n1
  containers: [{name: c, image: x, ports: [{name: http, containerPort: 8080}, {containerPort: 9, protocol: SCTP}]}]
  initContainers: [{name: s, restartPolicy: Always, ports: [{name: side, containerPort: 53, protocol: UDP}]}]
status:
  phase: Running
  podIP: 10.0.0.9
  podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]
  conditions: [{type: Initialized, status: "False"}, {type: Ready, status: "True"}]
)");
  ASSERT_EQ(notices(result), "");
  const auto& pod = first<PodObject>(result);
  ASSERT_EQ(pod.ips.size(), 2u);
  EXPECT_EQ(pod.ips[0].to_text(), "10.0.0.1");
  EXPECT_TRUE(pod.ready && !pod.terminating && !pod.finished);
  EXPECT_EQ(pod.node + pod.zone + pod.subzone, "n1ar1");
  ASSERT_EQ(pod.ports.size(), 2u);
  EXPECT_EQ(pod.ports[0], (model::ContainerPort{"http", 8080, model::Protocol::kTcp}));
  EXPECT_EQ(pod.ports[1], (model::ContainerPort{"side", 53, model::Protocol::kUdp}));
}

TEST(ManifestPod, KnowsThoseThatAreEndingOrHaveEnded) {
  const auto pod = [](const std::string& metadata, const std::string& status) {
    return first<PodObject>(yaml("apiVersion: v1\nkind: Pod\nmetadata: {name: x" + metadata +
                                 "}\nstatus: {" + status + "}\n"));
  };
  EXPECT_TRUE(pod(", deletionTimestamp: \"2024-05-01T10:00:00Z\"", "").terminating);
  EXPECT_TRUE(pod("", "phase: Succeeded").finished);
  EXPECT_TRUE(pod("", "phase: Failed").finished);
  EXPECT_FALSE(pod("", "conditions: [{type: Ready, status: \"False\"}]").ready);
  EXPECT_EQ(pod("", "podIP: 10.0.0.7").ips.at(0).to_text(), "10.0.0.7");
  EXPECT_TRUE(pod("", "podIP: \"\"").ips.empty());
}

TEST(ManifestPod, AsMetadataAloneHasItsNameAndLabels) {
  const auto result = parse_item(
      R"({"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a",)"
      R"("namespace":"shop","uid":"u","resourceVersion":"7","creationTimestamp":)"
      R"("2026-01-01T00:00:00Z","labels":{"v":"1"},"annotations":{"weft.mesh/weight":"3"},)"
      R"("managedFields":[{"manager":"kubelet"}]}})",
      "pods.metadata/shop/a", {"PartialObjectMetadata", "meta.k8s.io/v1"});
  EXPECT_EQ(notices(result), "");
  const auto& pod = first<model::PodLabelsObject>(result);
  EXPECT_EQ(pod.meta.namespace_name + "/" + pod.meta.name, "shop/a");
  EXPECT_EQ(pod.meta.labels, (model::Labels{{"v", "1"}}));
  EXPECT_TRUE(pod.meta.annotations.empty());
}

TEST(ManifestPod, WrongAddressesAreRefused) {
  EXPECT_EQ(
      notices(yaml("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nstatus: {podIP: host}\n")),
      "f:4: rejected: Pod default/x: status.podIP \"host\" is not an IP address\n");
}

ParseResult rule(const std::string& spec) {
  return yaml(
      "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: "
      "shop}\nspec: " +
      spec + "\n");
}
ParseResult balanced(const std::string& balancer) {
  return rule("{host: web, trafficPolicy: {loadBalancer: " + balancer + "}}");
}

TEST(ManifestRule, ReadsTheBalancersThatItEnforces) {
  EXPECT_EQ(first<DestinationRuleObject>(balanced("{simple: ROUND_ROBIN}")).balancer,
            model::Balancer::kRoundRobin);
  EXPECT_EQ(first<DestinationRuleObject>(balanced("{simple: RANDOM}")).balancer,
            model::Balancer::kRandom);
  EXPECT_EQ(
      first<DestinationRuleObject>(balanced("{consistentHash: {useSourceIp: true}}")).balancer,
      model::Balancer::kSourceHash);
  EXPECT_EQ(first<DestinationRuleObject>(rule("{host: web}")).balancer, std::nullopt);
}

TEST(ManifestRule, WhatItCannotEnforceIsSaid) {
  const std::string start = "f:4: not_enforced: DestinationRule shop/r: ";
  const std::string path = "spec.trafficPolicy.";
  EXPECT_EQ(notices(balanced("{consistentHash: {httpHeaderName: x}}")),
            start + path +
                "loadBalancer.consistentHash.httpHeaderName is NOT ENFORCED: this build hashes the "
                "source "
                "(useSourceIp) only\n");
  EXPECT_EQ(notices(rule("{host: web, trafficPolicy: {tls: {mode: DISABLE}}}")),
            start + path + "tls is NOT ENFORCED by this build\n");
  EXPECT_TRUE(says(rule("{host: web, subsets: [{name: v1, trafficPolicy: {tls: {}}}]}"),
                   start + "spec.subsets[0].trafficPolicy is NOT ENFORCED by this build"));
  EXPECT_TRUE(says(rule("{host: web, workloadSelector: {}}"),
                   start + "spec.workloadSelector is NOT ENFORCED"));
}

TEST(ManifestRule, AHostIsRequired) {
  EXPECT_EQ(notices(rule("{}")), "f:1: rejected: DestinationRule shop/r: spec.host is missing\n");
}

TEST(ManifestRoutes, OfTlsAreReportedAndReadNoFurther) {
  const auto result = yaml(
      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n"
      "spec: {hosts: [web], http: [], tls: [{}], tcp: []}\n");
  EXPECT_EQ(ids(result) + rejected(result), "");
  EXPECT_TRUE(
      says(result, "f:4: warning: VirtualService default/v: spec.tls rules have no effect yet"));
  EXPECT_TRUE(says(yaml("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: "
                        "{name: v}\nspec: {}\n"),
                   "rejected: VirtualService default/v: spec.hosts is missing"));
}

}  // namespace
}  // namespace weft::manifest
