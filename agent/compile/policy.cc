#include "agent/compile/policy.h"

#include <algorithm>
#include <limits>

namespace weft::compile {
namespace {

using std::chrono::milliseconds;

std::uint32_t in_ms(milliseconds duration) {
  constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(duration.count(), 0, kMost));
}

}  // namespace

std::uint32_t max_ejected(const std::optional<model::OutlierDetection>& outlier,
                          std::size_t primaries, std::size_t spares) {
  if (!outlier) return 0;
  const std::size_t all = primaries + spares;
  const std::size_t percent = outlier->max_ejection_percent.value_or(10);
  std::size_t most = all * percent / 100;
  if (percent && all > 1) most = std::max<std::size_t>(most, 1);
  if (!outlier->max_ejection_percent && spares) most = std::max(most, primaries);
  const std::size_t stay = (all * outlier->min_health_percent + 99) / 100;
  most = std::min(most, all - std::min(all, stay));
  if (percent < 100 && all) most = std::min(most, all - 1);
  return static_cast<std::uint32_t>(most);
}

weft_policy policy_of(const model::Service& service, const model::ServicePort& port,
                      std::size_t primaries, std::size_t spares) {
  const auto& traffic = service.traffic_of(port);
  // An operator may open any breaker by hand, so the times of one are always there.
  const auto outlier = traffic.outlier.value_or(model::OutlierDetection{});
  weft_policy policy{};
  policy.base_ejection_ms = in_ms(outlier.base_ejection);
  policy.max_ejection_ms = in_ms(std::max(outlier.max_ejection, outlier.base_ejection));
  policy.interval_ms = in_ms(outlier.interval);
  policy.connect_timeout_ms = in_ms(traffic.limits.connect_timeout);
  // The kernel asks after a connect when the first SYNs went unanswered, 1, 3, 7, 15 ... s after
  // the first: the first of these after connectTimeout is before twice of it and a second more.
  policy.lease_ms = in_ms(traffic.limits.connect_timeout * 2 + milliseconds(2000));
  policy.warmup_ms = in_ms(traffic.warmup.duration);
  policy.warmup_percent = traffic.warmup.minimum_percent;
  if (port.protocol != model::Protocol::kTcp) return policy;
  policy.max_connections = traffic.limits.max_connections;
  policy.max_per_endpoint = traffic.limits.max_per_endpoint;
  if (service.balancer_of(port) == model::Balancer::kPeakEwma)
    policy.flags |= WEFT_POLICY_WATCH_RTT;
  if (!traffic.outlier) return policy;
  policy.threshold = outlier.consecutive_failures;
  policy.failing_for_ms = in_ms(outlier.failing_for);
  policy.threshold_5xx = outlier.consecutive_5xx;
  policy.threshold_gateway = outlier.consecutive_gateway;
  policy.max_ejected = max_ejected(traffic.outlier, primaries, spares);
  policy.flags |= WEFT_POLICY_WATCH_TIMEOUT;
  if (outlier.split_local_origin) policy.flags |= WEFT_POLICY_SPLIT_LOCAL;
  return policy;
}

std::uint32_t proxy_flags(const model::Service& service, const model::ServicePort& port) {
  if (!port.http || port.protocol != model::Protocol::kTcp) return 0;
  const bool direct = service.traffic_of(port).proxy_down == model::ProxyDown::kDirect;
  return WEFT_POLICY_PROXY | (direct ? unsigned{WEFT_POLICY_PROXY_DIRECT} : 0u);
}

}  // namespace weft::compile
