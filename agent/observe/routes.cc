#include "agent/observe/routes.h"

#include <algorithm>

#include "agent/observe/admin_protocol.h"
#include "agent/observe/reply.h"
#include "mesh/base/text.h"
#include "userspace_proxy/http/path.h"

namespace weft::observe {
namespace {

using nlohmann::json;

json destinations_of(const model::HttpRule& rule, const model::HttpRoutes& routes) {
  json list = json::array();
  const auto* forward = std::get_if<model::Forward>(&rule.action);
  if (!forward) return list;
  for (const auto& to : forward->destinations) {
    const auto& cluster = routes.clusters[to.cluster];
    list.push_back(
        {{"cluster", cluster.name()}, {"weight", to.weight}, {"missing", cluster.missing}});
  }
  return list;
}

json rule_of(std::uint32_t number, const model::HttpRoutes& routes) {
  const auto& rule = routes.rules[number];
  json matches = json::array(), status;
  for (const auto& match : rule.matches) matches.push_back(model::to_text(match));
  const char* type = "forward";
  if (const auto* redirect = std::get_if<model::Redirect>(&rule.action))
    type = "redirect", status = redirect->status;
  else if (const auto* answer = std::get_if<model::DirectResponse>(&rule.action))
    type = "answer", status = answer->status;
  return {{"number", number},
          {"object", rule.object},
          {"name", rule.name},
          {"file", file_of(rule.origin)},
          {"line", rule.origin.line},
          {"matches", std::move(matches)},
          {"type", type},
          {"status", std::move(status)},
          {"action", model::action_text(rule, routes)},
          {"destinations", destinations_of(rule, routes)}};
}

json head_of(const model::Service& service, const model::ServicePort& port) {
  return {{"service", service.key.to_text()},
          {"port", port.port},
          {"kind", port.http->kind},
          {"otherwise", model::otherwise_text(*port.http)}};
}

void add_ports(const model::Service& service, json& list) {
  for (const auto& port : service.ports) {
    if (!port.http) continue;
    auto one = head_of(service, port);
    one["rules"] = json::array();
    for (std::uint32_t i = 0; i < port.http->rules.size(); ++i)
      one["rules"].push_back(rule_of(i, *port.http));
    list.push_back(std::move(one));
  }
}

json cluster_of(const model::ServicePort& port, std::uint32_t number, std::uint32_t weight) {
  const auto& cluster = port.http->clusters[number];
  json endpoints = json::array();
  if (number < port.http_endpoints.size())
    for (const auto& endpoint : port.http_endpoints[number])
      endpoints.push_back({{"address", endpoint.address.to_text()},
                           {"port", endpoint.port},
                           {"state", model::to_text(endpoint.state)}});
  return {{"name", cluster.name()},
          {"service", cluster.namespace_name + "/" + cluster.service},
          {"weight", weight},
          {"missing", cluster.missing},
          {"endpoints", std::move(endpoints)}};
}

// Where the request may be sent.
json clusters_of(const model::ServicePort& port, std::uint32_t won) {
  json list = json::array();
  const auto& routes = *port.http;
  if (won == routes::kNone) {
    if (routes.otherwise == model::HttpRoutes::Otherwise::kService)
      list.push_back(cluster_of(port, 0, 1));
    return list;
  }
  if (const auto* forward = std::get_if<model::Forward>(&routes.rules[won].action))
    for (const auto& to : forward->destinations)
      list.push_back(cluster_of(port, to.cluster, to.weight));
  return list;
}

// The request in the form that rules are asked with; views into the question and into `path`.
absl::StatusOr<routes::Request> request_of(const RouteQuestion& question, std::string& path,
                                           http::Fields& fields) {
  const std::string_view target = question.target;
  const auto mark = std::min(target.find('?'), target.size());
  routes::Request request;
  request.method = question.method;
  request.authority = question.authority;
  request.path = target.substr(0, mark);
  request.query = mark < target.size() ? target.substr(mark + 1) : std::string_view();
  request.fields = &fields;
  const auto verdict = http::normalize_path(request.path, path);
  if (verdict == http::PathVerdict::kRefused)
    return absl::InvalidArgumentError("400: the path is not one that two readers would read alike");
  if (verdict == http::PathVerdict::kChanged) request.path = path;
  for (const auto& [name, value] : question.headers)
    if (!fields.add(name, value, http::known_of(name)))
      return absl::InvalidArgumentError("431: more than " + std::to_string(http::kMaxFields) +
                                        " header fields");
  return request;
}

void explain_rules(const routes::Table& table, const routes::Request& request, json& result) {
  const auto won = table.match(request).rule;
  if (won != routes::kNone) result["rule"] = won;
  for (const auto& one : routes::explain(table, request)) {
    auto rule = rule_of(one.rule, table.routes());
    rule["won"] = one.won;
    rule["why"] = one.why;
    result["rules"].push_back(std::move(rule));
  }
}

}  // namespace

std::string routes_reply(const Snapshot& snapshot, const std::string& service) {
  json list = json::array();
  if (service.empty()) {
    std::vector<model::ServicePtr> all;
    snapshot.mesh->services.for_each([&](const auto& one) { all.push_back(one); });
    std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a->key < b->key; });
    for (const auto& one : all) add_ports(*one, list);
    return ok_reply(std::move(list));
  }
  const auto key = model::ServiceKey::parse(service);
  const auto* found = key ? snapshot.mesh->services.find(*key) : nullptr;
  if (!found) return error_reply("no source has a service " + service);
  add_ports(**found, list);
  return ok_reply(std::move(list));
}

std::string explain_reply(const Snapshot& snapshot, const std::string& service,
                          const RouteQuestion& question, const routes::Caller& caller) {
  const auto key = model::ServiceKey::parse(service);
  const auto* found = key ? snapshot.mesh->services.find(*key) : nullptr;
  if (!found) return error_reply("no source has a service " + service);
  const auto& ports = (*found)->ports;
  const auto port = std::find_if(ports.begin(), ports.end(), [&](const auto& one) {
    return one.port == question.port && one.protocol == model::Protocol::kTcp;
  });
  if (port == ports.end() || !port->http) return ok_reply(nullptr);
  const auto table = routes::Table::compile(*port->http);
  if (!table.ok()) return error_reply(base::message_of(table.status()));

  auto result = head_of(**found, *port);
  result["caller"] = caller.namespace_name;
  result["rule"] = nullptr;
  result["rules"] = result["clusters"] = json::array();
  std::string path;
  http::Fields fields;
  auto request = request_of(question, path, fields);
  result["path"] = request.ok() ? std::string(request->path) : question.target;
  result["refused"] = request.ok() ? "" : base::message_of(request.status());
  if (!request.ok()) return ok_reply(std::move(result));
  request->caller = &caller;
  explain_rules(**table, *request, result);
  const auto won = result["rule"].is_null() ? routes::kNone : result["rule"].get<std::uint32_t>();
  result["clusters"] = clusters_of(*port, won);
  return ok_reply(std::move(result));
}

}  // namespace weft::observe
