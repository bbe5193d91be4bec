#include "mesh/model/http_routes.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "mesh/model/http_clusters.h"
#include "mesh/model/http_layers.h"
#include "mesh/model/http_precedence.h"
#include "mesh/model/precedence.h"

namespace weft::model {
namespace {

// Why requests of the port cannot be routed; empty: they can.
std::string obstacle(const Service& service, const ServicePort& port) {
  if (service.headless)
    return "the Service is headless, and who calls an endpoint by its own address uses no route";
  switch (port.app_protocol) {
    case AppProtocol::kHttp2:
    case AppProtocol::kGrpc:
      return std::string("the port speaks ") + to_text(port.app_protocol) +
             ", which comes in a later version";
    case AppProtocol::kTls:
    case AppProtocol::kTcp:
      return std::string("the port speaks ") + to_text(port.app_protocol) +
             " by its name or appProtocol, and no HTTP";
    case AppProtocol::kUnknown:
    case AppProtocol::kHttp:
      break;
  }
  return "";
}

class Joiner {
 public:
  Joiner(const Inventory& inventory, Service& service, std::vector<Notice>& notices)
      : inventory_(inventory),
        service_(service),
        notices_(notices),
        chosen_(choose_virtual_services(inventory, service.key, notices)) {}

  bool idle() const { return chosen_.empty() && inventory_.http_routes_of(service_.key).empty(); }
  void route(ServicePort& port);
  void say_parents_without_port();

 private:
  std::vector<HttpLayer> layers_of(const ServicePort& port, HttpClusters& clusters);
  HttpLayer layer_of(const std::string& callers, const std::vector<const HttpRouteObject*>& routes,
                     HttpClusters& clusters);
  HttpLayer layer_of(const ChosenVirtualService& chosen, const ServicePort& port,
                     HttpClusters& clusters);
  void say_shadowed(const ServicePort& port, const HttpRouteObject& by, const std::string& callers);
  void say_obstacle(const ServicePort& port, const std::string& why);
  // Attached HTTPRoutes by who may use them: their own namespace, or everybody ("").
  std::map<std::string, std::vector<const HttpRouteObject*>> attached_to(const ServicePort& port);

  void warn(const ObjectMeta& meta, const std::string& id, const std::string& message) {
    notices_.push_back({Severity::kWarning, meta.origin, id, message});
  }
  std::string name_of(const ServicePort& port) const {
    return "port " + std::to_string(port.port) + " of " + inventory_.title_of(service_.key);
  }

  const Inventory& inventory_;
  Service& service_;
  std::vector<Notice>& notices_;
  const std::vector<ChosenVirtualService> chosen_;
};

bool is_attached(const RouteParent& parent, const ServiceKey& service, const ServicePort& port) {
  return parent.namespace_name == service.namespace_name && parent.name == service.name &&
         (!parent.port || *parent.port == port.port) &&
         (parent.port_name.empty() || parent.port_name == port.name);
}

std::map<std::string, std::vector<const HttpRouteObject*>> Joiner::attached_to(
    const ServicePort& port) {
  std::map<std::string, std::vector<const HttpRouteObject*>> attached;
  for (const auto& [id, object] : inventory_.http_routes_of(service_.key)) {
    const auto& route = std::get<HttpRouteObject>(*object);
    const bool here = std::any_of(
        route.parents.begin(), route.parents.end(),
        [&](const RouteParent& parent) { return is_attached(parent, service_.key, port); });
    const auto& space = route.meta.namespace_name;
    if (here) attached[space == service_.key.namespace_name ? "" : space].push_back(&route);
  }
  return attached;
}

HttpLayer Joiner::layer_of(const std::string& callers,
                           const std::vector<const HttpRouteObject*>& routes,
                           HttpClusters& clusters) {
  HttpLayer layer{callers, {}, false, "HTTPRoute"};
  for (auto& [route, rule] : in_order_of_trial(routes))
    layer.rules.push_back(
        clusters.resolved(std::move(rule), route->backends, route->meta, notices_));
  return layer;
}

HttpLayer Joiner::layer_of(const ChosenVirtualService& chosen, const ServicePort& port,
                           HttpClusters& clusters) {
  HttpLayer layer{chosen.callers, {}, chosen.rest_to_service, "VirtualService"};
  const auto& routes = *chosen.routes;
  for (const auto& spec : routes.http)
    if (auto rule = rule_for_port(spec, port.port))
      layer.rules.push_back(
          clusters.resolved(std::move(*rule), routes.backends, routes.meta, notices_));
  // As in Istio: one that has nothing to say of a port leaves it to the service.
  if (layer.rules.empty()) layer.rest_to_service = true;
  return layer;
}

void Joiner::say_shadowed(const ServicePort& port, const HttpRouteObject& by,
                          const std::string& callers) {
  std::set<std::string> said;
  for (const auto& chosen : chosen_) {
    const auto& routes = *chosen.routes;
    const bool concerned = callers.empty() || chosen.callers.empty() || chosen.callers == callers;
    const auto id = id_of(routes).to_text();
    if (!concerned || !said.insert(id).second) continue;
    warn(routes.meta, id,
         "has no effect on " + name_of(port) +
             (callers.empty() ? "" : " for callers of namespace " + callers) + ": HTTPRoute " +
             key_of(by.meta).to_text() + in_file(by.meta.origin) + " is attached to it");
  }
}

std::vector<HttpLayer> Joiner::layers_of(const ServicePort& port, HttpClusters& clusters) {
  std::vector<HttpLayer> layers;
  const auto attached = attached_to(port);
  for (const auto& [callers, routes] : attached) {
    say_shadowed(port, *routes.front(), callers);
    if (!callers.empty()) layers.push_back(layer_of(callers, routes, clusters));
  }
  if (const auto producers = attached.find(""); producers != attached.end()) {
    layers.push_back(layer_of("", producers->second, clusters));
    return layers;
  }
  for (const auto& chosen : chosen_)
    if (chosen.callers.empty() || !attached.contains(chosen.callers))
      layers.push_back(layer_of(chosen, port, clusters));
  return layers;
}

void Joiner::say_obstacle(const ServicePort& port, const std::string& why) {
  for (const auto& [callers, routes] : attached_to(port))
    for (const auto* route : routes)
      warn(route->meta, id_of(*route).to_text(), "has no effect on " + name_of(port) + ": " + why);
  for (const auto& chosen : chosen_) {
    // A wildcard was not written for this port.
    if (!chosen.for_service) continue;
    const auto& http = chosen.routes->http;
    if (std::any_of(http.begin(), http.end(),
                    [&](const auto& spec) { return rule_for_port(spec, port.port).has_value(); }))
      warn(chosen.routes->meta, id_of(*chosen.routes).to_text(),
           "http rules have no effect on " + name_of(port) + ": " + why);
  }
}

void Joiner::route(ServicePort& port) {
  if (const auto why = obstacle(service_, port); !why.empty()) return say_obstacle(port, why);
  HttpClusters clusters(inventory_, service_.key, port.port, port.endpoints);
  auto routes = joined(layers_of(port, clusters));
  if (!routes) return;
  routes->clusters = clusters.clusters();
  for (const auto& chosen : chosen_)
    clusters.say_strangers(id_of(*chosen.routes).to_text(), chosen.routes->meta.origin, notices_);
  for (auto& rule : routes->rules)
    // Gateway API: without a scheme the port of a redirect is the one that took the request.
    if (auto* redirect = std::get_if<Redirect>(&rule.action))
      if (rule.object.starts_with("HTTPRoute ") && redirect->authority && !redirect->scheme &&
          !redirect->port)
        redirect->port = port.port;
  port.http = std::make_shared<const HttpRoutes>(std::move(*routes));
  port.http_endpoints = clusters.take_endpoints();
}

void Joiner::say_parents_without_port() {
  for (const auto& [id, object] : inventory_.http_routes_of(service_.key)) {
    const auto& route = std::get<HttpRouteObject>(*object);
    for (const auto& parent : route.parents) {
      if (ServiceKey{parent.namespace_name, parent.name} != service_.key) continue;
      if (std::none_of(service_.ports.begin(), service_.ports.end(), [&](const auto& port) {
            return port.protocol == Protocol::kTcp && is_attached(parent, service_.key, port);
          }))
        notices_.push_back({Severity::kWarning, parent.origin, id,
                            "has no effect on Service " + service_.key.to_text() +
                                ", which has no TCP port that the parentRef names"});
    }
  }
}

}  // namespace

void apply_http_routes(const Inventory& inventory, Service& service, std::vector<Notice>& notices) {
  Joiner joiner(inventory, service, notices);
  if (joiner.idle()) return;  // nearly all services
  for (auto& port : service.ports)
    if (port.protocol == Protocol::kTcp) joiner.route(port);
  joiner.say_parents_without_port();
}

void keep_http_routes(const Service& before, Service& service) {
  for (auto& port : service.ports)
    for (const auto& old : before.ports)
      if (old.port == port.port && old.protocol == port.protocol && old.http && port.http &&
          *old.http == *port.http)
        port.http = old.http;
}

}  // namespace weft::model
