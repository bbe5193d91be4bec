#include "mesh/model/inventory.h"

#include <algorithm>

#include "mesh/model/join.h"

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

}  // namespace

std::optional<ServiceKey> host_to_key(std::string_view host, std::string_view namespace_name) {
  const auto dot = host.find('.');
  const std::string name(host.substr(0, dot));
  if (name.empty() || name.find('*') != std::string::npos) return std::nullopt;
  if (dot == std::string_view::npos) return ServiceKey{std::string(namespace_name), name};
  const auto rest = host.substr(dot + 1);
  const auto end = rest.find('.');
  const std::string in(rest.substr(0, end));
  if (in.empty()) return std::nullopt;
  if (end != std::string_view::npos) {
    const auto suffix = rest.substr(end + 1);
    if (suffix != "svc" && suffix != "svc.cluster.local") return std::nullopt;
  }
  return ServiceKey{in, name};
}

void Inventory::change(const ObjectPtr& object, bool present) {
  struct Visit {
    Inventory& self;
    const ObjectPtr& object;
    bool present;

    void operator()(const ServiceObject& service) { self.change_service(service, object, present); }
    void operator()(const PodObject& pod) { self.change_pod(pod, object, present); }
    void operator()(const EndpointSliceObject& slice) {
      if (slice.service.empty()) return;
      const ServiceKey key{slice.meta.namespace_name, slice.service};
      put(self.slices_, key, slice.meta.name, object, present);
      self.dirty_.insert(key);
    }
    void operator()(const NamespaceObject&) {}  // no endpoint depends on it
    void operator()(const NodeObject& node) { self.change_node(node, present); }
    void operator()(const DestinationRuleObject& rule) {
      const auto key = host_to_key(rule.host, rule.meta.namespace_name);
      if (!key) return;
      put(self.rules_, *key, id_of(*object).to_text(), object, present);
      self.dirty_.insert(*key);
    }
  };
  std::visit(Visit{*this, object, present}, *object);
}

void Inventory::change_service(const ServiceObject& service, const ObjectPtr& object,
                               bool present) {
  const ServiceKey key{service.meta.namespace_name, service.meta.name};
  dirty_.insert(key);
  if (present) {
    services_[key] = object;
    claims_.add(key, object);
  } else {
    services_.erase(key);
    claims_.remove(key, object);
  }
  if (service.selector.empty()) return;
  auto& selecting = namespaces_[key.namespace_name].selecting;
  auto& keys = selecting[*service.selector.begin()];
  if (present) {
    keys.insert(key);
  } else {
    keys.erase(key);
    if (keys.empty()) selecting.erase(*service.selector.begin());
  }
}

void Inventory::change_pod(const PodObject& pod, const ObjectPtr& object, bool present) {
  auto& space = namespaces_[pod.meta.namespace_name];
  for (const auto& label : pod.meta.labels) {
    put(space.pods, label, pod.meta.name, object, present);
    const auto keys = space.selecting.find(label);
    if (keys == space.selecting.end()) continue;
    for (const auto& key : keys->second)
      // Where slices speak for a service its pods are not looked at; the last slice to go says so
      // itself.
      if (!slices_.contains(key) && selects(service(key)->selector, pod.meta.labels))
        dirty_.insert(key);
  }
}

// Nodes are updated all the time and hardly ever move: what counts is whether a region differs once
// the old version has gone and the new one has come.
void Inventory::change_node(const NodeObject& node, bool present) {
  const auto label = node.meta.labels.find("topology.kubernetes.io/region");
  if (label == node.meta.labels.end()) return;
  regions_before_.try_emplace(node.meta.name, region_of(node.meta.name));
  if (present)
    regions_.insert_or_assign(node.meta.name, label->second);
  else
    regions_.erase(node.meta.name);
}

std::set<ServiceKey> Inventory::take_dirty() {
  // No index leads from nodes to services: a move is rare enough to look at all of them.
  const bool moved =
      std::any_of(regions_before_.begin(), regions_before_.end(),
                  [this](const auto& before) { return region_of(before.first) != before.second; });
  regions_before_.clear();
  if (moved)
    for (const auto& [key, service] : services_) dirty_.insert(key);
  claims_.settle([this](const ServiceKey& key) { dirty_.insert(key); });
  return std::exchange(dirty_, {});
}

const ServiceObject* Inventory::service(const ServiceKey& key) const {
  const auto at = services_.find(key);
  return at == services_.end() ? nullptr : &std::get<ServiceObject>(*at->second);
}

const std::string& Inventory::region_of(const std::string& node) const {
  static const std::string kUnknown;
  const auto at = regions_.find(node);
  return at == regions_.end() ? kUnknown : at->second;
}

const Inventory::ById& Inventory::slices_of(const ServiceKey& key) const {
  return find_or_none(slices_, key);
}

const Inventory::ById& Inventory::rules_for(const ServiceKey& key) const {
  return find_or_none(rules_, key);
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
