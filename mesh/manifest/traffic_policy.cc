// trafficPolicy.connectionPool and .outlierDetection. Names and defaults are Istio's.
#include "mesh/manifest/traffic_policy.h"

#include <algorithm>
#include <limits>

namespace weft::manifest {
namespace {

constexpr std::int64_t kInt32Most = std::numeric_limits<std::int32_t>::max();

std::optional<std::uint32_t> count(Decoder& decoder, Value parent, const std::string& path,
                                   std::string_view key) {
  const auto number = decoder.integer(parent, path, key, 0, kInt32Most);
  return number ? std::optional(static_cast<std::uint32_t>(*number)) : std::nullopt;
}

std::optional<std::uint8_t> percent(Decoder& decoder, Value parent, const std::string& path,
                                    std::string_view key) {
  const auto number = decoder.integer(parent, path, key, 0, 100);
  return number ? std::optional(static_cast<std::uint8_t>(*number)) : std::nullopt;
}

// `limited`: there is a maxConnections to wait for.
void decode_http_pool(Decoder& decoder, Value http, const std::string& path, bool limited,
                      model::TrafficRule& rule) {
  if (!http.present()) return;
  model::HttpLimits limits;
  const auto number = [&](std::string_view key) {
    return count(decoder, http, path, key).value_or(0);
  };
  limits.max_pending = number("http1MaxPendingRequests");
  if (const Value at = http["http1MaxPendingRequests"]; at.present() && !limited)
    decoder.warn(at, join_path(path, "http1MaxPendingRequests") +
                         " bounds the requests that wait for a connection: without "
                         "tcp.maxConnections each has one made for it");
  limits.max_requests = number("http2MaxRequests");
  limits.max_per_connection = number("maxRequestsPerConnection");
  limits.max_retries = number("maxRetries");
  limits.idle_timeout =
      decoder.duration(http, path, "idleTimeout").value_or(model::HttpLimits{}.idle_timeout);
  rule.http = limits;
  decoder.others_not_enforced(http, path,
                              {"http1MaxPendingRequests", "http2MaxRequests",
                               "maxRequestsPerConnection", "maxRetries", "idleTimeout"});
}

void decode_pool(Decoder& decoder, Value pool, const std::string& path, model::TrafficRule& rule) {
  const Value tcp = decoder.mapping(pool, path, "tcp");
  const auto of_tcp = join_path(path, "tcp");
  rule.max_connections = count(decoder, tcp, of_tcp, "maxConnections");
  rule.connect_timeout = decoder.duration(tcp, of_tcp, "connectTimeout");
  decoder.others_not_enforced(tcp, of_tcp, {"maxConnections", "connectTimeout"});
  decode_http_pool(decoder, decoder.mapping(pool, path, "http"), join_path(path, "http"),
                   rule.max_connections.value_or(0) != 0, rule);
  decoder.others_not_enforced(pool, path, {"tcp", "http"});
}

// 0 is off, so the smaller of two is the smaller of those that are on.
std::uint32_t smaller_of(std::uint32_t a, std::uint32_t b) {
  if (a == 0 || b == 0) return a + b;
  return std::min(a, b);
}

// HTTP answers are seen by weft-proxy, so on ports with HTTP rules alone. Unless sockets have a
// threshold of their own their failures count towards these two, so that elsewhere such a rule does
// half of what it says.
void say_what_counts(Decoder& decoder, Value value, const std::string& path, bool sockets_apart) {
  for (const char* field : {"consecutive5xxErrors", "consecutiveGatewayErrors"}) {
    const Value at = value[field];
    if (!at.present() || at.text() == "0") continue;
    const auto where = join_path(path, field);
    if (sockets_apart)
      decoder.warn(at, where + " counts where HTTP answers are seen: on ports with HTTP rules");
    else
      decoder.warn(at, where +
                           " counts connections that fail, and HTTP answers where they are seen: "
                           "on ports with HTTP rules");
  }
}

void decode_thresholds(Decoder& decoder, Value value, const std::string& path,
                       model::OutlierDetection& outlier) {
  const auto old_name = count(decoder, value, path, "consecutiveErrors");
  const auto of_5xx = count(decoder, value, path, "consecutive5xxErrors");
  const auto of_gateway = count(decoder, value, path, "consecutiveGatewayErrors");
  if (value["consecutiveErrors"].present())
    decoder.warn(value["consecutiveErrors"],
                 join_path(path, "consecutiveErrors") +
                     " is deprecated: write consecutiveGatewayErrors, which it is read as");
  if (old_name && !of_gateway) {
    outlier.consecutive_gateway = *old_name;
    outlier.consecutive_5xx = 0;  // the old field counted 502, 503 and 504 only
  }
  if (of_gateway) outlier.consecutive_gateway = *of_gateway;
  if (of_5xx) outlier.consecutive_5xx = *of_5xx;

  const auto of_sockets = count(decoder, value, path, "consecutiveLocalOriginFailures");
  outlier.split_local_origin =
      decoder.boolean(value, path, "splitExternalLocalOriginErrors").value_or(false);
  // Unsplit, Envoy counts a failed connect as a 503 and a timeout as a 504, towards both.
  say_what_counts(decoder, value, path, of_sockets || outlier.split_local_origin);
  if (of_sockets)
    outlier.consecutive_failures = *of_sockets;
  else if (!outlier.split_local_origin)
    outlier.consecutive_failures = smaller_of(outlier.consecutive_5xx, outlier.consecutive_gateway);
}

model::OutlierDetection decode_outlier(Decoder& decoder, Value value, const std::string& path) {
  model::OutlierDetection outlier;
  decode_thresholds(decoder, value, path, outlier);
  if (const auto interval = decoder.duration(value, path, "interval")) outlier.interval = *interval;
  if (const auto base = decoder.duration(value, path, "baseEjectionTime"))
    outlier.base_ejection = *base;
  outlier.max_ejection_percent = percent(decoder, value, path, "maxEjectionPercent");
  outlier.min_health_percent = percent(decoder, value, path, "minHealthPercent").value_or(0);
  decoder.others_not_enforced(
      value, path,
      {"consecutiveErrors", "consecutive5xxErrors", "consecutiveGatewayErrors",
       "consecutiveLocalOriginFailures", "splitExternalLocalOriginErrors", "interval",
       "baseEjectionTime", "maxEjectionPercent", "minHealthPercent"});
  return outlier;
}

// What the policy of a rule and that of one port have in common.
void decode_sections(Decoder& decoder, Value policy, const std::string& path,
                     std::optional<model::Balancer>& balancer, model::TrafficRule& traffic) {
  decode_load_balancer(decoder, decoder.mapping(policy, path, "loadBalancer"),
                       join_path(path, "loadBalancer"), balancer, traffic);
  decode_pool(decoder, decoder.mapping(policy, path, "connectionPool"),
              join_path(path, "connectionPool"), traffic);
  // "outlierDetection: {}" turns it on with the defaults.
  if (const Value outlier = decoder.mapping(policy, path, "outlierDetection"); outlier.present())
    traffic.outlier = decode_outlier(decoder, outlier, join_path(path, "outlierDetection"));
}

// One that names no section would set a port back to the defaults by its presence: rejected, as
// Istio's validation does.
void decode_port_level(Decoder& decoder, Value value, const std::string& path,
                       std::vector<model::PortRule>& ports) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::PortRule rule;
  const Value port = decoder.mapping(value, path, "port");
  const auto of_port = join_path(path, "port");
  if (!port["number"].present()) decoder.reject(value, of_port + ".number is missing");
  rule.port = decoder.port(port, of_port, "number").value_or(0);
  rule.origin = decoder.origin(value);
  decoder.unknown_fields(port, of_port, {"number"});
  constexpr std::string_view kSections[] = {"loadBalancer", "connectionPool", "outlierDetection",
                                            "tls"};
  if (std::none_of(std::begin(kSections), std::end(kSections),
                   [&](std::string_view section) { return value[section].present(); }))
    decoder.reject(value, path +
                              " has no policy: write loadBalancer, connectionPool or "
                              "outlierDetection beside the port");
  decode_sections(decoder, value, path, rule.balancer, rule.traffic);
  decoder.others_not_enforced(value, path,
                              {"port", "loadBalancer", "connectionPool", "outlierDetection"});
  if (std::any_of(ports.begin(), ports.end(), [&](const auto& p) { return p.port == rule.port; }))
    return decoder.warn(value, path + " has no effect: port " + std::to_string(rule.port) +
                                   " is there before, and the first counts");
  ports.push_back(std::move(rule));
}

}  // namespace

void decode_traffic_policy(Decoder& decoder, Value policy, const std::string& path,
                           model::DestinationRuleObject& rule) {
  decode_sections(decoder, policy, path, rule.balancer, rule.traffic);
  std::size_t index = 0;
  for (const Value entry : decoder.sequence(policy, path, "portLevelSettings"))
    decode_port_level(decoder, entry, join_path(path, "portLevelSettings", index++), rule.ports);
  decoder.others_not_enforced(
      policy, path, {"loadBalancer", "connectionPool", "outlierDetection", "portLevelSettings"});
}

}  // namespace weft::manifest
