#include <gtest/gtest.h>

#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using namespace test;
using model::AppProtocol;

// An entry named db in namespace data; `spec` and `metadata` are flow YAML.
ParseResult entry(const std::string& spec, const std::string& metadata = "") {
  return yaml(
      "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db, "
      "namespace: data" +
      metadata + "}\nspec:\n  " + spec + "\n");
}

// With a host, an address and a port: `rest` is what is tested.
ParseResult database(const std::string& rest, const std::string& metadata = "") {
  return entry(
      "{hosts: [db.example.com], addresses: [10.7.0.1], ports: [{number: 5432, name: sql, "
      "protocol: TCP}], " +
          rest + "}",
      metadata);
}
const char kOne[] = "resolution: STATIC, endpoints: [{address: 192.0.2.1}]";

const model::ServiceObject& object(const ParseResult& result) {
  return first<model::ServiceObject>(result);
}

std::string endpoints(const ParseResult& result) {
  std::string text;
  for (const auto& e : object(result).entry->endpoints) {
    text += (text.empty() ? "" : "; ") + e.address.to_text();
    for (const auto& [name, port] : e.ports) text += " " + name + "=" + std::to_string(port);
    for (const auto& [key, value] : e.labels) text += " " + key + ":" + value;
    text += " " + e.region + "/" + e.zone;
    text += " " + std::to_string(e.rank.weight) + "@" + std::to_string(e.rank.priority);
  }
  return text;
}

TEST(ServiceEntry, IsReadWithEveryFieldThatMatters) {
  for (const char* version : {"v1", "v1beta1", "v1alpha3"}) {
    const auto result = yaml(std::string("apiVersion: networking.istio.io/") + version + R"(
kind: ServiceEntry
metadata: {name: db, namespace: data, creationTimestamp: "2024-05-01T10:00:00Z"}
spec:
  hosts: [db.example.com, replica.example.com, db.example.com]
  addresses: [10.7.0.1, 10.7.0.2/32, "fd00::1/128", 10.7.0.1]
  location: MESH_INTERNAL
  resolution: STATIC
  exportTo: ["."]
  ports:
  - {number: 5432, name: sql, protocol: TCP, targetPort: 15432}
  - {number: 80, name: web, protocol: HTTP}
  endpoints:
  - address: 192.0.2.1
    ports: {web: 8080}
    labels: {version: v1}
    locality: europe/west/a
    weight: 7
    serviceAccount: db
  - {address: "2001:db8::1", locality: europe, weight: 0}
status: {conditions: []}
)");
    EXPECT_EQ(notices(result), "") << version;
    EXPECT_EQ(ids(result), "ServiceEntry data/db");
    const auto& service = object(result);
    EXPECT_EQ(service.entry->hosts,
              (std::vector<std::string>{"db.example.com", "replica.example.com"}));
    EXPECT_EQ(service.entry->export_to, std::vector<std::string>{"."});
    EXPECT_TRUE(service.meta.created);
    std::string addresses;
    for (const auto& address : service.external_ips) addresses += address.to_text() + " ";
    EXPECT_EQ(addresses, "10.7.0.1 10.7.0.2 fd00::1 ");
    ASSERT_EQ(service.ports.size(), 2u);
    EXPECT_EQ(service.ports[0].port, 5432);
    EXPECT_EQ(service.ports[0].target, model::TargetPort(std::uint16_t{15432}));
    EXPECT_EQ(service.ports[1].app_protocol, AppProtocol::kHttp);
    EXPECT_FALSE(service.unserved_type);
    EXPECT_EQ(endpoints(result),
              "192.0.2.1 web=8080 version:v1 europe/west 7@0; 2001:db8::1 europe/ 1@0");
  }
}

TEST(ServiceEntry, HasItsPortsProtocolsAsIstioNamesThem) {
  const std::pair<const char*, AppProtocol> kProtocols[] = {
      {"HTTP", AppProtocol::kHttp},     {"http", AppProtocol::kHttp},
      {"HTTP2", AppProtocol::kHttp2},   {"GRPC", AppProtocol::kGrpc},
      {"HTTPS", AppProtocol::kTls},     {"TLS", AppProtocol::kTls},
      {"TCP", AppProtocol::kTcp},       {"MONGO", AppProtocol::kTcp},
      {"MYSQL", AppProtocol::kTcp},     {"REDIS", AppProtocol::kTcp},
      {"GRPC-WEB", AppProtocol::kHttp}, {"HTTP_PROXY", AppProtocol::kTcp},
      {"''", AppProtocol::kUnknown}};
  for (const auto& [name, protocol] : kProtocols) {
    const auto result = entry(std::string("{hosts: [a.b], addresses: [10.7.0.1], ports: [{number: "
                                          "1, name: http, protocol: ") +
                              name + "}], " + kOne + "}");
    EXPECT_EQ(notices(result), "") << name;
    EXPECT_EQ(object(result).ports[0].app_protocol, protocol) << name;
    EXPECT_EQ(object(result).ports[0].protocol, model::Protocol::kTcp) << name;
  }
  const auto udp = entry(std::string("{hosts: [a.b], addresses: [10.7.0.1], ports: [{number: 53, "
                                     "name: dns, protocol: UDP}], ") +
                         kOne + "}");
  EXPECT_EQ(object(udp).ports[0].protocol, model::Protocol::kUdp);
}

TEST(ServiceEntry, TakesAServicesAnnotationsAndRanksAllItsEndpoints) {
  const auto result = database(
      "resolution: STATIC, endpoints: [{address: 192.0.2.1}, {address: 192.0.2.2, weight: 5}]",
      ", annotations: {weft.mesh/health-check: tcp, weft.mesh/balancer: random, "
      "weft.mesh/priority: '1', weft.mesh/weight: '3', weft.mesh/breaker-failing-for: 5s, "
      "weft.mesh/drain-deadline: 5s}");
  EXPECT_EQ(notices(result), "");
  EXPECT_TRUE(object(result).traffic.health_check);
  EXPECT_TRUE(object(result).traffic.failing_for);
  EXPECT_TRUE(object(result).traffic.drain_deadline);
  EXPECT_EQ(object(result).balancer, model::Balancer::kRandom);
  EXPECT_EQ(endpoints(result), "192.0.2.1 / 3@1; 192.0.2.2 / 5@1");
}

TEST(ServiceEntry, SelectsPodsByWorkloadSelector) {
  const auto result = database("resolution: STATIC, workloadSelector: {labels: {app: db}}",
                               ", annotations: {weft.mesh/weight: '3'}");
  EXPECT_EQ(object(result).selector, (model::Labels{{"app", "db"}}));
  EXPECT_EQ(notices(result),
            "f:5: warning: ServiceEntry data/db: spec.workloadSelector selects Pods of the "
            "namespace alone: WorkloadEntries are not read by this build\n"
            "f:5: warning: ServiceEntry data/db: weft.mesh/weight has no effect beside "
            "spec.workloadSelector: Pods have their own\n");
}

TEST(ServiceEntry, WithAllocatedAddressesHasThose) {
  const std::string head =
      "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db}\nspec: {hosts: "
      "[db.example.com], ports: [{number: 80, name: web}], ";
  const std::string status =
      "}\nstatus: {addresses: [{host: db.example.com, value: 240.240.0.7}, {value: '2001:2::7'}]}";
  const auto allocated = yaml(head + kOne + status);
  EXPECT_EQ(notices(allocated), "");
  ASSERT_EQ(object(allocated).external_ips.size(), 2u);
  EXPECT_EQ(object(allocated).external_ips[0].to_text(), "240.240.0.7");
  const auto written = yaml(head + "addresses: [10.7.0.1], " + kOne + status);
  ASSERT_EQ(object(written).external_ips.size(), 1u);
  EXPECT_EQ(object(written).external_ips[0].to_text(), "10.7.0.1");
}

TEST(ServiceEntry, WithoutAnAddressIsKnownAndNotEnforced) {
  const auto result = entry(
      std::string("{hosts: [db.example.com], ports: [{number: 80, name: web}], ") + kOne + "}");
  EXPECT_EQ(notices(result),
            "f:5: not_enforced: ServiceEntry data/db: an entry without an address of its own is "
            "NOT ENFORCED: connect() finds services by address; write spec.addresses. Until then "
            "only routes lead to it\n");
  EXPECT_EQ(ids(result), "ServiceEntry data/db");
}

TEST(ServiceEntry, WithRangesHasItsSingleAddresses) {
  const auto result = entry(std::string("{hosts: [a.b], addresses: [10.0.0.0/8, 10.7.0.1], ports: "
                                        "[{number: 80, name: web}], ") +
                            kOne + "}");
  EXPECT_TRUE(says(result,
                   "f:5: not_enforced: ServiceEntry data/db: spec.addresses[0] "
                   "\"10.0.0.0/8\" is NOT ENFORCED: it is a range"))
      << notices(result);
  ASSERT_EQ(object(result).external_ips.size(), 1u);
}

TEST(ServiceEntry, ThatSaysNobodyLetsConnectionsPass) {
  const std::pair<const char*, const char*> kCases[] = {
      {"resolution: NONE", "warning: ServiceEntry data/db: spec.resolution NONE: not balanced"},
      {"location: MESH_EXTERNAL", "warning: ServiceEntry data/db: spec.resolution NONE"},
      {"resolution: DNS",
       "not_enforced: ServiceEntry data/db: spec.resolution DNS is NOT ENFORCED: "
       "names are not resolved"},
      {"resolution: DNS_ROUND_ROBIN", "spec.resolution DNS_ROUND_ROBIN is NOT ENFORCED"},
      {"resolution: DYNAMIC_DNS", "spec.resolution DYNAMIC_DNS is NOT ENFORCED"},
      {"resolution: DNS, endpoints: [{address: a.example.com}]",
       "not_enforced: ServiceEntry data/db: spec.endpoints[0].address \"a.example.com\" is NOT "
       "ENFORCED: names are not resolved"},
      {"resolution: STATIC, endpoints: [{address: 'unix:///run/db.sock'}]",
       "spec.endpoints[0].address \"unix:///run/db.sock\" is NOT ENFORCED: a Unix socket"},
      {"resolution: STATIC, endpoints: [{network: other}]",
       "spec.endpoints[0] is NOT ENFORCED: an endpoint without an address"},
  };
  for (const auto& [spec, notice] : kCases) {
    const auto result = database(spec);
    EXPECT_TRUE(says(result, notice)) << spec << "\n" << notices(result);
    EXPECT_EQ(result.notices.size(), 1u) << notices(result);
    EXPECT_TRUE(object(result).unserved_type) << spec;
  }
  EXPECT_TRUE(says(database("resolution: NONE", ", annotations: {weft.mesh/balancer: random}"),
                   "f:3: warning: ServiceEntry data/db: annotations weft.mesh/... have no effect"));
}

TEST(ServiceEntry, OfNamesServesTheLiteralAddressesAmongThem) {
  const auto result =
      database("resolution: DNS, endpoints: [{address: a.example.com}, {address: 192.0.2.1}]");
  EXPECT_EQ(endpoints(result), "192.0.2.1 / 1@0");
  EXPECT_FALSE(object(result).unserved_type);
  EXPECT_EQ(count(result, model::Severity::kNotEnforced), 1u) << notices(result);
}

TEST(ServiceEntry, WithWildcardsIsKnownByItsOtherHosts) {
  const auto rest = std::string(", addresses: [10.7.0.1], ports: [{number: 80, name: w}], ") + kOne;
  const auto both = entry("{hosts: ['*.example.com', db.example.com]" + rest + "}");
  EXPECT_EQ(object(both).entry->hosts, std::vector<std::string>{"db.example.com"});
  EXPECT_TRUE(says(both,
                   "warning: ServiceEntry data/db: spec.hosts[0] \"*.example.com\" has no "
                   "effect"));
  const auto alone = entry("{hosts: ['*.example.com']" + rest + "}");
  EXPECT_EQ(ids(alone), "");
  EXPECT_TRUE(says(alone, "spec.hosts[0] \"*.example.com\" is NOT ENFORCED"));
}

TEST(ServiceEntry, IsKnownByTheFirstHostThatFitsTheKernelsTables) {
  const std::string lengthy =
      "a-rather-long-name.of-a-database.in-some-region.rds.example-cloud.com";
  const auto rest = std::string(", addresses: [10.7.0.1], ports: [{number: 80, name: w}], ") + kOne;
  const auto both = entry("{hosts: [" + lengthy + ", db.example.com]" + rest + "}");
  EXPECT_EQ(object(both).entry->hosts, (std::vector<std::string>{"db.example.com", lengthy}));
  EXPECT_EQ(notices(both), "");
  const auto alone = entry("{hosts: [" + lengthy + "]" + rest + "}");
  EXPECT_EQ(ids(alone), "");
  EXPECT_TRUE(says(alone, "spec.hosts is NOT ENFORCED: none is of at most 63 characters"));
}

TEST(ServiceEntry, SaysWhatItDoesNotKeep) {
  const auto result = database(
      "resolution: STATIC, subjectAltNames: [a], other: 1, endpoints: [{address: 192.0.2.1, "
      "weight: 2000, network: n, what: 1}]");
  EXPECT_EQ(endpoints(result), "192.0.2.1 / 1000@0");
  EXPECT_EQ(notices(result),
            "f:5: not_enforced: ServiceEntry data/db: spec.endpoints[0].weight 2000 is NOT "
            "ENFORCED: weights are at most 1000, which is used\n"
            "f:5: warning: ServiceEntry data/db: spec.endpoints[0].network has no effect: the "
            "address is connected to, whatever network it is of\n"
            "f:5: warning: ServiceEntry data/db: unknown field \"spec.endpoints[0].what\": it has "
            "no effect\n"
            "f:5: not_enforced: ServiceEntry data/db: spec.subjectAltNames is NOT ENFORCED: this "
            "build opens no TLS of its own, so nobody compares them\n"
            "f:5: warning: ServiceEntry data/db: unknown field \"spec.other\": it has no effect\n");
  EXPECT_TRUE(says(database("resolution: STATIC"),
                   "warning: ServiceEntry data/db: spec.endpoints is missing or empty"));
  EXPECT_TRUE(says(entry(std::string("{hosts: [a.b], addresses: [10.7.0.1], ") + kOne + "}"),
                   "spec.ports is missing or empty"));
  EXPECT_TRUE(says(yaml("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
                        "metadata: {name: vm}\nspec: {address: 192.0.2.1}\n"),
                   "has no effect: WorkloadEntry is not supported"));
}

TEST(ServiceEntry, ThatIsWrongIsRejectedByFieldAndLine) {
  const std::pair<std::string, const char*> kCases[] = {
      {"{hosts: []}", "spec.hosts is missing or empty"},
      {"{hosts: ['*']}", "spec.hosts[0] \"*\" is not a host's name"},
      {"{hosts: [a_b]}", "spec.hosts[0] \"a_b\" is not a host's name"},
      {"{hosts: [1]}", "spec.hosts[0] must be a string, not a number"},
      {"{hosts: [a.b], addresses: [nowhere]}",
       "spec.addresses[0] \"nowhere\" is not an IP address"},
      {"{hosts: [a.b], addresses: [10.0.0.0/33]}", "is no IP address and no range of them"},
      {"{hosts: [a.b], addresses: [a/8]}", "spec.addresses[0] \"a/8\" is no IP address"},
      {"{hosts: [a.b], addresses: [0.0.0.0/32]}", "cannot be served: it is the unspecified"},
      {"{hosts: [a.b], addresses: [5]}", "spec.addresses[0] must be a string"},
      {"{hosts: [a.b], ports: [{name: x}]}", "spec.ports[0].number is missing"},
      {"{hosts: [a.b], ports: [{number: 70000, name: x}]}", "number 70000 is not in 1..65535"},
      {"{hosts: [a.b], ports: [{number: 1}]}", "spec.ports[0].name is missing"},
      {"{hosts: [a.b], ports: [{number: 1, name: X_}]}", "name \"X_\" is not a DNS label"},
      {"{hosts: [a.b], ports: [{number: 1, name: x, targetPort: 0}]}", "targetPort 0 is not in"},
      {"{hosts: [a.b], ports: [{number: 1, name: x, targetPort: http}]}",
       "targetPort must be a number"},
      {"{hosts: [a.b], ports: [{number: 1, name: x, protocol: SCTP}]}",
       "spec.ports[0].protocol \"SCTP\" is not known"},
      {"{hosts: [a.b], ports: [{number: 1, name: x}, {number: 1, name: y}]}",
       "spec.ports[1].number 1/TCP is there twice"},
      {"{hosts: [a.b], ports: [{number: 1, name: x}, {number: 2, name: x}]}",
       "spec.ports[1].name \"x\" is there twice"},
      {"{hosts: [a.b], resolution: MAGIC}", "spec.resolution \"MAGIC\" is not NONE, STATIC"},
      {"{hosts: [a.b], location: MOON}", "spec.location \"MOON\" is not MESH_EXTERNAL"},
      {"{hosts: [a.b], resolution: NONE, endpoints: [{address: 192.0.2.1}]}",
       "spec.resolution NONE has no endpoints and no workloadSelector"},
      {"{hosts: [a.b], resolution: STATIC, endpoints: [{}]}", "endpoints[0].address is missing"},
      {"{hosts: [a.b], resolution: STATIC, endpoints: [{address: 224.0.0.1}]}",
       "it is a multicast address"},
      {"{hosts: [a.b], resolution: STATIC, endpoints: [{address: db.b}]}",
       "\"db.b\" is not an IP address: a name needs spec.resolution DNS"},
      {"{hosts: [a.b], resolution: DNS, endpoints: [{address: 'a b'}]}",
       "\"a b\" is not an IP address"},
      {"{hosts: [a.b], resolution: STATIC, endpoints: [{address: 192.0.2.1, ports: {x: 1}}]}",
       "spec.endpoints[0].ports names \"x\", which is none of spec.ports"},
      {"{hosts: [a.b], ports: [{number: 1, name: x}], resolution: STATIC, endpoints: [{address: "
       "192.0.2.1, ports: {x: 0}}]}",
       "spec.endpoints[0].ports.x 0 is not in 1..65535"},
      {"{hosts: [a.b], resolution: STATIC, endpoints: [{address: 192.0.2.1, weight: -1}]}",
       "spec.endpoints[0].weight -1 is not in"},
      {"{hosts: [a.b], resolution: STATIC, endpoints: [{address: 192.0.2.1, labels: {a: 1}}]}",
       "spec.endpoints[0].labels.a must be a string"},
      {"{hosts: [a.b], resolution: STATIC, endpoints: [{address: 192.0.2.1, locality: 1}]}",
       "spec.endpoints[0].locality must be a string"},
      {"{hosts: [a.b], resolution: STATIC, endpoints: {}}", "spec.endpoints must be a list"},
      {"{hosts: [a.b], resolution: STATIC, workloadSelector: {}}",
       "spec.workloadSelector.labels is missing or empty"},
      {"{hosts: [a.b], resolution: STATIC, workloadSelector: {labels: {a: b}}, endpoints: "
       "[{address: 192.0.2.1}]}",
       "spec.workloadSelector is beside spec.endpoints"},
      {"{hosts: [a.b], exportTo: [1]}", "spec.exportTo[0] must be a string"},
  };
  for (const auto& [spec, why] : kCases) {
    const auto result = entry(spec);
    EXPECT_TRUE(says(result, why)) << spec << "\n" << notices(result);
    EXPECT_TRUE(says(result, "f:5: rejected: ServiceEntry data/db: ")) << notices(result);
    EXPECT_EQ(rejected(result), "ServiceEntry data/db") << spec;
    EXPECT_EQ(ids(result), "") << spec;
  }
  EXPECT_TRUE(says(yaml("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: "
                        "db}\n"),
                   "f:1: rejected: ServiceEntry default/db: spec is missing"));
  EXPECT_TRUE(says(yaml("apiVersion: networking.istio.io/v2\nkind: ServiceEntry\nmetadata: {name: "
                        "db}\n"),
                   "this build reads networking.istio.io/v1 v1beta1 v1alpha3"));
}

}  // namespace
}  // namespace weft::manifest
