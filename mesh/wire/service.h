// What weft-proxy is told of services and their endpoints, as plain values: what Config carries,
// apart from the routes. weftd fills them from the mesh and the kernel's numbers; the proxy reads
// them back, checked, and never looks at a protobuf message again.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <weft/v1/proxy.pb.h>

#include "mesh/model/address.h"
#include "mesh/model/http.h"
#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::wire {

struct Endpoint {
  model::Address address;
  std::uint16_t port = 0;         // host order
  std::uint32_t id = 0;           // of weft_endpoints; 0: the kernel does not balance to it
  std::uint32_t incarnation = 0;  // of that id
  std::uint16_t weight = 1;
  std::uint8_t priority = 0;
  model::EndpointState state = model::EndpointState::kReady;
  std::string zone;
  std::uint32_t service_index = 0;  // that the id belongs to: of two families each has its own
  model::WorkloadRef workload;      // travels with its cluster

  bool operator==(const Endpoint&) const = default;
};

struct Cluster {
  model::HttpCluster name;
  std::vector<Endpoint> endpoints;
  model::Balancer balancer = model::Balancer::kRoundRobin;
  std::uint32_t service_index = 0;  // of weft_services and weft_policies; 0: none
  std::chrono::milliseconds connect_timeout = std::chrono::seconds(10);
  model::HttpLimits limits;
  std::uint32_t consecutive_5xx = 0, consecutive_gateway = 0;  // 0: off
  std::chrono::milliseconds warmup{0};
  bool node_source = false;  // weft.mesh/source-address: node

  bool operator==(const Cluster&) const = default;
};

struct Service {
  std::string namespace_name, name;
  std::uint16_t port = 0;  // host order
  std::vector<model::Address> addresses;
  model::HttpRoutes routes;
  bool tunnel = false;  // bytes that are no HTTP are passed on to the service's own endpoints

  bool operator==(const Service&) const = default;
};

// An endpoint of the mesh, with the kernel's numbers for it.
Endpoint endpoint_of(const model::Endpoint& endpoint, std::uint32_t id, std::uint32_t incarnation);

weft::v1::Endpoint to_wire(const Endpoint& endpoint);
weft::v1::Cluster to_wire(const Cluster& cluster);
weft::v1::Service to_wire(const Service& service);

// Errors name what it was about: "cluster shop/web:80: endpoint 2: port 0 is not within 1-65535".
absl::StatusOr<Endpoint> from_wire(const weft::v1::Endpoint& endpoint);
absl::StatusOr<Cluster> from_wire(const weft::v1::Cluster& cluster);
absl::StatusOr<Service> from_wire(const weft::v1::Service& service);

}  // namespace weft::wire
