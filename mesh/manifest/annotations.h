// Our annotations, weft.mesh/...: what Kubernetes has no field for. A bad value is reported as not
// enforced and the object is served without it: an annotation must never take a service down.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

#include "mesh/manifest/decode.h"

namespace weft::manifest {

inline constexpr std::string_view kServiceAnnotations[] = {"weft.mesh/balancer",
                                                           "weft.mesh/breaker-failing-for",
                                                           "weft.mesh/breaker-base-ejection",
                                                           "weft.mesh/max-connections-per-endpoint",
                                                           "weft.mesh/failover-below",
                                                           "weft.mesh/health-check",
                                                           "weft.mesh/drain-deadline",
                                                           "weft.mesh/proxy-down",
                                                           "weft.mesh/source-address",
                                                           "weft.mesh/bypass"};
// Of Pods, and of EndpointSlices for all their endpoints: standby ones have slices of their own.
inline constexpr std::string_view kRankAnnotations[] = {"weft.mesh/priority", "weft.mesh/weight"};
inline constexpr std::string_view kPodAnnotations[] = {"weft.mesh/priority", "weft.mesh/weight",
                                                       "weft.mesh/bypass"};
// Of ServiceEntries: a Service's, and those of all their endpoints.
inline constexpr auto kEntryAnnotations = [] {
  std::array<std::string_view, std::size(kServiceAnnotations) + std::size(kRankAnnotations)> all;
  const auto end =
      std::copy(std::begin(kServiceAnnotations), std::end(kServiceAnnotations), all.begin());
  std::copy(std::begin(kRankAnnotations), std::end(kRankAnnotations), end);
  return all;
}();

void decode_service_annotations(Decoder& decoder, Value document, model::ServiceObject& service);
model::Bypass decode_bypass(Decoder& decoder, Value document, const model::ObjectMeta& meta);
model::Rank decode_rank(Decoder& decoder, Value document, const model::ObjectMeta& meta);

// "tcp", "http /path", "grpc [service]", then port=N interval=5s timeout=1s unhealthy=3 healthy=2.
// Nothing for anything else.
std::optional<model::HealthCheck> parse_health_check(std::string_view text);

}  // namespace weft::manifest
