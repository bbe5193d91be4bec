#include "agent/drain/deadlines.h"

#include <algorithm>
#include <utility>

namespace weft::drain {
namespace {

using model::EndpointState;

bool has_udp(const compile::PlacedService& service) {
  return std::any_of(service.ports.begin(), service.ports.end(),
                     [](const auto& port) { return port.key.protocol == model::Protocol::kUdp; });
}

bool has_ready(const compile::PlacedPort& port) {
  return std::any_of(port.endpoints.begin(), port.endpoints.end(),
                     [](const auto& e) { return e.state == EndpointState::kReady; });
}

const model::ServicePort* find_port(const model::Service* service, const compile::PortKey& key) {
  if (!service) return nullptr;
  const auto at = std::find_if(service->ports.begin(), service->ports.end(), [&](const auto& port) {
    return port.port == key.port && port.protocol == key.protocol;
  });
  return at == service->ports.end() ? nullptr : &*at;
}

// The maps know of terminating endpoints only those that serve, the mesh all of them.
bool is_terminating(const compile::PlacedEndpoint& endpoint, const model::ServicePort* port) {
  if (endpoint.state == EndpointState::kReady) return false;
  if (endpoint.state == EndpointState::kDraining || !port) return true;
  const auto where = std::pair(endpoint.address, endpoint.port);
  const auto at = std::lower_bound(
      port->endpoints.begin(), port->endpoints.end(), where,
      [](const auto& e, const auto& w) { return std::pair(e.address, e.port) < w; });
  return at != port->endpoints.end() && std::pair(at->address, at->port) == where &&
         at->terminating;
}

Doomed doomed_of(const model::ServiceKey& service, const compile::PlacedPort& port,
                 const compile::PlacedEndpoint& endpoint, std::uint32_t incarnation) {
  Doomed doomed;
  doomed.id = endpoint.id;
  doomed.incarnation = incarnation;
  doomed.service = service;
  doomed.address = endpoint.address;
  doomed.port = endpoint.port;
  doomed.protocol = port.key.protocol;
  return doomed;
}

}  // namespace

Deadlines::Deadlines(Incarnation incarnation, const compile::MapState& inherited)
    : incarnation_(std::move(incarnation)) {
  inherited.services.for_each([this](const auto& service) {
    if (has_udp(*service)) look_at(watched_[service->key], service.get(), nullptr, {});
  });
  // Terminating since who knows when: the first update says since when we know.
  for (auto& [key, watched] : watched_)
    for (auto& [id, endpoint] : watched.placed) endpoint.since.reset();
}

void Deadlines::update(const model::Mesh& mesh, const compile::MapState& placed,
                       Clock::time_point now) {
  std::set<model::ServiceKey> changed;
  const auto add = [&](const auto* before, const auto* after) {
    changed.insert((after ? *after : *before)->key);
  };
  model::BucketTable<model::Service>::for_each_change(services_, mesh.services, add);
  model::BucketTable<compile::PlacedService>::for_each_change(placed_.services, placed.services,
                                                              add);
  if (services_.size() == 0)  // the first: what was inherited and is not there any more
    for (const auto& [key, watched] : watched_) changed.insert(key);
  services_ = mesh.services;
  placed_ = placed;
  for (const auto& key : changed) look_at(key, now);
}

void Deadlines::look_at(const model::ServiceKey& key, Clock::time_point now) {
  const auto* service = services_.find(key);
  const auto* placed = placed_.services.find(key);
  const bool wanted = service && (*service)->traffic.drain_deadline;
  auto at = watched_.find(key);
  if (at == watched_.end()) {
    if (!placed || (!wanted && !has_udp(**placed))) return;
    at = watched_.try_emplace(key).first;
  }
  auto& watched = at->second;
  // A service that is gone has the deadline that it had.
  if (service) watched.deadline = (*service)->traffic.drain_deadline;
  look_at(watched, placed ? placed->get() : nullptr, service ? service->get() : nullptr, now);
  std::erase_if(watched.gone, [&](const auto& endpoint) { return !watched.due(endpoint); });
  if ((watched.placed.empty() && watched.gone.empty()) || (placed && !wanted && !has_udp(**placed)))
    watched_.erase(at);
}

void Deadlines::look_at(Watched& watched, const compile::PlacedService* placed,
                        const model::Service* service, Clock::time_point now) {
  std::map<std::uint32_t, Endpoint> known;
  for (std::size_t i = 0; placed && i < placed->ports.size(); ++i) {
    const auto& port = placed->ports[i];
    const auto* model = find_port(service, port.key);
    const bool alone = !has_ready(port);
    for (const auto& e : port.endpoints) {
      auto before = watched.placed.extract(e.id);
      auto& endpoint =
          (before ? known.insert(std::move(before)).position : known.try_emplace(e.id).first)
              ->second;
      if (!endpoint.doomed.id)
        endpoint.doomed = doomed_of(placed->key, port, e, incarnation_(e.id));
      endpoint.alone = alone;
      if (!is_terminating(e, model)) {
        endpoint.since.reset();
        endpoint.told = false;
      } else if (!endpoint.since) {
        endpoint.since = now;
      }
    }
  }
  std::swap(watched.placed, known);
  for (auto& [id, endpoint] : known) leave(watched, std::move(endpoint), now);
}

void Deadlines::leave(Watched& watched, Endpoint endpoint, Clock::time_point now) {
  const bool udp = endpoint.doomed.protocol == model::Protocol::kUdp;
  if (endpoint.told && !udp) return;
  if (!endpoint.since || udp) endpoint.since = now;
  endpoint.doomed.gone = true;
  endpoint.alone = endpoint.told = false;
  watched.gone.push_back(std::move(endpoint));
}

std::optional<Clock::time_point> Deadlines::Watched::due(const Endpoint& endpoint) const {
  if (!endpoint.since || endpoint.told || endpoint.alone) return std::nullopt;
  if (endpoint.doomed.gone && endpoint.doomed.protocol == model::Protocol::kUdp)
    return endpoint.since;
  if (!deadline) return std::nullopt;
  return *endpoint.since + *deadline;
}

std::optional<Clock::time_point> Deadlines::next() const {
  std::optional<Clock::time_point> first;
  const auto consider = [&](std::optional<Clock::time_point> at) {
    if (at && (!first || *at < *first)) first = at;
  };
  for (const auto& [key, watched] : watched_) {
    for (const auto& [id, endpoint] : watched.placed) consider(watched.due(endpoint));
    for (const auto& endpoint : watched.gone) consider(watched.due(endpoint));
  }
  return first;
}

std::vector<Doomed> Deadlines::take_due(Clock::time_point now) {
  std::vector<Doomed> taken;
  for (auto& [key, watched] : watched_) {
    const auto take = [&](Endpoint& endpoint) {
      const auto at = watched.due(endpoint);
      if (!at || *at > now) return false;
      endpoint.told = true;
      taken.push_back(endpoint.doomed);
      return true;
    };
    for (auto& [id, endpoint] : watched.placed) take(endpoint);
    std::erase_if(watched.gone, take);
  }
  std::erase_if(watched_, [](const auto& entry) {
    return entry.second.placed.empty() && entry.second.gone.empty();
  });
  return taken;
}

}  // namespace weft::drain
