#include <algorithm>

#include "mesh/wire/http.h"

namespace weft::wire {
namespace {

std::uint64_t count_of(auto duration) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0));
}

// model::TextMatch or model::PathMatch.
void put_text(const auto& match, weft::v1::Text& out) {
  out.set_text(match.text);
  out.set_kind(static_cast<std::uint32_t>(match.kind));
  out.set_ignore_case(match.ignore_case);
}

void put_fields(const std::vector<model::FieldMatch>& fields, auto& out) {
  for (const auto& field : fields) {
    auto& put = *out.Add();
    put.set_name(field.name);
    put_text(field.value, *put.mutable_value());
    put.set_inverted(field.inverted);
  }
}

void put_match(const model::HttpMatch& match, weft::v1::HttpMatch& out) {
  if (match.path) put_text(*match.path, *out.mutable_path());
  if (match.method) put_text(*match.method, *out.mutable_method());
  if (match.authority) put_text(*match.authority, *out.mutable_authority());
  if (match.scheme) put_text(*match.scheme, *out.mutable_scheme());
  put_fields(match.headers, *out.mutable_headers());
  put_fields(match.query, *out.mutable_query());
  out.mutable_source_labels()->insert(match.source_labels.begin(), match.source_labels.end());
  out.set_source_namespace(match.source_namespace);
}

void put_strings(const std::vector<std::string>& texts, auto& out) {
  for (const auto& text : texts) *out.Add() = text;
}

void put_headers(const std::vector<std::pair<std::string, std::string>>& headers, auto& out) {
  for (const auto& [name, value] : headers) {
    auto& put = *out.Add();
    put.set_name(name);
    put.set_value(value);
  }
}

void put_edits(const model::HeaderEdits& edits, weft::v1::HeaderEdits& out) {
  put_strings(edits.remove, *out.mutable_remove());
  put_headers(edits.set, *out.mutable_set());
  put_headers(edits.add, *out.mutable_add());
}

// Of a rule or a destination.
void put_both_edits(const auto& from, auto& out) {
  if (!from.request_headers.empty())
    put_edits(from.request_headers, *out.mutable_request_headers());
  if (!from.response_headers.empty())
    put_edits(from.response_headers, *out.mutable_response_headers());
}

void put_path(const model::PathEdit& edit, weft::v1::PathEdit& out) {
  out.set_kind(static_cast<std::uint32_t>(edit.kind));
  out.set_text(edit.text);
  out.set_regex(edit.regex);
}

void put_destination(const model::HttpDestination& destination, weft::v1::Destination& out) {
  out.set_cluster(destination.cluster);
  out.set_weight(destination.weight);
  put_both_edits(destination, out);
  if (destination.authority) out.set_authority(*destination.authority);
  if (destination.path) put_path(*destination.path, *out.mutable_path());
}

void put_action(const model::Forward& forward, weft::v1::HttpRule& rule) {
  auto& out = *rule.mutable_forward();
  for (const auto& destination : forward.destinations)
    put_destination(destination, *out.add_destinations());
  if (forward.path) put_path(*forward.path, *out.mutable_path());
  if (forward.authority) out.set_authority(*forward.authority);
  for (const auto& mirror : forward.mirrors) {
    auto& put = *out.add_mirrors();
    put.set_cluster(mirror.cluster);
    put.set_parts_per_million(mirror.parts_per_million);
  }
}

void put_action(const model::Redirect& redirect, weft::v1::HttpRule& rule) {
  auto& out = *rule.mutable_redirect();
  out.set_status(redirect.status);
  if (redirect.scheme) out.set_scheme(*redirect.scheme);
  if (redirect.authority) out.set_authority(*redirect.authority);
  if (redirect.port) out.set_port(*redirect.port);
  if (redirect.path) put_path(*redirect.path, *out.mutable_path());
}

void put_action(const model::DirectResponse& direct, weft::v1::HttpRule& rule) {
  auto& out = *rule.mutable_direct();
  out.set_status(direct.status);
  out.set_body(direct.body);
  out.set_content_type(direct.content_type);
}

void put_cors(const model::Cors& cors, weft::v1::Cors& out) {
  for (const auto& origin : cors.allow_origins) put_text(origin, *out.add_allow_origins());
  put_strings(cors.allow_methods, *out.mutable_allow_methods());
  put_strings(cors.allow_headers, *out.mutable_allow_headers());
  put_strings(cors.expose_headers, *out.mutable_expose_headers());
  if (cors.max_age) out.set_max_age_seconds(count_of(*cors.max_age));
  if (cors.allow_credentials) out.set_allow_credentials(*cors.allow_credentials);
  out.set_forward_unmatched_preflights(cors.forward_unmatched_preflights);
}

void put_retries(const model::Retries& retries, weft::v1::Retries& out) {
  out.set_attempts(retries.attempts);
  out.set_on(retries.on);
  for (const auto status : retries.statuses) out.add_statuses(status);
  if (retries.per_try_timeout) out.set_per_try_timeout_ms(count_of(*retries.per_try_timeout));
  out.set_backoff_ms(count_of(retries.backoff));
}

void put_rule(const model::HttpRule& rule, weft::v1::HttpRule& out) {
  out.set_name(rule.name);
  out.set_object(rule.object);
  if (rule.origin.file) out.mutable_origin()->set_file(*rule.origin.file);
  if (rule.origin.line > 0)
    out.mutable_origin()->set_line(static_cast<std::uint32_t>(rule.origin.line));
  for (const auto& match : rule.matches) put_match(match, *out.add_matches());
  std::visit([&](const auto& action) { put_action(action, out); }, rule.action);
  put_both_edits(rule, out);
  if (rule.cors) put_cors(*rule.cors, *out.mutable_cors());
  if (rule.retries) put_retries(*rule.retries, *out.mutable_retries());
  if (rule.timeout) out.set_timeout_ms(count_of(*rule.timeout));
}

}  // namespace

weft::v1::ClusterName to_wire(const model::HttpCluster& cluster) {
  weft::v1::ClusterName out;
  out.set_namespace_name(cluster.namespace_name);
  out.set_service(cluster.service);
  out.set_subset(cluster.subset);
  out.set_port(cluster.port);
  out.set_missing(cluster.missing);
  return out;
}

weft::v1::HttpRoutes to_wire(const model::HttpRoutes& routes) {
  weft::v1::HttpRoutes out;
  for (const auto& rule : routes.rules) put_rule(rule, *out.add_rules());
  out.set_otherwise(static_cast<std::uint32_t>(routes.otherwise));
  for (const auto& cluster : routes.clusters) *out.add_clusters() = to_wire(cluster);
  out.set_kind(routes.kind);
  return out;
}

}  // namespace weft::wire
