#include "mesh/manifest/decode.h"

#include <algorithm>
#include <ctime>

#include "mesh/base/text.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

constexpr std::string_view kOurs = "weft.mesh/";

// "2024-05-01T10:00:00Z" to seconds; nothing where it is something else.
std::optional<std::int64_t> parse_time(const std::string& text) {
  std::tm time{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &time);
  if (!rest || std::string_view(rest) != "Z") return std::nullopt;
  return timegm(&time);
}

}  // namespace

std::string quoted(std::string_view text) {
  constexpr std::size_t kMost = 60;
  std::string out = "\"";
  for (const unsigned char c : text.substr(0, kMost)) {
    if (c < 0x20 || c == 0x7f) {
      constexpr char kHex[] = "0123456789abcdef";
      out += {'\\', 'x', kHex[c >> 4], kHex[c & 15]};
    } else {
      out += static_cast<char>(c);
    }
  }
  // A cut may fall into the middle of a character.
  while (text.size() > kMost && out.size() > 1 && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80) out.pop_back();
  if (text.size() > kMost && out.size() > 1 && static_cast<unsigned char>(out.back()) >= 0xc0) out.pop_back();
  return out + (text.size() > kMost ? "...\"" : "\"");
}

std::string join_path(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : path + "." + std::string(key);
}

std::string join_path(const std::string& path, std::string_view key, std::size_t index) {
  return join_path(path, key) + "[" + std::to_string(index) + "]";
}

bool is_dns_label(std::string_view name) {
  const auto letter_or_digit = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= 63 && letter_or_digit(name.front()) && letter_or_digit(name.back()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter_or_digit(c) || c == '-'; });
}

bool is_dns_subdomain(std::string_view name) {
  if (name.size() > 253) return false;
  for (;;) {
    const auto dot = name.find('.');
    if (!is_dns_label(name.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

void Decoder::note(model::Severity severity, Value at, const std::string& message) {
  notices_.push_back({severity, origin(at), object_, message});
}

bool Decoder::is(Value value, Type type, const std::string& path) {
  if (value.type() == type) return true;
  std::string message = path + " must be " + to_text(type) + ", not " + to_text(value.type());
  if (type == Type::kString && (value.type() == Type::kBool || value.type() == Type::kNumber))
    message += ": quote it";
  reject(value, message);
  return false;
}

Value Decoder::mapping(Value parent, const std::string& path, std::string_view key) {
  const Value value = parent[key];
  return value.present() && is(value, Type::kMapping, join_path(path, key)) ? value : Value();
}

Value Decoder::sequence(Value parent, const std::string& path, std::string_view key) {
  const Value value = parent[key];
  return value.present() && is(value, Type::kSequence, join_path(path, key)) ? value : Value();
}

std::optional<std::string> Decoder::text(Value parent, const std::string& path, std::string_view key) {
  const Value value = parent[key];
  if (!value.present() || !is(value, Type::kString, join_path(path, key))) return std::nullopt;
  return std::string(value.text());
}

std::optional<bool> Decoder::boolean(Value parent, const std::string& path, std::string_view key) {
  const Value value = parent[key];
  if (!value.present() || !is(value, Type::kBool, join_path(path, key))) return std::nullopt;
  return value.text() == "true";
}

std::optional<std::int64_t> Decoder::integer(Value parent, const std::string& path, std::string_view key,
                                             std::int64_t low, std::int64_t high) {
  const Value value = parent[key];
  const auto where = join_path(path, key);
  if (!value.present() || !is(value, Type::kNumber, where)) return std::nullopt;
  const auto number = base::parse_number<std::int64_t>(value.text());
  if (number && *number >= low && *number <= high) return number;
  reject(value, where + " " + std::string(value.text().substr(0, 30)) + " is not in " + std::to_string(low) + ".." +
                    std::to_string(high));
  return std::nullopt;
}

std::optional<std::uint16_t> Decoder::port(Value parent, const std::string& path, std::string_view key) {
  return integer(parent, path, key, 1, 65535);
}

std::optional<model::Address> Decoder::address(Value value, const std::string& path) {
  if (!is(value, Type::kString, path)) return std::nullopt;
  const auto address = model::Address::parse(value.text());
  if (!address) {
    reject(value, path + " " + quoted(value.text()) + " is not an IP address");
    return std::nullopt;
  }
  if (const auto why = address->unusable_because()) {
    reject(value, path + " " + quoted(value.text()) + " cannot be served: " + *why);
    return std::nullopt;
  }
  return address;
}

model::Labels Decoder::labels(Value parent, const std::string& path, std::string_view key) {
  model::Labels labels;
  for (const Value entry : mapping(parent, path, key)) {
    if (entry.present() && !is(entry, Type::kString, join_path(join_path(path, key), entry.key()))) continue;
    labels.emplace(entry.key(), entry.text());
  }
  return labels;
}

void Decoder::unknown_fields(Value parent, const std::string& path, std::initializer_list<std::string_view> known,
                             std::initializer_list<std::string_view> quiet) {
  const auto in = [](std::initializer_list<std::string_view> list, std::string_view key) {
    return std::find(list.begin(), list.end(), key) != list.end();
  };
  for (const Value field : parent)
    if (!in(known, field.key()) && !in(quiet, field.key()))
      warn(field, "unknown field " + quoted(join_path(path, field.key())) + ": it has no effect");
}

model::ObjectMeta decode_meta(Decoder& decoder, Value document, bool name_is_label) {
  model::ObjectMeta meta;
  meta.origin = decoder.origin(document);
  const Value metadata = decoder.mapping(document, "", "metadata");
  meta.name = decoder.text(metadata, "metadata", "name").value_or("");
  if (const auto given = decoder.text(metadata, "metadata", "namespace"); given && !given->empty())
    meta.namespace_name = *given;
  if (meta.name.empty())
    decoder.reject(document, "metadata.name is missing");
  else if (!(name_is_label ? is_dns_label(meta.name) : is_dns_subdomain(meta.name)))
    decoder.reject(metadata["name"], "metadata.name " + quoted(meta.name) + " is not a DNS name (RFC 1123)");
  if (!is_dns_label(meta.namespace_name))
    decoder.reject(metadata["namespace"], "metadata.namespace " + quoted(meta.namespace_name) + " is not a DNS label");
  meta.labels = decoder.labels(metadata, "metadata", "labels");
  for (auto& [key, value] : decoder.labels(metadata, "metadata", "annotations"))
    if (key.starts_with(kOurs)) meta.annotations.emplace(key, value);
  if (const auto created = decoder.text(metadata, "metadata", "creationTimestamp")) {
    meta.created = parse_time(*created);
    if (!meta.created)
      decoder.reject(metadata["creationTimestamp"],
                     "metadata.creationTimestamp " + quoted(*created) + " is not a time like 2024-05-01T10:00:00Z");
  }
  decoder.unknown_fields(metadata, "metadata",
                         {"name", "namespace", "labels", "annotations", "creationTimestamp", "deletionTimestamp"},
                         {"uid", "resourceVersion", "generation", "managedFields", "ownerReferences", "finalizers",
                          "generateName", "selfLink", "deletionGracePeriodSeconds", "clusterName"});
  return meta;
}

}  // namespace weft::manifest
