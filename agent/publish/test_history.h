// Meshes with HTTP rules that change, as merge() makes them: what did not change is the same
// pointer, rules and services alike. By hand, or at random from a seed.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/compile/compile.h"
#include "mesh/model/mesh.h"

namespace weft::tests {

class History {
 public:
  explicit History(std::uint64_t seed = 0) : rng_(seed) {}

  void put(const std::string& name, const std::vector<std::string>& endpoints) {
    auto& service = services_[name];
    service.key = {"shop", name};
    service.addresses = {*model::Address::parse("10.96.0." + std::to_string(name.size()))};
    model::ServicePort port;
    port.port = 80;
    for (const auto& text : std::set(endpoints.begin(), endpoints.end()))
      port.endpoints.push_back({*model::Address::parse(text), 8080});
    std::sort(port.endpoints.begin(), port.endpoints.end(), [](const auto& a, const auto& b) {
      return std::pair(a.address, a.port) < std::pair(b.address, b.port);
    });
    service.ports = {port};
  }
  void erase(const std::string& name) { services_.erase(name), routes_.erase(name); }
  void edit(const std::string& name, const std::function<void(model::Service&)>& how) {
    how(services_.at(name));
  }
  // The port's rules send requests to itself, and to these, which may not exist.
  void route(const std::string& name, const std::vector<std::string>& to, int rules = 1) {
    model::HttpRoutes routes;
    routes.clusters.push_back(cluster_of(name));
    for (const auto& other : std::set(to.begin(), to.end()))
      if (other != name) routes.clusters.push_back(cluster_of(other));
    for (int i = 0; i < rules; ++i) {
      model::HttpRule rule;
      rule.name = "rule" + std::to_string(i);
      model::Forward forward;
      for (std::uint32_t c = 0; c < routes.clusters.size(); ++c)
        forward.destinations.push_back({c});
      rule.action = forward;
      routes.rules.push_back(rule);
    }
    auto& known = routes_[name];
    if (!known || !(*known == routes)) known = std::make_shared<model::HttpRoutes>(routes);
  }
  // Endpoints of "service/subset", as route() may name it.
  void put_subset(const std::string& name, std::vector<model::Endpoint> endpoints) {
    subsets_[name] = std::move(endpoints);
  }
  void unroute(const std::string& name) { routes_.erase(name); }

  // A few changes of any kind.
  void step() {
    for (int changes = 1 + below(4); changes > 0; --changes) change();
  }
  int below(int n) { return static_cast<int>(rng_() % static_cast<unsigned>(n)); }

  model::MeshPtr mesh() {
    model::Mesh next = mesh_ ? *mesh_ : model::Mesh{};
    std::set<std::string> gone;
    if (mesh_) mesh_->services.for_each([&](const auto& s) { gone.insert(s->key.name); });
    for (const auto& [name, service] : services_) {
      gone.erase(name);
      auto whole = joined(service);
      const auto* old = next.services.find(whole.key);
      if (!old || !(**old == whole))
        next.services.set(whole.key, std::make_shared<model::Service>(whole));
    }
    for (const auto& name : gone) next.services.set({"shop", name}, nullptr);
    mesh_ = std::make_shared<model::Mesh>(next);
    return mesh_;
  }
  // What the maps hold once that is applied.
  const compile::MapState& placed() {
    compile::Input input;
    const auto now = mesh();
    input.before = compiled_.get();
    input.after = now.get();
    input.placed = &placed_;
    input.allow_mass_removal = true;
    placed_ = compile::compile(input, ids_, ++generation_).desired;
    compiled_ = now;
    return placed_;
  }

 private:
  static model::HttpCluster cluster_of(const std::string& name) {
    model::HttpCluster cluster;
    cluster.namespace_name = "shop";
    const auto slash = std::min(name.find('/'), name.size());
    cluster.service = name.substr(0, slash);
    if (slash < name.size()) cluster.subset = name.substr(slash + 1);
    cluster.port = 80;
    return cluster;
  }
  std::string name() { return "s" + std::to_string(below(8)); }

  void change() {
    const auto at = name();
    switch (below(6)) {
      case 0:
        return erase(at);
      case 1:
        return unroute(at);
      case 2:
        if (services_.contains(at)) route(at, {name(), name() + "x", name()}, 1 + below(3));
        return;
      case 3:
        if (services_.contains(at))
          services_.at(at).traffic.http.max_requests = static_cast<std::uint32_t>(below(3));
        return;
      default:
        std::vector<std::string> endpoints;
        for (int i = below(4); i > 0; --i)
          endpoints.push_back("10.1.0." + std::to_string(1 + below(9)));
        put(at, endpoints);
    }
  }

  model::Service joined(model::Service service) const {
    const auto at = routes_.find(service.key.name);
    if (at == routes_.end()) return service;
    auto& port = service.ports[0];
    port.http = at->second;
    for (const auto& cluster : at->second->clusters) {
      if (const auto subset = subsets_.find(cluster.service + "/" + cluster.subset);
          subset != subsets_.end()) {
        port.http_endpoints.push_back(subset->second);
        continue;
      }
      const auto target = services_.find(cluster.service);
      port.http_endpoints.push_back(target == services_.end() ? std::vector<model::Endpoint>{}
                                                              : target->second.ports[0].endpoints);
    }
    return service;
  }

  std::mt19937_64 rng_;
  std::map<std::string, model::Service> services_;
  std::map<std::string, std::vector<model::Endpoint>> subsets_;
  std::map<std::string, std::shared_ptr<const model::HttpRoutes>> routes_;
  model::MeshPtr mesh_, compiled_;
  compile::MapState placed_;
  compile::Ids ids_{compile::Limits{}};
  std::uint64_t generation_ = 0;
};

}  // namespace weft::tests
