#include "agent/compile/map_state.h"

#include <arpa/inet.h>

#include <cstring>
#include <unordered_set>

namespace weft::compile {
namespace {

void copy_name(char (&to)[WEFT_NAME_MAX], const std::string& from) {
  // Names were checked by the reader (a DNS label); cutting here keeps the ABI safe from any other
  // caller.
  std::memcpy(to, from.data(), std::min(from.size(), sizeof to - 1));
}

std::uint32_t flags_of(model::EndpointState state) {
  switch (state) {
    case model::EndpointState::kReady:
      return WEFT_ENDPOINT_USED | WEFT_ENDPOINT_READY;
    case model::EndpointState::kDraining:
      return WEFT_ENDPOINT_USED | WEFT_ENDPOINT_DRAINING;
    case model::EndpointState::kNotReady:
      break;
  }
  return WEFT_ENDPOINT_USED;
}

}  // namespace

MapState::MapState() : labels(std::make_shared<std::map<std::uint32_t, std::string>>()) {}

void MapState::set(const model::ServiceKey& key, std::shared_ptr<const PlacedService> service) {
  if (const auto* old = services.find(key)) endpoint_count -= (*old)->endpoint_count();
  if (service) endpoint_count += service->endpoint_count();
  services.set(key, std::move(service));
}

std::size_t PlacedService::endpoint_count() const {
  std::size_t count = 0;
  for (const auto& port : ports) count += port.endpoints.size();
  return count;
}

weft_addr to_abi(const model::Address& address) {
  weft_addr result;
  static_assert(sizeof result == sizeof address.bytes);
  std::memcpy(&result, address.bytes.data(), sizeof result);
  return result;
}

model::Address from_abi(const weft_addr& address) {
  model::Address result;
  std::memcpy(result.bytes.data(), &address, sizeof address);
  return result;
}

weft_frontend_key frontend_key(const model::Address& address, const PortKey& port) {
  weft_frontend_key key{};
  key.addr = to_abi(address);
  key.port = htons(port.port);
  key.proto = static_cast<std::uint8_t>(port.protocol);
  return key;
}

weft_endpoint to_abi(const PlacedEndpoint& endpoint, std::uint32_t service_index) {
  weft_endpoint value{};
  value.addr = to_abi(endpoint.address);
  value.word = weft_endpoint_make(service_index, htons(endpoint.port), flags_of(endpoint.state),
                                  endpoint.priority);
  value.weight = endpoint.weight;
  value.zone = endpoint.zone;
  value.node = endpoint.node;
  return value;
}

weft_service_info info_of(const model::ServiceKey& service, const PlacedPort& port) {
  weft_service_info info{};
  copy_name(info.namespace_name, service.namespace_name);
  copy_name(info.name, service.name);
  copy_name(info.port_name, port.name);
  info.port = htons(port.key.port);
  info.proto = static_cast<std::uint8_t>(port.key.protocol);
  info.family = static_cast<std::uint8_t>(port.key.family);
  return info;
}

namespace {

std::uint32_t last_priority_in_rotation(const PlacedPort& port) {
  const std::unordered_set<std::uint32_t> rotation(port.slots.begin(), port.slots.end());
  std::uint32_t last = 0;
  for (const auto& endpoint : port.endpoints)
    if (endpoint.priority > last && rotation.contains(endpoint.id)) last = endpoint.priority;
  return last;
}

}  // namespace

std::vector<std::uint64_t> range_words(const PlacedPort& port) {
  std::vector<std::uint64_t> words;
  words.reserve(port.range_length());
  words.push_back(weft_slot_make(port.index, port.affinity_seconds));
  words.push_back(port.generation);
  words.push_back(
      weft_slot_make(port.index, weft_spares_make(static_cast<std::uint32_t>(port.spares.size()),
                                                  last_priority_in_rotation(port))));
  for (const auto id : port.slots) words.push_back(weft_slot_make(port.index, id));
  for (const auto id : port.spares) words.push_back(weft_slot_make(port.index, id));
  return words;
}

namespace {

// What differs from the policy of a service that asks for nothing.
std::string policy_text(const weft_policy& policy) {
  std::string text;
  const auto add = [&](const char* name, std::uint32_t value) {
    if (value) text += std::string(" ") + name + "=" + std::to_string(value);
  };
  add("max_connections", policy.max_connections);
  add("max_per_endpoint", policy.max_per_endpoint);
  add("threshold", policy.threshold);
  add("failing_for_ms", policy.failing_for_ms);
  add("max_ejected", policy.max_ejected);
  add("warmup_ms", policy.warmup_ms);
  return text.empty() ? text : "  policy" + text + "\n";
}

}  // namespace

std::string to_text(const PlacedService& service) {
  std::string text;
  for (const auto& port : service.ports) {
    text += "service " + std::to_string(port.index) + " " + service.key.to_text() + " " +
            (port.name.empty() ? "-" : port.name) + " " + std::to_string(port.key.port) + "/" +
            model::to_text(port.key.protocol) +
            (port.key.family == model::Family::kIpv4 ? " ipv4" : " ipv6") +
            " selector=" + std::to_string(port.selector) +
            " affinity=" + std::to_string(port.affinity_seconds) + "\n";
    for (const auto& address : port.frontends) text += "  frontend " + address.to_text() + "\n";
    for (const auto& e : port.endpoints)
      text += "  endpoint " + std::to_string(e.id) + " " + e.address.to_text() + " port " +
              std::to_string(e.port) + " " + model::to_text(e.state) +
              " weight=" + std::to_string(e.weight) + " zone=" + std::to_string(e.zone) +
              " node=" + std::to_string(e.node) + "\n";
    text += "  slots";
    for (const auto id : port.slots) text += " " + std::to_string(id);
    text += "\n";
    if (!port.spares.empty()) text += "  spares";
    for (const auto id : port.spares) text += " " + std::to_string(id);
    if (!port.spares.empty()) text += "\n";
    text += policy_text(port.policy);
  }
  return text;
}

std::string to_text(const MapState& state) {
  std::map<model::ServiceKey, std::string> sorted;
  state.services.for_each([&](const auto& service) { sorted[service->key] = to_text(*service); });
  std::string text;
  for (const auto& [key, lines] : sorted) text += lines;
  for (const auto& [id, label] : *state.labels)
    text += "label " + std::to_string(id) + " " + label + "\n";
  return text;
}

}  // namespace weft::compile
