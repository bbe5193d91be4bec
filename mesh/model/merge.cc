#include "mesh/model/merge.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "mesh/model/destination.h"
#include "mesh/model/http_routes.h"
#include "mesh/model/inventory.h"
#include "mesh/model/join.h"
#include "mesh/model/precedence.h"
#include "mesh/model/routes.h"

namespace weft::model {
namespace {

using ObjectPtr = std::shared_ptr<const Object>;

// The others are named.
const DestinationRuleObject* rule_of(const ServiceObject& service, const Inventory::ById& rules,
                                     std::vector<Notice>& notices) {
  const auto* chosen = rule_in_force(service, rules);
  for (const auto& [id, object] : rules) {
    const auto& rule = std::get<DestinationRuleObject>(*object);
    if (&rule == chosen) continue;
    const bool older = age_of(chosen->meta) < age_of(rule.meta) ||
                       chosen->meta.namespace_name == rule.meta.namespace_name;
    notices.push_back({Severity::kWarning, rule.meta.origin, id,
                       "has no effect: DestinationRule " + key_of(chosen->meta).to_text() +
                           in_file(chosen->meta.origin) + " is for the same host, " +
                           title_of(service) +
                           (older || !service.entry ? ", and older" : ", and of its namespace")});
  }
  return chosen;
}

// A rule's or one port's.
template <class Rule>
Balancer balancer_of(const ServiceObject& service, const Rule* rule) {
  if (service.balancer) return *service.balancer;
  return rule && rule->balancer ? *rule->balancer : Balancer::kRoundRobin;
}

// Of the ports that the rule does not single out.
void set_policy(const ServiceObject& object, const DestinationRuleObject* rule, Service& service,
                std::vector<Notice>& notices) {
  auto joined = join_traffic(object.traffic, rule ? &rule->traffic : nullptr);
  if (joined.locality_without_outlier)
    notices.push_back({Severity::kWarning, rule->meta.origin, id_of(*rule).to_text(),
                       "localityLbSetting has no effect without outlierDetection, as in Istio"});
  const auto has_breaker = [](const PortRule& port) { return port.traffic.outlier.has_value(); };
  if (joined.base_ejection_without_outlier &&
      !(rule && std::any_of(rule->ports.begin(), rule->ports.end(), has_breaker)))
    notices.push_back({Severity::kWarning, object.meta.origin, id_of(object).to_text(),
                       "weft.mesh/breaker-base-ejection has no effect: neither "
                       "weft.mesh/breaker-failing-for nor a DestinationRule's outlierDetection "
                       "turns a breaker on"});
  service.balancer = balancer_of(object, rule);
  service.traffic = std::move(joined.policy);
}

void set_port_policies(const ServiceObject& object, const DestinationRuleObject& rule,
                       Service& service, std::vector<Notice>& notices) {
  const auto warn = [&](const PortRule& entry, const std::string& message) {
    notices.push_back({Severity::kWarning, entry.origin, id_of(rule).to_text(),
                       "portLevelSettings of port " + std::to_string(entry.port) + message});
  };
  for (const auto& entry : rule.ports) {
    auto joined = join_traffic(object.traffic, &entry.traffic);
    if (joined.locality_without_outlier)
      warn(entry,
           ": localityLbSetting has no effect without outlierDetection beside it, as in "
           "Istio");
    const auto policy = std::make_shared<const PortPolicy>(
        PortPolicy{balancer_of(object, &entry), std::move(joined.policy)});
    bool used = false;
    for (auto& port : service.ports)
      if (port.port == entry.port) {
        port.policy = policy;
        used = true;
      }
    if (!used)
      warn(entry, " have no effect: Service " + service.key.to_text() + " has no such port");
  }
}

void say_without_labels(const DestinationRuleObject& rule, const ServiceKey& key,
                        const std::set<Address>& addresses, std::vector<Notice>& notices) {
  if (addresses.empty()) return;
  notices.push_back({Severity::kWarning, rule.meta.origin, id_of(rule).to_text(),
                     "failoverPriority: " + std::to_string(addresses.size()) +
                         " endpoints of Service " + key.to_text() + " (" +
                         addresses.begin()->to_text() + (addresses.size() > 1 ? ", ..." : "") +
                         ") count as without labels: their Pods are not known here"});
}

std::vector<Address> own_addresses(const ServiceObject& service, const Claims& claims,
                                   std::vector<Notice>& notices) {
  std::vector<Address> own;
  const auto key = key_of(service);
  for (const auto& address : addresses_of(service)) {
    const auto* rival = claims.in_the_way(key, address);
    if (!rival) {
      own.push_back(address);
      continue;
    }
    notices.push_back(
        {Severity::kRejected, service.meta.origin, title_of(service),
         "address " + address.to_text() + " belongs to " + title_of(*rival) +
             in_file(rival->meta.origin) +
             ", which is older: not served here; give one of the two another address"});
  }
  return own;
}

Service join(const ServiceObject& object, const Inventory& inventory,
             std::vector<Notice>& notices) {
  Service service;
  service.key = key_of(object);
  service.affinity = object.affinity;
  service.headless = object.headless;
  service.origin = object.meta.origin;
  const auto* rule = rule_of(object, inventory.rules_for(service.key), notices);
  if (rule) say_unchosen_subsets(*rule, service.key, inventory, notices);
  set_policy(object, rule, service, notices);
  if (object.unserved_type) return service;
  service.addresses = own_addresses(object, inventory.claims(), notices);
  const EndpointSources sources(object, inventory);
  if (rule) say_without_labels(*rule, service.key, sources.without_labels(), notices);
  for (const auto& spec : object.ports) {
    service.ports.push_back({spec.name, spec.port, spec.protocol, sources.endpoints(spec)});
    service.ports.back().app_protocol = spec.app_protocol;
  }
  const auto number = [](const ServicePort& port) { return std::pair(port.port, port.protocol); };
  std::stable_sort(service.ports.begin(), service.ports.end(),
                   [&](const auto& a, const auto& b) { return number(a) < number(b); });
  service.ports.erase(
      std::unique(service.ports.begin(), service.ports.end(),
                  [&](const auto& a, const auto& b) { return number(a) == number(b); }),
      service.ports.end());
  if (rule) set_port_policies(object, *rule, service, notices);
  apply_http_routes(inventory, service, notices);  // needs the ports' own endpoints
  apply_routes(inventory, service, notices);
  return service;
}

// Who is not in force although it is called as the one that is.
void say_rivals(const ServiceObject& in_force, const Inventory& inventory,
                std::vector<Notice>& notices) {
  const auto key = key_of(in_force);
  for (const auto& [id, object] : inventory.claimants_of(key))
    if (&std::get<ServiceObject>(*object) != &in_force)
      notices.push_back({Severity::kRejected, meta_of(*object).origin, id,
                         "is not served: " + title_of(in_force) + in_file(in_force.meta.origin) +
                             " is " + key.to_text() + ", too, and older; remove one of the two"});
  if (!in_force.entry) return;
  for (const auto& [name, slice] : inventory.slices_of(key))
    notices.push_back({Severity::kInfo, meta_of(*slice).origin, id_of(*slice).to_text(),
                       "ignored: " + key.to_text() + " is " + title_of(in_force) +
                           ", which has endpoints of its own"});
}

// What is said of objects whose Service nobody described. Of a full name that might be a Service's
// it is said where that is looked for.
std::vector<Notice> orphans(const ServiceKey& key, const Inventory& inventory) {
  std::vector<Notice> notices;
  const bool is_name = key.namespace_name.empty();
  if (is_name && host_to_key(key.name, "")) return notices;
  const std::string nobody =
      is_name ? "no ServiceEntry that its namespace sees has the host " + key.name +
                    "; a Service is NAME, NAME.NAMESPACE or NAME.NAMESPACE.svc.cluster.local"
              : "there is no Service " + key.to_text();
  // Whether an entry has one of these names instead.
  const auto found = [&](const std::string& host, const ObjectMeta& meta) {
    return inventory.is_name(host, meta.namespace_name);
  };
  for (const auto& [name, slice] : inventory.slices_of(key))
    notices.push_back(
        {Severity::kInfo, meta_of(*slice).origin, id_of(*slice).to_text(), "ignored: " + nobody});
  for (const auto& [id, object] : inventory.rules_for(key)) {
    const auto& rule = std::get<DestinationRuleObject>(*object);
    if (!found(rule.host, rule.meta))
      notices.push_back({Severity::kWarning, rule.meta.origin, id, "has no effect: " + nobody});
  }
  for (const auto& [id, object] : inventory.routes_of(key)) {
    const auto& routes = std::get<VirtualServiceObject>(*object);
    const auto means_key = [&](const std::string& host) {
      const auto keys = keys_of(host, routes.meta.namespace_name);
      return std::find(keys.begin(), keys.end(), key) != keys.end() && !found(host, routes.meta);
    };
    if (std::none_of(routes.hosts.begin(), routes.hosts.end(), means_key)) continue;
    const std::string rules = routes.http.empty() ? "tcp" : routes.tcp.empty() ? "http" : "its";
    notices.push_back(
        {Severity::kWarning, routes.meta.origin, id, rules + " rules have no effect: " + nobody});
  }
  for (const auto& [id, route] : inventory.http_routes_of(key))
    notices.push_back({Severity::kWarning, meta_of(*route).origin, id,
                       "has no effect on Service " + key.to_text() + ": there is none"});
  return notices;
}

// Hosts that can be nobody's, whoever else is there.
void say_odd_hosts(const std::string& id, const Object& object, std::vector<Notice>& notices) {
  const auto& meta = meta_of(object);
  const auto check = [&](const std::string& host, const std::string& what) {
    if (!keys_of(host, meta.namespace_name).empty()) return;
    notices.push_back({Severity::kWarning, meta.origin, id,
                       what + ": host \"" + host +
                           "\" is no Service's; write NAME, NAME.NAMESPACE, "
                           "NAME.NAMESPACE.svc.cluster.local or a ServiceEntry's host"});
  };
  if (const auto* rule = std::get_if<DestinationRuleObject>(&object))
    check(rule->host, "has no effect");
  if (const auto* routes = std::get_if<VirtualServiceObject>(&object))
    for (const auto& host : routes->hosts) {
      if (!routes->tcp.empty()) check(host, "tcp rules have no effect");
      if (!routes->http.empty() && !scope_of(host, meta.namespace_name))
        check(host, "http rules have no effect");
    }
}

}  // namespace

struct Merger::State {
  // One version of an object. Those of one id are kept oldest first; the first is in force.
  struct Document {
    ObjectPtr object;
    std::string unit;
    std::size_t position = 0;  // in the unit

    auto order() const {
      return std::tuple_cat(age_of(meta_of(*object)), std::tie(unit, position));
    }
  };
  using Documents = std::vector<Document>;

  std::unordered_map<std::string, std::shared_ptr<const Unit>> units;
  std::unordered_map<std::string, Documents> documents;  // by id
  Inventory inventory;

  std::map<std::string, std::vector<Notice>> unit_notices;
  std::map<std::string, std::vector<Notice>> object_notices;  // by id
  std::map<ServiceKey, std::vector<Notice>> service_notices;
  bool notices_changed = false;
  MeshPtr mesh = std::make_shared<Mesh>();

  void replace_unit(const std::string& name, std::shared_ptr<const Unit> unit);
  void settle(const std::string& id, const ObjectPtr& before);
  void rebuild(const ServiceKey& key, BucketTable<Service>& table);
  std::shared_ptr<const std::vector<Notice>> collect_notices() const;

  template <class Key>
  void say(std::map<Key, std::vector<Notice>>& book, const Key& key, std::vector<Notice> notices) {
    const auto known = book.find(key);
    if (known == book.end() ? notices.empty() : known->second == notices) return;
    notices_changed = true;
    if (notices.empty())
      book.erase(known);
    else
      book.insert_or_assign(key, std::move(notices));
  }
};

void Merger::State::replace_unit(const std::string& name, std::shared_ptr<const Unit> unit) {
  const auto old = units.find(name);
  if (old != units.end() ? old->second == unit : !unit) return;
  std::map<std::string, ObjectPtr> touched;  // -> what was in force
  const auto versions_of = [&](const Object& object) -> Documents& {
    const auto id = id_of(object).to_text();
    auto& versions = documents[id];
    touched.try_emplace(id, versions.empty() ? nullptr : versions.front().object);
    return versions;
  };
  if (old != units.end())
    for (const auto& object : old->second->objects)
      std::erase_if(versions_of(*object), [&](const Document& d) { return d.unit == name; });
  if (unit)
    for (std::size_t i = 0; i < unit->objects.size(); ++i) {
      auto& versions = versions_of(*unit->objects[i]);
      Document document{unit->objects[i], name, i};
      const auto place = std::upper_bound(
          versions.begin(), versions.end(), document,
          [](const Document& a, const Document& b) { return a.order() < b.order(); });
      versions.insert(place, std::move(document));
    }
  say(unit_notices, name, unit ? unit->notices : std::vector<Notice>());
  if (unit)
    units.insert_or_assign(name, std::move(unit));
  else
    units.erase(old);
  for (const auto& [id, before] : touched) settle(id, before);
}

void Merger::State::settle(const std::string& id, const ObjectPtr& before) {
  const auto known = documents.find(id);
  const Documents& versions = known->second;
  const ObjectPtr after = versions.empty() ? nullptr : versions.front().object;
  std::vector<Notice> notices;
  for (std::size_t i = 1; i < versions.size(); ++i)
    notices.push_back({Severity::kRejected, meta_of(*versions[i].object).origin, id,
                       "is described twice: the one" + in_file(meta_of(*after).origin) +
                           " is older and stays in force; remove one of the two"});
  if (after) say_odd_hosts(id, *after, notices);
  say(object_notices, id, std::move(notices));
  if (before != after) {
    if (before) inventory.remove(before);
    if (after) inventory.add(after);
  }
  if (versions.empty()) documents.erase(known);
}

void Merger::State::rebuild(const ServiceKey& key, BucketTable<Service>& table) {
  const auto* old = table.find(key);
  const auto* object = inventory.service(key);
  if (!object) {
    if (old) table.set(key, nullptr);
    return say(service_notices, key, orphans(key, inventory));
  }
  std::vector<Notice> notices;
  say_rivals(*object, inventory, notices);
  auto service = join(*object, inventory, notices);
  if (old) keep_http_routes(**old, service);
  if (!old || !(**old == service))
    table.set(key, std::make_shared<const Service>(std::move(service)));
  say(service_notices, key, std::move(notices));
}

std::shared_ptr<const std::vector<Notice>> Merger::State::collect_notices() const {
  std::vector<const Notice*> all;
  const auto add = [&](const auto& book) {
    for (const auto& [key, notices] : book)
      for (const auto& notice : notices) all.push_back(&notice);
  };
  add(unit_notices);
  add(object_notices);
  add(service_notices);
  const auto place = [](const Notice* n) {
    return std::tuple(n->origin.file ? std::string_view(*n->origin.file) : std::string_view(),
                      n->origin.line, n->severity, std::string_view(n->object),
                      std::string_view(n->message));
  };
  std::sort(all.begin(), all.end(), [&](auto* a, auto* b) { return place(a) < place(b); });
  auto sorted = std::make_shared<std::vector<Notice>>();
  sorted->reserve(all.size());
  // A route for two services has the same to say of both.
  for (const auto* notice : all)
    if (sorted->empty() || !(sorted->back() == *notice)) sorted->push_back(*notice);
  return sorted;
}

Merger::Merger() : state_(std::make_unique<State>()) {}
Merger::~Merger() = default;

void Merger::set(const std::string& unit_name, std::shared_ptr<const Unit> unit) {
  state_->replace_unit(unit_name, std::move(unit));
}

MeshPtr Merger::build() {
  State& state = *state_;
  const auto dirty = state.inventory.take_dirty();
  if (dirty.empty() && !state.notices_changed) return state.mesh;
  auto mesh = std::make_shared<Mesh>(*state.mesh);
  for (const auto& key : dirty) state.rebuild(key, mesh->services);
  if (state.notices_changed) mesh->notices = state.collect_notices();
  state.notices_changed = false;
  state.mesh = std::move(mesh);
  return state.mesh;
}

MeshPtr merge(const std::map<std::string, std::shared_ptr<const Unit>>& units) {
  Merger merger;
  for (const auto& [name, unit] : units) merger.set(name, unit);
  return merger.build();
}

}  // namespace weft::model
