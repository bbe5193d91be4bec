#include <gtest/gtest.h>

#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using model::ServiceObject;
using model::Severity;
using std::chrono::seconds;
using test::count;
using test::first;
using test::ids;
using test::notices;
using test::rejected;
using test::says;
using test::service;
using test::yaml;

const std::string kHere = "f:4: rejected: Service shop/web: ";
const std::string kWarn = "f:4: warning: Service shop/web: ";

TEST(ManifestService, ReadsWhatServesTraffic) {
  const auto result = yaml(R"(apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  creationTimestamp: "2024-05-01T10:00:00Z"
  labels: {tier: front}
  annotations: {weft.mesh/balancer: maglev, example.com/owner: me}
spec:
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00::1"]
  externalIPs: [192.0.2.1]
  selector: {app: web}
  publishNotReadyAddresses: true
  sessionAffinity: ClientIP
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: dns, port: 53, protocol: UDP, targetPort: dns-udp, nodePort: 30053, appProtocol: x}
)");
  ASSERT_EQ(notices(result), "");
  const auto& web = first<ServiceObject>(result);
  EXPECT_EQ(web.meta.name, "web");
  EXPECT_EQ(web.meta.created, 1714557600);
  EXPECT_EQ(web.meta.labels, (model::Labels{{"tier", "front"}}));
  EXPECT_EQ(web.meta.annotations, (model::Labels{{"weft.mesh/balancer", "maglev"}}));
  ASSERT_EQ(web.cluster_ips.size(), 2u);
  EXPECT_EQ(web.cluster_ips[1].to_text(), "fd00::1");
  EXPECT_EQ(web.external_ips.at(0).to_text(), "192.0.2.1");
  EXPECT_EQ(web.balancer, model::Balancer::kSourceHash);
  EXPECT_TRUE(web.publish_not_ready);
  EXPECT_FALSE(web.headless);
  ASSERT_EQ(web.ports.size(), 2u);
  EXPECT_EQ(std::get<std::uint16_t>(*web.ports[0].target), 8080);
  EXPECT_EQ(std::get<std::string>(*web.ports[1].target), "dns-udp");
  EXPECT_EQ(web.ports[1].protocol, model::Protocol::kUdp);
}

TEST(ManifestService, PortsAreNumbersOfPorts) {
  EXPECT_EQ(notices(service("{ports: [{port: 0}]}")),
            kHere + "spec.ports[0].port 0 is not in 1..65535\n");
  EXPECT_EQ(notices(service("{ports: [{port: 70000}]}")),
            kHere + "spec.ports[0].port 70000 is not in 1..65535\n");
  EXPECT_EQ(notices(service("{ports: [{port: -1}]}")),
            kHere + "spec.ports[0].port -1 is not in 1..65535\n");
  EXPECT_EQ(notices(service("{ports: [{name: x}]}")), kHere + "spec.ports[0].port is missing\n");
  EXPECT_EQ(notices(service("{ports: [{port: \"80\"}]}")),
            kHere + "spec.ports[0].port must be a number, not a string: write it unquoted\n");
  EXPECT_EQ(notices(service("{ports: [80]}")),
            kHere + "spec.ports[0] must be a mapping, not a number\n");
  EXPECT_EQ(notices(service("{ports: {port: 80}}")),
            kHere + "spec.ports must be a list, not a mapping\n");
  for (const char* good : {"1", "65535"})
    EXPECT_EQ(notices(service("{ports: [{port: " + std::string(good) + "}]}")), "") << good;
  // Kubernetes reads 010 as 8: weft will not guess.
  EXPECT_NE(rejected(service("{ports: [{port: 010}]}")), "");
}

TEST(ManifestService, ATargetPortIsANumberOrAName) {
  EXPECT_EQ(notices(service("{ports: [{port: 80, targetPort: 70000}]}")),
            kHere + "spec.ports[0].targetPort 70000 is not in 1..65535\n");
  for (const char* bad : {"\"8080\"", "\"\"", "Http", "a-name-of-16-lett", "-http", "\"a b\""}) {
    const auto result = service("{ports: [{port: 80, targetPort: " + std::string(bad) + "}]}");
    EXPECT_EQ(rejected(result), "Service shop/web") << bad;
    EXPECT_TRUE(says(result, "a number is written without quotes")) << bad << notices(result);
  }
  EXPECT_FALSE(first<ServiceObject>(service("{ports: [{port: 80}]}")).ports.at(0).target);
}

TEST(ManifestService, APortsProtocolIsItsAppProtocolOrTheFirstWordOfItsName) {
  using model::AppProtocol;
  const auto protocol = [](const std::string& fields) {
    const auto result = service("{ports: [{port: 80, " + fields + "}]}");
    EXPECT_EQ(notices(result), "") << fields;
    return first<ServiceObject>(result).ports.at(0).app_protocol;
  };
  for (const char* name : {"http", "http-web", "grpc-web", "grpc-web-x"})
    EXPECT_EQ(protocol("name: " + std::string(name)), AppProtocol::kHttp) << name;
  EXPECT_EQ(protocol("name: http2-web"), AppProtocol::kHttp2);
  EXPECT_EQ(protocol("name: grpc"), AppProtocol::kGrpc);
  for (const char* name : {"tls", "https-web"})
    EXPECT_EQ(protocol("name: " + std::string(name)), AppProtocol::kTls) << name;
  for (const char* name : {"tcp-x", "mongo", "mysql", "redis"})
    EXPECT_EQ(protocol("name: " + std::string(name)), AppProtocol::kTcp) << name;
  for (const char* name : {"httpx", "web-http", "x"})
    EXPECT_EQ(protocol("name: " + std::string(name)), AppProtocol::kUnknown) << name;
  EXPECT_EQ(protocol("targetPort: 80"), AppProtocol::kUnknown);
  EXPECT_EQ(protocol("name: tcp, appProtocol: HTTP"), AppProtocol::kHttp);
  EXPECT_EQ(protocol("appProtocol: kubernetes.io/h2c"), AppProtocol::kHttp2);
  EXPECT_EQ(protocol("appProtocol: kubernetes.io/ws"), AppProtocol::kHttp);
  EXPECT_EQ(protocol("name: http, appProtocol: example.com/own"), AppProtocol::kUnknown);
}

TEST(ManifestService, TwoPortsDifferInNumberAndName) {
  EXPECT_TRUE(says(service("{ports: [{name: a, port: 80}, {name: b, port: 80}]}"),
                   "spec.ports[1].port 80/TCP is there twice"));
  EXPECT_TRUE(says(service("{ports: [{name: a, port: 80}, {name: a, port: 81}]}"),
                   "spec.ports[1].name \"a\" is there twice"));
  EXPECT_TRUE(says(service("{ports: [{name: a, port: 80}, {port: 81}]}"),
                   "several ports need a name each"));
  EXPECT_EQ(notices(service("{ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]}")),
            "");
  EXPECT_EQ(notices(service("{ports: [{port: 53}]}")), "");
}

TEST(ManifestService, AFloodOfEqualPortsIsRefusedInOneNoticeEach) {
  std::string ports = "{ports: [";
  for (int i = 0; i < 50'000; ++i) ports += "{port: 80},";
  const auto result = service(ports + "]}");
  EXPECT_EQ(rejected(result), "Service shop/web");
  EXPECT_EQ(result.notices.size(), 1001u);
}

TEST(ManifestService, SctpPortsAreLeftOutAndOtherProtocolsRefused) {
  const auto result =
      service("{ports: [{name: a, port: 80}, {name: s, port: 81, protocol: SCTP}]}");
  EXPECT_EQ(notices(result),
            kWarn + "spec.ports[1].protocol SCTP is not supported: this port is not served\n");
  EXPECT_EQ(first<ServiceObject>(result).ports.size(), 1u);
  EXPECT_EQ(notices(service("{ports: [{port: 80, protocol: tcp}]}")),
            kHere + "spec.ports[0].protocol \"tcp\" is not TCP, UDP or SCTP\n");
}

TEST(ManifestService, AddressesMustBeServable) {
  EXPECT_EQ(notices(service("{clusterIP: 10.96.0.300}")),
            kHere + "spec.clusterIP \"10.96.0.300\" is not an IP address\n");
  EXPECT_EQ(notices(service("{clusterIP: 224.0.0.1}")),
            kHere + "spec.clusterIP \"224.0.0.1\" cannot be served: it is a multicast address\n");
  EXPECT_EQ(
      notices(service("{externalIPs: [\"fe80::1\"]}")),
      kHere + "spec.externalIPs[0] \"fe80::1\" cannot be served: it is a link-local address\n");
  EXPECT_EQ(
      notices(service("{clusterIPs: [0.0.0.0]}")),
      kHere + "spec.clusterIPs[0] \"0.0.0.0\" cannot be served: it is the unspecified address\n");
  EXPECT_EQ(notices(service("{clusterIP: 5}")),
            kHere + "spec.clusterIP must be a string, not a number: quote it\n");
  EXPECT_EQ(notices(service("{clusterIP: 127.0.0.53}")), "");
}

TEST(ManifestService, ClusterIpsAreOneAFamilyAndBeginWithClusterIp) {
  EXPECT_EQ(notices(service("{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.2]}")),
            kHere + "spec.clusterIP is not among spec.clusterIPs\n");
  EXPECT_EQ(notices(service("{clusterIPs: [10.96.0.1, 10.96.0.2]}")),
            kHere +
                "spec.clusterIPs holds several addresses of one family: there is one a family; "
                "externalIPs takes more\n");
  EXPECT_EQ(notices(service("{clusterIP: \"fd00::1\", clusterIPs: [\"fd00::1\", 10.96.0.2]}")), "");
}

TEST(ManifestService, HeadlessIsNoneAndNoneAlone) {
  for (const char* spec : {"{clusterIP: None}", "{clusterIP: None, clusterIPs: [None]}"}) {
    const auto result = service(spec);
    ASSERT_EQ(notices(result), "");
    EXPECT_TRUE(first<ServiceObject>(result).headless);
    EXPECT_TRUE(first<ServiceObject>(result).cluster_ips.empty());
  }
  EXPECT_EQ(notices(service("{clusterIP: None, clusterIPs: [10.96.0.1]}")),
            kHere + "spec.clusterIPs holds None beside addresses\n");
  const auto unassigned = service("{clusterIP: \"\"}");
  EXPECT_EQ(notices(unassigned), "");
  EXPECT_FALSE(first<ServiceObject>(unassigned).headless);
}

TEST(ManifestService, SessionAffinityLastsThreeHoursUnlessItSaysElse) {
  const auto affinity = [](const std::string& spec) {
    return first<ServiceObject>(service(spec)).affinity;
  };
  const auto timeout = [](const char* value) {
    return "{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: " +
           std::string(value) + "}}}";
  };
  EXPECT_EQ(affinity("{}"), std::nullopt);
  EXPECT_EQ(affinity("{sessionAffinity: None}"), std::nullopt);
  EXPECT_EQ(affinity("{sessionAffinity: ClientIP}"), seconds(10800));
  EXPECT_EQ(affinity(timeout("1")), seconds(1));
  EXPECT_EQ(affinity(timeout("86400")), seconds(86400));
  for (const char* bad : {"0", "86401", "-1"})
    EXPECT_EQ(notices(service(timeout(bad))),
              kHere + "spec.sessionAffinityConfig.clientIP.timeoutSeconds " + bad +
                  " is not in 1..86400\n");
  EXPECT_EQ(notices(service("{sessionAffinity: Cookie}")),
            kHere + "spec.sessionAffinity \"Cookie\" is not None or ClientIP\n");
}

TEST(ManifestService, TypesThatNeedMoreThanThisBuildAreNamed) {
  const auto external = service("{type: ExternalName, externalName: example.com}");
  EXPECT_TRUE(first<ServiceObject>(external).unserved_type);
  EXPECT_EQ(notices(external),
            kWarn + "spec.type ExternalName is not served yet: its name is left to the DNS\n");
  for (const char* type : {"NodePort", "LoadBalancer"}) {
    const auto result = service("{type: " + std::string(type) +
                                ", clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}");
    EXPECT_EQ(count(result, Severity::kWarning), 1u);
    EXPECT_TRUE(says(result, "type " + std::string(type) + ": cluster and external IPs are served"))
        << notices(result);
    EXPECT_FALSE(first<ServiceObject>(result).unserved_type);
  }
  EXPECT_EQ(notices(service("{type: Odd}")), kHere + "spec.type \"Odd\" is not a Service's type\n");
}

TEST(ManifestService, FieldsWithoutEffectAreNamed) {
  EXPECT_TRUE(says(service("{externalTrafficPolicy: Local}"),
                   "warning: Service shop/web: spec.externalTrafficPolicy Local"));
  EXPECT_EQ(notices(service("{internalTrafficPolicy: Cluster, ipFamilyPolicy: SingleStack}")), "");
  EXPECT_EQ(notices(service("{selektor: {app: web}}")),
            kWarn + "unknown field \"spec.selektor\": it has no effect\n");
}

TEST(ManifestService, EndpointsNearbyAreWantedOrDemanded) {
  using Prefer = model::LocalityPolicy::Prefer;
  const auto traffic = [](const std::string& spec) {
    const auto result = service(spec);
    EXPECT_EQ(notices(result), "");
    return first<ServiceObject>(result).traffic;
  };
  EXPECT_TRUE(traffic("{internalTrafficPolicy: Local}").only_local);
  EXPECT_FALSE(traffic("{internalTrafficPolicy: Cluster}").only_local);
  EXPECT_EQ(traffic("{}").prefer, Prefer::kNothing);
  EXPECT_EQ(traffic("{trafficDistribution: PreferClose}").prefer, Prefer::kZone);
  EXPECT_EQ(traffic("{trafficDistribution: PreferSameZone}").prefer, Prefer::kZone);
  EXPECT_EQ(traffic("{trafficDistribution: PreferSameNode}").prefer, Prefer::kNode);
  EXPECT_TRUE(says(service("{trafficDistribution: Far}"),
                   "not_enforced: Service shop/web: spec.trafficDistribution \"Far\" is NOT "
                   "ENFORCED: this build has"));
  EXPECT_EQ(notices(service("{internalTrafficPolicy: Here}")),
            kHere + "spec.internalTrafficPolicy \"Here\" is not Cluster or Local\n");
}

TEST(ManifestService, AnnotationsOfOursAreReadOrReported) {
  const auto with = [](const std::string& annotation) {
    return yaml("apiVersion: v1\nkind: Service\nmetadata: {name: web, annotations: {" + annotation +
                "}}\nspec: {}\n");
  };
  EXPECT_EQ(first<ServiceObject>(with("weft.mesh/balancer: random")).balancer,
            model::Balancer::kRandom);
  EXPECT_EQ(first<ServiceObject>(with("weft.mesh/balancer: round-robin")).balancer,
            model::Balancer::kRoundRobin);
  EXPECT_EQ(notices(with("weft.mesh/balancer: best")),
            "f:3: not_enforced: Service default/web: weft.mesh/balancer \"best\" is NOT ENFORCED: "
            "this build has round-robin, random, maglev, ring-hash, least-request and "
            "peak-ewma\n");
  EXPECT_EQ(notices(with("weft.mesh/odd: x")),
            "f:3: warning: Service default/web: annotation \"weft.mesh/odd\" is not "
            "known to this build: it has no effect\n");
  EXPECT_EQ(notices(with("example.com/odd: x")), "");
}

TEST(ManifestMeta, NamesAreDnsNames) {
  const auto named = [](const std::string& metadata) {
    return yaml("apiVersion: v1\nkind: Service\nmetadata: {" + metadata + "}\nspec: {}\n");
  };
  EXPECT_EQ(notices(named("name: Web")),
            "f:3: rejected: Service default/Web: metadata.name \"Web\" is not a DNS label (RFC "
            "1123: at most 63 of a-z, 0-9 and -)\n");
  EXPECT_EQ(notices(named("name: a.b")),
            "f:3: rejected: Service default/a.b: metadata.name \"a.b\" is not a DNS label (RFC "
            "1123: at most 63 of a-z, 0-9 and -)\n");
  EXPECT_EQ(notices(named("namespace: shop")),
            "f:1: rejected: Service: metadata.name is missing\n");
  EXPECT_EQ(
      notices(named("name: web, namespace: a_b")),
      "f:3: rejected: Service a_b/web: metadata.namespace \"a_b\" is not a DNS label (RFC 1123)\n");
  EXPECT_EQ(rejected(named("name: " + std::string(64, 'a'))),
            "Service default/" + std::string(64, 'a'));
  EXPECT_EQ(notices(named("name: " + std::string(63, 'a'))), "");
  EXPECT_EQ(notices(named("name: web, creationTimestamp: yesterday")),
            "f:3: rejected: Service default/web: metadata.creationTimestamp \"yesterday\" is not a "
            "time like "
            "2024-05-01T10:00:00Z\n");
  EXPECT_EQ(notices(named("name: web, creationTimestamp: null")), "");
  EXPECT_EQ(notices(yaml("apiVersion: v1\nkind: Service\nmetadata: {name: web}\n")),
            "f:1: rejected: Service default/web: spec is missing\n");
}

}  // namespace
}  // namespace weft::manifest
