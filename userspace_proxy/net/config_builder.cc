#include "userspace_proxy/net/config_builder.h"

namespace weft::net {
namespace {

std::string name_of(const weft::v1::Service& service) {
  return service.namespace_name() + "/" + service.name() + ":" + std::to_string(service.port());
}

std::string name_of(const weft::v1::ClusterName& name) {
  auto text = name.namespace_name() + "/" + name.service() + ":" + std::to_string(name.port());
  return name.subset().empty() ? text : text + "/" + name.subset();
}

// More than one that takes traffic: those that LocalCluster serves from. One of weight 0 is nobody
// who stays.
bool may_spare_one(const std::vector<wire::Endpoint>& endpoints) {
  for (const auto wanted : {model::EndpointState::kReady, model::EndpointState::kDraining}) {
    int serving = 0;
    bool any = false;
    for (const auto& endpoint : endpoints) {
      any = any || endpoint.state == wanted;
      serving += endpoint.state == wanted && endpoint.weight;
    }
    if (any) return serving > 1;
  }
  return false;
}

// Of endpoints that the kernel does not balance to: this process alone watches them.
weft_policy policy_of(const wire::Cluster& cluster) {
  weft_policy policy{};
  policy.threshold = policy.threshold_5xx = cluster.consecutive_5xx;
  policy.threshold_gateway = cluster.consecutive_gateway;
  policy.base_ejection_ms = 30000;  // the defaults of outlierDetection (docs/breaker.md)
  policy.max_ejection_ms = 300000;
  policy.interval_ms = 10000;
  policy.max_ejected = static_cast<std::uint32_t>(may_spare_one(cluster.endpoints));
  policy.lease_ms = 15000;
  policy.warmup_ms = static_cast<std::uint32_t>(cluster.warmup.count());
  policy.warmup_percent = 10;
  return policy;
}

}  // namespace

absl::StatusOr<ServicePtr> ConfigBuilder::read(const weft::v1::Service& message) {
  auto told = wire::from_wire(message);
  if (!told.ok()) return told.status();
  if (told->routes.clusters.empty())
    return absl::InvalidArgumentError("rules without the cluster of the service itself");
  auto service = std::make_shared<Service>();
  service->key = {told->namespace_name, told->name};
  service->port = told->port;
  service->addresses = std::move(told->addresses);
  service->tunnel = told->tunnel;
  for (const auto& cluster : told->routes.clusters) service->clusters.push_back(cluster.name());
  auto table = routes::Table::compile(std::move(told->routes));
  if (!table.ok()) return table.status();
  service->table = *std::move(table);
  for (const auto& rule : service->table->routes().rules) {
    if (!rule.cors) continue;
    auto origins = routes::Origins::compile(*rule.cors);
    if (!origins.ok()) return origins.status();
    service->origins.emplace(&rule, *std::move(origins));
  }
  return service;
}

// The words of an endpoint outlive a configuration: what is in flight, and what is known of it,
// stays.
SharesPtr ConfigBuilder::shares_of(const std::string& cluster, const wire::Endpoint& endpoint,
                                   const weft_policy& own_policy, std::uint32_t service) {
  auto& known = shares_[{cluster, endpoint.address, endpoint.port}];
  auto shares = known.lock();
  if (shares && shares->wanted_id == endpoint.id && shares->service == service &&
      shares->incarnation == endpoint.incarnation)
    return shares;
  shares = std::make_shared<Shares>();
  shares->wanted_id = endpoint.id;
  shares->service = service;
  shares->incarnation = endpoint.incarnation;
  if (tables_ && endpoint.id && service) {
    shares->id = endpoint.id;
    shares->state = tables_->endpoint(endpoint.id);
    shares->policy = tables_->policy(service);
    shares->total = tables_->service(service);
  }
  if (!shares->state || !shares->policy || !shares->total) {
    shares->id = 0;
    shares->state = &shares->own_state;
    shares->own_state.incarnation = endpoint.incarnation;
    shares->own_policy = own_policy;
    shares->policy = &shares->own_policy;
    shares->total = &shares->own_total;
  }
  auto& waiting = waiting_[shares->total];
  if (auto others = waiting.lock()) shares->waiting = std::move(others);
  waiting = shares->waiting;
  shares->column = column_;
  shares->requests = &shares->state->requests[column_];
  known = shares;
  return shares;
}

// Of a cluster that went and comes again the old requests count, if any are left.
std::shared_ptr<ClusterCounts> ConfigBuilder::counts_of(const std::string& cluster) {
  auto& known = counts_[cluster];
  auto counts = known.lock();
  if (!counts) known = counts = std::make_shared<ClusterCounts>();
  return counts;
}

std::shared_ptr<const model::Workload> ConfigBuilder::known(const model::WorkloadRef& workload) {
  if (!workload.to) return nullptr;
  auto& kept = workloads_[*workload.to];
  auto shared = kept.lock();
  if (!shared) kept = shared = workload.to;
  return shared;
}

absl::StatusOr<ClusterPtr> ConfigBuilder::read(const weft::v1::Cluster& message) {
  auto told = wire::from_wire(message);
  if (!told.ok()) return told.status();
  auto cluster = std::make_shared<Cluster>();
  cluster->name = told->name.name();
  auto& who = names_[cluster->name];
  if (!who || *who != told->name)
    who = std::make_shared<const model::HttpCluster>(std::move(told->name));
  cluster->who = who;
  cluster->counts = counts_of(cluster->name);
  cluster->balancer = told->balancer;
  cluster->connect_timeout = told->connect_timeout;
  cluster->limits = told->limits;
  cluster->node_source = told->node_source;
  auto base = *cluster->who;
  base.subset.clear();
  const auto policy = policy_of(*told);
  for (const auto& each : told->endpoints)
    cluster->endpoints.push_back(
        {each.address, each.port, each.weight, each.priority, each.state,
         shares_of(base.name(), each, policy,
                   each.service_index ? each.service_index : told->service_index),
         known(each.workload)});
  return cluster;
}

ConfigPtr ConfigBuilder::apply(const weft::v1::Config& message,
                               std::vector<std::string>& rejected) {
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
  std::erase_if(names_, [&](const auto& entry) { return !clusters_.contains(entry.first); });
  std::erase_if(waiting_, [](const auto& entry) { return entry.second.expired(); });
  std::erase_if(counts_, [](const auto& entry) { return entry.second.expired(); });
  std::erase_if(shares_, [](const auto& entry) { return entry.second.expired(); });
  std::erase_if(workloads_, [](const auto& entry) { return entry.second.expired(); });
  auto config = std::make_shared<Config>();
  config->generation = message.generation();
  config->clusters = clusters_;
  for (const auto& [name, service] : services_)
    for (const auto& address : service->addresses)
      config->services[{address, service->port}] = service;
  return config;
}

}  // namespace weft::net
