#include "userspace_proxy/net/config_builder.h"

#include <cstring>

#include "mesh/wire/http.h"

namespace weft::net {
namespace {

std::string name_of(const weft::v1::Service& service) {
  return service.namespace_name() + "/" + service.name() + ":" + std::to_string(service.port());
}

std::string name_of(const weft::v1::ClusterName& name) {
  auto text = name.namespace_name() + "/" + name.service() + ":" + std::to_string(name.port());
  return name.subset().empty() ? text : text + "/" + name.subset();
}

absl::StatusOr<model::Address> read_address(const std::string& bytes) {
  model::Address address;
  if (bytes.size() != address.bytes.size())
    return absl::InvalidArgumentError("an address of " + std::to_string(bytes.size()) + " bytes");
  std::memcpy(address.bytes.data(), bytes.data(), bytes.size());
  return address;
}

absl::StatusOr<std::uint16_t> read_port(std::uint32_t port) {
  if (port == 0 || port > 65535)
    return absl::InvalidArgumentError("port " + std::to_string(port));
  return static_cast<std::uint16_t>(port);
}

}  // namespace

absl::StatusOr<ServicePtr> ConfigBuilder::read(const weft::v1::Service& message) {
  auto service = std::make_shared<Service>();
  service->key = {message.namespace_name(), message.name()};
  const auto port = read_port(message.port());
  if (!port.ok()) return port.status();
  service->port = *port;
  for (const auto& bytes : message.addresses()) {
    const auto address = read_address(bytes);
    if (!address.ok()) return address.status();
    service->addresses.push_back(*address);
  }
  auto routes = wire::from_wire(message.routes());
  if (!routes.ok()) return routes.status();
  if (routes->clusters.empty())
    return absl::InvalidArgumentError("rules without the cluster of the service itself");
  for (const auto& cluster : message.routes().clusters()) service->clusters.push_back(name_of(cluster));
  auto table = routes::Table::compile(*std::move(routes));
  if (!table.ok()) return table.status();
  service->table = *std::move(table);
  service->tunnel = message.tunnel();
  return service;
}

// The words of an endpoint outlive a configuration: what is in flight, and what is known of it, stays.
SharesPtr ConfigBuilder::shares_of(const std::string& cluster, const weft::v1::Endpoint& message,
                                   const model::Address& address, const Cluster& owner,
                                   std::uint32_t service) {
  auto& known = shares_[{cluster, address, static_cast<std::uint16_t>(message.port())}];
  auto shares = known.lock();
  if (shares && shares->id == message.id() && shares->incarnation == message.incarnation() &&
      (shares->id || shares->service == service))
    return shares;
  shares = std::make_shared<Shares>();
  shares->service = service;
  shares->incarnation = message.incarnation();
  if (tables_ && message.id() && service) {
    shares->id = message.id();
    shares->state = tables_->endpoint(message.id());
    shares->policy = tables_->policy(service);
    shares->total = tables_->service(service);
  }
  if (!shares->state || !shares->policy || !shares->total) {
    shares->id = 0;
    shares->state = &shares->own_state;
    shares->own_state.incarnation = message.incarnation();
    shares->own_policy = owner.own_policy;
    shares->policy = &shares->own_policy;
    shares->total = &shares->own_total;
  }
  shares->requests = &shares->state->requests[column_];
  known = shares;
  return shares;
}

absl::StatusOr<ClusterPtr> ConfigBuilder::read(const weft::v1::Cluster& message) {
  auto cluster = std::make_shared<Cluster>();
  cluster->name = name_of(message.name());
  cluster->who = {message.name().namespace_name(), message.name().service(),
                  message.name().subset(), static_cast<std::uint16_t>(message.name().port()),
                  message.name().missing()};
  if (message.balancer() > static_cast<std::uint32_t>(model::Balancer::kPeakEwma))
    return absl::InvalidArgumentError("balancer " + std::to_string(message.balancer()));
  cluster->balancer = static_cast<model::Balancer>(message.balancer());
  if (message.connect_timeout_ms())
    cluster->connect_timeout = std::chrono::milliseconds(message.connect_timeout_ms());
  auto& limits = cluster->limits;
  limits.max_pending = message.max_pending();
  limits.max_requests = message.max_requests();
  limits.max_per_connection = message.max_per_connection();
  limits.max_retries = message.max_retries();
  if (message.idle_timeout_ms())
    limits.idle_timeout = std::chrono::milliseconds(message.idle_timeout_ms());
  cluster->node_source = message.node_source();
  auto& policy = cluster->own_policy;
  policy.threshold_5xx = message.consecutive_5xx();
  policy.threshold_gateway = message.consecutive_gateway();
  policy.threshold = message.consecutive_5xx();
  policy.base_ejection_ms = 30000;
  policy.max_ejection_ms = 300000;
  policy.max_ejected = static_cast<std::uint32_t>(message.endpoints_size() > 1);
  policy.lease_ms = 15000;
  auto base = cluster->who;
  base.subset.clear();
  for (const auto& each : message.endpoints()) {
    const auto address = read_address(each.address());
    if (!address.ok()) return address.status();
    const auto port = read_port(each.port());
    if (!port.ok()) return port.status();
    if (each.state() > static_cast<std::uint32_t>(model::EndpointState::kNotReady))
      return absl::InvalidArgumentError("endpoint state " + std::to_string(each.state()));
    cluster->endpoints.push_back(
        {*address, *port, static_cast<std::uint16_t>(std::min(each.weight(), 65535u)),
         static_cast<std::uint8_t>(std::min(each.priority(), 255u)),
         static_cast<model::EndpointState>(each.state()),
         shares_of(base.name(), each, *address, *cluster, message.service_index())});
  }
  return cluster;
}

ConfigPtr ConfigBuilder::apply(const weft::v1::Config& message, std::vector<std::string>& rejected) {
  decltype(services_) services;
  decltype(clusters_) clusters;
  if (!message.whole()) {
    services = services_;
    clusters = clusters_;
  }
  for (const auto& name : message.removed_services()) services.erase(name_of(name));
  for (const auto& name : message.removed_clusters()) clusters.erase(name_of(name));
  const auto keep = [&](auto& into, const auto& from, const std::string& name,
                        const absl::Status& why) {
    rejected.push_back(name + ": " + std::string(why.message()));
    if (const auto old = from.find(name); old != from.end()) into[name] = old->second;
  };
  for (const auto& each : message.clusters()) {
    auto cluster = read(each);
    cluster.ok() ? void(clusters[name_of(each.name())] = *std::move(cluster))
                 : keep(clusters, clusters_, name_of(each.name()), cluster.status());
  }
  for (const auto& each : message.services()) {
    auto service = read(each);
    service.ok() ? void(services[name_of(each)] = *std::move(service))
                 : keep(services, services_, name_of(each), service.status());
  }
  services_ = std::move(services);
  clusters_ = std::move(clusters);
  std::erase_if(shares_, [](const auto& entry) { return entry.second.expired(); });
  auto config = std::make_shared<Config>();
  config->generation = message.generation();
  config->clusters = clusters_;
  for (const auto& [name, service] : services_)
    for (const auto& address : service->addresses)
      config->services[{address, service->port}] = service;
  return config;
}

}  // namespace weft::net
