#include "mesh/wire/service.h"

#include <algorithm>
#include <limits>
#include <map>

#include "mesh/base/text.h"
#include "mesh/wire/check.h"
#include "mesh/wire/http.h"

namespace weft::wire {
namespace {

using std::chrono::milliseconds;

std::uint64_t count_of(milliseconds duration) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0));
}

std::string bytes_of(const model::Address& address) {
  return {address.bytes.begin(), address.bytes.end()};
}

model::Address address_from(const std::string& bytes, Check& check) {
  model::Address address;
  if (bytes.size() == address.bytes.size())
    std::copy(bytes.begin(), bytes.end(), address.bytes.begin());
  else
    check.fail(absl::StrCat("an address of ", bytes.size(), " bytes"));
  return address;
}

template <class Small>
Small small(std::uint32_t value, Check& check, const char* what) {
  return static_cast<Small>(check.number(value, 0, std::numeric_limits<Small>::max(), what));
}

Endpoint endpoint_from(const weft::v1::Endpoint& from, Check& check) {
  Endpoint endpoint;
  endpoint.address = address_from(from.address(), check);
  endpoint.port = check.port(from.port());
  endpoint.id = from.id();
  endpoint.incarnation = from.incarnation();
  endpoint.weight = small<std::uint16_t>(from.weight(), check, "weight");
  endpoint.priority = small<std::uint8_t>(from.priority(), check, "priority");
  endpoint.state = check.enumeration(from.state(), model::EndpointState::kNotReady, "state");
  endpoint.zone = from.zone();
  endpoint.service_index = from.service_index();
  return endpoint;
}

weft::v1::EndpointWorkload to_wire(const model::Workload& workload) {
  weft::v1::EndpointWorkload out;
  out.set_namespace_name(workload.namespace_name);
  out.set_name(workload.name);
  out.set_app(workload.app);
  out.set_version(workload.version);
  out.set_canonical_service(workload.canonical_service);
  out.set_canonical_revision(workload.canonical_revision);
  return out;
}

model::WorkloadRef workload_from(const weft::v1::EndpointWorkload& from) {
  return {std::make_shared<const model::Workload>(
      model::Workload{from.namespace_name(), from.name(), from.app(), from.version(),
                      from.canonical_service(), from.canonical_revision()})};
}

model::HttpLimits limits_from(const weft::v1::Cluster& from, Check& check) {
  return {from.max_pending(), from.max_requests(), from.max_per_connection(), from.max_retries(),
          check.duration<milliseconds>(from.idle_timeout_ms(), "idle timeout")};
}

void read_numbers(const weft::v1::Cluster& from, Cluster& cluster, Check& check) {
  cluster.balancer = check.enumeration(from.balancer(), model::Balancer::kPeakEwma, "balancer");
  cluster.service_index = from.service_index();
  cluster.connect_timeout =
      check.duration<milliseconds>(from.connect_timeout_ms(), "connect timeout");
  cluster.limits = limits_from(from, check);
  cluster.consecutive_5xx = from.consecutive_5xx();
  cluster.consecutive_gateway = from.consecutive_gateway();
  cluster.warmup = check.duration<milliseconds>(from.warmup_ms(), "warm-up");
  cluster.node_source = from.node_source();
}

// As HttpCluster::name() would say it, of a name that was not checked.
std::string place_of(const char* kind, const std::string& namespace_name, const std::string& name,
                     std::uint32_t port) {
  return absl::StrCat(kind, " ", namespace_name, "/", name, ":", port);
}

}  // namespace

Endpoint endpoint_of(const model::Endpoint& endpoint, std::uint32_t id, std::uint32_t incarnation) {
  Endpoint result{endpoint.address,  endpoint.port,  id,           incarnation, endpoint.weight,
                  endpoint.priority, endpoint.state, endpoint.zone};
  result.workload = endpoint.workload;
  return result;
}

weft::v1::Endpoint to_wire(const Endpoint& endpoint) {
  weft::v1::Endpoint out;
  out.set_address(bytes_of(endpoint.address));
  out.set_port(endpoint.port);
  out.set_id(endpoint.id);
  out.set_incarnation(endpoint.incarnation);
  out.set_weight(endpoint.weight);
  out.set_priority(endpoint.priority);
  out.set_state(static_cast<std::uint32_t>(endpoint.state));
  out.set_zone(endpoint.zone);
  out.set_service_index(endpoint.service_index);
  return out;
}

weft::v1::Cluster to_wire(const Cluster& cluster) {
  weft::v1::Cluster out;
  *out.mutable_name() = to_wire(cluster.name);
  std::map<model::Workload, std::uint32_t> workloads;
  for (const auto& endpoint : cluster.endpoints) {
    auto& added = *out.add_endpoints();
    added = to_wire(endpoint);
    if (!endpoint.workload.to) continue;
    const auto next = static_cast<std::uint32_t>(workloads.size() + 1);
    const auto [at, is_new] = workloads.emplace(*endpoint.workload.to, next);
    if (is_new) *out.add_workloads() = to_wire(*endpoint.workload.to);
    added.set_workload(at->second);
  }
  out.set_balancer(static_cast<std::uint32_t>(cluster.balancer));
  out.set_service_index(cluster.service_index);
  out.set_connect_timeout_ms(count_of(cluster.connect_timeout));
  out.set_max_pending(cluster.limits.max_pending);
  out.set_max_requests(cluster.limits.max_requests);
  out.set_max_per_connection(cluster.limits.max_per_connection);
  out.set_max_retries(cluster.limits.max_retries);
  out.set_idle_timeout_ms(count_of(cluster.limits.idle_timeout));
  out.set_consecutive_5xx(cluster.consecutive_5xx);
  out.set_consecutive_gateway(cluster.consecutive_gateway);
  out.set_warmup_ms(count_of(cluster.warmup));
  out.set_node_source(cluster.node_source);
  return out;
}

weft::v1::Service to_wire(const Service& service) {
  weft::v1::Service out;
  out.set_namespace_name(service.namespace_name);
  out.set_name(service.name);
  out.set_port(service.port);
  for (const auto& address : service.addresses) out.add_addresses(bytes_of(address));
  *out.mutable_routes() = to_wire(service.routes);
  out.set_tunnel(service.tunnel);
  return out;
}

absl::StatusOr<Endpoint> from_wire(const weft::v1::Endpoint& from) {
  Check check;
  auto endpoint = endpoint_from(from, check);
  if (!check.status().ok()) return check.status();
  return endpoint;
}

absl::StatusOr<Cluster> from_wire(const weft::v1::Cluster& from) {
  Check check;
  const auto& name = from.name();
  const Check::Place place(check,
                           place_of("cluster", name.namespace_name(), name.service(), name.port()));
  Cluster cluster;
  auto read_name = from_wire(name);
  if (!read_name.ok()) check.fail(base::message_of(read_name.status()));
  if (read_name.ok()) cluster.name = *std::move(read_name);
  std::vector<model::WorkloadRef> workloads{{}};  // the first is nobody
  for (const auto& each : from.workloads()) workloads.push_back(workload_from(each));
  for (const auto& endpoint : from.endpoints()) {
    const Check::Place number(check, absl::StrCat("endpoint ", cluster.endpoints.size()));
    cluster.endpoints.push_back(endpoint_from(endpoint, check));
    const auto at = check.number(endpoint.workload(), 0, workloads.size() - 1, "workload");
    if (at < workloads.size()) cluster.endpoints.back().workload = workloads[at];
  }
  read_numbers(from, cluster, check);
  if (!check.status().ok()) return check.status();
  return cluster;
}

absl::StatusOr<Service> from_wire(const weft::v1::Service& from) {
  Check check;
  const Check::Place place(check,
                           place_of("service", from.namespace_name(), from.name(), from.port()));
  Service service{from.namespace_name(), from.name(), check.port(from.port()), {}, {},
                  from.tunnel()};
  for (const auto& address : from.addresses())
    service.addresses.push_back(address_from(address, check));
  auto routes = from_wire(from.routes());
  if (!routes.ok()) check.fail(base::message_of(routes.status()));
  if (routes.ok()) service.routes = *std::move(routes);
  if (!check.status().ok()) return check.status();
  return service;
}

}  // namespace weft::wire
