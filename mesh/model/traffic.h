// What objects say of a service's traffic, and how that becomes its TrafficPolicy. Here absent
// means "nothing said", which is not the default: the default comes in when everybody was heard.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "mesh/model/traffic_policy.h"

namespace weft::model {

// Of a DestinationRule's trafficPolicy.
struct TrafficRule {
  std::optional<std::uint32_t> max_connections;
  std::optional<std::chrono::milliseconds> connect_timeout;
  std::optional<HttpLimits> http;  // connectionPool.http
  std::optional<OutlierDetection> outlier;
  std::optional<Warmup> warmup;
  // localityLbSetting; `enabled` is what it says, true where it says nothing.
  std::optional<LocalityPolicy> locality;

  bool operator==(const TrafficRule&) const = default;
};

// Of a Service: annotations weft.mesh/..., and two fields of its spec.
struct TrafficWishes {
  std::optional<std::chrono::milliseconds> failing_for;    // breaker-failing-for
  std::optional<std::chrono::milliseconds> base_ejection;  // breaker-base-ejection
  std::optional<std::uint32_t> max_per_endpoint;           // max-connections-per-endpoint
  std::optional<std::uint8_t> failover_below;              // percent
  std::optional<HealthCheck> health_check;
  std::optional<std::chrono::milliseconds> drain_deadline;
  std::optional<ProxyDown> proxy_down;
  std::optional<SourceAddress> source_address;
  std::optional<Bypass> bypass;
  LocalityPolicy::Prefer prefer = LocalityPolicy::Prefer::kNothing;  // trafficDistribution
  bool only_local = false;                                           // internalTrafficPolicy: Local

  bool operator==(const TrafficWishes&) const = default;
};

// `rule` may be null. What the Service says beats what the rule says. Two things depend on both:
//   - failing_for turns outlier detection on by itself; then only time opens the breaker, since
//     nobody asked for counts (consecutive_* are 0).
//   - localityLbSetting prefers near endpoints only together with outlier detection, as in Istio;
//     distribute needs none. `locality_without_outlier` tells that somebody asked in vain.
struct JoinedTraffic {
  TrafficPolicy policy;
  bool locality_without_outlier = false;
  bool base_ejection_without_outlier = false;
};
JoinedTraffic join_traffic(const TrafficWishes& wishes, const TrafficRule* rule);

// " max_connections=7 outlier(failures=5 ...)": what differs from the default, empty for the
// default.
std::string to_text(const TrafficPolicy& policy);

}  // namespace weft::model
