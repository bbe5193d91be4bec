// gateway.networking.k8s.io HTTPRoute as a mesh reads it (GAMMA): attached to Services. Routes that
// are attached to Gateways alone are none of ours.
#include "mesh/manifest/http_route.h"

#include <algorithm>

#include "mesh/manifest/http_fields.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

constexpr std::int64_t kMostWeight = 1'000'000, kMostAttempts = 100;

void decode_parent(Decoder& decoder, Value value, const std::string& path,
                   model::HttpRouteObject& route) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  // The defaults are a Gateway: a Service is said to be one.
  const auto group = decoder.text(value, path, "group").value_or("gateway.networking.k8s.io");
  const auto kind = decoder.text(value, path, "kind").value_or("Gateway");
  model::RouteParent parent;
  parent.origin = decoder.origin(value);
  parent.name = decoder.text(value, path, "name").value_or("");
  parent.namespace_name =
      decoder.text(value, path, "namespace").value_or(route.meta.namespace_name);
  parent.port = decoder.port(value, path, "port");
  parent.port_name = decoder.text(value, path, "sectionName").value_or("");
  decoder.unknown_fields(value, path,
                         {"group", "kind", "name", "namespace", "port", "sectionName"});
  if (!group.empty() || kind != "Service") return;
  if (!is_dns_label(parent.name) || !is_dns_label(parent.namespace_name))
    decoder.reject(
        value, path + " names no Service: " + quoted(parent.namespace_name + "/" + parent.name));
  route.parents.push_back(std::move(parent));
}

void decode_parents(Decoder& decoder, Value document, Value spec, model::HttpRouteObject& route) {
  std::size_t index = 0;
  for (const Value parent : decoder.sequence(spec, "spec", "parentRefs"))
    decode_parent(decoder, parent, join_path("spec", "parentRefs", index++), route);
  if (route.parents.empty())
    decoder.warn(index ? spec["parentRefs"] : document,
                 "has no effect: none of spec.parentRefs is a Service (group: \"\", kind: "
                 "Service), and this build has no gateway");
  if (spec["hostnames"].present() && !route.parents.empty())
    decoder.warn(spec["hostnames"],
                 "spec.hostnames have no effect: for a Service the address that is called chooses");
}

// A share of requests whose answer is an error.
void add_broken(const std::string& why, Value at, Decoder& decoder, model::HttpDestination to,
                model::Forward& forward, std::vector<model::HttpBackend>& backends) {
  model::HttpBackend backend;
  backend.host = "?";
  backend.missing = why;
  backend.origin = decoder.origin(at);
  to.cluster = index_of(backends, std::move(backend));
  forward.destinations.push_back(std::move(to));
}

void decode_route_backend(Decoder& decoder, Value value, const std::string& path,
                          model::HttpRouteObject& route, model::Forward& forward) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  auto backend = decode_backend_ref(decoder, value, path, route.meta.namespace_name);
  const auto filters = decode_filters(decoder, value, path, route.meta, route.backends);
  model::HttpDestination to;
  to.weight = static_cast<std::uint32_t>(
      decoder.integer(value, path, "weight", 0, kMostWeight).value_or(1));
  to.request_headers = filters.request_headers;
  to.response_headers = filters.response_headers;
  to.authority = filters.authority;
  to.path = filters.path;
  if (!backend) return;
  const bool for_rules_only = filters.redirect || filters.cors || !filters.mirrors.empty();
  if (for_rules_only)
    decoder.not_enforced(value["filters"], path + ".filters",
                         "redirects, mirrors and CORS are done for a whole rule only; this "
                         "backendRef's share is answered 500");
  if (for_rules_only || !filters.unknown.empty())
    return add_broken("a filter of the backendRef is not done by this build", value, decoder,
                      std::move(to), forward, route.backends);
  to.cluster = index_of(route.backends, std::move(*backend));
  forward.destinations.push_back(std::move(to));
}

// A prefix is replaced where exactly one is matched.
void check_prefix(Decoder& decoder, Value value, const std::string& path,
                  const model::HttpRule& rule, const std::optional<model::PathEdit>& edit) {
  if (!edit || edit->kind != model::PathEdit::Kind::kPrefix) return;
  if (rule.matches.size() == 1 && rule.matches[0].path &&
      rule.matches[0].path->kind == model::PathMatch::Kind::kSegmentPrefix)
    return;
  decoder.reject(value, path + ": replacePrefixMatch needs one match, whose path is a PathPrefix");
}

void decode_route_action(Decoder& decoder, Value value, const std::string& path,
                         model::HttpRouteObject& route, model::HttpRule& rule) {
  auto filters = decode_filters(decoder, value, path, route.meta, route.backends);
  model::Forward forward;
  std::size_t index = 0;
  for (const Value backend : decoder.sequence(value, path, "backendRefs"))
    decode_route_backend(decoder, backend, join_path(path, "backendRefs", index++), route, forward);
  for (const auto& to : forward.destinations) check_prefix(decoder, value, path, rule, to.path);
  check_prefix(decoder, value["filters"], path + ".filters", rule, filters.path);
  rule.request_headers = std::move(filters.request_headers);
  rule.response_headers = std::move(filters.response_headers);
  rule.cors = std::move(filters.cors);
  if (filters.redirect) {
    check_prefix(decoder, value["filters"], path + ".filters", rule, filters.redirect->path);
    if (filters.path || filters.authority)
      decoder.reject(value["filters"], path + ".filters has both RequestRedirect and URLRewrite");
    if (index > 0)
      decoder.reject(value["backendRefs"], path + " has both RequestRedirect and backendRefs");
    rule.action = std::move(*filters.redirect);
  } else {
    forward.path = std::move(filters.path);
    forward.authority = std::move(filters.authority);
    forward.mirrors = std::move(filters.mirrors);
    rule.action = std::move(forward);
  }
  if (!filters.unknown.empty()) rule.action = model::DirectResponse{500, "", ""};
}

void decode_retry(Decoder& decoder, Value value, const std::string& path, model::HttpRule& rule) {
  using model::RetryOn;
  if (!value.present()) return;
  model::Retries retries;
  // The specification asks to try again where a connection fails, beside the codes.
  retries.on = RetryOn::kConnectFailure | RetryOn::kRefusedStream;
  retries.on |= static_cast<std::uint16_t>(RetryOn::kReset);
  std::size_t index = 0;
  for (const Value code : decoder.sequence(value, path, "codes")) {
    const auto number = decoder.integer_at(code, join_path(path, "codes", index++), 400, 599);
    if (number) retries.statuses.push_back(static_cast<std::uint16_t>(*number));
  }
  if (!retries.statuses.empty()) retries.on |= static_cast<std::uint16_t>(RetryOn::kStatuses);
  retries.attempts = static_cast<std::uint32_t>(
      decoder.integer(value, path, "attempts", 0, kMostAttempts).value_or(retries.attempts));
  if (const auto backoff = decoder.duration(value, path, "backoff")) retries.backoff = *backoff;
  decoder.unknown_fields(value, path, {"codes", "attempts", "backoff"});
  rule.retries = std::move(retries);
}

void decode_timeouts(Decoder& decoder, Value value, const std::string& path,
                     model::HttpRule& rule) {
  rule.timeout = decode_timeout(decoder, value, path, "request");
  const auto one = decode_timeout(decoder, value, path, "backendRequest");
  decoder.unknown_fields(value, path, {"request", "backendRequest"});
  if (!one || one->count() == 0) return;
  if (rule.timeout && rule.timeout->count() > 0 && *one > *rule.timeout)
    decoder.reject(value["backendRequest"],
                   path + ".backendRequest is longer than " + path + ".request");
  if (!rule.retries) rule.retries.emplace();
  rule.retries->per_try_timeout = one;
}

void decode_route_rule(Decoder& decoder, Value value, const std::string& path,
                       model::HttpRouteObject& route) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::HttpRule rule;
  rule.name = decoder.text(value, path, "name").value_or("");
  rule.object = "HTTPRoute " + route.meta.namespace_name + "/" + route.meta.name;
  rule.origin = decoder.origin(value);
  decode_route_matches(decoder, value, path, rule);
  decode_route_action(decoder, value, path, route, rule);
  decode_retry(decoder, decoder.mapping(value, path, "retry"), join_path(path, "retry"), rule);
  decode_timeouts(decoder, decoder.mapping(value, path, "timeouts"), join_path(path, "timeouts"),
                  rule);
  if (value["sessionPersistence"].present())
    decoder.not_enforced(value["sessionPersistence"], path + ".sessionPersistence");
  decoder.unknown_fields(
      value, path,
      {"name", "matches", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence"});
  route.rules.push_back(std::move(rule));
}

}  // namespace

std::optional<model::HttpBackend> decode_backend_ref(Decoder& decoder, Value value,
                                                     const std::string& path,
                                                     const std::string& own_namespace) {
  model::HttpBackend backend;
  backend.origin = decoder.origin(value);
  const auto group = decoder.text(value, path, "group").value_or("");
  const auto kind = decoder.text(value, path, "kind").value_or("Service");
  const auto name = decoder.text(value, path, "name").value_or("");
  const auto space = decoder.text(value, path, "namespace").value_or(own_namespace);
  backend.port = decoder.port(value, path, "port");
  decoder.unknown_fields(value, path,
                         {"group", "kind", "name", "namespace", "port", "weight", "filters"});
  if (name.empty()) {
    decoder.reject(value, path + ".name is missing");
    return std::nullopt;
  }
  if (!group.empty() || kind != "Service") {
    backend.host = cleaned(name, 63);
    backend.missing = "a backendRef of kind " + quoted(kind) + " is not supported by this build";
    return backend;
  }
  if (!is_dns_label(name) || !is_dns_label(space)) {
    decoder.reject(value, path + " names no Service: " + quoted(space + "/" + name));
    return std::nullopt;
  }
  if (!backend.port && !value["port"].present())
    decoder.reject(value, path + ".port is missing: a Service needs one");
  backend.host = name + "." + space;
  return backend;
}

void decode_http_route(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::HttpRouteObject route;
  route.meta = decode_meta(decoder, document, Name::kSubdomain);
  const Value spec = decoder.mapping(document, "", "spec");
  decode_parents(decoder, document, spec, route);
  std::size_t index = 0;
  for (const Value rule : decoder.sequence(spec, "spec", "rules"))
    decode_route_rule(decoder, rule, join_path("spec", "rules", index++), route);
  decoder.unknown_fields(spec, "spec", {"parentRefs", "hostnames", "rules"},
                         {"useDefaultGateways"});
  decoder.unknown_fields(document, "", {"apiVersion", "kind", "metadata", "spec"}, {"status"});
  if (!route.parents.empty() && !route.rules.empty()) objects.push_back(std::move(route));
}

}  // namespace weft::manifest
