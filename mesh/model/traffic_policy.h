// What a service asks of its connections beyond an address: limits, outlier detection, warm-up,
// locality, health checks. Plain values; a DestinationRule and annotations fill them, compile turns
// them into the kernel's words. Names and defaults are Istio's (networking/v1 DestinationRule)
// where it has them.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mesh/model/http.h"

namespace weft::model {

struct ConnectionLimits {
  std::uint32_t max_connections = 0;   // connectionPool.tcp.maxConnections; 0: no limit
  std::uint32_t max_per_endpoint = 0;  // annotation weft.mesh/max-connections-per-endpoint
  // connectionPool.tcp.connectTimeout: later, a connect that is not answered is a failure.
  std::chrono::milliseconds connect_timeout = std::chrono::seconds(10);

  bool operator==(const ConnectionLimits&) const = default;
};

struct OutlierDetection {
  // Failures in a row that sockets see (refused, timed out, unreachable, reset before a byte). 0:
  // off. Filled by the reader: consecutiveLocalOriginFailures where it is given or
  // splitExternalLocalOriginErrors asks for it, else the smaller of the two below, as Envoy counts.
  std::uint32_t consecutive_failures = 5;
  std::uint32_t consecutive_5xx = 5;      // 0: off; counted by the proxy
  std::uint32_t consecutive_gateway = 0;  // 0: off; counted by the proxy
  // Annotation weft.mesh/breaker-failing-for: failures and no success for so long open it too; 0:
  // off.
  std::chrono::milliseconds failing_for{0};
  std::chrono::milliseconds interval = std::chrono::seconds(10);
  std::chrono::milliseconds base_ejection = std::chrono::seconds(30);
  std::chrono::milliseconds max_ejection = std::chrono::seconds(300);
  std::optional<std::uint8_t> max_ejection_percent;  // absent: 10, see compile/policy.h
  std::uint8_t min_health_percent = 0;
  bool split_local_origin = false;

  bool operator==(const OutlierDetection&) const = default;
};

struct Warmup {
  std::chrono::milliseconds duration{0};  // 0: none
  std::uint8_t minimum_percent = 10;      // of its share when it begins

  bool operator==(const Warmup&) const = default;
};

// weft.mesh/health-check on a Service: for endpoints that no kubelet watches.
struct HealthCheck {
  enum class Kind : std::uint8_t { kTcp, kHttp, kGrpc };
  Kind kind = Kind::kTcp;
  std::string path = "/";  // of kHttp
  std::string service;     // of kGrpc: grpc.health.v1; empty: the whole server
  std::uint16_t port = 0;  // 0: the endpoint's own
  std::chrono::milliseconds interval = std::chrono::seconds(10);
  std::chrono::milliseconds timeout = std::chrono::seconds(1);
  std::uint32_t unhealthy_after = 3;  // failures in a row
  std::uint32_t healthy_after = 1;    // successes in a row

  bool operator==(const HealthCheck&) const = default;
};

// localityLbSetting and its kin. A locality is "region/zone/subzone", ends may be left out or "*".
struct LocalityPolicy {
  bool enabled = false;  // Istio prefers near endpoints only together with outlier detection
  struct Distribute {
    std::string from;
    std::map<std::string, std::uint32_t> to;  // locality -> percent, 100 in all

    bool operator==(const Distribute&) const = default;
  };
  std::vector<Distribute> distribute;
  std::vector<std::pair<std::string, std::string>> failover;  // region -> region
  std::vector<std::string> failover_priority;                 // labels, or label=value
  // trafficDistribution: PreferSameZone (PreferClose) or PreferSameNode; EndpointSlice hints.
  enum class Prefer : std::uint8_t { kNothing, kZone, kNode } prefer = Prefer::kNothing;
  bool only_local = false;  // internalTrafficPolicy: Local

  bool operator==(const LocalityPolicy&) const = default;
};

// What becomes of a connection whose port has HTTP rules while no proxy can take it: annotation
// weft.mesh/proxy-down. Refused unless somebody asks for more, since to pass the rules over is to
// send requests where their author did not want them.
enum class ProxyDown : std::uint8_t { kRefuse, kDirect };

// Whose address endpoints see: annotation weft.mesh/source-address. The node's lets the proxy share
// upstream connections across callers.
enum class SourceAddress : std::uint8_t { kCaller, kNode };

// Annotation weft.mesh/bypass, of a Service for its connections, of a Pod for what it reads:
// whether bytes may go from socket to socket on one node, which some readers do not bear
// (docs/bypass.md).
enum class Bypass : std::uint8_t { kUnsaid, kOn, kOff };

struct TrafficPolicy {
  ConnectionLimits limits;
  HttpLimits http;
  ProxyDown proxy_down = ProxyDown::kRefuse;
  SourceAddress source_address = SourceAddress::kCaller;
  Bypass bypass = Bypass::kUnsaid;
  std::optional<OutlierDetection> outlier;
  Warmup warmup;
  std::optional<HealthCheck> health_check;
  // Annotation weft.mesh/drain-deadline: connections to an endpoint that has been terminating, or
  // gone, for so long are closed. Absent: they end when their owners end them.
  std::optional<std::chrono::milliseconds> drain_deadline;
  LocalityPolicy locality;
  // Traffic moves to the next priority as the healthy share of one falls under this (Envoy's
  // overprovisioning factor of 1.4: 100/1.4 = 71.4); annotation weft.mesh/failover-below.
  std::uint8_t failover_below_percent = 71;

  bool operator==(const TrafficPolicy&) const = default;
};

}  // namespace weft::model
