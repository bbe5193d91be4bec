// VirtualService `http` rules. Matches, actions and policies have files of their own.
#include <algorithm>
#include <limits>

#include "mesh/manifest/http_fields.h"
#include "mesh/manifest/text_reader.h"
#include "mesh/manifest/virtual_service.h"

namespace weft::manifest {
namespace {

constexpr std::int64_t kInt32Most = std::numeric_limits<std::int32_t>::max();

void decode_route(Decoder& decoder, Value value, const std::string& path, model::Forward& forward,
                  std::vector<model::HttpBackend>& backends) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  auto backend = decode_http_backend(decoder, value, path, "destination");
  model::HttpDestination to;
  to.weight =
      static_cast<std::uint32_t>(decoder.integer(value, path, "weight", 0, kInt32Most).value_or(0));
  decode_headers(decoder, decoder.mapping(value, path, "headers"), join_path(path, "headers"),
                 to.request_headers, to.response_headers, to.authority);
  decoder.unknown_fields(value, path, {"destination", "weight", "headers"});
  if (!backend) return;
  to.cluster = index_of(backends, std::move(*backend));
  forward.destinations.push_back(std::move(to));
}

void decode_forward(Decoder& decoder, Value value, const std::string& path, model::Forward& forward,
                    std::vector<model::HttpBackend>& backends) {
  std::size_t index = 0;
  for (const Value route : decoder.sequence(value, path, "route"))
    decode_route(decoder, route, join_path(path, "route", index++), forward, backends);
  auto& destinations = forward.destinations;
  // Istio: the only destination gets everything, whatever its weight.
  if (index == 1 && !destinations.empty()) destinations[0].weight = 1;
  if (index > 1 && std::all_of(destinations.begin(), destinations.end(),
                               [](const auto& to) { return to.weight == 0; }))
    decoder.reject(value["route"], path + ".route: the weights are 0 in all");
  decode_mirrors(decoder, value, path, forward, backends);
}

// The prefix that a rewrite replaces is "/" where a rule matches no path, as in Istio.
void name_the_prefix(model::HttpRuleSpec& spec) {
  const auto is_prefix = [](const std::optional<model::PathEdit>& edit) {
    return edit && edit->kind == model::PathEdit::Kind::kPrefix;
  };
  const auto* forward = std::get_if<model::Forward>(&spec.rule.action);
  const auto* redirect = std::get_if<model::Redirect>(&spec.rule.action);
  if (!(forward && is_prefix(forward->path)) && !(redirect && is_prefix(redirect->path))) return;
  if (spec.rule.matches.empty()) {
    spec.rule.matches.emplace_back();
    spec.ports.push_back(0);
  }
  for (auto& match : spec.rule.matches)
    if (!match.path) match.path = model::PathMatch{model::PathMatch::Kind::kPrefix, "/", false};
}

bool is_empty(Value list) { return !(list.begin() != list.end()); }

// What only a rule that forwards can have.
void refuse_beside(Decoder& decoder, Value value, const std::string& path, const char* action) {
  for (const char* field : {"route", "rewrite", "mirror", "mirrors"}) {
    const Value at = value[field];
    if (at.present() && !(at.type() == Type::kSequence && is_empty(at)))
      decoder.reject(at, path + " has both " + action + " and " + field);
  }
}

// One of redirect, directResponse and route. False: the rule is passed over.
bool decode_action(Decoder& decoder, Value value, const std::string& path,
                   model::HttpRuleSpec& spec, std::vector<model::HttpBackend>& backends) {
  const Value redirect = decoder.mapping(value, path, "redirect");
  const Value direct = decoder.mapping(value, path, "directResponse");
  if (redirect.present() && direct.present())
    decoder.reject(direct, path + " has both redirect and directResponse");
  if (redirect.present()) {
    refuse_beside(decoder, value, path, "redirect");
    return decode_redirect(decoder, redirect, join_path(path, "redirect"), spec.rule);
  }
  if (direct.present()) {
    refuse_beside(decoder, value, path, "directResponse");
    decode_direct_response(decoder, direct, join_path(path, "directResponse"), spec.rule);
    return true;
  }
  if (value["delegate"].present()) {
    decoder.not_enforced(value["delegate"], path + ".delegate", "the rule is passed over");
    return false;
  }
  if (is_empty(decoder.sequence(value, path, "route")))
    decoder.reject(value, path + " has no route, redirect or directResponse");
  auto& forward = spec.rule.action.emplace<model::Forward>();
  decode_forward(decoder, value, path, forward, backends);
  decode_rewrite(decoder, decoder.mapping(value, path, "rewrite"), join_path(path, "rewrite"),
                 spec.rule);
  return true;
}

void decode_policies(Decoder& decoder, Value value, const std::string& path,
                     model::HttpRule& rule) {
  std::optional<std::string> authority;
  decode_headers(decoder, decoder.mapping(value, path, "headers"), join_path(path, "headers"),
                 rule.request_headers, rule.response_headers, authority);
  auto* forward = std::get_if<model::Forward>(&rule.action);
  if (authority && forward && !forward->authority) forward->authority = std::move(authority);
  rule.timeout = decode_timeout(decoder, value, path, "timeout");
  decode_retries(decoder, decoder.mapping(value, path, "retries"), join_path(path, "retries"),
                 rule);
  decode_cors(decoder, decoder.mapping(value, path, "corsPolicy"), join_path(path, "corsPolicy"),
              rule);
  // Requests go where they should; what is left out makes some fail on purpose.
  if (value["fault"].present())
    decoder.not_enforced(value["fault"], path + ".fault", "no fault is injected");
}

void decode_http_rule(Decoder& decoder, Value value, const std::string& path,
                      model::VirtualServiceObject& routes) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::HttpRuleSpec spec;
  spec.rule.name = decoder.text(value, path, "name").value_or("");
  spec.rule.object = "VirtualService " + routes.meta.namespace_name + "/" + routes.meta.name;
  spec.rule.origin = decoder.origin(value);
  bool enforced = decode_http_matches(decoder, value, path, spec);
  enforced &= decode_action(decoder, value, path, spec, routes.backends);
  decode_policies(decoder, value, path, spec.rule);
  decoder.unknown_fields(
      value, path,
      {"name", "match", "route", "redirect", "rewrite", "headers", "directResponse", "delegate",
       "timeout", "retries", "fault", "mirror", "mirrors", "mirrorPercentage", "mirrorPercent",
       "mirror_percent", "corsPolicy"});
  name_the_prefix(spec);
  if (enforced) routes.http.push_back(std::move(spec));
}

}  // namespace

std::optional<model::HttpBackend> decode_http_backend(Decoder& decoder, Value parent,
                                                      const std::string& parent_path,
                                                      std::string_view key) {
  const Value destination = decoder.mapping(parent, parent_path, key);
  const auto path = join_path(parent_path, key);
  model::HttpBackend backend;
  backend.origin = decoder.origin(destination);
  backend.host = decoder.text(destination, path, "host").value_or("");
  if (backend.host.empty()) {
    decoder.reject(parent, path + ".host is missing");
    return std::nullopt;
  }
  if (!is_dns_subdomain(backend.host)) {
    decoder.reject(destination["host"],
                   path + ".host " + quoted(backend.host) + " is not a host's name");
    return std::nullopt;
  }
  backend.subset = decoder.text(destination, path, "subset").value_or("");
  const Value port = decoder.mapping(destination, path, "port");
  backend.port = decoder.port(port, join_path(path, "port"), "number");
  decoder.unknown_fields(port, join_path(path, "port"), {"number"});
  decoder.unknown_fields(destination, path, {"host", "subset", "port"});
  return backend;
}

void decode_http_rules(Decoder& decoder, Value spec, model::VirtualServiceObject& routes) {
  std::size_t index = 0;
  for (const Value rule : decoder.sequence(spec, "spec", "http"))
    decode_http_rule(decoder, rule, join_path("spec", "http", index++), routes);
}

}  // namespace weft::manifest
