// Meshes in a few words, for tests of checks.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mesh/model/mesh.h"

namespace weft::health::test {

inline model::Address address(const std::string& text) {
  return model::Address::parse(text).value();
}

inline model::Endpoint endpoint(const std::string& ip, std::uint16_t port,
                                model::EndpointState state = model::EndpointState::kReady) {
  model::Endpoint result;
  result.address = address(ip);
  result.port = port;
  result.state = state;
  return result;
}

inline model::ServicePort port_of(std::uint16_t port, std::vector<model::Endpoint> endpoints,
                                  model::Protocol protocol = model::Protocol::kTcp) {
  model::ServicePort result;
  result.port = port;
  result.protocol = protocol;
  result.endpoints = std::move(endpoints);
  return result;
}

inline model::Service service(const std::string& name, std::vector<model::ServicePort> ports) {
  model::Service result;
  result.key = {"shop", name};
  result.ports = std::move(ports);
  return result;
}

inline model::MeshPtr mesh_of(const std::vector<model::Service>& services,
                              const model::MeshPtr& before = nullptr) {
  auto result = before ? std::make_shared<model::Mesh>(*before) : std::make_shared<model::Mesh>();
  for (const auto& one : services)
    result->services.set(one.key, std::make_shared<const model::Service>(one));
  return result;
}

}  // namespace weft::health::test
