#include "agent/observe/families.h"

namespace weft::observe {
namespace {

constexpr auto kCounter = FamilyType::kCounter;
constexpr auto kGauge = FamilyType::kGauge;
constexpr auto kHistogram = FamilyType::kHistogram;

constexpr FamilyInfo kFamilies[] = {
    {Family::kTcpOpened,
     "istio_tcp_connections_opened_total",
     kCounter,
     {"reporter", "destination_service", "destination_service_name",
      "destination_service_namespace", "request_protocol", "port"},
     "TCP connections through a service address that were established."},
    {Family::kTcpFailed,
     "istio_tcp_connections_failed_total",
     kCounter,
     {"reporter", "destination_service", "destination_service_name",
      "destination_service_namespace", "request_protocol", "port"},
     "TCP connections through a service address that the endpoint refused, reset or left "
     "unanswered."},
    {Family::kUdpOpened,
     "weft_udp_flows_opened_total",
     kCounter,
     {"destination_service", "destination_service_name", "destination_service_namespace", "port"},
     "UDP conversations begun through a service address."},
    {Family::kRefused,
     "weft_connect_refused_total",
     kCounter,
     {"destination_service", "destination_service_name", "destination_service_namespace",
      "request_protocol", "port", "reason"},
     "Calls that weft refused at once: no_endpoint (none is ready), family (the socket cannot "
     "reach the endpoint's address family), stale (the configuration was being replaced, twice "
     "in a row), ejected (the breakers of all endpoints tried are open), limit (maxConnections), "
     "proxy_down (the service has HTTP rules and no proxy serves)."},
    {Family::kEndpointActive,
     "weft_endpoint_connections_active",
     kGauge,
     {"namespace", "service", "port", "protocol", "endpoint"},
     "Connections to the endpoint that are being made or are open."},
    {Family::kEndpointOpened,
     "weft_endpoint_connections_opened_total",
     kCounter,
     {"namespace", "service", "port", "protocol", "endpoint"},
     "Connections to the endpoint that were established."},
    {Family::kEndpointFailed,
     "weft_endpoint_connections_failed_total",
     kCounter,
     {"namespace", "service", "port", "protocol", "endpoint"},
     "Connections that the endpoint refused, reset or left unanswered."},
    {Family::kEndpointRtt,
     "weft_endpoint_rtt_seconds",
     kGauge,
     {"namespace", "service", "port", "protocol", "endpoint"},
     "Round-trip time to the endpoint, smoothed over its connections."},
    {Family::kBreakerState,
     "weft_breaker_state",
     kGauge,
     {"namespace", "service", "port", "protocol", "endpoint"},
     "Circuit breaker of an endpoint that has opened: 0 closed, 1 open, 2 half-open."},
    {Family::kBreakerTransitions,
     "weft_breaker_transitions_total",
     kCounter,
     {"namespace", "service", "port", "to", "reason"},
     "Transitions of circuit breakers since this agent started, and those told while none ran."},
    {Family::kEndpointHealth,
     "weft_endpoint_health",
     kGauge,
     {"namespace", "service", "port", "protocol", "endpoint"},
     "Verdict of the active health check of an endpoint that has one: 1 healthy, 0 unhealthy."},
    {Family::kHealthProbes,
     "weft_health_probes_total",
     kCounter,
     {"outcome"},
     "Active health checks that were made, by outcome."},
    {Family::kServiceEndpoints,
     "weft_service_endpoints",
     kGauge,
     {"state"},
     "Endpoints of all services in the kernel maps, by state."},
    {Family::kConfigGeneration,
     "weft_config_generation",
     kGauge,
     {},
     "Number of the configuration that is in force."},
    {Family::kApplyDuration,
     "weft_config_apply_duration_seconds",
     kHistogram,
     {},
     "Time to compile, compare and write one configuration."},
    {Family::kPropagationDuration,
     "weft_propagation_duration_seconds",
     kHistogram,
     {},
     "Time from a source's change until the kernel acts on it."},
    {Family::kApplyFailures,
     "weft_config_apply_failures_total",
     kCounter,
     {},
     "Attempts to write a configuration that failed and are tried again."},
    {Family::kServicesRefused,
     "weft_config_services_refused",
     kGauge,
     {},
     "Services that are not served because a map has no room for them."},
    {Family::kMapWrites, "weft_map_writes_total", kCounter, {}, "Kernel map entries written."},
    {Family::kMapEntries, "weft_map_entries", kGauge, {"map"}, "Entries of the kernel map in use."},
    {Family::kMapCapacity,
     "weft_map_capacity",
     kGauge,
     {"map"},
     "Entries the kernel map has room for."},
    {Family::kSourceState,
     "weft_source_state",
     kGauge,
     {"uri", "state"},
     "1 for the state the source is in, 0 for the others."},
    {Family::kSourceAge,
     "weft_source_age_seconds",
     kGauge,
     {"uri"},
     "Time since the source last said anything."},
    {Family::kSourceErrors,
     "weft_source_errors_total",
     kCounter,
     {"uri"},
     "Times that something began to be wrong with the source; weftctl status says what."},
    {Family::kWorkloads,
     "weft_workloads",
     kGauge,
     {"enrolled"},
     "Pods of this node, by whether weft serves them."},
    {Family::kEvents,
     "weft_events_total",
     kCounter,
     {"event"},
     "Events counted by the eBPF programs; docs/metrics.md lists them."},
    {Family::kManifestNotices,
     "weft_manifest_notices",
     kGauge,
     {"severity"},
     "What weft has to say about the manifests, by severity; weftctl status shows the texts."},
    {Family::kPolicyNotEnforced,
     "weft_policy_not_enforced",
     kGauge,
     {},
     "Policies and policy fields that this build does not enforce."},
    {Family::kHoldBackActive,
     "weft_hold_back_active",
     kGauge,
     {},
     "1 while the removal of most endpoints waits for confirmation."},
    {Family::kReady,
     "weft_ready",
     kGauge,
     {},
     "1 once the first whole configuration is in the kernel."},
    {Family::kSeriesDropped,
     "weft_metrics_series_dropped_total",
     kCounter,
     {"kind"},
     "Series left out of expositions because there were more than the cap allows."},
    {Family::kBuildInfo,
     "weft_build_info",
     kGauge,
     {"version"},
     "Always 1; the version is the label."},
    {Family::kProcessCpu,
     "process_cpu_seconds_total",
     kCounter,
     {},
     "User and system CPU time of weftd."},
    {Family::kProcessResident,
     "process_resident_memory_bytes",
     kGauge,
     {},
     "Resident memory of weftd."},
    {Family::kProcessVirtual,
     "process_virtual_memory_bytes",
     kGauge,
     {},
     "Virtual memory of weftd."},
    {Family::kProcessOpenFds,
     "process_open_fds",
     kGauge,
     {},
     "File descriptors that weftd has open."},
    {Family::kProcessMaxFds,
     "process_max_fds",
     kGauge,
     {},
     "File descriptors that weftd may have open."},
    {Family::kProcessStart,
     "process_start_time_seconds",
     kGauge,
     {},
     "When weftd was started, in seconds since 1970."},
};

constexpr bool indexed_by_family() {
  for (std::size_t i = 0; i < std::size(kFamilies); ++i)
    if (kFamilies[i].family != static_cast<Family>(i)) return false;
  return true;
}
static_assert(indexed_by_family());
static_assert(std::size(kFamilies) == static_cast<std::size_t>(Family::kProcessStart) + 1);

}  // namespace

const char* to_text(FamilyType type) {
  switch (type) {
    case FamilyType::kCounter:
      return "counter";
    case FamilyType::kGauge:
      return "gauge";
    case FamilyType::kHistogram:
      return "histogram";
  }
  return "";
}

std::size_t FamilyInfo::label_count() const {
  std::size_t count = 0;
  while (count < labels.size() && labels[count]) ++count;
  return count;
}

std::span<const FamilyInfo> families() { return kFamilies; }

}  // namespace weft::observe
