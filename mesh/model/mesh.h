// The mesh as one immutable snapshot: what every later stage reads, whoever discovered it.
//
// Services are shared by pointer between snapshots, in buckets that are shared too, so that a
// change of one service among 10,000 costs the copy of one bucket and a later stage recognises
// everything that did not change by comparing pointers.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/model/address.h"
#include "mesh/model/http.h"
#include "mesh/model/notice.h"
#include "mesh/model/object.h"
#include "mesh/model/traffic.h"
#include "mesh/model/workload.h"

namespace weft::model {

struct ServiceKey {
  std::string namespace_name;
  std::string name;

  std::string to_text() const { return namespace_name + "/" + name; }
  // "ns/name"; nothing where either half is missing.
  static std::optional<ServiceKey> parse(std::string_view text);
  auto operator<=>(const ServiceKey&) const = default;
};

struct KeyHash {
  std::size_t operator()(const ServiceKey& key) const {
    const std::hash<std::string> hash;
    return hash(key.namespace_name) * 31 + hash(key.name);
  }
};

enum class EndpointState : std::uint8_t {
  kReady,     // takes new connections
  kDraining,  // terminating but serving: takes them only while no endpoint is ready
  kNotReady,  // takes none
};
const char* to_text(EndpointState state);  // "ready", "draining", "not_ready"

struct Endpoint {
  Address address;
  std::uint16_t port = 0;  // host order
  EndpointState state = EndpointState::kReady;
  bool terminating = false;  // on its way out, whatever its state: its connections may be closed
  std::uint16_t weight = 1;
  std::uint8_t priority = 0;
  std::string region;  // its node's label topology.kubernetes.io/region; empty: not known
  std::string zone;
  std::string node;
  std::vector<std::string> for_zones;  // EndpointSlice hints; empty: none
  WorkloadRef workload;                // in http_endpoints, where its Pod is known
  std::string subzone;                 // its node's label topology.istio.io/subzone; empty: none
  Labels labels;  // of its Pod those that its service's failoverPriority compares; mostly none

  bool operator==(const Endpoint&) const = default;
};

// The VirtualService rule by which a port has other endpoints, or other weights, than its own.
struct RoutedBy {
  std::string virtual_service;  // "shop/canary"
  Origin origin;                // of the rule

  bool operator==(const RoutedBy&) const = default;
};

// What a rule's portLevelSettings make of one port: all of its policy, with the Service's wishes.
struct PortPolicy {
  Balancer balancer = Balancer::kRoundRobin;
  TrafficPolicy traffic;

  bool operator==(const PortPolicy&) const = default;
};

struct ServicePort {
  std::string name;
  std::uint16_t port = 0;  // host order
  Protocol protocol = Protocol::kTcp;
  std::vector<Endpoint> endpoints;  // of both families; sorted by (address, port), no duplicates
  std::optional<RoutedBy> routed_by = std::nullopt;
  AppProtocol app_protocol = AppProtocol::kUnknown;
  // Null: the kernel serves the port alone. The same pointer from mesh to mesh while the rules are
  // the same, whatever becomes of endpoints.
  std::shared_ptr<const HttpRoutes> http = nullptr;
  // Of http->clusters, one each: as `endpoints` is sorted, but never routed themselves.
  std::vector<std::vector<Endpoint>> http_endpoints = {};
  // Null, as nearly everywhere: the service's. Ask Service::balancer_of() and traffic_of().
  std::shared_ptr<const PortPolicy> policy = nullptr;

  bool operator==(const ServicePort& other) const;  // rules and policy by value
};

struct Service {
  ServiceKey key;
  std::vector<Address>
      addresses;  // cluster and external ones that are really its own; sorted, unique
  std::vector<ServicePort> ports;  // sorted by (port, protocol), unique
  std::optional<std::chrono::seconds> affinity;
  // Of ports without a policy of their own. What the Service alone decides (bypass, health checks)
  // is the same in all.
  Balancer balancer = Balancer::kRoundRobin;
  TrafficPolicy traffic;
  bool headless = false;
  Origin origin;

  Balancer balancer_of(const ServicePort& port) const {
    return port.policy ? port.policy->balancer : balancer;
  }
  const TrafficPolicy& traffic_of(const ServicePort& port) const {
    return port.policy ? port.policy->traffic : traffic;
  }
  const ServicePort* find_port(std::uint16_t port, Protocol protocol) const;  // null: there is none

  bool operator==(const Service&) const = default;
};
using ServicePtr = std::shared_ptr<const Service>;  // never null where it is stored

std::size_t bucket_of(const ServiceKey& key,
                      std::size_t buckets);  // FNV-1a, the same in every process

// An immutable map from keys to shared values in a fixed number of shared buckets. Copying it
// copies kBuckets pointers. V needs `const ServiceKey& key` or a member `key` of that type.
template <class V>
class BucketTable {
 public:
  static constexpr std::size_t kBuckets = 256;
  using Ptr = std::shared_ptr<const V>;
  using Bucket = std::vector<Ptr>;  // sorted by key

  const Ptr* find(const ServiceKey& key) const {
    const auto& bucket = buckets_[bucket_of(key, kBuckets)];
    if (!bucket) return nullptr;
    const auto at = lower_bound(*bucket, key);
    return at != bucket->end() && (*at)->key == key ? &*at : nullptr;
  }

  // Null erases. Returns the table with that one change.
  void set(const ServiceKey& key, Ptr value) {
    auto& bucket = buckets_[bucket_of(key, kBuckets)];
    auto changed = bucket ? std::make_shared<Bucket>(*bucket) : std::make_shared<Bucket>();
    auto at = lower_bound(*changed, key);
    const bool present = at != changed->end() && (*at)->key == key;
    if (!value && present) {
      changed->erase(at);
      --size_;
    } else if (value && present) {
      *at = std::move(value);
    } else if (value) {
      changed->insert(at, std::move(value));
      ++size_;
    }
    bucket = std::move(changed);
  }

  std::size_t size() const { return size_; }

  template <class F>
  void for_each(F&& visit) const {
    for (const auto& bucket : buckets_)
      if (bucket)
        for (const auto& value : *bucket) visit(value);
  }

  // visit(const Ptr* before, const Ptr* after) for every key whose pointer differs; null where
  // absent. Buckets that are shared cost one comparison.
  template <class F>
  static void for_each_change(const BucketTable& before, const BucketTable& after, F&& visit) {
    static const Bucket kNone;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      if (before.buckets_[i] == after.buckets_[i]) continue;
      const Bucket& old_bucket = before.buckets_[i] ? *before.buckets_[i] : kNone;
      const Bucket& new_bucket = after.buckets_[i] ? *after.buckets_[i] : kNone;
      auto a = old_bucket.begin();
      auto b = new_bucket.begin();
      while (a != old_bucket.end() || b != new_bucket.end()) {
        if (b == new_bucket.end() || (a != old_bucket.end() && (*a)->key < (*b)->key)) {
          visit(&*a++, static_cast<const Ptr*>(nullptr));
        } else if (a == old_bucket.end() || (*b)->key < (*a)->key) {
          visit(static_cast<const Ptr*>(nullptr), &*b++);
        } else {
          if (*a != *b) visit(&*a, &*b);
          ++a, ++b;
        }
      }
    }
  }

 private:
  template <class B>
  static auto lower_bound(B& bucket, const ServiceKey& key) {
    return std::lower_bound(bucket.begin(), bucket.end(), key,
                            [](const Ptr& value, const ServiceKey& k) { return value->key < k; });
  }

  std::array<std::shared_ptr<const Bucket>, kBuckets> buckets_;
  std::size_t size_ = 0;
};

struct Mesh {
  BucketTable<Service> services;
  // Of readers and of merge(), sorted by text; what status and check show. Never null; the same
  // pointer where nothing changed.
  std::shared_ptr<const std::vector<Notice>> notices = std::make_shared<std::vector<Notice>>();
};
using MeshPtr = std::shared_ptr<const Mesh>;

// Canonical text for golden tests and `==` in people's heads: one line per service, port and
// endpoint.
std::string to_text(const Mesh& mesh);

}  // namespace weft::model
