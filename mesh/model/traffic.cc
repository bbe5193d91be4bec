#include "mesh/model/traffic.h"

#include <algorithm>

namespace weft::model {
namespace {

// Only time opens it: nobody named a number of failures.
OutlierDetection by_time_only() {
  OutlierDetection outlier;
  outlier.consecutive_failures = outlier.consecutive_5xx = outlier.consecutive_gateway = 0;
  return outlier;
}

void join_outlier(const TrafficWishes& wishes, const TrafficRule* rule, JoinedTraffic& joined) {
  auto& outlier = joined.policy.outlier;
  if (rule) outlier = rule->outlier;
  if (!outlier && wishes.failing_for) outlier = by_time_only();
  joined.base_ejection_without_outlier = !outlier && wishes.base_ejection;
  if (!outlier) return;
  if (wishes.failing_for) outlier->failing_for = *wishes.failing_for;
  if (wishes.base_ejection) outlier->base_ejection = *wishes.base_ejection;
  // As Envoy's max_ejection_time: 300 s, or the base where that is longer.
  outlier->max_ejection = std::max(outlier->max_ejection, outlier->base_ejection);
}

void join_locality(const TrafficWishes& wishes, const TrafficRule* rule, JoinedTraffic& joined) {
  auto& locality = joined.policy.locality;
  if (rule && rule->locality) locality = *rule->locality;
  if (!locality.enabled) locality = {};  // "enabled: false" switches all of it off
  const bool asked = locality.enabled && locality.distribute.empty();
  locality.enabled = asked && joined.policy.outlier;
  joined.locality_without_outlier = asked && !joined.policy.outlier;
  locality.prefer = wishes.prefer;
  locality.only_local = wishes.only_local;
}

}  // namespace

JoinedTraffic join_traffic(const TrafficWishes& wishes, const TrafficRule* rule) {
  JoinedTraffic joined;
  TrafficPolicy& policy = joined.policy;
  if (rule) {
    policy.limits.max_connections = rule->max_connections.value_or(0);
    if (rule->connect_timeout) policy.limits.connect_timeout = *rule->connect_timeout;
    if (rule->http) policy.http = *rule->http;
    if (rule->warmup) policy.warmup = *rule->warmup;
  }
  policy.limits.max_per_endpoint = wishes.max_per_endpoint.value_or(0);
  if (wishes.failover_below) policy.failover_below_percent = *wishes.failover_below;
  policy.health_check = wishes.health_check;
  policy.proxy_down = wishes.proxy_down.value_or(policy.proxy_down);
  policy.source_address = wishes.source_address.value_or(policy.source_address);
  policy.bypass = wishes.bypass.value_or(policy.bypass);
  policy.drain_deadline = wishes.drain_deadline;
  join_outlier(wishes, rule, joined);
  join_locality(wishes, rule, joined);
  return joined;
}

}  // namespace weft::model
