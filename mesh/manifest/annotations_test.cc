#include "mesh/manifest/annotations.h"

#include <gtest/gtest.h>

#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using model::HealthCheck;
using std::chrono::milliseconds;
using test::first;
using test::notices;
using test::says;
using test::yaml;

ParseResult object(const std::string& kind, const std::string& name, const std::string& value,
                   const std::string& rest) {
  return yaml(kind + "\nmetadata: {name: web, labels: {kubernetes.io/service-name: web}, " +
              "annotations: {weft.mesh/" + name + ": \"" + value + "\"}}\n" + rest + "\n");
}
ParseResult service(const std::string& name, const std::string& value) {
  return object("apiVersion: v1\nkind: Service", name, value, "spec: {}");
}
model::TrafficWishes wishes(const std::string& name, const std::string& value) {
  const auto result = service(name, value);
  EXPECT_EQ(notices(result), "");
  return first<model::ServiceObject>(result).traffic;
}
ParseResult pod(const std::string& name, const std::string& value) {
  return object("apiVersion: v1\nkind: Pod", name, value, "spec: {}");
}
ParseResult slice(const std::string& name, const std::string& value) {
  return object("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice", name, value,
                "addressType: IPv4");
}

TEST(Annotations, KnowEveryBalancerByName) {
  for (int i = 0; i <= static_cast<int>(model::Balancer::kPeakEwma); ++i) {
    const auto balancer = static_cast<model::Balancer>(i);
    const auto result = service("balancer", model::to_text(balancer));
    EXPECT_EQ(notices(result), "");
    EXPECT_EQ(first<model::ServiceObject>(result).balancer, balancer);
  }
}

TEST(Annotations, SayWhatAServiceWants) {
  EXPECT_EQ(wishes("breaker-failing-for", "5s").failing_for, milliseconds(5000));
  EXPECT_EQ(wishes("breaker-base-ejection", "1m30s").base_ejection, milliseconds(90'000));
  EXPECT_EQ(wishes("max-connections-per-endpoint", "12").max_per_endpoint, 12u);
  EXPECT_EQ(wishes("failover-below", "0").failover_below, 0);
  EXPECT_EQ(wishes("failover-below", "100").failover_below, 100);
  EXPECT_EQ(wishes("health-check", "tcp").health_check, HealthCheck{});
  EXPECT_EQ(wishes("drain-deadline", "30s").drain_deadline, milliseconds(30'000));
  EXPECT_EQ(wishes("drain-deadline", "0s").drain_deadline, milliseconds(0));
  EXPECT_EQ(wishes("proxy-down", "direct").proxy_down, model::ProxyDown::kDirect);
  EXPECT_EQ(wishes("proxy-down", "refuse").proxy_down, model::ProxyDown::kRefuse);
  EXPECT_EQ(wishes("source-address", "node").source_address, model::SourceAddress::kNode);
  EXPECT_EQ(wishes("source-address", "caller").source_address, model::SourceAddress::kCaller);
  EXPECT_EQ(wishes("bypass", "on").bypass, model::Bypass::kOn);
  EXPECT_EQ(wishes("bypass", "off").bypass, model::Bypass::kOff);
}

TEST(Annotations, ThatAreWrongAreReportedAndTheServiceIsServed) {
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"breaker-failing-for", "5"},
                                                        {"breaker-base-ejection", "0s"},
                                                        {"max-connections-per-endpoint", "0"},
                                                        {"failover-below", "101"},
                                                        {"failover-below", "50%"},
                                                        {"proxy-down", "ask"},
                                                        {"source-address", "10.0.0.1"},
                                                        {"drain-deadline", "-5s"},
                                                        {"health-check", "ping"}}) {
    const auto result = service(name, value);
    EXPECT_TRUE(says(result, "f:3: not_enforced: Service default/web: weft.mesh/" + name + " \"" +
                                 value + "\" is NOT ENFORCED: it is not "))
        << notices(result);
    EXPECT_EQ(first<model::ServiceObject>(result).traffic, model::TrafficWishes{});
  }
}

TEST(Annotations, RankPodsAndSlices) {
  EXPECT_EQ(first<model::PodObject>(pod("priority", "127")).rank, (model::Rank{127, 1}));
  EXPECT_EQ(first<model::PodObject>(pod("weight", "1000")).rank, (model::Rank{0, 1000}));
  EXPECT_EQ(first<model::PodObject>(pod("bypass", "on")).bypass, model::Bypass::kOn);
  EXPECT_EQ(first<model::EndpointSliceObject>(slice("priority", "1")).rank, (model::Rank{1, 1}));
  EXPECT_EQ(first<model::EndpointSliceObject>(slice("weight", "2")).rank, (model::Rank{0, 2}));
  for (const auto& result : {pod("priority", "128"), pod("weight", "0"), slice("weight", "1001"),
                             slice("priority", "-1")})
    EXPECT_TRUE(says(result, "is NOT ENFORCED: it is not a number in")) << notices(result);
  EXPECT_TRUE(says(pod("balancer", "random"), "is not known to this build"));
}

TEST(HealthChecks, AreAKindAndOptions) {
  HealthCheck check;
  check.kind = HealthCheck::Kind::kHttp;
  EXPECT_EQ(parse_health_check("http"), check);
  check.path = "/ready";
  check.port = 8081;
  check.interval = milliseconds(5000);
  check.timeout = milliseconds(500);
  check.unhealthy_after = 4;
  check.healthy_after = 2;
  EXPECT_EQ(parse_health_check(
                " http  /ready port=8081 interval=5s timeout=500ms unhealthy=4 healthy=2 "),
            check);
  check = {};
  check.kind = HealthCheck::Kind::kGrpc;
  EXPECT_EQ(parse_health_check("grpc"), check);
  check.service = "shop.Web";
  check.port = 9;
  EXPECT_EQ(parse_health_check("grpc shop.Web port=9"), check);
}

TEST(HealthChecks, OfAnotherFormAreNone) {
  for (const char* bad : {"", " ", "udp", "tcp /x", "http ready", "tcp port=0", "tcp port=65536",
                          "tcp port=", "tcp interval=5", "tcp healthy=0", "tcp unhealthy=101",
                          "tcp odd=1", "grpc a b"})
    EXPECT_FALSE(parse_health_check(bad)) << bad;
}

}  // namespace
}  // namespace weft::manifest
