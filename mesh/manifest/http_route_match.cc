// HTTPRoute rules[].matches.
#include <algorithm>

#include "mesh/manifest/http_fields.h"
#include "mesh/manifest/http_route.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

using Kind = model::PathMatch::Kind;

// What the specification says no path to match may hold: requests' paths are normalized before.
bool is_plain_path(std::string_view text) {
  if (!text.starts_with('/')) return false;
  for (const char* part : {"//", "/./", "/../", "%2f", "%2F", "#"})
    if (text.find(part) != text.npos) return false;
  return !text.ends_with("/..") && !text.ends_with("/.");
}

void decode_path(Decoder& decoder, Value match, const std::string& path, model::HttpMatch& into) {
  const Value value = decoder.mapping(match, path, "path");
  const auto where = join_path(path, "path");
  const auto type = decoder.text(value, where, "type").value_or("PathPrefix");
  auto text = decoder.text(value, where, "value").value_or("/");
  decoder.unknown_fields(value, where, {"type", "value"});
  if (type == "RegularExpression") {
    check_regex(decoder, value["value"], where + ".value", text);
    into.path = model::PathMatch{Kind::kRegex, std::move(text), false};
    return;
  }
  const bool exact = type == "Exact";
  if (!exact && type != "PathPrefix")
    decoder.reject(value["type"], where + ".type " + quoted(type) +
                                      " is not Exact, PathPrefix or RegularExpression");
  if (!is_plain_path(text))
    decoder.reject(value["value"], where + ".value " + quoted(text) +
                                       " is not a path: it begins with /, and has no empty part, "
                                       "no . or .. and no %2F");
  // "/abc/" is "/abc": segments are compared.
  if (!exact && text.size() > 1 && text.ends_with('/')) text.pop_back();
  into.path = model::PathMatch{exact ? Kind::kExact : Kind::kSegmentPrefix, std::move(text), false};
}

void decode_fields(Decoder& decoder, Value match, const std::string& path, const char* key,
                   bool headers, std::vector<model::FieldMatch>& into) {
  std::size_t index = 0;
  for (const Value value : decoder.sequence(match, path, key)) {
    const auto where = join_path(path, key, index++);
    if (!decoder.is(value, Type::kMapping, where)) continue;
    model::FieldMatch field;
    const auto name = decoder.text(value, where, "name").value_or("");
    field.name = headers ? in_lower_case(name) : name;
    if (headers || name.empty())
      check_header_name(decoder, value["name"].present() ? value["name"] : value, where + ".name",
                        name);
    field.value.text = decoder.text(value, where, "value").value_or("");
    if (!value["value"].present()) decoder.reject(value, where + ".value is missing");
    const auto type = decoder.text(value, where, "type").value_or("Exact");
    if (type == "RegularExpression") {
      check_regex(decoder, value["value"], where + ".value", field.value.text);
      field.value.kind = model::TextMatch::Kind::kRegex;
    } else if (type != "Exact") {
      decoder.reject(value["type"],
                     where + ".type " + quoted(type) + " is not Exact or RegularExpression");
    }
    decoder.unknown_fields(value, where, {"name", "value", "type"});
    // The specification: of equal names only the first is considered.
    const auto same = [&](const auto& other) { return other.name == field.name; };
    if (std::any_of(into.begin(), into.end(), same))
      decoder.warn(value, where + " has no effect: " + quoted(field.name) + " is there already");
    else
      into.push_back(std::move(field));
  }
}

}  // namespace

void decode_route_matches(Decoder& decoder, Value rule, const std::string& path,
                          model::HttpRule& into) {
  std::size_t index = 0;
  for (const Value value : decoder.sequence(rule, path, "matches")) {
    const auto where = join_path(path, "matches", index++);
    if (!decoder.is(value, Type::kMapping, where)) continue;
    auto& match = into.matches.emplace_back();
    decode_path(decoder, value, where, match);
    decode_fields(decoder, value, where, "headers", true, match.headers);
    decode_fields(decoder, value, where, "queryParams", false, match.query);
    if (const auto method = decoder.text(value, where, "method")) {
      check_header_name(decoder, value["method"], where + ".method", *method);
      match.method = model::TextMatch{model::TextMatch::Kind::kExact, *method, false};
    }
    // A field that is left out lets more in than its author meant.
    for (const Value field : value)
      if (!in_words("path headers queryParams method", field.key()))
        decoder.reject(field, "unknown field " + quoted(join_path(where, field.key())) +
                                  ": requests would match that should not");
  }
  if (index == 0)  // the default of the API
    into.matches.emplace_back().path = model::PathMatch{Kind::kSegmentPrefix, "/", false};
}

}  // namespace weft::manifest
