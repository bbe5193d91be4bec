#include "mesh/model/merge.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <unordered_map>

#include "mesh/model/join.h"

namespace weft::model {
namespace {

using ObjectPtr = std::shared_ptr<const Object>;

std::string text_of(const ObjectId& id) { return id.to_text(); }

// The order of age: creationTimestamp, where nobody stated one newest; then file and line.
auto age_of(const ObjectMeta& meta) {
  return std::tuple(meta.created.value_or(std::numeric_limits<std::int64_t>::max()),
                    meta.origin.file ? *meta.origin.file : std::string(), meta.origin.line);
}

// Among services age ends in the name, not in the file: the same objects in other files give the same mesh.
bool older(const ServiceObject& a, const ServiceObject& b) {
  const auto age = [](const ServiceObject& s) {
    return std::tuple(s.meta.created.value_or(std::numeric_limits<std::int64_t>::max()),
                      s.meta.namespace_name, s.meta.name);
  };
  return age(a) < age(b);
}

ServiceKey key_of(const ObjectMeta& meta) { return {meta.namespace_name, meta.name}; }

bool shares_a_port(const ServiceObject& a, const ServiceObject& b) {
  for (const auto& x : a.ports)
    for (const auto& y : b.ports)
      if (x.port == y.port && x.protocol == y.protocol) return true;
  return false;
}

bool contains(const std::vector<Address>& addresses, const Address& address) {
  return std::find(addresses.begin(), addresses.end(), address) != addresses.end();
}

std::vector<Address> addresses_of(const ServiceObject& service) {
  std::vector<Address> all = service.cluster_ips;
  all.insert(all.end(), service.external_ips.begin(), service.external_ips.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

// "web", "web.shop", "web.shop.svc...": relative to the rule's namespace, as Istio resolves hosts.
ServiceKey host_to_key(const std::string& host, const std::string& namespace_name) {
  const auto dot = host.find('.');
  if (dot == std::string::npos) return {namespace_name, host};
  const auto end = host.find('.', dot + 1);
  return {host.substr(dot + 1, end == std::string::npos ? end : end - dot - 1), host.substr(0, dot)};
}

}  // namespace

struct Merger::State {
  // Every document of an object id, oldest first; the first is in force.
  struct Document {
    ObjectPtr object;
    std::string unit;
  };
  std::map<std::string, std::shared_ptr<const Unit>> units;
  std::unordered_map<std::string, std::vector<Document>> documents;

  // Indexes over what is in force.
  std::map<ServiceKey, ObjectPtr> services;
  std::map<ServiceKey, std::map<std::string, ObjectPtr>> slices;     // by slice name
  std::map<std::string, std::map<std::string, ObjectPtr>> pods;      // by namespace, name
  std::map<std::string, std::set<ServiceKey>> selecting;             // services with a selector, by namespace
  std::map<ServiceKey, std::map<std::string, ObjectPtr>> rules;      // DestinationRules by target and id
  std::map<Address, std::set<ServiceKey>> claims;

  std::set<ServiceKey> dirty;
  std::map<std::string, std::vector<Notice>> unit_notices;
  std::map<std::string, std::vector<Notice>> duplicate_notices;  // by object id
  std::map<ServiceKey, std::vector<Notice>> service_notices;
  bool notices_changed = false;
  MeshPtr mesh = std::make_shared<Mesh>();

  void replace_unit(const std::string& name, std::shared_ptr<const Unit> unit);
  void settle(const std::string& id, const ObjectPtr& before);
  void note_duplicates(const std::string& id, const std::vector<Document>& all);
  void index(const ObjectPtr& object, bool present);
  void index_service(const ServiceObject& service, const ObjectPtr& object, bool present);
  void index_pod(const PodObject& pod, const ObjectPtr& object, bool present);
  void rebuild(const ServiceKey& key, BucketTable<Service>& table);
  Service join(const ServiceObject& object, std::vector<Notice>& notices) const;
  std::vector<Address> own_addresses(const ServiceObject& object, std::vector<Notice>& notices) const;
  Balancer balancer_of(const ServiceObject& object, std::vector<Notice>& notices) const;
  std::shared_ptr<const std::vector<Notice>> collect_notices() const;
};

void Merger::State::replace_unit(const std::string& name, std::shared_ptr<const Unit> unit) {
  const auto old = units.find(name);
  // In-force object of every id touched, as it was before this change.
  std::map<std::string, ObjectPtr> touched;
  const auto touch = [&](const Object& object) {
    const auto id = text_of(id_of(object));
    if (touched.contains(id)) return;
    const auto known = documents.find(id);
    touched[id] = known == documents.end() || known->second.empty() ? nullptr : known->second.front().object;
  };
  if (old != units.end())
    for (const auto& object : old->second->objects) {
      touch(*object);
      auto& all = documents[text_of(id_of(*object))];
      std::erase_if(all, [&](const Document& d) { return d.unit == name && d.object == object; });
    }
  if (unit)
    for (const auto& object : unit->objects) {
      touch(*object);
      auto& all = documents[text_of(id_of(*object))];
      const auto place = std::upper_bound(all.begin(), all.end(), object, [](const ObjectPtr& a, const Document& b) {
        return age_of(meta_of(*a)) < age_of(meta_of(*b.object));
      });
      all.insert(place, {object, name});
    }
  const bool had_notices = unit_notices.erase(name) != 0;
  if (unit && !unit->notices.empty()) unit_notices[name] = unit->notices;
  notices_changed |= had_notices || (unit && !unit->notices.empty());
  if (unit)
    units[name] = std::move(unit);
  else if (old != units.end())
    units.erase(old);
  for (const auto& [id, before] : touched) settle(id, before);
}

void Merger::State::settle(const std::string& id, const ObjectPtr& before) {
  const auto known = documents.find(id);
  const ObjectPtr after = known->second.empty() ? nullptr : known->second.front().object;
  note_duplicates(id, known->second);
  if (known->second.empty()) documents.erase(known);
  if (before == after) return;
  if (before) index(before, false);
  if (after) index(after, true);
}

void Merger::State::note_duplicates(const std::string& id, const std::vector<Document>& all) {
  const bool had = duplicate_notices.erase(id) != 0;
  for (std::size_t i = 1; i < all.size(); ++i)
    duplicate_notices[id].push_back(
        {Severity::kRejected, meta_of(*all[i].object).origin, id,
         "is described twice: " + meta_of(*all[0].object).origin.to_text() +
             " is older and stays in force; remove one of the two"});
  notices_changed |= had || all.size() > 1;
}

void Merger::State::index(const ObjectPtr& object, bool present) {
  struct Visit {
    State& state;
    const ObjectPtr& object;
    bool present;

    void operator()(const ServiceObject& service) { state.index_service(service, object, present); }
    void operator()(const PodObject& pod) { state.index_pod(pod, object, present); }
    void operator()(const EndpointSliceObject& slice) {
      if (slice.service.empty()) return;
      put(state.slices, {slice.meta.namespace_name, slice.service}, slice.meta.name);
    }
    void operator()(const DestinationRuleObject& rule) {
      put(state.rules, host_to_key(rule.host, rule.meta.namespace_name), text_of(id_of(*object)));
    }
    void put(std::map<ServiceKey, std::map<std::string, ObjectPtr>>& index, const ServiceKey& key,
             const std::string& name) {
      state.dirty.insert(key);
      if (present) {
        index[key][name] = object;
      } else if (const auto at = index.find(key); at != index.end()) {
        at->second.erase(name);
        if (at->second.empty()) index.erase(at);
      }
    }
  };
  std::visit(Visit{*this, object, present}, *object);
}

void Merger::State::index_service(const ServiceObject& service, const ObjectPtr& object, bool present) {
  const auto key = key_of(service.meta);
  dirty.insert(key);
  if (present)
    services[key] = object;
  else
    services.erase(key);
  if (!service.selector.empty()) {
    auto& keys = selecting[service.meta.namespace_name];
    present ? (void)keys.insert(key) : (void)keys.erase(key);
  }
  for (const auto& address : addresses_of(service)) {
    auto& claimants = claims[address];
    dirty.insert(claimants.begin(), claimants.end());
    present ? (void)claimants.insert(key) : (void)claimants.erase(key);
    if (claimants.empty()) claims.erase(address);
  }
}

void Merger::State::index_pod(const PodObject& pod, const ObjectPtr& object, bool present) {
  auto& in_namespace = pods[pod.meta.namespace_name];
  if (present)
    in_namespace[pod.meta.name] = object;
  else
    in_namespace.erase(pod.meta.name);
  if (const auto keys = selecting.find(pod.meta.namespace_name); keys != selecting.end())
    for (const auto& key : keys->second)
      if (const auto service = services.find(key);
          service != services.end() &&
          selects(std::get<ServiceObject>(*service->second).selector, pod.meta.labels))
        dirty.insert(key);
}

void Merger::State::rebuild(const ServiceKey& key, BucketTable<Service>& table) {
  std::vector<Notice> notices;
  const auto service = services.find(key);
  if (service == services.end()) {
    table.set(key, nullptr);
    if (const auto of = slices.find(key); of != slices.end())
      for (const auto& [name, slice] : of->second)
        notices.push_back({Severity::kInfo, meta_of(*slice).origin, id_of(*slice).to_text(),
                           "its Service " + key.to_text() + " is not there: ignored"});
  } else {
    auto fresh = join(std::get<ServiceObject>(*service->second), notices);
    const auto* old = table.find(key);
    if (!old || !(**old == fresh)) table.set(key, std::make_shared<const Service>(std::move(fresh)));
  }
  const auto known = service_notices.find(key);
  if (known == service_notices.end() ? notices.empty() : known->second == notices) return;
  notices_changed = true;
  if (notices.empty())
    service_notices.erase(key);
  else
    service_notices[key] = std::move(notices);
}

Service Merger::State::join(const ServiceObject& object, std::vector<Notice>& notices) const {
  const auto key = key_of(object.meta);
  Service service;
  service.key = key;
  service.affinity = object.affinity;
  service.headless = object.headless;
  service.origin = object.meta.origin;
  service.balancer = balancer_of(object, notices);
  if (object.unserved_type) return service;
  service.addresses = own_addresses(object, notices);
  const auto of_service = slices.find(key);
  const auto of_namespace = pods.find(key.namespace_name);
  for (const auto& spec : object.ports) {
    ServicePort port{spec.name, spec.port, spec.protocol, {}};
    if (of_service != slices.end()) {
      for (const auto& [name, slice] : of_service->second)
        add_slice_endpoints(std::get<EndpointSliceObject>(*slice), object, spec, port.endpoints);
    } else if (!object.selector.empty() && of_namespace != pods.end()) {
      for (const auto& [name, pod] : of_namespace->second)
        add_pod_endpoint(std::get<PodObject>(*pod), object, spec, port.endpoints);
    }
    sort_unique(port.endpoints);
    service.ports.push_back(std::move(port));
  }
  std::sort(service.ports.begin(), service.ports.end(), [](const ServicePort& a, const ServicePort& b) {
    return std::pair(a.port, a.protocol) < std::pair(b.port, b.protocol);
  });
  return service;
}

std::vector<Address> Merger::State::own_addresses(const ServiceObject& object, std::vector<Notice>& notices) const {
  std::vector<Address> own;
  const auto key = key_of(object.meta);
  for (const auto& address : addresses_of(object)) {
    const ServiceObject* winner = nullptr;
    for (const auto& rival_key : claims.at(address)) {
      if (rival_key == key) continue;
      const auto& rival = std::get<ServiceObject>(*services.at(rival_key));
      if (rival.unserved_type) continue;
      const bool both_cluster = contains(object.cluster_ips, address) && contains(rival.cluster_ips, address);
      if ((both_cluster || shares_a_port(object, rival)) && older(rival, object) &&
          (!winner || older(rival, *winner)))
        winner = &rival;
    }
    if (!winner) {
      own.push_back(address);
      continue;
    }
    notices.push_back({Severity::kRejected, object.meta.origin, "Service " + key.to_text(),
                       "address " + address.to_text() + " belongs to Service " + key_of(winner->meta).to_text() + " (" +
                           winner->meta.origin.to_text() + "), which is older: not served here; give one of the two " +
                           "another address"});
  }
  return own;
}

Balancer Merger::State::balancer_of(const ServiceObject& object, std::vector<Notice>& notices) const {
  const auto of_service = rules.find(key_of(object.meta));
  const DestinationRuleObject* in_force = nullptr;
  if (of_service != rules.end())
    for (const auto& [id, rule] : of_service->second) {
      const auto& candidate = std::get<DestinationRuleObject>(*rule);
      if (!in_force || age_of(candidate.meta) < age_of(in_force->meta)) in_force = &candidate;
    }
  if (of_service != rules.end())
    for (const auto& [id, rule] : of_service->second)
      if (&std::get<DestinationRuleObject>(*rule) != in_force)
        notices.push_back({Severity::kWarning, meta_of(*rule).origin, id,
                           "host " + in_force->host + " has an older rule, " + in_force->meta.namespace_name + "/" +
                               in_force->meta.name + " (" + in_force->meta.origin.to_text() +
                               "), which is in force: this one has no effect"});
  if (object.balancer) return *object.balancer;
  return in_force && in_force->balancer ? *in_force->balancer : Balancer::kRoundRobin;
}

std::shared_ptr<const std::vector<Notice>> Merger::State::collect_notices() const {
  auto all = std::make_shared<std::vector<Notice>>();
  const auto add = [&](const auto& index) {
    for (const auto& [name, notices] : index) all->insert(all->end(), notices.begin(), notices.end());
  };
  add(unit_notices);
  add(duplicate_notices);
  add(service_notices);
  const auto file_of = [](const Notice& n) { return n.origin.file ? std::string_view(*n.origin.file) : ""; };
  std::sort(all->begin(), all->end(), [&](const Notice& a, const Notice& b) {
    return std::tuple(file_of(a), a.origin.line, a.severity, std::string_view(a.object), std::string_view(a.message)) <
           std::tuple(file_of(b), b.origin.line, b.severity, std::string_view(b.object), std::string_view(b.message));
  });
  return all;
}

Merger::Merger() : state_(std::make_unique<State>()) {}
Merger::~Merger() = default;

void Merger::set(const std::string& unit_name, std::shared_ptr<const Unit> unit) {
  state_->replace_unit(unit_name, std::move(unit));
}

MeshPtr Merger::build() {
  State& state = *state_;
  if (state.dirty.empty() && !state.notices_changed) return state.mesh;
  auto mesh = std::make_shared<Mesh>(*state.mesh);
  for (const auto& key : state.dirty) state.rebuild(key, mesh->services);
  state.dirty.clear();
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
