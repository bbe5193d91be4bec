// DestinationRule.spec.trafficPolicy: limits, outlier detection, balancers, warm-up, locality.
#include <gtest/gtest.h>

#include "mesh/manifest/decode.h"
#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using model::Balancer;
using model::DestinationRuleObject;
using std::chrono::milliseconds;
using test::first;
using test::notices;
using test::rejected;
using test::says;
using test::yaml;

const std::string kNot = "f:4: not_enforced: DestinationRule shop/r: spec.trafficPolicy.";
const std::string kBad = "f:4: rejected: DestinationRule shop/r: spec.trafficPolicy.";

ParseResult policy(const std::string& fields) {
  return yaml(
      "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: "
      "shop}\nspec: {host: web, trafficPolicy: {" +
      fields + "}}\n");
}
ParseResult outlier(const std::string& fields) {
  return policy("outlierDetection: {" + fields + "}");
}
ParseResult balancer(const std::string& fields) { return policy("loadBalancer: {" + fields + "}"); }
ParseResult locality(const std::string& fields) {
  return balancer("localityLbSetting: {" + fields + "}");
}
model::OutlierDetection read_outlier(const std::string& fields) {
  const auto result = outlier(fields);
  EXPECT_EQ(rejected(result), "") << notices(result);
  return first<DestinationRuleObject>(result).traffic.outlier.value();
}

TEST(GoDuration, IsANumberAndAUnitOnceOrMore) {
  const auto ms = [](std::string_view text) {
    const auto duration = parse_go_duration(text);
    return duration ? duration->count() : -1;
  };
  EXPECT_EQ(ms("10s"), 10'000);
  EXPECT_EQ(ms("1.5s"), 1500);
  EXPECT_EQ(ms("1.1s"), 1100);
  EXPECT_EQ(ms("500ms"), 500);
  EXPECT_EQ(ms("1m"), 60'000);
  EXPECT_EQ(ms("1h30m"), 5'400'000);
  EXPECT_EQ(ms("1us"), 1);
  EXPECT_EQ(ms("1.2ms"), 2);
  EXPECT_EQ(ms("8760h"), 31'536'000'000);
  for (const char* bad : {"", "10", "s", "0s", "-1s", "+1s", "1 s", "1d", ".5s", "5.s", "1.2.3s",
                          "1s2", "8761h", "1e3s", "infs", "nans", "99999999999999999999999999h"})
    EXPECT_EQ(ms(bad), -1) << bad;
  EXPECT_EQ(ms(std::string(400, '9') + "h"), -1);
}

TEST(ManifestTraffic, ReadsLimitsOfConnections) {
  const auto result = policy("connectionPool: {tcp: {maxConnections: 100, connectTimeout: 250ms}}");
  EXPECT_EQ(notices(result), "");
  const auto& traffic = first<DestinationRuleObject>(result).traffic;
  EXPECT_EQ(traffic.max_connections, 100u);
  EXPECT_EQ(traffic.connect_timeout, milliseconds(250));
  EXPECT_EQ(first<DestinationRuleObject>(policy("")).traffic, model::TrafficRule{});
}

TEST(ManifestTraffic, ReadsLimitsOfRequests) {
  const auto result = policy(
      "connectionPool: {http: {http1MaxPendingRequests: 7, http2MaxRequests: 8, "
      "maxRequestsPerConnection: 9, maxRetries: 3, idleTimeout: 30s}}");
  EXPECT_TRUE(says(result,
                   "connectionPool.http.http1MaxPendingRequests bounds the requests that wait for "
                   "a connection: without tcp.maxConnections each has one made for it"));
  EXPECT_EQ(notices(policy("connectionPool: {tcp: {maxConnections: 1}, "
                           "http: {http1MaxPendingRequests: 7}}")),
            "");
  const auto& http = first<DestinationRuleObject>(result).traffic.http;
  EXPECT_EQ(http, (model::HttpLimits{7, 8, 9, 3, milliseconds(30'000)}));
  EXPECT_EQ(first<DestinationRuleObject>(policy("connectionPool: {http: {}}")).traffic.http,
            model::HttpLimits{});
  EXPECT_EQ(notices(policy("connectionPool: {http: {maxRetries: -1}}")),
            kBad + "connectionPool.http.maxRetries -1 is not in 0..2147483647\n");
}

TEST(ManifestTraffic, LimitsThatNobodyKeepsAreReported) {
  const auto result = policy(
      "connectionPool: {tcp: {idleTimeout: 1h, tcpKeepalive: {}}, http: {maxConcurrentStreams: "
      "3}}");
  EXPECT_EQ(notices(result),
            kNot + "connectionPool.tcp.idleTimeout is NOT ENFORCED by this build\n" + kNot +
                "connectionPool.tcp.tcpKeepalive is NOT ENFORCED by this build\n" + kNot +
                "connectionPool.http.maxConcurrentStreams is NOT ENFORCED by this build\n");
  EXPECT_EQ(notices(policy("tunnel: {protocol: CONNECT}")),
            kNot + "tunnel is NOT ENFORCED by this build\n");
}

ParseResult ports(const std::string& entries) {
  return policy("outlierDetection: {}, portLevelSettings: [" + entries + "]");
}

TEST(ManifestPorts, EachHasAPolicyThatTakesNothingFromTheRule) {
  const auto result = ports(
      "{port: {number: 80}, connectionPool: {tcp: {maxConnections: 3}}}, "
      "{port: {number: 81}, loadBalancer: {simple: RANDOM}, outlierDetection: {interval: 1s}}");
  EXPECT_EQ(notices(result), "");
  const auto& rule = first<DestinationRuleObject>(result);
  EXPECT_TRUE(rule.traffic.outlier);
  EXPECT_EQ(rule.traffic.max_connections, std::nullopt);
  ASSERT_EQ(rule.ports.size(), 2u);
  EXPECT_EQ(rule.ports[0].port, 80);
  EXPECT_EQ(rule.ports[0].traffic.max_connections, 3u);
  EXPECT_FALSE(rule.ports[0].traffic.outlier);
  EXPECT_EQ(rule.ports[0].balancer, std::nullopt);
  EXPECT_EQ(rule.ports[0].origin.line, 4);
  EXPECT_EQ(rule.ports[1].balancer, Balancer::kRandom);
  EXPECT_EQ(rule.ports[1].traffic.outlier.value().interval, milliseconds(1000));
  EXPECT_TRUE(first<DestinationRuleObject>(ports("")).ports.empty());
}

TEST(ManifestPorts, MistakesAreRejectedByTheirPath) {
  const std::string at = kBad + "portLevelSettings[0]";
  const std::string pool = "connectionPool: {tcp: {maxConnections: 3}}";
  EXPECT_EQ(notices(ports("{" + pool + "}")), at + ".port.number is missing\n");
  EXPECT_EQ(notices(ports("{port: {number: 0}, " + pool + "}")),
            at + ".port.number 0 is not in 1..65535\n");
  EXPECT_EQ(notices(ports("{port: {number: http}, " + pool + "}")),
            at + ".port.number must be a number, not a string: write it unquoted\n");
  EXPECT_EQ(notices(ports("{port: {number: 80}}")),
            at +
                " has no policy: write loadBalancer, connectionPool or outlierDetection beside the "
                "port\n");
  EXPECT_EQ(notices(ports("{port: {number: 80}, connectionPool: {tcp: {maxConnections: -1}}}")),
            at + ".connectionPool.tcp.maxConnections -1 is not in 0..2147483647\n");
  EXPECT_TRUE(says(ports("80"), at + " must be a mapping"));
  EXPECT_TRUE(says(policy("portLevelSettings: {}"), kBad + "portLevelSettings must be a"));
}

TEST(ManifestPorts, TheFirstEntryOfANumberCounts) {
  const auto result = ports(
      "{port: {number: 80}, loadBalancer: {simple: RANDOM}}, "
      "{port: {number: 80}, outlierDetection: {}}");
  EXPECT_EQ(notices(result),
            "f:4: warning: DestinationRule shop/r: spec.trafficPolicy.portLevelSettings[1] has no "
            "effect: port 80 is there before, and the first counts\n");
  EXPECT_EQ(first<DestinationRuleObject>(result).ports.size(), 1u);
}

// Such an entry sets the port back to the defaults, in Istio too.
TEST(ManifestPorts, WhatNobodyKeepsIsReportedOfAPortToo) {
  const auto result = ports(
      "{port: {number: 80, name: http}, tls: {mode: DISABLE}, "
      "proxyProtocol: {}, tunnel: {}}");
  const std::string at = kNot + "portLevelSettings[0].";
  EXPECT_EQ(notices(result),
            "f:4: warning: DestinationRule shop/r: unknown field "
            "\"spec.trafficPolicy.portLevelSettings[0].port.name\": it has no effect\n" +
                at + "tls is NOT ENFORCED by this build\n" + at +
                "proxyProtocol is NOT ENFORCED by this build\n" + at +
                "tunnel is NOT ENFORCED by this build\n");
  EXPECT_EQ(first<DestinationRuleObject>(result).ports.at(0).traffic, model::TrafficRule{});
}

TEST(ManifestTraffic, BadLimitsAreRejected) {
  EXPECT_EQ(notices(policy("connectionPool: {tcp: {maxConnections: -1}}")),
            kBad + "connectionPool.tcp.maxConnections -1 is not in 0..2147483647\n");
  EXPECT_EQ(notices(policy("connectionPool: {tcp: {connectTimeout: 5}}")),
            kBad + "connectionPool.tcp.connectTimeout must be a string, not a number: quote it\n");
  EXPECT_EQ(notices(policy("connectionPool: {tcp: {connectTimeout: soon}}")),
            kBad +
                "connectionPool.tcp.connectTimeout \"soon\" is not a duration like 10s, 1.5s, "
                "500ms or 1h30m, longer than 0 and at most a year\n");
}

TEST(ManifestOutlier, AnEmptyOneHasTheDefaults) {
  EXPECT_EQ(read_outlier(""), model::OutlierDetection{});
  EXPECT_FALSE(first<DestinationRuleObject>(policy("")).traffic.outlier);
}

TEST(ManifestOutlier, ReadsAllItsFields) {
  const auto result = outlier(
      "consecutive5xxErrors: 7, consecutiveGatewayErrors: 8, consecutiveLocalOriginFailures: 3, "
      "splitExternalLocalOriginErrors: true, interval: 5s, baseEjectionTime: 1m, "
      "maxEjectionPercent: 100, minHealthPercent: 50");
  EXPECT_EQ(rejected(result), "");
  const auto& read = *first<DestinationRuleObject>(result).traffic.outlier;
  EXPECT_EQ(read.consecutive_5xx, 7u);
  EXPECT_EQ(read.consecutive_gateway, 8u);
  EXPECT_EQ(read.consecutive_failures, 3u);
  EXPECT_TRUE(read.split_local_origin);
  EXPECT_EQ(read.interval, milliseconds(5000));
  EXPECT_EQ(read.base_ejection, milliseconds(60'000));
  EXPECT_EQ(read.max_ejection_percent, 100);
  EXPECT_EQ(read.min_health_percent, 50);
}

TEST(ManifestOutlier, SocketsCountTowardsTheSmallerThresholdUnlessTheyAreSplitOff) {
  EXPECT_EQ(read_outlier("consecutive5xxErrors: 7").consecutive_failures, 7u);
  EXPECT_EQ(read_outlier("consecutiveGatewayErrors: 2").consecutive_failures, 2u);
  EXPECT_EQ(
      read_outlier("consecutive5xxErrors: 3, consecutiveGatewayErrors: 9").consecutive_failures,
      3u);
  EXPECT_EQ(
      read_outlier("consecutive5xxErrors: 0, consecutiveGatewayErrors: 9").consecutive_failures,
      9u);
  EXPECT_EQ(read_outlier("consecutive5xxErrors: 0").consecutive_failures, 0u);
  EXPECT_EQ(read_outlier("consecutive5xxErrors: 1, consecutiveLocalOriginFailures: 4")
                .consecutive_failures,
            4u);
  EXPECT_EQ(read_outlier("consecutive5xxErrors: 1, splitExternalLocalOriginErrors: true")
                .consecutive_failures,
            5u);
}

TEST(ManifestOutlier, SaysWhereHttpAnswersAreSeen) {
  EXPECT_EQ(
      notices(outlier("consecutive5xxErrors: 7")),
      "f:4: warning: DestinationRule shop/r: spec.trafficPolicy.outlierDetection."
      "consecutive5xxErrors counts connections that fail, and HTTP answers where they are seen: "
      "on ports with HTTP rules\n");
  EXPECT_EQ(notices(outlier("consecutiveGatewayErrors: 7, consecutiveLocalOriginFailures: 3")),
            "f:4: warning: DestinationRule shop/r: spec.trafficPolicy.outlierDetection."
            "consecutiveGatewayErrors counts where HTTP answers are seen: on ports with HTTP "
            "rules\n");
  EXPECT_EQ(notices(outlier("consecutive5xxErrors: 0, consecutiveLocalOriginFailures: 3")), "");
}

TEST(ManifestOutlier, TheOldNameOfGatewayErrorsIsReadAndWarnedOf) {
  const auto result = outlier("consecutiveErrors: 4");
  EXPECT_TRUE(says(result,
                   "warning: DestinationRule shop/r: spec.trafficPolicy.outlierDetection."
                   "consecutiveErrors is deprecated"));
  const auto& read = *first<DestinationRuleObject>(result).traffic.outlier;
  EXPECT_EQ(read.consecutive_gateway, 4u);
  EXPECT_EQ(read.consecutive_5xx, 0u);
  EXPECT_EQ(read.consecutive_failures, 4u);
}

TEST(ManifestOutlier, BadValuesAreRejectedAndOthersReported) {
  EXPECT_EQ(notices(outlier("maxEjectionPercent: 101")),
            kBad + "outlierDetection.maxEjectionPercent 101 is not in 0..100\n");
  EXPECT_EQ(notices(outlier("minHealthPercent: -1")),
            kBad + "outlierDetection.minHealthPercent -1 is not in 0..100\n");
  EXPECT_TRUE(says(outlier("interval: 0s"), kBad + "outlierDetection.interval \"0s\" is not a"));
  EXPECT_TRUE(says(outlier("httpErrorCodes: []"),
                   kNot + "outlierDetection.httpErrorCodes is NOT ENFORCED by this build"));
}

TEST(ManifestBalancer, KnowsLeastRequestByBothNames) {
  EXPECT_EQ(first<DestinationRuleObject>(balancer("simple: LEAST_REQUEST")).balancer,
            Balancer::kLeastRequest);
  const auto old_name = balancer("simple: LEAST_CONN");
  EXPECT_EQ(first<DestinationRuleObject>(old_name).balancer, Balancer::kLeastRequest);
  EXPECT_TRUE(says(old_name, "loadBalancer.simple LEAST_CONN is deprecated: write LEAST_REQUEST"));
  EXPECT_EQ(notices(balancer("simple: PASSTHROUGH")),
            kNot +
                "loadBalancer.simple \"PASSTHROUGH\" is NOT ENFORCED: this build has "
                "ROUND_ROBIN, RANDOM and LEAST_REQUEST\n");
}

TEST(ManifestBalancer, HashesTheSourceOnMaglevOrARing) {
  const auto hashed = [](const std::string& fields) {
    return balancer("consistentHash: {" + fields + "}");
  };
  const auto read = [&](const std::string& fields) {
    return first<DestinationRuleObject>(hashed(fields)).balancer;
  };
  EXPECT_EQ(read("useSourceIp: true"), Balancer::kSourceHash);
  EXPECT_EQ(read("useSourceIp: true, maglev: {}"), Balancer::kSourceHash);
  EXPECT_EQ(read("useSourceIp: true, ringHash: {}"), Balancer::kRingHash);
  EXPECT_EQ(read("ringHash: {}"), std::nullopt);  // nothing to hash
  EXPECT_EQ(notices(hashed("useSourceIp: true, ringHash: {}")), "");
  EXPECT_TRUE(says(hashed("useSourceIp: true, ringHash: {minimumRingSize: 4096}"),
                   kNot + "loadBalancer.consistentHash.ringHash.minimumRingSize is NOT ENFORCED"));
  EXPECT_TRUE(says(hashed("useSourceIp: true, maglev: {tableSize: 65537}"),
                   kNot + "loadBalancer.consistentHash.maglev.tableSize is NOT ENFORCED"));
  EXPECT_TRUE(says(hashed("maglev: {}, ringHash: {}"), "it is one of the two"));
}

TEST(ManifestBalancer, WarmsUpByBothNames) {
  const auto read = [](const std::string& fields) {
    const auto result = balancer(fields);
    EXPECT_EQ(notices(result), "");
    return first<DestinationRuleObject>(result).traffic.warmup.value();
  };
  EXPECT_EQ(read("warmup: {duration: 30s}"), (model::Warmup{milliseconds(30'000), 10}));
  EXPECT_EQ(read("warmup: {duration: 30s, minimumPercent: 25.0, aggression: 1.0}"),
            (model::Warmup{milliseconds(30'000), 25}));
  EXPECT_EQ(read("warmupDurationSecs: 1m"), (model::Warmup{milliseconds(60'000), 10}));
  EXPECT_TRUE(says(balancer("warmup: {duration: 30s, aggression: 2}"),
                   kNot + "loadBalancer.warmup.aggression is NOT ENFORCED"));
  EXPECT_TRUE(says(balancer("warmup: {minimumPercent: 5}"), "warmup.duration is missing"));
  EXPECT_TRUE(says(balancer("warmup: {duration: 1s, minimumPercent: 101}"),
                   kBad + "loadBalancer.warmup.minimumPercent 101 is not in 0..100"));
}

TEST(ManifestLocality, ReadsFailoverAndPriorities) {
  const auto result = locality(
      "failover: [{from: eu, to: us}], failoverPriority: [topology.kubernetes.io/region, "
      "\"topology.kubernetes.io/zone=a\"]");
  EXPECT_EQ(notices(result), "");
  const auto& read = *first<DestinationRuleObject>(result).traffic.locality;
  EXPECT_TRUE(read.enabled);
  ASSERT_EQ(read.failover.size(), 1u);
  EXPECT_EQ(read.failover[0], (std::pair<std::string, std::string>("eu", "us")));
  EXPECT_EQ(read.failover_priority, (std::vector<std::string>{"topology.kubernetes.io/region",
                                                              "topology.kubernetes.io/zone=a"}));
  EXPECT_FALSE(first<DestinationRuleObject>(locality("enabled: false")).traffic.locality->enabled);
}

TEST(ManifestLocality, ReadsPrioritiesByAnyLabelWithAValue) {
  const auto result = locality(
      "failoverPriority: [\"version=v1\", \"topology.istio.io/network=\", kubernetes.io/hostname]");
  EXPECT_EQ(notices(result), "");
  EXPECT_EQ(first<DestinationRuleObject>(result).traffic.locality->failover_priority,
            (std::vector<std::string>{"version=v1",
                                      "topology.istio.io/network=", "kubernetes.io/hostname"}));
  const std::string at = kBad + "loadBalancer.localityLbSetting.failoverPriority[0]";
  for (const char* bad : {"=v1", "", "a=b=c"})
    EXPECT_EQ(notices(locality(std::string("failoverPriority: [\"") + bad + "\"]")),
              at + " \"" + bad + "\" is neither LABEL nor LABEL=VALUE\n");
  EXPECT_TRUE(says(locality("failoverPriority: [\"version=v1\", \"version=v2\"]"),
                   "warning: DestinationRule shop/r: spec.trafficPolicy.loadBalancer."
                   "localityLbSetting.failoverPriority[1] \"version=v2\" names a label that is "
                   "there before"));
}

TEST(ManifestLocality, ReadsSubzones) {
  const auto result = locality("distribute: [{from: eu/a/r1, to: {eu/a/r1: 80, eu/a/r2: 20}}]");
  EXPECT_EQ(notices(result), "");
  EXPECT_EQ(first<DestinationRuleObject>(result).traffic.locality->distribute.at(0).from,
            "eu/a/r1");
  EXPECT_EQ(notices(locality("failoverPriority: [topology.istio.io/subzone]")), "");
}

TEST(ManifestLocality, ReadsShares) {
  const auto result = locality("distribute: [{from: eu/a/*, to: {\"eu/a/*\": 80, \"eu/b\": 20}}]");
  EXPECT_EQ(notices(result), "");
  const auto& read = first<DestinationRuleObject>(result).traffic.locality->distribute.at(0);
  EXPECT_EQ(read.from, "eu/a/*");
  EXPECT_EQ(read.to, (std::map<std::string, std::uint32_t>{{"eu/a/*", 80}, {"eu/b", 20}}));
}

TEST(ManifestLocality, MistakesAreRejected) {
  const std::string at = kBad + "loadBalancer.localityLbSetting";
  EXPECT_EQ(notices(locality("distribute: [{from: eu, to: {eu: 90}}]")),
            at + ".distribute[0].to: percents make 90, not 100\n");
  EXPECT_TRUE(says(locality("distribute: [{from: eu, to: {eu: 0, us: 100}}]"),
                   at + ".distribute[0].to.eu 0 is not in 1..100"));
  EXPECT_TRUE(says(locality("distribute: [{from: \"*/a\", to: {eu: 100}}]"),
                   at + ".distribute[0].from \"*/a\" is not a locality"));
  EXPECT_TRUE(says(locality("distribute: [{to: {eu: 100}}]"), ".distribute[0].from is missing"));
  EXPECT_EQ(notices(locality("failover: [{from: eu, to: eu}]")),
            at + ".failover[0] leads from \"eu\" to itself\n");
  EXPECT_TRUE(says(locality("failover: [{from: eu/a, to: us}]"), "is not a region's name"));
  EXPECT_TRUE(says(locality("failover: [], distribute: []"), "it is one of the two"));
}

TEST(ManifestLocality, ACallersOwnLabelsAreNotCompared) {
  const std::string at = kNot + "loadBalancer.localityLbSetting.";
  EXPECT_TRUE(says(locality("failoverPriority: [version]"),
                   at + "failoverPriority[0] \"version\" is NOT ENFORCED: callers of one node have "
                        "different labels; write LABEL=VALUE, or"));
}

}  // namespace
}  // namespace weft::manifest
