#include "mesh/model/mesh.h"

#include <map>
#include <tuple>

namespace weft::model {

std::optional<ServiceKey> ServiceKey::parse(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == text.size())
    return std::nullopt;
  if (text.find('/', slash + 1) != std::string_view::npos) return std::nullopt;
  return ServiceKey{std::string(text.substr(0, slash)), std::string(text.substr(slash + 1))};
}

const char* to_text(EndpointState state) {
  switch (state) {
    case EndpointState::kReady:
      return "ready";
    case EndpointState::kDraining:
      return "draining";
    case EndpointState::kNotReady:
      break;
  }
  return "not_ready";
}

bool ServicePort::operator==(const ServicePort& other) const {
  const auto fields = [](const ServicePort& p) {
    return std::tie(p.name, p.port, p.protocol, p.endpoints, p.routed_by, p.app_protocol,
                    p.http_endpoints);
  };
  const auto same = [](const auto& a, const auto& b) { return a == b || (a && b && *a == *b); };
  return same(http, other.http) && same(policy, other.policy) && fields(*this) == fields(other);
}

const ServicePort* Service::find_port(std::uint16_t port, Protocol protocol) const {
  for (const auto& candidate : ports)
    if (candidate.port == port && candidate.protocol == protocol) return &candidate;
  return nullptr;
}

std::size_t bucket_of(const ServiceKey& key, std::size_t buckets) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  const auto mix = [&hash](std::string_view text) {
    for (const unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3ull;
  };
  mix(key.namespace_name);
  mix("/");
  mix(key.name);
  return hash % buckets;
}

namespace {

// The rules as they are tried, and who is behind them; of a cluster that is nobody, why.
std::string routes_of(const ServicePort& port) {
  if (!port.http) return "";
  std::string text = "    rules of " + port.http->kind + "\n";
  const auto rules = to_text(*port.http);
  for (std::size_t at = 0; at < rules.size();) {
    const auto end = rules.find('\n', at) + 1;
    text += "      " + rules.substr(at, end - at);
    at = end;
  }
  for (std::size_t i = 0; i < port.http->clusters.size(); ++i) {
    const auto& cluster = port.http->clusters[i];
    text += "    cluster " + cluster.name();
    if (!cluster.missing.empty()) text += " (" + cluster.missing + ")";
    for (const auto& e : port.http_endpoints.at(i))
      text += " " + e.address.to_text() + " port " + std::to_string(e.port) +
              (e.state == EndpointState::kReady ? "" : std::string(" ") + to_text(e.state)) + ",";
    if (text.back() == ',') text.pop_back();
    text += "\n";
  }
  return text;
}

// Only what is not the default, so that a mesh without policies reads as it always did.
std::string rank_of(const Endpoint& endpoint) {
  std::string text;
  if (endpoint.priority) text += " priority=" + std::to_string(endpoint.priority);
  if (endpoint.weight != 1) text += " weight=" + std::to_string(endpoint.weight);
  for (const auto& [key, value] : endpoint.labels) text += " label(" + key + "=" + value + ")";
  return text;
}

}  // namespace

std::string to_text(const Mesh& mesh) {
  std::map<ServiceKey, std::string> sorted;
  mesh.services.for_each([&](const ServicePtr& service) {
    std::string& text = sorted[service->key];
    text = "service " + service->key.to_text() + " balancer=" + to_text(service->balancer);
    if (service->affinity) text += " affinity=" + std::to_string(service->affinity->count()) + "s";
    if (service->headless) text += " headless";
    for (const auto& address : service->addresses) text += " " + address.to_text();
    text += "\n";
    const auto traffic = to_text(service->traffic);
    if (!traffic.empty()) text += "  traffic" + traffic + "\n";
    for (const auto& port : service->ports) {
      text +=
          "  port " + std::to_string(port.port) + "/" + to_text(port.protocol) +
          (port.name.empty() ? "" : " " + port.name) +
          (port.routed_by ? " routed by VirtualService " + port.routed_by->virtual_service : "") +
          "\n";
      if (port.policy)
        text += std::string("    policy balancer=") + to_text(port.policy->balancer) +
                to_text(port.policy->traffic) + "\n";
      for (const auto& e : port.endpoints)
        text += "    endpoint " + e.address.to_text() + " port " + std::to_string(e.port) + " " +
                to_text(e.state) + rank_of(e) + (e.region.empty() ? "" : " region=" + e.region) +
                (e.zone.empty() ? "" : " zone=" + e.zone) +
                (e.subzone.empty() ? "" : " subzone=" + e.subzone) +
                (e.node.empty() ? "" : " node=" + e.node) + "\n";
      text += routes_of(port);
    }
  });
  std::string text;
  for (const auto& [key, lines] : sorted) text += lines;
  return text;
}

}  // namespace weft::model
