// Every metric of weftd, written down once: name, type, labels, meaning. Rendering takes them from
// here, and a test compares this table with the one that people read (docs/metrics.md).
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace weft::observe {

enum class Family {
  kTcpOpened,
  kTcpFailed,
  kUdpOpened,
  kRefused,
  kEndpointActive,
  kEndpointOpened,
  kEndpointFailed,
  kEndpointRtt,
  kBreakerState,
  kBreakerTransitions,
  kEndpointHealth,
  kHealthProbes,
  kDrainClosed,
  kBypassEnabled,
  kBypassConnections,
  kBypassBytes,
  kBypassFallback,
  kServiceEndpoints,
  kConfigGeneration,
  kApplyDuration,
  kPropagationDuration,
  kApplyFailures,
  kServicesRefused,
  kMapWrites,
  kMapEntries,
  kMapCapacity,
  kSourceState,
  kSourceAge,
  kSourceErrors,
  kWorkloads,
  kEvents,
  kManifestNotices,
  kPolicyNotEnforced,
  kHoldBackActive,
  kReady,
  kSeriesDropped,
  kBuildInfo,
  kRequests,
  kRequestDuration,
  kRequestBytes,
  kResponseBytes,
  kTunnelsOpened,
  kTunnelsClosed,
  kTunnelSent,
  kTunnelReceived,
  kProxyAccepted,
  kProxyNoOrigin,
  kProxyRefused,
  kProxyShed,
  kProxyBadHeads,
  kProxyRetries,
  kProxyRetryOverflow,
  kProxyMirrorsDropped,
  kProxyUpstreamOpened,
  kProxyUpstreamReused,
  kProxyUpstreamFailed,
  kProxyConnections,
  kProxyInFlight,
  kProxyUpstreams,
  kProxyUp,
  kProxyRestarts,
  kProxyCut,
  kProcessCpu,
  kProcessResident,
  kProcessVirtual,
  kProcessOpenFds,
  kProcessMaxFds,
  kProcessStart,
};

enum class FamilyType { kCounter, kGauge, kHistogram };
const char* to_text(FamilyType type);  // "counter", "gauge", "histogram"

using Labels = std::array<const char*, 22>;  // up to the first null

struct FamilyInfo {
  Family family;
  const char* name;
  FamilyType type;
  Labels labels;
  const char* help;

  std::size_t label_count() const;
};

// Indexed by Family.
std::span<const FamilyInfo> families();

}  // namespace weft::observe
