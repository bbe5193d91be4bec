#include "mesh/model/inventory.h"

#include <algorithm>

#include "mesh/model/failover.h"
#include "mesh/model/join.h"
#include "mesh/model/precedence.h"

namespace weft::model {
namespace {

const Inventory::ById kNone;

// Puts a value under index[key][name] or takes it away; nothing empty stays behind.
template <class Index, class Key>
void put(Index& index, const Key& key, const std::string& name, const Inventory::ObjectPtr& object,
         bool present) {
  if (present) {
    index[key][name] = object;
  } else if (const auto at = index.find(key); at != index.end()) {
    at->second.erase(name);
    if (at->second.empty()) index.erase(at);
  }
}

const Inventory::ById& find_or_none(
    const std::unordered_map<ServiceKey, Inventory::ById, KeyHash>& index, const ServiceKey& key) {
  const auto at = index.find(key);
  return at == index.end() ? kNone : at->second;
}

const PodObject* as_pod(const Inventory::ObjectPtr& object) {
  return object ? &std::get<PodObject>(*object) : nullptr;
}

// A whole Pod says more than its labels, and is there as soon.
const Labels* labels_in(const Inventory::ObjectPtr& pod, const Inventory::ObjectPtr& labels) {
  const auto& known = pod ? pod : labels;
  return known ? &meta_of(*known).labels : nullptr;
}

}  // namespace

void Inventory::change(const ObjectPtr& object, bool present) {
  struct Visit {
    Inventory& self;
    const ObjectPtr& object;
    bool present;

    void operator()(const ServiceObject& service) { self.change_service(service, object, present); }
    void operator()(const PodObject& pod) { self.change_pod(pod, object, present); }
    void operator()(const PodLabelsObject& labels) {
      self.change_pod_labels(labels, object, present);
    }
    void operator()(const EndpointSliceObject& slice) {
      if (slice.service.empty()) return;
      const ServiceKey key{slice.meta.namespace_name, slice.service};
      put(self.slices_, key, slice.meta.name, object, present);
      self.dirty_.insert(key);
    }
    void operator()(const NamespaceObject&) {}  // no endpoint depends on it
    void operator()(const NodeObject& node) { self.change_node(node, present); }
    void operator()(const DestinationRuleObject& rule) {
      for (const auto& key : keys_of(rule.host, rule.meta.namespace_name)) {
        put(self.rules_, key, id_of(*object).to_text(), object, present);
        if (!compared_labels(rule).empty())
          put(self.comparing_, key, id_of(*object).to_text(), object, present);
        self.dirty_.insert(key);
      }
    }
    void operator()(const VirtualServiceObject& routes) {
      self.change_routes(routes, object, present);
    }
    void operator()(const HttpRouteObject& route) {
      self.change_http_route(route, object, present);
    }
  };
  std::visit(Visit{*this, object, present}, *object);
}

void Inventory::change_service(const ServiceObject& service, const ObjectPtr& object,
                               bool present) {
  const auto key = key_of(service);
  dirty_.insert(key);
  const auto before = in_force(key);
  put(services_, key, id_of(*object).to_text(), object, present);
  const auto after = in_force(key);
  if (before == after) return;
  if (before) establish(key, before, false);
  if (after) establish(key, after, true);
}

Inventory::ObjectPtr Inventory::in_force(const ServiceKey& key) const {
  const auto* oldest = service(key);
  for (const auto& [id, object] : claimants_of(key))
    if (&std::get<ServiceObject>(*object) == oldest) return object;
  return nullptr;
}

void Inventory::establish(const ServiceKey& key, const ObjectPtr& object, bool present) {
  const auto& service = std::get<ServiceObject>(*object);
  auto& space = namespaces_[key.namespace_name];
  if (present) {
    space.services.insert(key.name);
    claims_.add(key, object);
  } else {
    space.services.erase(key.name);
    claims_.remove(key, object);
  }
  if (service.entry) change_names(key, *service.entry, present);
  if (service.selector.empty()) return;
  auto& selecting = space.selecting;
  auto& keys = selecting[*service.selector.begin()];
  if (present) {
    keys.insert(key);
  } else {
    keys.erase(key);
    if (keys.empty()) selecting.erase(*service.selector.begin());
  }
}

void Inventory::change_pod(const PodObject& pod, const ObjectPtr& object, bool present) {
  remember_pod(pod.meta);
  auto& space = namespaces_[pod.meta.namespace_name];
  if (present)
    space.pods_by_name.insert_or_assign(pod.meta.name, object);
  else
    space.pods_by_name.erase(pod.meta.name);
  if (!pod.finished)
    for (const auto& address : pod.ips)
      put(space.pods_by_address, address, pod.meta.name, object, present);
  for (const auto& label : pod.meta.labels) {
    put(space.pods, label, pod.meta.name, object, present);
    const auto keys = space.selecting.find(label);
    if (keys == space.selecting.end()) continue;
    for (const auto& key : keys->second)
      // Where slices speak for a service its pods are not looked at; the last slice to go says so
      // itself.
      if ((!slices_.contains(key) || service(key)->entry) &&
          selects(service(key)->selector, pod.meta.labels))
        dirty_.insert(key);
  }
}

void Inventory::change_pod_labels(const PodLabelsObject& labels, const ObjectPtr& object,
                                  bool present) {
  remember_pod(labels.meta);
  auto& known = namespaces_[labels.meta.namespace_name].labels_by_name;
  if (present)
    known.insert_or_assign(labels.meta.name, object);
  else
    known.erase(labels.meta.name);
}

Inventory::PodVersions Inventory::pod_versions(const std::string& namespace_name,
                                               const std::string& name) const {
  const auto space = namespaces_.find(namespace_name);
  if (space == namespaces_.end()) return {};
  const auto find = [&name](const auto& by_name) {
    const auto at = by_name.find(name);
    return at == by_name.end() ? nullptr : at->second;
  };
  return {find(space->second.pods_by_name), find(space->second.labels_by_name)};
}

// Before it changes, for mark_regrouped().
void Inventory::remember_pod(const ObjectMeta& meta) {
  if (!routes_to_.empty() || !http_routes_to_.empty() || !http_routes_of_.empty() ||
      !comparing_.empty())
    pods_before_.try_emplace({meta.namespace_name, meta.name},
                             pod_versions(meta.namespace_name, meta.name));
}

// Nodes are updated all the time and hardly ever move: what counts is whether a place differs once
// the old version has gone and the new one has come.
void Inventory::change_node(const NodeObject& node, bool present) {
  const auto label = [&](std::string_view key) {
    const auto at = node.meta.labels.find(std::string(key));
    return at == node.meta.labels.end() ? std::string() : at->second;
  };
  Place place{label(kRegionLabel), label(kSubzoneLabel)};
  if (place == Place{}) return;
  places_before_.try_emplace(node.meta.name, place_of(node.meta.name));
  if (present)
    places_.insert_or_assign(node.meta.name, std::move(place));
  else
    places_.erase(node.meta.name);
}

void Inventory::change_routes(const VirtualServiceObject& routes, const ObjectPtr& object,
                              bool present) {
  const auto& own = routes.meta.namespace_name;
  const auto id = id_of(*object).to_text();
  for (const auto& host : routes.hosts) {
    for (const auto& key : keys_of(host, own)) put(routes_of_, key, id, object, present);
    // tcp rules are for one Service.
    const auto scope = scope_of(host, own);
    if (scope && scope->kind != HostScope::Kind::kService && !routes.http.empty())
      index_wide(*scope, object, present);
  }
  add_routed(routes, dirty_);
  const auto index_to = [&](const std::string& host) {
    for (const auto& key : keys_of(host, own)) {
      put(routes_to_, key, id, object, present);
      dirty_.insert(key);
    }
  };
  for (const auto& rule : routes.tcp)
    for (const auto& destination : rule.destinations) index_to(destination.host);
  for (const auto& backend : routes.backends) index_to(backend.host);
}

void Inventory::index_wide(const HostScope& scope, const ObjectPtr& object, bool present) {
  const auto id = id_of(*object).to_text();
  auto& wide = scope.kind == HostScope::Kind::kMesh ? routes_everywhere_
                                                    : namespaces_[scope.key.namespace_name].routes;
  if (present)
    wide.insert_or_assign(id, object);
  else
    wide.erase(id);
}

void Inventory::change_http_route(const HttpRouteObject& route, const ObjectPtr& object,
                                  bool present) {
  const auto id = id_of(*object).to_text();
  for (const auto& parent : route.parents) {
    const ServiceKey key{parent.namespace_name, parent.name};
    put(http_routes_of_, key, id, object, present);
    dirty_.insert(key);
  }
  for (const auto& backend : route.backends)
    if (const auto key = host_to_key(backend.host, route.meta.namespace_name))
      put(http_routes_to_, *key, id, object, present);
}

// Wildcards are few and services many: all that are covered are looked at, without an index.
void Inventory::add_covered(const HostScope& scope, std::set<ServiceKey>& keys) const {
  if (scope.kind == HostScope::Kind::kMesh) {
    for (const auto& [key, service] : services_) keys.insert(key);
  } else if (const auto space = namespaces_.find(scope.key.namespace_name);
             space != namespaces_.end()) {
    for (const auto& name : space->second.services) keys.insert({space->first, name});
  }
}

// Whom its hosts mean.
void Inventory::add_routed(const VirtualServiceObject& routes, std::set<ServiceKey>& keys) const {
  for (const auto& host : routes.hosts) {
    const auto named = keys_of(host, routes.meta.namespace_name);
    keys.insert(named.begin(), named.end());
    const auto scope = scope_of(host, routes.meta.namespace_name);
    if (scope && scope->kind != HostScope::Kind::kService && !routes.http.empty())
      add_covered(*scope, keys);
  }
}

// Pods are updated all the time and hardly ever change their labels or addresses, which is all that
// a subset asks of one that a slice already speaks for.
void Inventory::mark_regrouped() {
  struct Changed {
    std::set<std::string> names;
    std::set<Address> addresses;
  };
  std::map<std::string, Changed> spaces;
  for (const auto& [id, before] : pods_before_) {
    const auto after = pod_versions(id.first, id.second);
    const auto *labels_before = labels_in(before.pod, before.labels),
               *labels_after = labels_in(after.pod, after.labels);
    const auto *old = as_pod(before.pod), *now = as_pod(after.pod);
    const bool same_labels = labels_before && labels_after ? *labels_before == *labels_after
                                                           : labels_before == labels_after;
    const bool same_place =
        old && now ? old->ips == now->ips && old->finished == now->finished : old == now;
    if (same_labels && same_place) continue;
    auto& changed = spaces[id.first];
    changed.names.insert(id.second);
    for (const auto* version : {old, now})
      if (version) changed.addresses.insert(version->ips.begin(), version->ips.end());
  }
  pods_before_.clear();
  if (spaces.empty()) return;
  // Subsets of these hold other endpoints, and endpoints are of another workload or come first.
  std::set<ServiceKey> keys;
  for (const auto* asking :
       {&routes_to_, &routes_of_, &http_routes_to_, &http_routes_of_, &comparing_})
    for (const auto& [key, objects] : *asking) keys.insert(key);
  for (const auto& key : keys) {
    const auto changed = spaces.find(key.namespace_name);
    if (changed == spaces.end()) continue;
    for (const auto& [name, object] : slices_of(key))
      for (const auto& endpoint : std::get<EndpointSliceObject>(*object).endpoints)
        if (endpoint.pod.empty() ? changed->second.addresses.contains(endpoint.address)
                                 : changed->second.names.contains(endpoint.pod))
          dirty_.insert(key);
  }
}

// One step: a route's destinations give their own endpoints, not those they are routed to.
void Inventory::mark_routed() {
  if (routes_to_.empty() && http_routes_to_.empty()) return;
  std::set<ServiceKey> routed;
  std::set<const Object*> done;  // one with a wildcard may have many that are dirty as destinations
  for (const auto& key : dirty_) {
    for (const auto& [id, object] : find_or_none(routes_to_, key))
      if (done.insert(object.get()).second)
        add_routed(std::get<VirtualServiceObject>(*object), routed);
    for (const auto& [id, object] : find_or_none(http_routes_to_, key))
      for (const auto& parent : std::get<HttpRouteObject>(*object).parents)
        routed.insert({parent.namespace_name, parent.name});
  }
  dirty_.merge(routed);
}

std::set<ServiceKey> Inventory::take_dirty() {
  // No index leads from nodes to services: a move is rare enough to look at all of them.
  const bool moved =
      std::any_of(places_before_.begin(), places_before_.end(),
                  [this](const auto& before) { return place_of(before.first) != before.second; });
  places_before_.clear();
  if (moved)
    for (const auto& [key, service] : services_) dirty_.insert(key);
  mark_regrouped();
  mark_named();
  mark_routed();
  mark_named();
  claims_.settle([this](const ServiceKey& key) { dirty_.insert(key); });
  return std::exchange(dirty_, {});
}

const ServiceObject* Inventory::service(const ServiceKey& key) const {
  return oldest_of<ServiceObject>(claimants_of(key));
}

const Inventory::ById& Inventory::claimants_of(const ServiceKey& key) const {
  return find_or_none(services_, key);
}

const Inventory::Place& Inventory::place_of(const std::string& node) const {
  static const Place kUnknown;
  const auto at = places_.find(node);
  return at == places_.end() ? kUnknown : at->second;
}

const Inventory::ById& Inventory::slices_of(const ServiceKey& key) const {
  return find_or_none(slices_, key);
}

const Inventory::ById& Inventory::http_routes_of(const ServiceKey& key) const {
  return find_or_none(http_routes_of_, key);
}

Inventory::ById Inventory::wide_routes_of(const ServiceKey& key) const {
  ById wide = routes_everywhere_;
  const auto space = namespaces_.find(key.namespace_name);
  if (space != namespaces_.end())
    wide.insert(space->second.routes.begin(), space->second.routes.end());
  return wide;
}

const Labels* Inventory::labels_of(const std::string& namespace_name,
                                   const std::string& pod) const {
  const auto versions = pod_versions(namespace_name, pod);
  return labels_in(versions.pod, versions.labels);
}

const PodObject* Inventory::pod_at(const std::string& namespace_name,
                                   const Address& address) const {
  const auto space = namespaces_.find(namespace_name);
  if (space == namespaces_.end()) return nullptr;
  const auto at = space->second.pods_by_address.find(address);
  if (at == space->second.pods_by_address.end() || at->second.size() != 1) return nullptr;
  return &std::get<PodObject>(*at->second.begin()->second);
}

std::vector<const PodObject*> Inventory::pods_for(const ServiceObject& service) const {
  const auto space = namespaces_.find(service.meta.namespace_name);
  if (service.selector.empty() || space == namespaces_.end()) return {};
  // All of the selector must match: its rarest label finds the fewest candidates.
  const ById* fewest = nullptr;
  for (const auto& label : service.selector) {
    const auto with = space->second.pods.find(label);
    if (with == space->second.pods.end()) return {};
    if (!fewest || with->second.size() < fewest->size()) fewest = &with->second;
  }
  std::vector<const PodObject*> pods;
  for (const auto& [name, object] : *fewest) {
    const auto& pod = std::get<PodObject>(*object);
    if (selects(service.selector, pod.meta.labels)) pods.push_back(&pod);
  }
  return pods;
}

}  // namespace weft::model
