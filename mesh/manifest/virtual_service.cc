// networking.istio.io VirtualService, and its `tcp` rules, which the kernel keeps. `http` rules are
// virtual_service_http.cc's; of tls rules it is said that they have no effect.
//
// A rule that applies to more connections than it was written for is worse than none: one that asks
// for what this build does not look at is passed over as a whole, and said to be.
#include <algorithm>
#include <limits>

#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"
#include "mesh/manifest/virtual_service.h"

namespace weft::manifest {
namespace {

constexpr std::int64_t kInt32Most = std::numeric_limits<std::int32_t>::max();

// False: it asks for something that nobody looks at.
bool decode_match(Decoder& decoder, Value value, const std::string& path,
                  std::optional<std::uint16_t>& port) {
  if (!decoder.is(value, Type::kMapping, path)) return false;
  port = decoder.port(value, path, "port");
  bool enforced = true;
  for (const char* field :
       {"destinationSubnets", "sourceLabels", "sourceNamespace", "sourceSubnet", "gateways"}) {
    const Value at = value[field];
    if (!at.present() ||
        (field == std::string_view("gateways") && for_the_mesh(decoder, value, path)))
      continue;
    enforced = false;
    decoder.not_enforced(at, join_path(path, field), "the rule is passed over");
  }
  decoder.unknown_fields(value, path,
                         {"port", "destinationSubnets", "sourceLabels", "sourceNamespace",
                          "sourceSubnet", "gateways"});
  return enforced;
}

bool decode_matches(Decoder& decoder, Value rule, const std::string& path, model::TcpRule& into) {
  bool enforced = true, any_port = false;
  std::size_t index = 0;
  for (const Value match : decoder.sequence(rule, path, "match")) {
    std::optional<std::uint16_t> port;
    enforced &= decode_match(decoder, match, join_path(path, "match", index++), port);
    if (port)
      into.ports.push_back(*port);
    else
      any_port = true;
  }
  if (any_port) into.ports.clear();
  return enforced;
}

void decode_destination(Decoder& decoder, Value value, const std::string& path,
                        model::TcpRule& rule) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::RouteDestination route;
  route.origin = decoder.origin(value);
  const Value destination = decoder.mapping(value, path, "destination");
  const auto where = join_path(path, "destination");
  route.host = decoder.text(destination, where, "host").value_or("");
  if (route.host.empty())
    decoder.reject(value, where + ".host is missing");
  else if (!is_dns_subdomain(route.host))
    decoder.reject(destination["host"],
                   where + ".host " + quoted(route.host) + " is not a host's name");
  route.subset = decoder.text(destination, where, "subset").value_or("");
  const Value port = decoder.mapping(destination, where, "port");
  route.port = decoder.port(port, join_path(where, "port"), "number");
  const auto weight = decoder.integer(value, path, "weight", 0, kInt32Most);
  route.weight = static_cast<std::uint32_t>(weight.value_or(0));
  decoder.unknown_fields(port, join_path(where, "port"), {"number"});
  decoder.unknown_fields(destination, where, {"host", "subset", "port"});
  decoder.unknown_fields(value, path, {"destination", "weight"});
  rule.destinations.push_back(std::move(route));
}

void decode_tcp_rule(Decoder& decoder, Value value, const std::string& path,
                     model::VirtualServiceObject& routes) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::TcpRule rule;
  rule.origin = decoder.origin(value);
  const bool enforced = decode_matches(decoder, value, path, rule);
  std::size_t index = 0;
  for (const Value route : decoder.sequence(value, path, "route"))
    decode_destination(decoder, route, join_path(path, "route", index++), rule);
  decoder.unknown_fields(value, path, {"match", "route"});
  auto& destinations = rule.destinations;
  if (index == 0) decoder.reject(value, path + ".route is missing or empty");
  // Istio: the only destination gets everything, whatever its weight.
  if (destinations.size() == 1) destinations[0].weight = 1;
  if (index > 1 && std::all_of(destinations.begin(), destinations.end(),
                               [](const auto& destination) { return destination.weight == 0; }))
    decoder.reject(value["route"], path + ".route: the weights are 0 in all");
  if (enforced) routes.tcp.push_back(std::move(rule));
}

void decode_hosts(Decoder& decoder, Value document, Value spec,
                  model::VirtualServiceObject& routes) {
  if (!spec["hosts"].present()) decoder.reject(document, "spec.hosts is missing");
  std::size_t index = 0;
  for (const Value host : decoder.sequence(spec, "spec", "hosts")) {
    if (!decoder.is(host, Type::kString, join_path("spec", "hosts", index++))) continue;
    routes.hosts.emplace_back(host.text());
    if (host.text() == "*")
      decoder.warn(host,
                   "host \"*\" covers the services of its own namespace only; istiod would refuse "
                   "it");
  }
}

void decode_tcp_rules(Decoder& decoder, Value spec, model::VirtualServiceObject& routes) {
  std::size_t index = 0;
  for (const Value rule : decoder.sequence(spec, "spec", "tcp"))
    decode_tcp_rule(decoder, rule, join_path("spec", "tcp", index++), routes);
}

// For gateways alone: nothing of it is for the mesh.
void pass_over(Decoder& decoder, Value spec, model::VirtualServiceObject& routes) {
  if (routes.tcp.empty() && routes.http.empty()) return;
  decoder.not_enforced(spec["gateways"], "spec.gateways",
                       "this build has no gateway; the rules are passed over, mesh is not among "
                       "its gateways");
  routes.tcp.clear();
  routes.http.clear();
}

}  // namespace

bool for_the_mesh(Decoder& decoder, Value parent, const std::string& path) {
  const auto gateways = decoder.texts(parent, path, "gateways");
  return gateways.empty() || std::find(gateways.begin(), gateways.end(), "mesh") != gateways.end();
}

void decode_virtual_service(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::VirtualServiceObject routes;
  routes.meta = decode_meta(decoder, document, Name::kSubdomain);
  const Value spec = decoder.mapping(document, "", "spec");
  decode_hosts(decoder, document, spec, routes);
  if (decoder.sequence(spec, "spec", "tls").present())
    decoder.warn(spec["tls"],
                 "spec.tls rules have no effect yet: to choose by SNI comes in a later version; "
                 "traffic goes to the service that was dialled");
  routes.export_to = decoder.texts(spec, "spec", "exportTo");
  decode_http_rules(decoder, spec, routes);
  decode_tcp_rules(decoder, spec, routes);
  if (!for_the_mesh(decoder, spec, "spec")) pass_over(decoder, spec, routes);
  decoder.unknown_fields(spec, "spec", {"hosts", "http", "tls", "tcp", "exportTo", "gateways"});
  decoder.unknown_fields(document, "", {"apiVersion", "kind", "metadata", "spec"}, {"status"});
  if (!routes.tcp.empty() || !routes.http.empty()) objects.push_back(std::move(routes));
}

}  // namespace weft::manifest
