// A mesh that changes at random, as a cluster's does: services come and go, endpoints turn,
// addresses move from one service to another. The same seed gives the same story.
#pragma once

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "mesh/model/mesh.h"

namespace weft::tests {

class RandomMesh {
 public:
  explicit RandomMesh(std::uint64_t seed, int names = 12) : rng_(seed), names_(names) {}

  // A few changes, then the whole as a snapshot that shares what did not change.
  model::MeshPtr next() {
    for (int changes = 1 + below(6); changes > 0; --changes) change();
    return snapshot();
  }
  // Every service but a few goes.
  model::MeshPtr collapse(std::size_t keep) {
    while (services_.size() > keep) erase(services_.begin()->first);
    return snapshot();
  }
  model::MeshPtr snapshot() const { return std::make_shared<model::Mesh>(mesh_); }

  int below(int n) { return static_cast<int>(rng_() % static_cast<unsigned>(n)); }

 private:
  static model::Address address(const std::string& text) { return *model::Address::parse(text); }

  void change() {
    const model::ServiceKey key{"ns" + std::to_string(below(3)),
                                "s" + std::to_string(below(names_))};
    const auto at = services_.find(key);
    if (at == services_.end()) return put(fresh(key));
    if (below(8) == 0) return erase(key);
    if (below(8) == 0) return hand_over(at->second);
    model::Service service = at->second;
    switch (below(7)) {
      case 0:
        service.balancer = static_cast<model::Balancer>(below(3));
        break;
      case 1:
        service.affinity =
            below(2) ? std::optional(std::chrono::seconds(1 + below(100))) : std::nullopt;
        break;
      case 2:
        take_addresses(service);
        break;
      case 3:
        service.ports = ports();
        break;
      case 4:
        service.ports[below(service.ports.size())].name = "p" + std::to_string(below(4));
        break;
      default:
        service.ports[below(service.ports.size())].endpoints = endpoints();
    }
    put(std::move(service));
  }

  // Its addresses go to another service, and nobody is left behind the old one.
  void hand_over(model::Service from) {
    const auto other = services_.upper_bound(from.key);
    if (other == services_.end()) return;
    model::Service to = other->second;
    to.addresses.insert(to.addresses.end(), from.addresses.begin(), from.addresses.end());
    std::sort(to.addresses.begin(), to.addresses.end());
    from.addresses.clear();
    for (auto& port : from.ports) port.endpoints.clear();
    put(std::move(from));
    put(std::move(to));
  }

  model::Service fresh(const model::ServiceKey& key) {
    model::Service service;
    service.key = key;
    service.balancer = static_cast<model::Balancer>(below(3));
    service.ports = ports();
    take_addresses(service);
    return service;
  }

  // From a pool so small that addresses wander between services; none is in two at once.
  void take_addresses(model::Service& service) {
    for (const auto& old : service.addresses) taken_.erase(old);
    service.addresses.clear();
    for (int wanted = below(4); wanted > 0; --wanted) {
      const int n = below(names_ * 4);
      const auto ip =
          address(n % 3 ? "10.96.0." + std::to_string(n + 1) : "fd00::" + std::to_string(n + 1));
      if (taken_.insert(ip).second) service.addresses.push_back(ip);
    }
    std::sort(service.addresses.begin(), service.addresses.end());
  }

  std::vector<model::ServicePort> ports() {
    std::vector<model::ServicePort> all;
    for (int port = 80; port < 83; ++port)
      if (below(2) || (port == 82 && all.empty()))
        all.push_back({"p" + std::to_string(below(4)), static_cast<std::uint16_t>(port),
                       below(4) ? model::Protocol::kTcp : model::Protocol::kUdp, endpoints()});
    return all;
  }

  std::vector<model::Endpoint> endpoints() {
    std::vector<model::Endpoint> all;
    for (int i = 1; i <= 8; ++i) {
      if (below(2)) continue;
      model::Endpoint endpoint;
      endpoint.address =
          address(i % 3 ? "10.0.0." + std::to_string(i) : "fd01::" + std::to_string(i));
      endpoint.port = 8080 + below(2);
      endpoint.state = static_cast<model::EndpointState>(below(8) < 5 ? 0 : below(3));
      endpoint.weight = below(5) ? 1 : below(4);
      endpoint.zone = below(3) ? "" : "zone" + std::to_string(below(4));
      endpoint.node = below(3) ? "node" + std::to_string(below(20)) : "";
      all.push_back(std::move(endpoint));
    }
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
      return std::pair(a.address, a.port) < std::pair(b.address, b.port);
    });
    return below(10) ? all : std::vector<model::Endpoint>{};
  }

  void put(model::Service service) {
    const auto key = service.key;
    services_[key] = service;
    mesh_.services.set(key, std::make_shared<const model::Service>(std::move(service)));
  }
  void erase(const model::ServiceKey key) {  // a copy: the caller's may lie in what is erased
    for (const auto& old : services_[key].addresses) taken_.erase(old);
    services_.erase(key);
    mesh_.services.set(key, nullptr);
  }

  std::mt19937_64 rng_;
  int names_;
  std::map<model::ServiceKey, model::Service> services_;
  std::set<model::Address> taken_;
  model::Mesh mesh_;
};

}  // namespace weft::tests
