// VirtualService http[]: headers, retries, corsPolicy and mirrors.
#include <cmath>
#include <limits>

#include "mesh/base/text.h"
#include "mesh/manifest/http_fields.h"
#include "mesh/manifest/text_reader.h"
#include "mesh/manifest/virtual_service.h"

namespace weft::manifest {
namespace {

using model::RetryOn;

constexpr std::int64_t kMostAttempts = 100;

bool is_host(std::string_view name) { return name == "host" || name == ":authority"; }

void decode_edits(Decoder& decoder, Value edits, const std::string& path, model::HeaderEdits& into,
                  std::optional<std::string>* authority) {
  const auto pairs = [&](const char* key, auto& list) {
    const auto where = join_path(path, key);
    for (const Value entry : decoder.mapping(edits, path, key)) {
      const auto at = join_path(where, cleaned(entry.key(), 80));
      if (!decoder.is(entry, Type::kString, at)) continue;
      if (is_host(in_lower_case(entry.key())) && authority) {
        if (check_authority(decoder, entry, at, entry.text()))
          *authority = std::string(entry.text());
      } else if (check_header_name(decoder, entry, where, entry.key()) &&
                 check_header_value(decoder, entry, at, entry.text())) {
        list.emplace_back(entry.key(), entry.text());
      }
    }
  };
  pairs("set", into.set);
  pairs("add", into.add);
  for (const auto& name : decoder.texts(edits, path, "remove")) {
    if (is_host(in_lower_case(name)))
      decoder.reject(edits["remove"], path + ".remove: a request has a host");
    else if (check_header_name(decoder, edits["remove"], join_path(path, "remove"), name))
      into.remove.push_back(in_lower_case(name));
  }
  decoder.unknown_fields(edits, path, {"set", "add", "remove"});
}

// What we do about a word of retryOn; nothing: it is not known.
std::optional<RetryOn> condition(std::string_view word) {
  static constexpr std::pair<std::string_view, RetryOn> kWords[] = {
      {"5xx", RetryOn::k5xx},
      {"gateway-error", RetryOn::kGateway},
      {"reset", RetryOn::kReset},
      // Nothing was sent yet, which is the part of kReset that a connection that failed is, too.
      {"reset-before-request", RetryOn::kConnectFailure},
      {"connect-failure", RetryOn::kConnectFailure},
      {"refused-stream", RetryOn::kRefusedStream},
      {"retriable-4xx", RetryOn::kRetriable4xx},
      {"retriable-status-codes", RetryOn::kStatuses}};
  for (const auto& [name, on] : kWords)
    if (name == word) return on;
  return std::nullopt;
}

void decode_retry_on(Decoder& decoder, Value at, const std::string& path, std::string_view text,
                     model::Retries& retries) {
  std::vector<std::string> unknown;
  while (!text.empty()) {
    const auto end = std::min(text.find(','), text.size());
    auto word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (word.starts_with(' ')) word.remove_prefix(1);
    while (word.ends_with(' ')) word.remove_suffix(1);
    if (word.empty()) continue;
    if (const auto on = condition(word)) {
      retries.on |= static_cast<std::uint16_t>(*on);
    } else if (const auto status = base::parse_number<std::uint16_t>(word);
               status && *status >= 100 && *status <= 599) {
      retries.on |= static_cast<std::uint16_t>(RetryOn::kStatuses);
      retries.statuses.push_back(*status);
    } else {
      decoder.not_enforced(at, path + " " + quoted(word), "nothing is tried again because of it");
    }
  }
  // As in Envoy, where retriable-status-codes alone names none; Istio's own default adds 503.
  if (retries.on == static_cast<std::uint16_t>(RetryOn::kStatuses) && retries.statuses.empty())
    retries.statuses.push_back(503);
  // 0 would be the default, which nobody asked for.
  if (retries.on == 0) retries.attempts = 0;
}

void decode_origins(Decoder& decoder, Value value, const std::string& path, model::Cors& cors) {
  std::size_t index = 0;
  for (const Value origin : decoder.sequence(value, path, "allowOrigins")) {
    const auto where = join_path(path, "allowOrigins", index++);
    if (const auto match = decode_string_match(decoder, origin, where, false))
      cors.allow_origins.push_back(*match);
  }
  for (const auto& origin : decoder.texts(value, path, "allowOrigin"))
    cors.allow_origins.push_back({model::TextMatch::Kind::kExact, origin, false});
  if (value["allowOrigin"].present())
    decoder.warn(value["allowOrigin"], path + ".allowOrigin is deprecated: write allowOrigins");
}

std::uint32_t to_ppm(double percent) {
  return static_cast<std::uint32_t>(std::llround(percent * 10'000));
}

void add_mirror(std::optional<model::HttpBackend> backend, double percent, model::Forward& forward,
                std::vector<model::HttpBackend>& backends) {
  if (backend && percent > 0)
    forward.mirrors.push_back({index_of(backends, std::move(*backend)), to_ppm(percent)});
}

double percent_of(Decoder& decoder, Value parent, const std::string& path, std::string_view key) {
  const Value percentage = decoder.mapping(parent, path, key);
  const auto where = join_path(path, key);
  decoder.unknown_fields(percentage, where, {"value"});
  // A protobuf message whose number is left out is 0; a message that is left out is everything.
  const auto value = decoder.number(percentage, where, "value", 100);
  return percentage.present() ? value.value_or(0) : 100;
}

}  // namespace

void decode_headers(Decoder& decoder, Value headers, const std::string& path,
                    model::HeaderEdits& request, model::HeaderEdits& response,
                    std::optional<std::string>& authority) {
  decode_edits(decoder, decoder.mapping(headers, path, "request"), join_path(path, "request"),
               request, &authority);
  decode_edits(decoder, decoder.mapping(headers, path, "response"), join_path(path, "response"),
               response, nullptr);
  decoder.unknown_fields(headers, path, {"request", "response"});
}

void decode_retries(Decoder& decoder, Value value, const std::string& path, model::HttpRule& rule) {
  if (!value.present()) return;
  model::Retries retries;
  // Istio: a policy without a number is one that switches retries off.
  retries.attempts = static_cast<std::uint32_t>(
      decoder.integer(value, path, "attempts", 0, kMostAttempts).value_or(0));
  retries.per_try_timeout = decode_timeout(decoder, value, path, "perTryTimeout");
  if (retries.per_try_timeout == std::chrono::milliseconds(0)) retries.per_try_timeout.reset();
  if (const auto on = decoder.text(value, path, "retryOn"); on && !on->empty())
    decode_retry_on(decoder, value["retryOn"], path + ".retryOn", *on, retries);
  if (const auto backoff = decoder.duration(value, path, "backoff")) retries.backoff = *backoff;
  if (decoder.boolean(value, path, "retryRemoteLocalities").value_or(false))
    decoder.not_enforced(value["retryRemoteLocalities"], path + ".retryRemoteLocalities");
  if (!decoder.boolean(value, path, "retryIgnorePreviousHosts").value_or(true))
    decoder.not_enforced(value["retryIgnorePreviousHosts"], path + ".retryIgnorePreviousHosts",
                         "another endpoint is always tried first");
  decoder.unknown_fields(value, path,
                         {"attempts", "perTryTimeout", "retryOn", "backoff",
                          "retryRemoteLocalities", "retryIgnorePreviousHosts"});
  rule.retries = std::move(retries);
}

void decode_cors(Decoder& decoder, Value value, const std::string& path, model::HttpRule& rule) {
  if (!value.present()) return;
  model::Cors cors;
  decode_origins(decoder, value, path, cors);
  cors.allow_methods = decoder.texts(value, path, "allowMethods");
  cors.allow_headers = decoder.texts(value, path, "allowHeaders");
  cors.expose_headers = decoder.texts(value, path, "exposeHeaders");
  for (const auto* names : {&cors.allow_methods, &cors.allow_headers, &cors.expose_headers})
    for (const auto& name : *names) check_header_name(decoder, value, path, name);
  if (const auto age = decode_timeout(decoder, value, path, "maxAge"))
    cors.max_age = std::chrono::duration_cast<std::chrono::seconds>(*age);
  cors.allow_credentials = decoder.boolean(value, path, "allowCredentials");
  const auto unmatched = decoder.text(value, path, "unmatchedPreflights").value_or("UNSPECIFIED");
  if (unmatched != "UNSPECIFIED" && unmatched != "FORWARD" && unmatched != "IGNORE")
    decoder.reject(
        value["unmatchedPreflights"],
        path + ".unmatchedPreflights " + quoted(unmatched) + " is not FORWARD or IGNORE");
  cors.forward_unmatched_preflights = unmatched != "IGNORE";
  decoder.unknown_fields(value, path,
                         {"allowOrigins", "allowOrigin", "allowMethods", "allowHeaders",
                          "exposeHeaders", "maxAge", "allowCredentials", "unmatchedPreflights"});
  rule.cors = std::move(cors);
}

void decode_mirrors(Decoder& decoder, Value rule, const std::string& path, model::Forward& forward,
                    std::vector<model::HttpBackend>& backends) {
  if (const Value mirror = decoder.mapping(rule, path, "mirror"); mirror.present()) {
    auto percent = percent_of(decoder, rule, path, "mirrorPercentage");
    if (!rule["mirrorPercentage"].present())
      for (const char* old : {"mirrorPercent", "mirror_percent"})
        percent = decoder.number(rule, path, old, 100).value_or(percent);
    add_mirror(decode_http_backend(decoder, rule, path, "mirror"), percent, forward, backends);
    if (rule["mirrors"].present())
      decoder.reject(rule["mirrors"], path + " has both mirror and mirrors: it is one of them");
  }
  std::size_t index = 0;
  for (const Value mirror : decoder.sequence(rule, path, "mirrors")) {
    const auto where = join_path(path, "mirrors", index++);
    if (!decoder.is(mirror, Type::kMapping, where)) continue;
    add_mirror(decode_http_backend(decoder, mirror, where, "destination"),
               percent_of(decoder, mirror, where, "percentage"), forward, backends);
    decoder.unknown_fields(mirror, where, {"destination", "percentage"});
  }
}

}  // namespace weft::manifest
