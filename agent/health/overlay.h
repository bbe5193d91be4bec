// What health checks found, written into the mesh as readiness: later stages know only endpoint
// states, whoever decided them. Pure.
//
// An unhealthy endpoint takes no new connection like one that its source calls not ready, also
// where all of a port are unhealthy: then connections are refused, as they are with no ready pod.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <unordered_map>

#include "mesh/model/mesh.h"

namespace weft::health {

struct Spot {
  model::Address address;
  std::uint16_t port = 0;

  auto operator<=>(const Spot&) const = default;
};
using Unhealthy = std::map<model::ServiceKey, std::set<Spot>>;  // no set is empty

class Overlay {
 public:
  // Every service that loses no endpoint is the pointer it was, and the same service with the same
  // unhealthy endpoints is the same pointer in every call: later stages compare pointers. With
  // nobody unhealthy it is `mesh` itself. Costs what is unhealthy, not what there is.
  model::MeshPtr apply(const model::MeshPtr& mesh, const Unhealthy& unhealthy);

 private:
  struct Made {
    model::ServicePtr from, made;
    std::set<Spot> unhealthy;
  };
  const model::ServicePtr& made_of(const model::ServicePtr& service, const std::set<Spot>& spots);

  std::unordered_map<model::ServiceKey, Made, model::KeyHash> made_;
  model::MeshPtr last_from_, last_made_;  // null: not to be reused
};

}  // namespace weft::health
