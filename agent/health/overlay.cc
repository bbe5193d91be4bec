#include "agent/health/overlay.h"

#include <utility>

namespace weft::health {
namespace {

bool concerned(const model::ServicePort& port, const model::Endpoint& endpoint,
               const std::set<Spot>& spots) {
  return port.protocol == model::Protocol::kTcp && endpoint.state == model::EndpointState::kReady &&
         spots.contains({endpoint.address, endpoint.port});
}

// The same pointer where the mesh has none of these endpoints (any more).
model::ServicePtr without(const model::ServicePtr& service, const std::set<Spot>& spots) {
  std::shared_ptr<model::Service> changed;
  for (std::size_t p = 0; p < service->ports.size(); ++p) {
    const auto& port = service->ports[p];
    for (std::size_t e = 0; e < port.endpoints.size(); ++e) {
      if (!concerned(port, port.endpoints[e], spots)) continue;
      if (!changed) changed = std::make_shared<model::Service>(*service);
      changed->ports[p].endpoints[e].state = model::EndpointState::kNotReady;
    }
  }
  return changed ? changed : service;
}

}  // namespace

const model::ServicePtr& Overlay::made_of(const model::ServicePtr& service,
                                          const std::set<Spot>& spots) {
  Made& made = made_[service->key];
  if (made.from == service && made.unhealthy == spots) return made.made;
  last_made_ = nullptr;
  auto fresh = without(service, spots);
  // A source that made the service anew without a difference that is seen here is no change here.
  if (!made.made || !(*fresh == *made.made) || fresh == service) made.made = std::move(fresh);
  made.from = service;
  made.unhealthy = spots;
  return made.made;
}

model::MeshPtr Overlay::apply(const model::MeshPtr& mesh, const Unhealthy& unhealthy) {
  if (last_from_ != mesh) last_made_ = nullptr;
  if (std::erase_if(made_, [&](const auto& made) {
        return !unhealthy.contains(made.first) || !mesh->services.find(made.first);
      }))
    last_made_ = nullptr;
  std::vector<model::ServicePtr> changed;
  for (const auto& [key, spots] : unhealthy) {
    const auto* service = mesh->services.find(key);
    if (!service) continue;
    const auto& made = made_of(*service, spots);
    if (made != *service) changed.push_back(made);
  }
  if (changed.empty()) return mesh;
  if (last_made_) return last_made_;
  auto result = std::make_shared<model::Mesh>(*mesh);
  for (const auto& service : changed) result->services.set(service->key, service);
  last_from_ = mesh;
  last_made_ = std::move(result);
  return last_made_;
}

}  // namespace weft::health
