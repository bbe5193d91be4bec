// A TrafficPolicy as golden files and weftctl show it.
#include "mesh/model/traffic.h"

namespace weft::model {
namespace {

using std::chrono::milliseconds;

std::string field(const char* name, std::uint64_t value) {
  return " " + std::string(name) + "=" + std::to_string(value);
}

std::string field(const char* name, milliseconds value) {
  return " " + std::string(name) + "=" + std::to_string(value.count()) + "ms";
}

std::string limits_text(const ConnectionLimits& limits) {
  std::string text;
  if (limits.max_connections) text += field("max_connections", limits.max_connections);
  if (limits.max_per_endpoint) text += field("max_per_endpoint", limits.max_per_endpoint);
  if (limits.connect_timeout != ConnectionLimits{}.connect_timeout)
    text += field("connect_timeout", limits.connect_timeout);
  return text;
}

std::string http_text(const HttpLimits& limits) {
  std::string text;
  if (limits.max_pending) text += field("http_max_pending", limits.max_pending);
  if (limits.max_requests) text += field("http_max_requests", limits.max_requests);
  if (limits.max_per_connection)
    text += field("http_max_per_connection", limits.max_per_connection);
  if (limits.max_retries) text += field("http_max_retries", limits.max_retries);
  if (limits.idle_timeout != HttpLimits{}.idle_timeout)
    text += field("http_idle_timeout", limits.idle_timeout);
  return text;
}

std::string outlier_text(const OutlierDetection& outlier) {
  std::string text = " outlier(failures=" + std::to_string(outlier.consecutive_failures);
  text += field("5xx", outlier.consecutive_5xx) + field("gateway", outlier.consecutive_gateway);
  if (outlier.failing_for.count()) text += field("failing_for", outlier.failing_for);
  text += field("interval", outlier.interval) + field("base_ejection", outlier.base_ejection);
  if (outlier.max_ejection_percent) text += field("max_percent", *outlier.max_ejection_percent);
  if (outlier.min_health_percent) text += field("min_health", outlier.min_health_percent);
  return text + (outlier.split_local_origin ? " split)" : ")");
}

std::string check_text(const HealthCheck& check) {
  using Kind = HealthCheck::Kind;
  std::string text = " health_check(";
  if (check.kind == Kind::kTcp) text += "tcp";
  if (check.kind == Kind::kHttp) text += "http " + check.path;
  if (check.kind == Kind::kGrpc)
    text += "grpc" + (check.service.empty() ? "" : " " + check.service);
  if (check.port) text += field("port", check.port);
  return text + field("interval", check.interval) + field("timeout", check.timeout) +
         field("unhealthy", check.unhealthy_after) + field("healthy", check.healthy_after) + ")";
}

std::string locality_text(const LocalityPolicy& locality) {
  std::string text;
  if (locality.enabled) text += " locality";
  for (const auto& [from, to] : locality.failover) text += " failover=" + from + ">" + to;
  for (const auto& label : locality.failover_priority) text += " failover_priority=" + label;
  for (const auto& distribute : locality.distribute) {
    text += " distribute(" + distribute.from + ":";
    for (const auto& [to, percent] : distribute.to)
      text += " " + to + "=" + std::to_string(percent) + "%";
    text += ")";
  }
  if (locality.prefer == LocalityPolicy::Prefer::kZone) text += " prefer=zone";
  if (locality.prefer == LocalityPolicy::Prefer::kNode) text += " prefer=node";
  if (locality.only_local) text += " only_local";
  return text;
}

}  // namespace

std::string to_text(const TrafficPolicy& policy) {
  std::string text = limits_text(policy.limits) + http_text(policy.http);
  if (policy.proxy_down == ProxyDown::kDirect) text += " proxy_down=direct";
  if (policy.source_address == SourceAddress::kNode) text += " source_address=node";
  if (policy.bypass != Bypass::kUnsaid)
    text += policy.bypass == Bypass::kOn ? " bypass=on" : " bypass=off";
  if (policy.outlier) text += outlier_text(*policy.outlier);
  if (policy.warmup.duration.count())
    text += field("warmup", policy.warmup.duration) + field("from", policy.warmup.minimum_percent) +
            "%";
  if (policy.drain_deadline) text += field("drain_deadline", *policy.drain_deadline);
  if (policy.health_check) text += check_text(*policy.health_check);
  text += locality_text(policy.locality);
  if (policy.failover_below_percent != TrafficPolicy{}.failover_below_percent)
    text += field("failover_below", policy.failover_below_percent) + "%";
  return text;
}

}  // namespace weft::model
