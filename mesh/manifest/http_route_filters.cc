// HTTPRoute filters, of rules and of backendRefs.
#include <algorithm>
#include <limits>
#include <set>

#include "mesh/manifest/http_fields.h"
#include "mesh/manifest/http_route.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

using model::PathEdit;

void decode_modifier(Decoder& decoder, Value value, const std::string& path,
                     model::HeaderEdits& edits) {
  const auto pairs = [&](const char* key, auto& list) {
    std::size_t index = 0;
    for (const Value entry : decoder.sequence(value, path, key)) {
      const auto where = join_path(path, key, index++);
      if (!decoder.is(entry, Type::kMapping, where)) continue;
      const auto name = decoder.text(entry, where, "name").value_or("");
      const auto text = decoder.text(entry, where, "value").value_or("");
      decoder.unknown_fields(entry, where, {"name", "value"});
      if (check_header_name(decoder, entry, where + ".name", name) &&
          check_header_value(decoder, entry, where + ".value", text))
        list.emplace_back(name, text);
    }
  };
  pairs("set", edits.set);
  pairs("add", edits.add);
  for (const auto& name : decoder.texts(value, path, "remove"))
    if (check_header_name(decoder, value["remove"], join_path(path, "remove"), name))
      edits.remove.push_back(in_lower_case(name));
  decoder.unknown_fields(value, path, {"set", "add", "remove"});
}

std::optional<PathEdit> decode_path_modifier(Decoder& decoder, Value parent,
                                             const std::string& parent_path) {
  const Value value = decoder.mapping(parent, parent_path, "path");
  if (!value.present()) return std::nullopt;
  const auto path = join_path(parent_path, "path");
  const auto type = decoder.text(value, path, "type").value_or("");
  const auto whole = decoder.text(value, path, "replaceFullPath");
  const auto prefix = decoder.text(value, path, "replacePrefixMatch");
  decoder.unknown_fields(value, path, {"type", "replaceFullPath", "replacePrefixMatch"});
  const auto& text = type == "ReplaceFullPath" ? whole : prefix;
  if ((type != "ReplaceFullPath" && type != "ReplacePrefixMatch") || !text || (whole && prefix)) {
    decoder.reject(value, path +
                              " must have type ReplaceFullPath or ReplacePrefixMatch, and the "
                              "field of that name alone");
    return std::nullopt;
  }
  if (std::any_of(text->begin(), text->end(),
                  [](unsigned char c) { return c <= 0x20 || c == 0x7f || c == '#'; }))
    decoder.reject(value, path + " " + quoted(*text) + " is not a path");
  return PathEdit{whole ? PathEdit::Kind::kWhole : PathEdit::Kind::kPrefix, *text, ""};
}

std::optional<std::string> decode_hostname(Decoder& decoder, Value value, const std::string& path) {
  auto hostname = decoder.text(value, path, "hostname");
  if (hostname && !is_dns_subdomain(*hostname))
    decoder.reject(value["hostname"],
                   path + ".hostname " + quoted(*hostname) + " is not a host's name");
  return hostname;
}

model::Redirect decode_redirect_filter(Decoder& decoder, Value value, const std::string& path) {
  model::Redirect redirect;
  redirect.scheme = decoder.text(value, path, "scheme");
  if (redirect.scheme && redirect.scheme != "http" && redirect.scheme != "https")
    decoder.reject(value["scheme"],
                   path + ".scheme " + quoted(*redirect.scheme) + " is not http or https");
  redirect.authority = decode_hostname(decoder, value, path);
  redirect.path = decode_path_modifier(decoder, value, path);
  redirect.port = decoder.port(value, path, "port");
  // The specification: the well-known port of the scheme that is given.
  if (redirect.scheme && !redirect.port) redirect.port = redirect.scheme == "https" ? 443 : 80;
  const auto status = decoder.integer(value, path, "statusCode", 300, 399).value_or(302);
  if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308)
    decoder.reject(value["statusCode"], path + ".statusCode " + std::to_string(status) +
                                            " is not 301, 302, 303, 307 or 308");
  redirect.status = static_cast<std::uint16_t>(status);
  decoder.unknown_fields(value, path, {"scheme", "hostname", "path", "port", "statusCode"});
  return redirect;
}

std::uint32_t decode_share(Decoder& decoder, Value value, const std::string& path) {
  const auto most = std::numeric_limits<std::int32_t>::max();
  const auto percent = decoder.integer(value, path, "percent", 0, 100);
  const Value fraction = decoder.mapping(value, path, "fraction");
  const auto where = join_path(path, "fraction");
  if (!fraction.present()) return static_cast<std::uint32_t>(percent.value_or(100) * 10'000);
  if (percent) decoder.reject(fraction, path + " has both percent and fraction: it is one of them");
  const auto of = decoder.integer(fraction, where, "denominator", 1, most).value_or(100);
  const auto part = decoder.integer(fraction, where, "numerator", 0, most).value_or(0);
  if (part > of) decoder.reject(fraction, where + " is more than all");
  decoder.unknown_fields(fraction, where, {"numerator", "denominator"});
  return static_cast<std::uint32_t>(std::min<std::int64_t>(part, of) * 1'000'000 / of);
}

void decode_mirror_filter(Decoder& decoder, Value value, const std::string& path,
                          const model::ObjectMeta& meta, RouteFilters& filters,
                          std::vector<model::HttpBackend>& backends) {
  const Value ref = decoder.mapping(value, path, "backendRef");
  if (!ref.present()) decoder.reject(value, path + ".backendRef is missing");
  auto backend =
      decode_backend_ref(decoder, ref, join_path(path, "backendRef"), meta.namespace_name);
  const auto share = decode_share(decoder, value, path);
  decoder.unknown_fields(value, path, {"backendRef", "percent", "fraction"});
  if (backend && share > 0)
    filters.mirrors.push_back({index_of(backends, std::move(*backend)), share});
}

void decode_rewrite_filter(Decoder& decoder, Value value, const std::string& path,
                           RouteFilters& filters) {
  filters.authority = decode_hostname(decoder, value, path);
  filters.path = decode_path_modifier(decoder, value, path);
  decoder.unknown_fields(value, path, {"hostname", "path"});
}

// The field that a type's settings are in; empty: the type is not known.
std::string_view field_of(std::string_view type) {
  static constexpr std::pair<std::string_view, std::string_view> kFields[] = {
      {"RequestHeaderModifier", "requestHeaderModifier"},
      {"ResponseHeaderModifier", "responseHeaderModifier"},
      {"RequestMirror", "requestMirror"},
      {"RequestRedirect", "requestRedirect"},
      {"URLRewrite", "urlRewrite"},
      {"CORS", "cors"}};
  for (const auto& [name, field] : kFields)
    if (name == type) return field;
  return {};
}

}  // namespace

RouteFilters decode_filters(Decoder& decoder, Value parent, const std::string& path,
                            const model::ObjectMeta& meta,
                            std::vector<model::HttpBackend>& backends) {
  RouteFilters filters;
  std::set<std::string> seen;
  std::size_t index = 0;
  for (const Value filter : decoder.sequence(parent, path, "filters")) {
    const auto at = join_path(path, "filters", index++);
    if (!decoder.is(filter, Type::kMapping, at)) continue;
    const auto type = decoder.text(filter, at, "type").value_or("");
    const auto field = field_of(type);
    if (field.empty()) {
      if (type.empty()) decoder.reject(filter, at + ".type is missing");
      if (filters.unknown.empty()) filters.unknown = type;
      decoder.not_enforced(filter, at + " " + quoted(type),
                           "this build does not have it; what it was for is answered 500, as "
                           "Gateway API asks");
      continue;
    }
    if (!seen.insert(type).second && type != "RequestMirror")
      decoder.reject(filter, at + ".type " + quoted(type) + " is there twice");
    const Value value = decoder.mapping(filter, at, field);
    const auto where = join_path(at, field);
    if (!value.present()) decoder.reject(filter, where + " is missing");
    if (type == "RequestHeaderModifier")
      decode_modifier(decoder, value, where, filters.request_headers);
    else if (type == "ResponseHeaderModifier")
      decode_modifier(decoder, value, where, filters.response_headers);
    else if (type == "RequestMirror")
      decode_mirror_filter(decoder, value, where, meta, filters, backends);
    else if (type == "RequestRedirect")
      filters.redirect = decode_redirect_filter(decoder, value, where);
    else if (type == "URLRewrite")
      decode_rewrite_filter(decoder, value, where, filters);
    else
      filters.cors = decode_cors_filter(decoder, value, where);
    decoder.unknown_fields(filter, at, {"type", field});
  }
  return filters;
}

}  // namespace weft::manifest
