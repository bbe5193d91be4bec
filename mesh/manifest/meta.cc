// metadata, the same in every kind.
#include <algorithm>
#include <chrono>

#include "mesh/base/text.h"
#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

constexpr std::string_view kOurs = "weft.mesh/";

// `digits` digits and then `end`, both taken from the front of `text`.
std::optional<int> take(std::string_view& text, std::size_t digits, char end) {
  if (text.size() <= digits || text[digits] != end) return std::nullopt;
  const auto number = base::parse_number<unsigned>(text.substr(0, digits));
  text.remove_prefix(digits + 1);
  return number ? std::optional(static_cast<int>(*number)) : std::nullopt;
}

// "Z", "+02:00": seconds east of Greenwich.
std::optional<int> parse_zone(std::string_view text) {
  if (text == "Z" || text == "z") return 0;
  if (text.size() != 6 || (text[0] != '+' && text[0] != '-') || text[3] != ':') return std::nullopt;
  const auto hours = base::parse_number<unsigned>(text.substr(1, 2));
  const auto minutes = base::parse_number<unsigned>(text.substr(4, 2));
  if (!hours || !minutes || *hours > 23 || *minutes > 59) return std::nullopt;
  const int seconds = static_cast<int>(*hours * 3600 + *minutes * 60);
  return text[0] == '-' ? -seconds : seconds;
}

void decode_names(Decoder& decoder, Value document, Value metadata, Name rule,
                  model::ObjectMeta& meta) {
  meta.name = decoder.text(metadata, "metadata", "name").value_or("");
  if (const auto given = decoder.text(metadata, "metadata", "namespace"); given && !given->empty())
    meta.namespace_name = *given;
  const bool good = rule == Name::kLabel ? is_dns_label(meta.name) : is_dns_subdomain(meta.name);
  if (meta.name.empty())
    decoder.reject(document, "metadata.name is missing");
  else if (!good)
    decoder.reject(metadata["name"], "metadata.name " + quoted(meta.name) +
                                         (rule == Name::kLabel ? " is not a DNS label (RFC 1123: "
                                                                 "at most 63 of a-z, 0-9 and -)"
                                                               : " is not a DNS name (RFC 1123)"));
  if (!is_dns_label(meta.namespace_name))
    decoder.reject(metadata["namespace"], "metadata.namespace " + quoted(meta.namespace_name) +
                                              " is not a DNS label (RFC 1123)");
}

void decode_annotations(Decoder& decoder, Value metadata, std::span<const std::string_view> known,
                        model::ObjectMeta& meta) {
  for (const Value entry : decoder.mapping(metadata, "metadata", "annotations")) {
    if (entry.present() && entry.type() != Type::kString)
      decoder.is(entry, Type::kString, "metadata.annotations." + cleaned(entry.key(), 80));
    if (!entry.key().starts_with(kOurs)) continue;
    meta.annotations.emplace(entry.key(), entry.text());
    if (std::find(known.begin(), known.end(), entry.key()) == known.end())
      decoder.warn(entry, "annotation " + quoted(entry.key()) +
                              " is not known to this build: it has no effect");
  }
}

}  // namespace

bool is_dns_label(std::string_view name) {
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() <= 63 && letter_or_digit(name.front()) &&
         letter_or_digit(name.back()) && std::all_of(name.begin(), name.end(), [&](char c) {
           return letter_or_digit(c) || c == '-';
         });
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

std::optional<std::int64_t> parse_time(std::string_view text) {
  using namespace std::chrono;
  const auto year_ = take(text, 4, '-'), month_ = take(text, 2, '-'), day_ = take(text, 2, 'T');
  const auto hours_ = take(text, 2, ':'), minutes_ = take(text, 2, ':');
  if (!year_ || !month_ || !day_ || !hours_ || !minutes_ || text.size() < 3) return std::nullopt;
  const auto seconds_ = base::parse_number<unsigned>(text.substr(0, 2));
  text.remove_prefix(2);
  if (text[0] == '.') {
    const auto end = text.find_first_not_of("0123456789", 1);
    if (end == 1 || end == std::string_view::npos) return std::nullopt;
    text.remove_prefix(end);
  }
  const auto east = parse_zone(text);
  const year_month_day date{year(*year_), month(static_cast<unsigned>(*month_)),
                            day(static_cast<unsigned>(*day_))};
  if (!seconds_ || !east || !date.ok() || *hours_ > 23 || *minutes_ > 59 || *seconds_ > 60)
    return std::nullopt;
  return sys_seconds(sys_days(date)).time_since_epoch().count() + *hours_ * 3600 + *minutes_ * 60 +
         *seconds_ - *east;
}

model::ObjectMeta decode_meta(Decoder& decoder, Value document, Name name,
                              std::span<const std::string_view> known_annotations) {
  model::ObjectMeta meta;
  meta.origin = decoder.origin(document);
  const Value metadata = decoder.mapping(document, "", "metadata");
  decode_names(decoder, document, metadata, name, meta);
  meta.labels = decoder.labels(metadata, "metadata", "labels");
  decode_annotations(decoder, metadata, known_annotations, meta);
  if (const auto created = decoder.text(metadata, "metadata", "creationTimestamp")) {
    meta.created = parse_time(*created);
    if (!meta.created)
      decoder.reject(metadata["creationTimestamp"], "metadata.creationTimestamp " +
                                                        quoted(*created) +
                                                        " is not a time like 2024-05-01T10:00:00Z");
  }
  decoder.unknown_fields(
      metadata, "metadata",
      {"name", "namespace", "labels", "annotations", "creationTimestamp", "deletionTimestamp"},
      {"uid", "resourceVersion", "generation", "managedFields", "ownerReferences", "finalizers",
       "generateName", "selfLink", "deletionGracePeriodSeconds", "clusterName"});
  return meta;
}

}  // namespace weft::manifest
