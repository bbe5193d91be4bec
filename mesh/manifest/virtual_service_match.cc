// VirtualService http[].match.
#include <algorithm>

#include "mesh/manifest/http_fields.h"
#include "mesh/manifest/text_reader.h"
#include "mesh/manifest/virtual_service.h"

namespace weft::manifest {
namespace {

using Kind = model::TextMatch::Kind;

constexpr std::string_view kMatchFields[] = {"name",
                                             "uri",
                                             "scheme",
                                             "method",
                                             "authority",
                                             "headers",
                                             "port",
                                             "sourceLabels",
                                             "gateways",
                                             "queryParams",
                                             "ignoreUriCase",
                                             "withoutHeaders",
                                             "sourceNamespace",
                                             "statPrefix"};

void decode_uri(Decoder& decoder, Value match, const std::string& path, model::HttpMatch& into) {
  const Value uri = match["uri"];
  const bool ignore_case = decoder.boolean(match, path, "ignoreUriCase").value_or(false);
  if (!uri.present()) return;
  const auto text = decode_string_match(decoder, uri, join_path(path, "uri"), false);
  if (!text) return;
  using PathKind = model::PathMatch::Kind;
  const bool regex = text->kind == Kind::kRegex;
  if (regex && ignore_case)
    decoder.warn(match["ignoreUriCase"],
                 path + ".ignoreUriCase has no effect on a regex, as in Istio: write (?i)");
  into.path = model::PathMatch{text->kind == Kind::kExact ? PathKind::kExact
                               : regex                    ? PathKind::kRegex
                                                          : PathKind::kPrefix,
                               text->text, ignore_case && !regex};
}

void decode_header_matches(Decoder& decoder, Value match, const std::string& path,
                           std::string_view key, bool inverted, model::HttpMatch& into) {
  const auto where = join_path(path, key);
  for (const Value entry : decoder.mapping(match, path, key)) {
    const auto name = in_lower_case(entry.key());
    const auto at = join_path(where, cleaned(entry.key(), 80));
    if (name == "uri" || name == "scheme" || name == "method" || name == "authority") {
      decoder.warn(entry, at + " has no effect, as in Istio: it is a field of the match itself");
      continue;
    }
    if (!check_header_name(decoder, entry, where, name)) continue;
    if (const auto value = decode_string_match(decoder, entry, at, true))
      into.headers.push_back({name, *value, inverted});
  }
}

void decode_query(Decoder& decoder, Value match, const std::string& path, model::HttpMatch& into) {
  const auto where = join_path(path, "queryParams");
  for (const Value entry : decoder.mapping(match, path, "queryParams"))
    if (const auto value =
            decode_string_match(decoder, entry, join_path(where, cleaned(entry.key(), 80)), true))
      into.query.push_back({std::string(entry.key()), *value, false});
}

// What a left-out field would have kept away is let in: so the rule is passed over.
bool unknown_are_not_enforced(Decoder& decoder, Value match, const std::string& path) {
  bool enforced = true;
  for (const Value field : match) {
    if (std::find(std::begin(kMatchFields), std::end(kMatchFields), field.key()) !=
        std::end(kMatchFields))
      continue;
    enforced = false;
    decoder.not_enforced(field, join_path(path, cleaned(field.key(), 80)),
                         "it is not known to this build; the rule is passed over");
  }
  return enforced;
}

// False: the rule is passed over. Nothing is added for a match that is for gateways alone.
bool decode_http_match(Decoder& decoder, Value value, const std::string& path,
                       model::HttpRuleSpec& into) {
  if (!decoder.is(value, Type::kMapping, path)) return false;
  model::HttpMatch match;
  decode_uri(decoder, value, path, match);
  const auto text = [&](const char* key, std::optional<model::TextMatch>& field) {
    if (value[key].present())
      field = decode_string_match(decoder, value[key], join_path(path, key), false);
  };
  text("scheme", match.scheme);
  text("method", match.method);
  text("authority", match.authority);
  decode_header_matches(decoder, value, path, "headers", false, match);
  decode_header_matches(decoder, value, path, "withoutHeaders", true, match);
  decode_query(decoder, value, path, match);
  match.source_labels = decoder.labels(value, path, "sourceLabels");
  match.source_namespace = decoder.text(value, path, "sourceNamespace").value_or("");
  const auto port = decoder.port(value, path, "port").value_or(0);
  const bool enforced = unknown_are_not_enforced(decoder, value, path);
  if (!for_the_mesh(decoder, value, path)) {
    decoder.not_enforced(value["gateways"], join_path(path, "gateways"),
                         "this build has no gateway; the match is passed over");
  } else {
    into.rule.matches.push_back(std::move(match));
    into.ports.push_back(port);
  }
  return enforced;
}

}  // namespace

std::optional<model::TextMatch> decode_string_match(Decoder& decoder, Value value,
                                                    const std::string& path, bool may_be_empty) {
  static constexpr std::pair<std::string_view, Kind> kKinds[] = {
      {"exact", Kind::kExact}, {"prefix", Kind::kPrefix}, {"regex", Kind::kRegex}};
  if (value.present() && !decoder.is(value, Type::kMapping, path)) return std::nullopt;
  std::size_t fields = 0;
  std::optional<model::TextMatch> match;
  for (const Value field : value) {
    ++fields;
    for (const auto& [name, kind] : kKinds)
      if (field.key() == name)
        if (const auto text = decoder.text(value, path, name)) match = {kind, *text, false};
  }
  if (fields == 0 && may_be_empty) return model::TextMatch{Kind::kPresent, "", false};
  if (fields != 1 || !match) {
    decoder.reject(value, path + " must have one of exact, prefix and regex");
    return std::nullopt;
  }
  if (match->kind == Kind::kRegex &&
      !check_regex(decoder, value["regex"], path + ".regex", match->text))
    return std::nullopt;
  return match;
}

bool decode_http_matches(Decoder& decoder, Value rule, const std::string& path,
                         model::HttpRuleSpec& into) {
  bool enforced = true;
  std::size_t index = 0;
  for (const Value match : decoder.sequence(rule, path, "match"))
    enforced &= decode_http_match(decoder, match, join_path(path, "match", index++), into);
  return enforced && (index == 0 || !into.rule.matches.empty());
}

}  // namespace weft::manifest
