#include "cli/collect.h"

#include <map>

namespace weft::cli {
namespace {

std::map<model::ServiceKey, const compile::PlacedService*> sorted(const compile::MapState& state) {
  std::map<model::ServiceKey, const compile::PlacedService*> all;
  state.services.for_each([&](const auto& service) {
    if (!service->key.namespace_name.empty()) all[service->key] = service.get();
  });
  return all;
}

std::string label(const compile::MapState& state, std::uint32_t id) {
  const auto known = state.labels->find(id);
  return known == state.labels->end() ? "" : known->second;
}

}  // namespace

StateOf state_of(const kernel::Maps& maps) {
  return [&maps](std::uint32_t id) { return maps.endpoint_states.at(id); };
}

const char* balancer_text(std::uint32_t selector) {
  switch (selector & WEFT_SELECT_MASK) {
    case WEFT_SELECT_RANDOM:
      return "random";
    case WEFT_SELECT_HASH:
      return "maglev";
    case WEFT_SELECT_LEAST:
      return "least-request";
    case WEFT_SELECT_EWMA:
      return "peak-ewma";
    default:
      return "round-robin";
  }
}

const char* state_text(const compile::PlacedEndpoint& endpoint, const weft_endpoint_state& state) {
  if (endpoint.state != model::EndpointState::kReady) return model::to_text(endpoint.state);
  switch (weft_breaker_state(state.breaker)) {
    case WEFT_BREAKER_OPEN:
      return "ejected";
    case WEFT_BREAKER_HALF_OPEN:
      return "half_open";
    default:
      return model::to_text(endpoint.state);
  }
}

bool has_breaker(const compile::PlacedPort& port, const weft_endpoint_state& state) {
  return weft_policy_ejects(&port.policy) ||
         weft_breaker_reason(state.breaker) != WEFT_BREAKER_NONE;
}

bool in_use(const compile::PlacedPort& port, const compile::PlacedEndpoint& endpoint) {
  return endpoint.state != model::EndpointState::kReady || endpoint.weight == 0 ||
         std::find(port.slots.begin(), port.slots.end(), endpoint.id) != port.slots.end() ||
         std::find(port.spares.begin(), port.spares.end(), endpoint.id) != port.spares.end();
}

Json service_json(const compile::PlacedService& service, const StateOf& state_of) {
  Json addresses = Json::array(), ports = Json::array();
  std::size_t total = 0, ready = 0, draining = 0, ejected = 0;
  std::uint64_t generation = 0;
  for (const auto& port : service.ports) {
    for (const auto& address : port.frontends)
      if (const auto text = address.to_text();
          std::find(addresses.begin(), addresses.end(), text) == addresses.end())
        addresses.push_back(text);
    const bool proxied = port.policy.flags & WEFT_POLICY_PROXY;
    Json entry{{"name", port.name},
               {"port", port.key.port},
               {"protocol", model::to_text(port.key.protocol)},
               {"path", proxied ? "proxy" : "kernel"},
               {"reason", proxied ? "HTTP rules: weftctl route list" : "no rule needs L7"}};
    // A rule's portLevelSettings: said only where the service's own is not it.
    const std::string balancer = balancer_text(port.selector);
    if (balancer != balancer_text(service.ports[0].selector)) entry["balancer"] = balancer;
    if (std::find(ports.begin(), ports.end(), entry) == ports.end()) ports.push_back(entry);
    for (const auto& endpoint : port.endpoints) {
      if (!in_use(port, endpoint)) continue;
      ++total;
      draining += endpoint.state == model::EndpointState::kDraining;
      if (endpoint.state != model::EndpointState::kReady) continue;
      const bool out = weft_breaker_state(state_of(endpoint.id).breaker) != WEFT_BREAKER_CLOSED;
      ++(out ? ejected : ready);
    }
    generation = std::max(generation, port.generation);
  }
  Json json{{"namespace", service.key.namespace_name},
            {"name", service.key.name},
            {"addresses", addresses},
            {"ports", ports},
            {"balancer",
             service.ports.empty() ? "round-robin" : balancer_text(service.ports[0].selector)}};
  if (!service.ports.empty() && service.ports[0].affinity_seconds)
    json["affinity_seconds"] = service.ports[0].affinity_seconds;
  json["endpoints"] = {
      {"total", total}, {"ready", ready}, {"draining", draining}, {"ejected", ejected}};
  json["generation"] = generation;
  return json;
}

Json services_json(const compile::MapState& state, const StateOf& state_of) {
  Json all = Json::array();
  for (const auto& [key, service] : sorted(state)) all.push_back(service_json(*service, state_of));
  return all;
}

Json endpoints_json(const compile::MapState& state, const model::ServiceKey* wanted,
                    const StateOf& state_of) {
  Json all = Json::array();
  for (const auto& [key, service] : sorted(state)) {
    if (wanted && key != *wanted) continue;
    for (const auto& port : service->ports)
      for (const auto& endpoint : port.endpoints) {
        if (!in_use(port, endpoint)) continue;
        const auto counters = state_of(endpoint.id);
        all.push_back({{"id", endpoint.id},
                       {"service", key.to_text()},
                       {"port", port.key.port},
                       {"protocol", model::to_text(port.key.protocol)},
                       {"address", endpoint.address.to_text()},
                       {"target_port", endpoint.port},
                       {"weight", endpoint.weight},
                       {"priority", endpoint.priority},
                       {"zone", label(state, endpoint.zone)},
                       {"node", label(state, endpoint.node)},
                       {"state", state_text(endpoint, counters)},
                       {"connections",
                        {{"active", weft_connections(&counters.active, counters.connections)},
                         {"opened", counters.opened},
                         {"failed", counters.failed}}},
                       {"rtt_us", counters.rtt_us}});
      }
  }
  return all;
}

void add_health(Json& endpoints, const Json& health) {
  std::map<std::string, const Json*> known;  // by service, address and port
  for (const auto& row : health)
    known[row["service"].get<std::string>() + " " + row["address"].get<std::string>() + " " +
          row["port"].dump()] = &row;
  for (auto& endpoint : endpoints) {
    if (endpoint["protocol"] != "TCP") continue;
    const auto at =
        known.find(endpoint["service"].get<std::string>() + " " +
                   endpoint["address"].get<std::string>() + " " + endpoint["target_port"].dump());
    if (at == known.end()) continue;
    endpoint["health"] = (*at->second)["health"];
    if (const auto& reason = (*at->second)["reason"]; reason != "")
      endpoint["health_reason"] = reason;
  }
}

}  // namespace weft::cli
