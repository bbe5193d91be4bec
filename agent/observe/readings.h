// Everything one exposition says, as a value: collecting it touches maps and /proc, rendering it is
// pure.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/observe/proxy_report.h"
#include "agent/observe/snapshot.h"

namespace weft::observe {

struct ServiceReading {
  std::string namespace_name, name;
  std::uint16_t port = 0;
  bool udp = false;
  std::uint64_t opened = 0, failed = 0;
  std::uint64_t refused_no_endpoint = 0, refused_family = 0, refused_stale = 0;
  std::uint64_t refused_ejected = 0, refused_limit = 0, refused_proxy_down = 0;

  bool operator==(const ServiceReading&) const = default;
};

struct EndpointReading {
  std::string namespace_name, service;
  std::uint16_t port = 0;  // of the service
  bool udp = false;
  std::string endpoint;  // "10.0.0.1:80", "[fd00::1]:80"
  std::uint64_t active = 0, opened = 0, failed = 0;
  std::uint32_t rtt_us = 0;  // 0: not known
  // Of one that has or had something to say: 0 closed, 1 open, 2 half-open.
  std::optional<std::uint32_t> breaker;

  bool operator==(const EndpointReading&) const = default;
};

struct HealthReading {
  std::string namespace_name, service;
  std::uint16_t port = 0;  // of the service
  std::string endpoint;    // as in EndpointReading
  bool healthy = false;

  bool operator==(const HealthReading&) const = default;
};

struct MapReading {
  std::string name;
  std::uint64_t entries = 0, capacity = 0;
};

struct SourceReading {
  std::string uri, state;
  double age_seconds = -1;  // negative: it never said anything
  std::uint64_t errors = 0;
};

struct WorkloadCounts {
  std::uint64_t enrolled = 0, others = 0;
};

struct EventReading {
  std::string event;
  std::uint64_t count = 0;
};

struct EndpointCounts {
  std::uint64_t ready = 0, draining = 0, not_ready = 0;
};

struct ProcessReading {
  double cpu_seconds = 0, start_time_seconds = 0;
  std::uint64_t resident_bytes = 0, virtual_bytes = 0, open_fds = 0, max_fds = 0;
};

struct BypassReading {
  bool enabled = false;
  std::string reason;
  std::uint64_t connections = 0, bytes = 0;
  std::vector<std::pair<std::string, std::uint64_t>> fallback;  // reason, bytes
};

struct Readings {
  BypassReading bypass;
  WorkloadCounts workloads;
  std::string version;
  std::uint64_t generation = 0;
  bool ready = false, held_back = false;
  ApplyStatus apply;
  Histogram apply_seconds, propagation_seconds;
  std::uint64_t services_refused = 0;
  std::array<std::uint64_t, 4> notices{};  // indexed by model::Severity

  std::vector<ServiceReading> services;    // no two of one name, port and protocol
  std::vector<EndpointReading> endpoints;  // no two of one service, port, protocol and address
  std::vector<HealthReading> health;       // of those that are checked and have a verdict
  ProbeCounts probes;
  DrainCounts drained;
  EndpointCounts endpoint_counts;
  std::uint64_t services_dropped = 0, endpoints_dropped = 0;  // series, since start

  std::shared_ptr<const TransitionCounts> transitions =
      std::make_shared<TransitionCounts>();                                    // never null
  std::shared_ptr<const ProxyReport> proxy = std::make_shared<ProxyReport>();  // never null
  std::vector<MapReading> maps;
  std::vector<SourceReading> sources;
  std::vector<EventReading> events;
  ProcessReading process;
};

}  // namespace weft::observe
