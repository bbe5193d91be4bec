#include "agent/publish/publisher.h"

#include <algorithm>
#include <utility>

#include "mesh/lb/priority.h"
#include "mesh/wire/http.h"

namespace weft::publish {
namespace {

using model::Family;

std::string bytes_of(const model::Address& address) {
  return {reinterpret_cast<const char*>(address.bytes.data()), address.bytes.size()};
}

model::HttpCluster own_cluster(const model::ServiceKey& key, std::uint16_t port) {
  model::HttpCluster cluster;
  cluster.namespace_name = key.namespace_name;
  cluster.service = key.name;
  cluster.port = port;
  return cluster;
}

// How it is called in the log is what a reader is told of a removal.
weft::v1::ClusterName parse_name(const std::string& name) {
  const auto slash = name.find('/');
  const auto colon = name.find(':', slash);
  const auto subset = name.find('/', colon);
  weft::v1::ClusterName result;
  result.set_namespace_name(name.substr(0, slash));
  result.set_service(name.substr(slash + 1, colon - slash - 1));
  result.set_port(static_cast<std::uint32_t>(std::stoul(name.substr(colon + 1))));
  if (subset != std::string::npos) result.set_subset(name.substr(subset + 1));
  return result;
}

weft::v1::Service to_service(const model::Service& service, const model::ServicePort& port) {
  weft::v1::Service message;
  message.set_namespace_name(service.key.namespace_name);
  message.set_name(service.key.name);
  message.set_port(port.port);
  for (const auto& address : service.addresses) message.add_addresses(bytes_of(address));
  // Who says that it speaks HTTP is held to it; all others may speak what they like.
  message.set_tunnel(port.app_protocol != model::AppProtocol::kHttp);
  return message;
}

// The service's port as the kernel has it; of two families the endpoint's own first.
const compile::PlacedPort* find_port(const compile::PlacedService* service, std::uint16_t port,
                                     Family family) {
  if (!service) return nullptr;
  const auto is = [&](const compile::PortKey& key) {
    return key.port == port && key.protocol == model::Protocol::kTcp;
  };
  const compile::PlacedPort* other = nullptr;
  for (const auto& placed : service->ports) {
    if (!is(placed.key)) continue;
    if (placed.key.family == family) return &placed;
    other = &placed;
  }
  return other;
}

const compile::PlacedEndpoint* find_endpoint(const compile::PlacedPort* port,
                                             const model::Endpoint& endpoint) {
  if (!port) return nullptr;
  const auto where = std::pair(endpoint.address, endpoint.port);
  const auto at = std::lower_bound(
      port->endpoints.begin(), port->endpoints.end(), where,
      [](const auto& e, const auto& w) { return std::pair(e.address, e.port) < w; });
  return at != port->endpoints.end() && std::pair(at->address, at->port) == where ? &*at : nullptr;
}

void add_policy(wire::Cluster& cluster, model::Balancer balancer,
                const model::TrafficPolicy& traffic) {
  cluster.balancer = balancer;
  cluster.connect_timeout = traffic.limits.connect_timeout;
  cluster.limits = traffic.http;
  if (traffic.outlier) {
    cluster.consecutive_5xx = traffic.outlier->consecutive_5xx;
    cluster.consecutive_gateway = traffic.outlier->consecutive_gateway;
  }
  cluster.warmup = traffic.warmup.duration;
  cluster.node_source = traffic.source_address == model::SourceAddress::kNode;
}

// Whole messages, as many as fit each.
class Writer {
 public:
  Writer(bool whole, std::size_t max_bytes) : max_bytes_(max_bytes) {
    configs_.emplace_back().set_whole(whole);
  }
  weft::v1::Config& room_for(std::size_t bytes) {
    if (bytes_ && bytes_ + bytes > max_bytes_) {
      configs_.emplace_back();
      bytes_ = 0;
    }
    bytes_ += bytes;
    return configs_.back();
  }
  // Only the last one's number is that of the whole: all before have what the reader had.
  std::vector<weft::v1::Config> take(std::uint64_t told, std::uint64_t last) {
    for (auto& config : configs_) config.set_generation(told);
    configs_.back().set_generation(last);
    return std::move(configs_);
  }

 private:
  const std::size_t max_bytes_;
  std::size_t bytes_ = 0;
  std::vector<weft::v1::Config> configs_;
};

}  // namespace

bool Publisher::update(const model::MeshPtr& mesh, const compile::MapState& placed,
                       const std::set<std::uint32_t>& ejected) {
  const auto before = last_;
  touched_.clear();
  ejected_ = ejected;
  for (const auto& key : std::exchange(moved_, {})) touch_clusters_of(key);
  using Services = model::BucketTable<model::Service>;
  const auto old = std::exchange(mesh_, mesh);
  Services::for_each_change(old->services, mesh_->services,
                            [this](const auto* was, const auto* is) { change_service(was, is); });
  const auto moved = std::exchange(placed_, placed);
  using Places = model::BucketTable<compile::PlacedService>;
  Places::for_each_change(
      moved.services, placed_.services,
      [this](const auto* was, const auto* is) { touch_clusters_of((is ? *is : *was)->key); });
  for (const auto& name : touched_) publish_cluster(name);
  if (!last_) ++last_;
  return last_ != before;
}

void Publisher::change_service(const model::ServicePtr* before, const model::ServicePtr* after) {
  const auto& key = (after ? *after : *before)->key;
  touch_clusters_of(key);
  std::set<std::string> names;
  for (std::size_t i = 0; after && i < (*after)->ports.size(); ++i) {
    const auto& port = (*after)->ports[i];
    if (!port.http || port.protocol != model::Protocol::kTcp) continue;
    const auto name = own_cluster(key, port.port).name();
    names.insert(name);
    publish_port(name, {*after, port.http, i});
  }
  for (std::size_t i = 0; before && i < (*before)->ports.size(); ++i) {
    const auto name = own_cluster(key, (*before)->ports[i].port).name();
    if (!names.contains(name)) drop_port(name);
  }
}

void Publisher::drop_port(const std::string& name) {
  const auto at = ports_.find(name);
  if (at == ports_.end()) return;
  for (const auto& cluster : at->second.routes->clusters) {
    owners_[cluster.name()].erase(name);
    touched_.insert(cluster.name());
  }
  ports_.erase(at);
  services_.set(name, ++last_, std::nullopt);
}

// Endpoints are the clusters' matter: where the rules are the same nothing of them is looked at.
void Publisher::publish_port(const std::string& name, const Port& port) {
  const auto old = ports_.find(name);
  if (old != ports_.end() && old->second.routes != port.routes)
    for (const auto& cluster : old->second.routes->clusters) {
      owners_[cluster.name()].erase(name);
      touched_.insert(cluster.name());
    }
  const auto& clusters = port.routes->clusters;
  for (std::size_t i = 0; i < clusters.size(); ++i) {
    const auto cluster = clusters[i].name();
    owners_[cluster].emplace(name, i);
    clusters_of_[{clusters[i].namespace_name, clusters[i].service}].insert(cluster);
    touched_.insert(cluster);
  }
  ports_.insert_or_assign(name, port);
  auto message = to_service(*port.service, port.service->ports[port.index]);
  auto rest = message.SerializeAsString();
  const auto* known = services_.find(name);
  const bool same_routes = known && known->routes == port.routes;
  if (same_routes && known->rest == rest) return;
  *message.mutable_routes() = same_routes ? known->message.routes() : wire::to_wire(*port.routes);
  services_.set(name, ++last_, ServiceEntry{std::move(message), port.routes, std::move(rest)});
}

void Publisher::touch_clusters_of(const model::ServiceKey& key) {
  const auto at = clusters_of_.find(key);
  if (at != clusters_of_.end()) touched_.insert(at->second.begin(), at->second.end());
}

void Publisher::publish_cluster(const std::string& name) {
  const auto owners = owners_.find(name);
  const auto* known = clusters_.find(name);
  if (owners == owners_.end() || owners->second.empty()) {
    if (owners != owners_.end()) owners_.erase(owners);
    const auto parsed = parse_name(name);
    const auto of = clusters_of_.find({parsed.namespace_name(), parsed.service()});
    if (of != clusters_of_.end() && of->second.erase(name) && of->second.empty())
      clusters_of_.erase(of);
    if (known) clusters_.set(name, ++last_, std::nullopt);
    return;
  }
  // Whoever names it knows the same endpoints.
  const auto& [owner, index] = *owners->second.begin();
  const auto& port = ports_.at(owner);
  auto cluster = to_cluster(port.routes->clusters[index],
                            port.service->ports[port.index].http_endpoints[index]);
  if (known && *known == cluster) return;
  clusters_.set(name, ++last_, std::move(cluster));
}

wire::Cluster Publisher::to_cluster(const model::HttpCluster& name,
                                    const std::vector<model::Endpoint>& endpoints) const {
  wire::Cluster cluster;
  cluster.name = name;
  const model::ServiceKey key{name.namespace_name, name.service};
  const auto* service = mesh_->services.find(key);
  if (!service) return cluster;
  // The port that is sent to decides, not the one that was dialled: its breakers are meant.
  const auto* own = (*service)->find_port(name.port, model::Protocol::kTcp);
  const auto& traffic = own ? (*service)->traffic_of(*own) : (*service)->traffic;
  add_policy(cluster, own ? (*service)->balancer_of(*own) : (*service)->balancer, traffic);
  const auto* found = placed_.services.find(key);
  const auto* place = found ? found->get() : nullptr;
  if (const auto* port = find_port(place, name.port, Family::kIpv4))
    cluster.service_index = port->index;
  for (const auto family : {Family::kIpv4, Family::kIpv6})
    add_endpoints(**service, traffic, family, endpoints, cluster);
  return cluster;
}

// Each family by itself, as it is laid out for the kernel: shares and hints count within it.
void Publisher::add_endpoints(const model::Service& service, const model::TrafficPolicy& traffic,
                              Family family, const std::vector<model::Endpoint>& endpoints,
                              wire::Cluster& cluster) const {
  std::vector<model::Endpoint> near;
  std::copy_if(endpoints.begin(), endpoints.end(), std::back_inserter(near),
               [&](const auto& endpoint) { return endpoint.address.family() == family; });
  lb::apply(traffic.locality, here_, near);
  const auto* found = placed_.services.find(service.key);
  const auto* port = find_port(found ? found->get() : nullptr, cluster.name.port, family);
  std::vector<const compile::PlacedEndpoint*> known;
  std::vector<bool> healthy;
  for (const auto& endpoint : near) {
    known.push_back(find_endpoint(port, endpoint));
    healthy.push_back(!known.back() || !ejected_.contains(known.back()->id));
  }
  const auto choice = lb::choose(near, healthy, traffic.failover_below_percent);
  lb::use(choice, near);
  for (const auto i : choice.rotation) near[i].priority = 0;
  for (std::size_t i = 0; i < near.size(); ++i) {
    const auto id = known[i] ? known[i]->id : 0;
    auto& one =
        cluster.endpoints.emplace_back(wire::endpoint_of(near[i], id, id ? incarnation_(id) : 0));
    if (id) one.service_index = port->index;
  }
}

std::vector<weft::v1::Config> Publisher::since(std::uint64_t told, std::size_t max_bytes) const {
  if (told && told == last_) return {};
  Writer writer(!told, max_bytes);
  std::vector<std::string> removed;
  clusters_.since(told, [&](const auto& name, const auto* cluster) {
    if (!cluster) return removed.push_back(name);
    auto message = wire::to_wire(*cluster);
    *writer.room_for(message.ByteSizeLong()).add_clusters() = std::move(message);
  });
  services_.since(told, [&](const auto& name, const auto* service) {
    if (service)
      *writer.room_for(service->message.ByteSizeLong()).add_services() = service->message;
    else if (told)
      *writer.room_for(name.size()).add_removed_services() = parse_name(name);
  });
  for (const auto& name : removed)
    if (told) *writer.room_for(name.size()).add_removed_clusters() = parse_name(name);
  return writer.take(told, last_);
}

void Publisher::forget_removed(std::uint64_t told) {
  services_.forget_removed(told);
  clusters_.forget_removed(told);
}

}  // namespace weft::publish
