// Services in a few words and one compile() after another, for tests.
#pragma once

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "agent/compile/compile.h"

namespace weft::compile::test {

using model::EndpointState;

inline model::Address address(const std::string& text) { return *model::Address::parse(text); }

inline model::Endpoint endpoint(const std::string& text,
                                EndpointState state = EndpointState::kReady) {
  model::Endpoint result;
  result.address = address(text);
  result.port = 8080;
  result.state = state;
  return result;
}

inline model::Service service(const std::string& name, const std::vector<std::string>& addresses,
                              std::vector<model::Endpoint> endpoints) {
  model::Service result;
  result.key = {"shop", name};
  for (const auto& text : addresses) result.addresses.push_back(address(text));
  result.ports.push_back({"http", 80, model::Protocol::kTcp, std::move(endpoints)});
  return result;
}

inline std::vector<model::Endpoint> many(int count, int subnet = 0) {
  std::vector<model::Endpoint> all;
  for (int i = 0; i < count; ++i)
    all.push_back(endpoint("10.0." + std::to_string(subnet) + "." + std::to_string(i + 1)));
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a.address < b.address; });
  return all;
}

inline model::Mesh mesh_of(const std::vector<model::Service>& services) {
  model::Mesh mesh;
  for (const auto& s : services)
    mesh.services.set(s.key, std::make_shared<const model::Service>(s));
  return mesh;
}

inline Output compile_all(const model::Mesh& mesh, const MapState& placed, Ids& ids,
                          bool allow_mass_removal = false) {
  Input input;
  input.after = &mesh;
  input.placed = &placed;
  input.allow_mass_removal = allow_mass_removal;
  return compile(input, ids, placed.generation + 1);
}

inline const PlacedService& placed(const MapState& state, const std::string& name) {
  const auto* found = state.services.find({"shop", name});
  if (!found) throw std::out_of_range(name + " is not placed");
  return **found;
}

}  // namespace weft::compile::test
