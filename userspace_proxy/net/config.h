// What the proxy serves, as one immutable snapshot that all workers share. Services and clusters
// are shared by pointer between snapshots: what did not change is the same pointer, so a worker
// leaves its connections alone.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "abi/breaker.h"
#include "abi/endpoint.h"
#include "abi/ewma.h"
#include "mesh/model/address.h"
#include "mesh/model/http.h"
#include "mesh/model/mesh.h"
#include "mesh/model/workload.h"
#include "userspace_proxy/routes/origins.h"
#include "userspace_proxy/routes/table.h"

namespace weft::net {

// How long an endpoint takes to answer, as peak-EWMA sees it (bpf/abi/ewma.h). Any thread; two that
// note at the same time may lose one sample, or see one of them as old as the other.
class ResponseTime {
 public:
  void note(std::uint32_t us, std::uint64_t now_ms) {
    us_.store(weft_ewma_after(at(now_ms), std::max(us, 1u)), std::memory_order_relaxed);
    at_ms_.store(now_ms, std::memory_order_relaxed);
  }
  // A failure says nothing of how long an answer takes; but while it fails it is not to be
  // forgotten how slow the endpoint was, or whoever hangs becomes the fastest.
  void renew(std::uint64_t now_ms) {
    if (const auto us = at(now_ms)) {
      us_.store(static_cast<std::uint32_t>(us), std::memory_order_relaxed);
      at_ms_.store(now_ms, std::memory_order_relaxed);
    }
  }
  // Microseconds; 0: it has never answered.
  std::uint64_t at(std::uint64_t now_ms) const {
    // A worker's clock may be a little behind the one that noted.
    const auto at_ms = std::min(at_ms_.load(std::memory_order_relaxed), now_ms);
    const auto age_ms = std::min<std::uint64_t>(now_ms - at_ms, ~std::uint32_t{0});
    return weft_ewma_now(us_.load(std::memory_order_relaxed), static_cast<std::uint32_t>(age_ms));
  }

 private:
  std::atomic<std::uint32_t> us_{0};
  std::atomic<std::uint64_t> at_ms_{0};
};

// The words that workers, the kernel's programs and weftd share of one endpoint; of an endpoint
// that the kernel does not balance to they are this process's own. Everything in it is accessed
// atomically.
struct Shares {
  weft_endpoint_state* state = nullptr;
  const weft_policy* policy = nullptr;
  weft_service_state* total = nullptr;
  std::uint32_t service = 0, id = 0, incarnation = 0;  // id 0: own
  std::uint32_t wanted_id = 0;                         // as weftd named it
  std::uint32_t column = 0;                            // of this generation
  std::uint32_t* requests = nullptr;                   // in flight, of that column
  ResponseTime response_time;
  // Requests, of all workers, that wait for a connection to the service.
  std::shared_ptr<std::atomic<std::uint32_t>> waiting =
      std::make_shared<std::atomic<std::uint32_t>>(0);

  weft_endpoint_state own_state{};
  weft_policy own_policy{};
  weft_service_state own_total{};
};
using SharesPtr = std::shared_ptr<Shares>;

struct Endpoint {
  model::Address address;
  std::uint16_t port = 0;  // host order
  std::uint16_t weight = 1;
  std::uint8_t priority = 0;
  model::EndpointState state = model::EndpointState::kReady;
  SharesPtr shares;                                 // never null
  std::shared_ptr<const model::Workload> workload;  // null: not known
};

// What all workers have under way to a cluster, for limits that hold for the process. Outlives
// configurations, as what is under way does. Reserve, then check, as the kernel does
// (bpf/lib/breaker.bpf.h): however many ask at once, never one too many.
struct alignas(64) ClusterCounts {
  std::atomic<std::uint32_t> requests{0};  // in flight
  std::atomic<std::uint32_t> retries{0};   // of them, retries that wait or are under way
  std::atomic<std::uint32_t> pending{0};   // of them, those that wait for a connection
};
// `most` 0: no limit.
inline bool reserve(std::atomic<std::uint32_t>& count, std::uint32_t most) {
  if (count.fetch_add(1) < most || !most) return true;
  count.fetch_sub(1);
  return false;
}

struct Cluster {
  // The same pointer for as long as the process knows the name: what is counted is counted by it.
  std::shared_ptr<const model::HttpCluster> who;
  std::string name;
  std::vector<Endpoint> endpoints;
  model::Balancer balancer = model::Balancer::kRoundRobin;
  std::chrono::milliseconds connect_timeout = std::chrono::seconds(10);
  model::HttpLimits limits;
  bool node_source = false;
  std::shared_ptr<ClusterCounts> counts = std::make_shared<ClusterCounts>();
};
using ClusterPtr = std::shared_ptr<const Cluster>;

struct Service {
  model::ServiceKey key;
  std::uint16_t port = 0;
  std::vector<model::Address> addresses;
  std::shared_ptr<const routes::Table> table;
  std::vector<std::string> clusters;  // names, as the table's indexes mean them
  std::map<const model::HttpRule*, routes::Origins> origins;  // of those with CORS
  bool tunnel = false;  // bytes that are no HTTP go to clusters[0]
};
using ServicePtr = std::shared_ptr<const Service>;

struct Dialled {
  model::Address address;
  std::uint16_t port = 0;

  bool operator==(const Dialled&) const = default;
  template <class H>
  friend H AbslHashValue(H state, const Dialled& dialled) {
    return H::combine(std::move(state), dialled.address.bytes, dialled.port);
  }
};

struct Config {
  std::uint64_t generation = 0;
  absl::flat_hash_map<Dialled, ServicePtr> services;
  std::map<std::string, ClusterPtr> clusters;
};
using ConfigPtr = std::shared_ptr<const Config>;

// Whose connections these are: a workload's, in a network namespace.
struct Caller {
  std::uint64_t netns_cookie = 0;  // 0: the node's own namespace
  routes::Caller rules;
  std::string workload, workload_namespace, app, version;
  std::string canonical_service, canonical_revision;
  bool host_network = false;
};
using CallerPtr = std::shared_ptr<const Caller>;

}  // namespace weft::net
