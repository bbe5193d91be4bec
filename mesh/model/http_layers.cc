#include "mesh/model/http_layers.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "mesh/model/precedence.h"

namespace weft::model {
namespace {

struct Candidate {
  const VirtualServiceObject* routes = nullptr;
  HostScope scope;  // the most specific of its hosts that cover the service
};

// Nothing: the host is not for the service. A ServiceEntry is known by its own names, and no
// Service's wildcard covers it.
std::optional<HostScope> scope_over(const ServiceKey& service, const Inventory& inventory,
                                    const std::string& host, const std::string& namespace_name) {
  using Kind = HostScope::Kind;
  if (inventory.is_host_of(service, host, namespace_name))
    return HostScope{Kind::kService, service};
  auto scope = scope_of(host, namespace_name);
  if (!scope || scope->kind == Kind::kService || !scope->covers(service)) return std::nullopt;
  const auto* object = inventory.service(service);
  if (object && object->entry && scope->kind != Kind::kOwnNamespace) return std::nullopt;
  return scope;
}

std::vector<Candidate> candidates_for(const Inventory& inventory, const ServiceKey& service) {
  std::vector<Candidate> candidates;
  auto by_id = inventory.wide_routes_of(service);
  by_id.merge(inventory.routes_of(service));
  for (const auto& [id, object] : by_id) {
    const auto& routes = std::get<VirtualServiceObject>(*object);
    if (routes.http.empty()) continue;
    std::optional<HostScope> best;
    for (const auto& host : routes.hosts) {
      const auto scope = scope_over(service, inventory, host, routes.meta.namespace_name);
      if (scope && (!best || best->kind < scope->kind)) best = scope;
    }
    if (best) candidates.push_back({&routes, *best});
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return std::pair(b.scope.kind, age_of(a.routes->meta)) <
           std::pair(a.scope.kind, age_of(b.routes->meta));
  });
  return candidates;
}

// Namespaces; "" stands for all.
std::set<std::string> audience_of(const VirtualServiceObject& routes) {
  std::set<std::string> audience;
  for (const auto& name : routes.export_to) {
    if (name == "*") return {""};
    audience.insert(name == "." ? routes.meta.namespace_name : name);
  }
  return audience.empty() ? std::set<std::string>{""} : audience;
}

Notice say_older(const Candidate& loser, const Candidate& winner, const std::string& service) {
  const auto& meta = winner.routes->meta;
  const auto name = "VirtualService " + key_of(meta).to_text() + in_file(meta.origin);
  // Of a wildcard's loser the same is said for every service, so that it is one notice.
  const bool wide = loser.scope.kind != HostScope::Kind::kService;
  return {Severity::kWarning, loser.routes->meta.origin, id_of(*loser.routes).to_text(),
          wide ? "has no effect where " + name + ", which is for the same host and older, has one"
               : "has no effect on " + service + ": " + name + " is for the same host and older"};
}

// Whether nothing is left over by the match, namespaces aside.
bool takes_all(HttpMatch match) {
  match.source_namespace.clear();
  using Kind = PathMatch::Kind;
  if (match.path && match.path->text == "/" &&
      (match.path->kind == Kind::kPrefix || match.path->kind == Kind::kSegmentPrefix))
    match.path.reset();
  return match == HttpMatch{};
}

// False: the rule is for nobody among the callers.
bool restrict_to(const std::string& callers, HttpRule& rule) {
  if (callers.empty()) return true;
  if (rule.matches.empty()) rule.matches.emplace_back();
  std::erase_if(rule.matches, [&](const HttpMatch& match) {
    return !match.source_namespace.empty() && match.source_namespace != callers;
  });
  for (auto& match : rule.matches) match.source_namespace = callers;
  return !rule.matches.empty();
}

// The rule behind all others of a layer that is not the last.
HttpRule rest_of(const HttpLayer& layer) {
  HttpRule rest;
  rest.name = kNothingMatched;
  if (layer.rules.empty()) {
    rest.object = layer.kind;
  } else {
    rest.object = layer.rules.back().object;
    rest.origin = layer.rules.back().origin;
  }
  rest.matches.emplace_back().source_namespace = layer.callers;
  if (layer.rest_to_service)
    rest.action = Forward{{HttpDestination{}}, {}, {}, {}};
  else
    rest.action = DirectResponse{404, "", ""};
  return rest;
}

void append(HttpLayer layer, std::vector<HttpRule>& rules) {
  std::erase_if(layer.rules, [&](HttpRule& rule) { return !restrict_to(layer.callers, rule); });
  const bool complete =
      layer.callers.empty() ||
      std::any_of(layer.rules.begin(), layer.rules.end(), [](const HttpRule& rule) {
        return std::any_of(rule.matches.begin(), rule.matches.end(), takes_all);
      });
  if (!complete) layer.rules.push_back(rest_of(layer));
  std::move(layer.rules.begin(), layer.rules.end(), std::back_inserter(rules));
}

}  // namespace

std::optional<HttpRoutes> joined(std::vector<HttpLayer> layers) {
  if (std::all_of(layers.begin(), layers.end(),
                  [](const auto& layer) { return layer.rules.empty() && layer.rest_to_service; }))
    return std::nullopt;
  HttpRoutes routes;
  const auto& last = layers.back();
  const bool rest_to_service = !last.callers.empty() || last.rest_to_service;
  routes.otherwise =
      rest_to_service ? HttpRoutes::Otherwise::kService : HttpRoutes::Otherwise::kNotFound;
  routes.kind = layers.front().kind;  // HTTPRoutes come first
  for (auto& layer : layers) append(std::move(layer), routes.rules);
  return routes;
}

std::vector<ChosenVirtualService> choose_virtual_services(const Inventory& inventory,
                                                          const ServiceKey& service,
                                                          std::vector<Notice>& notices) {
  using Kind = HostScope::Kind;
  std::vector<ChosenVirtualService> chosen;
  std::map<std::string, const Candidate*> taken;  // by whom a namespace is served
  const auto candidates = candidates_for(inventory, service);
  for (const auto& candidate : candidates) {
    const Candidate* winner = nullptr;
    bool used = false;
    for (const auto& callers : audience_of(*candidate.routes)) {
      const auto all = taken.find("");
      const auto at = all == taken.end() ? taken.find(callers) : all;
      if (at != taken.end()) {
        winner = at->second;
        continue;
      }
      used = true;
      taken.emplace(callers, &candidate);
      chosen.push_back({candidate.routes, callers, candidate.scope.kind == Kind::kOwnNamespace,
                        candidate.scope.kind == Kind::kService});
    }
    if (!used && winner && winner->scope.kind == candidate.scope.kind)
      notices.push_back(say_older(candidate, *winner, inventory.title_of(service)));
  }
  return chosen;
}

std::optional<HttpRule> rule_for_port(const HttpRuleSpec& spec, std::uint16_t port) {
  if (spec.rule.matches.empty()) return spec.rule;
  auto rule = spec.rule;
  rule.matches.clear();
  for (std::size_t i = 0; i < spec.ports.size(); ++i)
    if (spec.ports[i] == 0 || spec.ports[i] == port) rule.matches.push_back(spec.rule.matches[i]);
  if (rule.matches.empty()) return std::nullopt;
  return rule;
}

}  // namespace weft::model
