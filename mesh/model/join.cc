#include "mesh/model/join.h"

#include <algorithm>
#include <tuple>

#include "mesh/model/destination.h"
#include "mesh/model/failover.h"
#include "mesh/model/precedence.h"

namespace weft::model {
namespace {

EndpointState state_of(bool ready, bool serving, bool terminating, bool publish_not_ready) {
  // Terminating comes first: publishNotReadyAddresses makes the API call such an endpoint ready,
  // but it is on its way out all the same.
  if (terminating) return serving ? EndpointState::kDraining : EndpointState::kNotReady;
  return ready || publish_not_ready ? EndpointState::kReady : EndpointState::kNotReady;
}

// The number that a service port leads to on this pod; nothing where the pod has no port of that
// name.
std::optional<std::uint16_t> target_on(const PodObject& pod, const ServicePortSpec& port) {
  if (!port.target) return port.port;
  if (const auto* number = std::get_if<std::uint16_t>(&*port.target)) return *number;
  const auto& name = std::get<std::string>(*port.target);
  for (const auto& candidate : pod.ports)
    if (candidate.name == name && candidate.protocol == port.protocol) return candidate.port;
  return std::nullopt;
}

void add_slice_endpoints(const EndpointSliceObject& slice, const ServiceObject& service,
                         const ServicePortSpec& port, std::vector<Endpoint>& endpoints) {
  for (const auto& candidate : slice.ports) {
    if (candidate.name.value_or("") != port.name || candidate.protocol != port.protocol ||
        !candidate.port)
      continue;
    for (const auto& e : slice.endpoints) {
      Endpoint endpoint;
      endpoint.address = e.address;
      endpoint.port = *candidate.port;
      endpoint.state = state_of(e.ready, e.serving, e.terminating, service.publish_not_ready);
      endpoint.terminating = e.terminating;
      endpoint.priority = slice.rank.priority;
      endpoint.weight = slice.rank.weight;
      endpoint.zone = e.zone;
      endpoint.node = e.node;
      endpoint.for_zones = e.for_zones;
      endpoints.push_back(std::move(endpoint));
    }
  }
}

void add_pod_endpoint(const PodObject& pod, const ServiceObject& service,
                      const ServicePortSpec& port, std::vector<Endpoint>& endpoints) {
  if (pod.finished || !selects(service.selector, pod.meta.labels)) return;
  const auto target = target_on(pod, port);
  if (!target) return;
  for (const auto& address : pod.ips) {
    Endpoint endpoint;
    endpoint.address = address;
    endpoint.port = *target;
    endpoint.state = state_of(pod.ready, pod.ready, pod.terminating, service.publish_not_ready);
    endpoint.terminating = pod.terminating;
    endpoint.priority = pod.rank.priority;
    endpoint.weight = pod.rank.weight;
    endpoint.zone = pod.zone;
    endpoint.subzone = pod.subzone;
    endpoint.node = pod.node;
    endpoints.push_back(std::move(endpoint));
  }
}

// Empty labels are everybody's.
void add_entry_endpoints(const EntryPart& entry, const ServicePortSpec& port, const Labels& labels,
                         std::vector<Endpoint>& endpoints) {
  for (const auto& own : entry.endpoints) {
    if (!labels.empty() && !selects(labels, own.labels)) continue;
    const auto* target = port.target ? std::get_if<std::uint16_t>(&*port.target) : nullptr;
    const auto named = own.ports.find(port.name);
    Endpoint endpoint;
    endpoint.address = own.address;
    endpoint.port = named != own.ports.end() ? named->second : target ? *target : port.port;
    endpoint.priority = own.rank.priority;
    endpoint.weight = own.rank.weight;
    endpoint.region = own.region;
    endpoint.zone = own.zone;
    endpoints.push_back(std::move(endpoint));
  }
}

void sort_unique(std::vector<Endpoint>& endpoints) {
  const auto where = [](const Endpoint& e) { return std::pair(e.address, e.port); };
  std::sort(endpoints.begin(), endpoints.end(), [](const Endpoint& a, const Endpoint& b) {
    return std::tie(a.address, a.port, a.state, a.priority, a.weight, a.zone, a.subzone, a.node,
                    a.for_zones) < std::tie(b.address, b.port, b.state, b.priority, b.weight,
                                            b.zone, b.subzone, b.node, b.for_zones);
  });
  endpoints.erase(
      std::unique(endpoints.begin(), endpoints.end(),
                  [&](const Endpoint& a, const Endpoint& b) { return where(a) == where(b); }),
      endpoints.end());
}

}  // namespace

bool selects(const Labels& selector, const Labels& labels) {
  return !selector.empty() &&
         std::all_of(selector.begin(), selector.end(), [&](const auto& wanted) {
           const auto label = labels.find(wanted.first);
           return label != labels.end() && label->second == wanted.second;
         });
}

std::set<std::string> compared_labels(const Inventory& inventory, const ServiceKey& service) {
  const auto* object = inventory.service(service);
  const auto* rule = object ? rule_in_force(*object, inventory.rules_for(service)) : nullptr;
  return rule ? compared_labels(*rule) : std::set<std::string>();
}

EndpointSources::EndpointSources(const ServiceObject& service, const Inventory& inventory,
                                 std::set<std::string> compared)
    : service_(service),
      inventory_(inventory),
      slices_(inventory.slices_of(service.entry ? ServiceKey() : key_of(service.meta))) {
  if (slices_.empty()) pods_ = inventory.pods_for(service);
  compared.merge(compared_labels(inventory, key_of(service.meta)));
  if (!compared.empty()) find_labels(compared);
}

void EndpointSources::find_labels(const std::set<std::string>& compared) {
  const auto add = [&](const Address& address, const Labels& all) {
    Labels own;
    for (const auto& key : compared)
      if (const auto label = all.find(key); label != all.end()) own.insert(*label);
    labels_.emplace(address, std::move(own));
  };
  for (const auto& [name, object] : slices_) {
    const auto& slice = std::get<EndpointSliceObject>(*object);
    for (const auto& endpoint : slice.endpoints) {
      if (const auto* labels = labels_of(slice.meta.namespace_name, endpoint))
        add(endpoint.address, *labels);
      else
        without_labels_.insert(endpoint.address);
    }
  }
  for (const auto* pod : pods_)
    for (const auto& address : pod->ips) add(address, pod->meta.labels);
  if (service_.entry)
    for (const auto& own : service_.entry->endpoints) add(own.address, own.labels);
}

// targetRef is who it is. Without one the address says: hand-written slices have none.
const Labels* EndpointSources::labels_of(const std::string& namespace_name,
                                         const SliceEndpoint& endpoint) const {
  if (!endpoint.pod.empty()) return inventory_.labels_of(namespace_name, endpoint.pod);
  const auto* pod = inventory_.pod_at(namespace_name, endpoint.address);
  return pod ? &pod->meta.labels : nullptr;
}

std::vector<Endpoint> EndpointSources::endpoints(const ServicePortSpec& port) const {
  std::vector<Endpoint> endpoints;
  for (const auto& [name, slice] : slices_)
    add_slice_endpoints(std::get<EndpointSliceObject>(*slice), service_, port, endpoints);
  for (const auto* pod : pods_) add_pod_endpoint(*pod, service_, port, endpoints);
  if (service_.entry) add_entry_endpoints(*service_.entry, port, {}, endpoints);
  finish(endpoints);
  return endpoints;
}

std::vector<Endpoint> EndpointSources::endpoints(const ServicePortSpec& port, const Subset& subset,
                                                 std::set<Address>& strangers) const {
  if (subset.labels.empty()) return endpoints(port);
  std::vector<Endpoint> endpoints;
  for (const auto& [name, slice] : slices_)
    add_slice_endpoints(members_of(std::get<EndpointSliceObject>(*slice), subset, strangers),
                        service_, port, endpoints);
  for (const auto* pod : pods_)
    if (selects(subset.labels, pod->meta.labels)) add_pod_endpoint(*pod, service_, port, endpoints);
  if (service_.entry) add_entry_endpoints(*service_.entry, port, subset.labels, endpoints);
  finish(endpoints);
  return endpoints;
}

EndpointSliceObject EndpointSources::members_of(const EndpointSliceObject& slice,
                                                const Subset& subset,
                                                std::set<Address>& strangers) const {
  const auto& space = slice.meta.namespace_name;
  auto members = slice;
  std::erase_if(members.endpoints, [&](const SliceEndpoint& endpoint) {
    const auto* labels = labels_of(space, endpoint);
    if (!labels) strangers.insert(endpoint.address);
    return !labels || !selects(subset.labels, *labels);
  });
  return members;
}

void EndpointSources::finish(std::vector<Endpoint>& endpoints) const {
  sort_unique(endpoints);
  for (auto& endpoint : endpoints) {
    // An entry's own say where they are.
    if (!endpoint.node.empty()) endpoint.region = inventory_.region_of(endpoint.node);
    if (endpoint.subzone.empty()) endpoint.subzone = inventory_.subzone_of(endpoint.node);
    const auto known = labels_.find(endpoint.address);
    if (known != labels_.end()) endpoint.labels = known->second;
  }
}

}  // namespace weft::model
