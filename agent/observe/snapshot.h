// What the agent knows beside the kernel maps: an immutable value that the control thread replaces
// after every change and that the metrics thread and the admin socket read.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/kernel/datapath.h"
#include "agent/node/rules.h"
#include "agent/node/workloads.h"
#include "agent/observe/breaker_log.h"
#include "agent/observe/proxy_report.h"
#include "mesh/model/mesh.h"

namespace weft::observe {

using Clock = std::chrono::steady_clock;

struct SourceStatus {
  std::string uri;
  std::string state;            // "starting", "synced", "error"
  std::string error;            // why, where the state is "error"
  Clock::time_point changed{};  // when it last said anything
  std::uint64_t updates = 0;
  std::uint64_t errors = 0;  // times that something began to be wrong
};

struct ApplyStatus {
  std::uint64_t plans = 0;  // non-empty ones since start
  std::uint64_t failures = 0;
  std::uint64_t writes_total = 0;  // map entries written since start
  std::uint64_t last_writes = 0;
  std::chrono::nanoseconds last_duration{};  // compile, diff and writes
  std::string last_error;                    // empty: the last try went well
  bool retrying = false;
};

// Fixed buckets, as Prometheus wants them; one writer (the control thread), values copied into
// snapshots.
struct Histogram {
  static constexpr double kBounds[] = {0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02,
                                       0.05,   0.1,    0.5,   1,     2,     10};
  std::vector<std::uint64_t> buckets = std::vector<std::uint64_t>(std::size(kBounds) + 1);
  double sum = 0;
  void observe(double seconds);
};

// What active health checks know of an endpoint that they watch.
struct EndpointHealth {
  model::ServiceKey service;
  model::Address address;
  std::uint16_t port = 0;       // the endpoint's
  std::optional<bool> healthy;  // nothing: no verdict yet
  std::string reason;           // what the last check found; empty: there was none

  bool operator==(const EndpointHealth&) const = default;
};
using HealthPtr = std::shared_ptr<const std::vector<EndpointHealth>>;  // sorted

// Connections that were closed because their endpoint terminates, or has gone
// (weft.mesh/drain-deadline).
struct DrainCounts {
  std::uint64_t terminating = 0, gone = 0;
  std::uint64_t proxy = 0;  // weft-proxy's own, to endpoints that terminate

  bool operator==(const DrainCounts&) const = default;
};

struct ProbeCounts {
  std::uint64_t ok = 0, failed = 0, not_asked = 0;  // since start
};

// The node's L7 proxy.
struct ProxyStatus {
  std::string state = "off";  // "off", "down", "starting", "serving"
  int pid = 0;                // of the one that serves
  std::uint32_t generation = 0;
  std::uint64_t connections = 0, requests = 0;  // of all that live
  std::size_t draining = 0;                     // how many end
  std::uint64_t restarts = 0;                   // since weftd began, after deaths
  std::size_t workloads = 0, captured = 0;      // network namespaces found, and captured
  std::string error;                            // why it could not be started; empty: it could
};

// The same-node bypass (docs/bypass.md).
struct BypassStatus {
  std::string mode = "off";              // in force: "off", "auto", "on"
  std::string why = "off";               // one word of weft_bypass_enabled{reason}
  std::string reason;                    // why that and not what was asked for; empty: it is
  std::vector<std::string> differences;  // what readers see otherwise than from TCP, on this kernel
};

using WorkloadsPtr = std::shared_ptr<const std::vector<node::Workload>>;

struct Snapshot {
  std::string version, node;
  Clock::time_point started{};
  std::uint64_t generation = 0;
  bool ready = false;  // the first whole state is in the kernel
  std::vector<SourceStatus> sources;
  std::vector<kernel::Feature> features;
  WorkloadsPtr workloads = std::make_shared<std::vector<node::Workload>>();  // never null
  HealthPtr health = std::make_shared<std::vector<EndpointHealth>>();        // never null
  ProbeCounts probes;
  DrainCounts drained;
  model::MeshPtr mesh = std::make_shared<model::Mesh>();  // never null
  bool held_back = false;                                 // a mass removal waits for confirmation
  std::string held_back_text;        // one line: how many of how many, until when, how to confirm
  std::vector<std::string> refused;  // services that no map had room for
  std::shared_ptr<const TransitionCounts> transitions =
      std::make_shared<TransitionCounts>();                                           // never null
  std::shared_ptr<const ProxyReport> proxy_report = std::make_shared<ProxyReport>();  // never null
  std::vector<node::Neighbour> neighbours;  // who else has a hand in service addresses
  ProxyStatus proxy;
  BypassStatus bypass;
  ApplyStatus apply;
  Histogram apply_seconds;        // weft_config_apply_duration_seconds
  Histogram propagation_seconds;  // weft_propagation_duration_seconds: source event to kernel
};
using SnapshotPtr = std::shared_ptr<const Snapshot>;

// The one place where the control thread and its readers meet.
class Board {
 public:
  void publish(SnapshotPtr snapshot) {
    const std::lock_guard lock(mutex_);
    snapshot_ = std::move(snapshot);
  }
  SnapshotPtr read() const {
    const std::lock_guard lock(mutex_);
    return snapshot_;
  }

 private:
  mutable std::mutex mutex_;
  SnapshotPtr snapshot_ = std::make_shared<Snapshot>();
};

}  // namespace weft::observe
