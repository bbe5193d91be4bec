#include "mesh/manifest/annotations.h"

#include "mesh/base/text.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

constexpr std::uint32_t kMostConnections = 1'000'000'000;

// The annotations of one object: get() hands a value to `parse` and reports what it refuses.
class Annotations {
 public:
  Annotations(Decoder& decoder, Value document, const model::ObjectMeta& meta)
      : decoder_(decoder), values_(document["metadata"]["annotations"]), meta_(meta) {}

  template <class Parse>
  auto get(std::string_view name, Parse&& parse, const std::string& wanted)
      -> decltype(parse(std::string_view())) {
    const auto found = meta_.annotations.find(std::string(name));
    if (found == meta_.annotations.end()) return std::nullopt;
    auto value = parse(std::string_view(found->second));
    if (!value)
      decoder_.not_enforced(values_[name], std::string(name) + " " + quoted(found->second), wanted);
    return value;
  }

  template <class Number>
  std::optional<Number> number(std::string_view name, std::uint32_t low, std::uint32_t high) {
    const auto parse = [&](std::string_view text) -> std::optional<Number> {
      const auto number = base::parse_number<std::uint32_t>(text);
      if (!number || *number < low || *number > high) return std::nullopt;
      return static_cast<Number>(*number);
    };
    return get(name, parse,
               "it is not a number in " + std::to_string(low) + ".." + std::to_string(high));
  }

  std::optional<std::chrono::milliseconds> duration(std::string_view name) {
    return get(name, parse_go_duration, "it is not a duration like 5s, 500ms or 1m30s");
  }

 private:
  Decoder& decoder_;
  Value values_;
  const model::ObjectMeta& meta_;
};

std::optional<model::Balancer> parse_balancer(std::string_view text) {
  using model::Balancer;
  for (const auto balancer : {Balancer::kRoundRobin, Balancer::kRandom, Balancer::kSourceHash,
                              Balancer::kRingHash, Balancer::kLeastRequest, Balancer::kPeakEwma})
    if (text == model::to_text(balancer)) return balancer;
  return std::nullopt;
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (;;) {
    const auto begin = text.find_first_not_of(' ');
    if (begin == text.npos) return words;
    text.remove_prefix(begin);
    const auto end = std::min(text.find(' '), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

template <class Number>
bool set_number(std::string_view text, Number most, Number& number) {
  const auto parsed = base::parse_number<std::uint32_t>(text);
  if (!parsed || *parsed == 0 || *parsed > most) return false;
  number = static_cast<Number>(*parsed);
  return true;
}

bool set_option(std::string_view word, model::HealthCheck& check) {
  const auto equals = word.find('=');
  if (equals == word.npos) return false;
  const auto name = word.substr(0, equals), value = word.substr(equals + 1);
  if (name == "port") return set_number<std::uint16_t>(value, 65535, check.port);
  if (name == "unhealthy") return set_number<std::uint32_t>(value, 100, check.unhealthy_after);
  if (name == "healthy") return set_number<std::uint32_t>(value, 100, check.healthy_after);
  if (name != "interval" && name != "timeout") return false;
  const auto duration = parse_go_duration(value);
  if (duration) (name == "interval" ? check.interval : check.timeout) = *duration;
  return duration.has_value();
}

}  // namespace

std::optional<model::HealthCheck> parse_health_check(std::string_view text) {
  const auto words = words_of(text);
  if (words.empty()) return std::nullopt;
  using Kind = model::HealthCheck::Kind;
  model::HealthCheck check;
  std::size_t next = 1;
  if (words[0] == "http") {
    check.kind = Kind::kHttp;
    if (words.size() > 1 && words[1].starts_with('/')) check.path = words[next++];
  } else if (words[0] == "grpc") {
    check.kind = Kind::kGrpc;
    if (words.size() > 1 && words[1].find('=') == words[1].npos) check.service = words[next++];
  } else if (words[0] != "tcp") {
    return std::nullopt;
  }
  for (; next < words.size(); ++next)
    if (!set_option(words[next], check)) return std::nullopt;
  return check;
}

namespace {

std::optional<model::ProxyDown> parse_proxy_down(std::string_view text) {
  if (text == "refuse") return model::ProxyDown::kRefuse;
  if (text == "direct") return model::ProxyDown::kDirect;
  return std::nullopt;
}

std::optional<std::chrono::milliseconds> parse_deadline(std::string_view text) {
  return text == "0s" ? std::chrono::milliseconds(0) : parse_go_duration(text);
}

std::optional<model::SourceAddress> parse_source_address(std::string_view text) {
  if (text == "caller") return model::SourceAddress::kCaller;
  if (text == "node") return model::SourceAddress::kNode;
  return std::nullopt;
}

// YAML's bare on and off are booleans to some readers.
constexpr char kBypassHint[] = "it is not \"on\" or \"off\" (in quotes)";

std::optional<model::Bypass> parse_bypass(std::string_view text) {
  if (text == "on") return model::Bypass::kOn;
  if (text == "off") return model::Bypass::kOff;
  return std::nullopt;
}

}  // namespace

void decode_service_annotations(Decoder& decoder, Value document, model::ServiceObject& service) {
  Annotations annotations(decoder, document, service.meta);
  service.balancer =
      annotations.get("weft.mesh/balancer", parse_balancer,
                      "this build has round-robin, random, maglev, ring-hash, least-request and "
                      "peak-ewma");
  auto& traffic = service.traffic;
  traffic.failing_for = annotations.duration("weft.mesh/breaker-failing-for");
  traffic.base_ejection = annotations.duration("weft.mesh/breaker-base-ejection");
  traffic.max_per_endpoint = annotations.number<std::uint32_t>(
      "weft.mesh/max-connections-per-endpoint", 1, kMostConnections);
  traffic.failover_below = annotations.number<std::uint8_t>("weft.mesh/failover-below", 0, 100);
  traffic.health_check = annotations.get(
      "weft.mesh/health-check", parse_health_check,
      "it is not tcp, http /PATH or grpc [SERVICE], followed by words like port=8080, "
      "interval=5s, timeout=1s, unhealthy=3 and healthy=2");
  traffic.drain_deadline =
      annotations.get("weft.mesh/drain-deadline", parse_deadline,
                      "it is not a duration like 30s, 1m30s or 0s, which is at once");
  traffic.proxy_down =
      annotations.get("weft.mesh/proxy-down", parse_proxy_down, "it is not refuse or direct");
  traffic.source_address =
      annotations.get("weft.mesh/source-address", parse_source_address, "it is not caller or node");
  traffic.bypass = annotations.get("weft.mesh/bypass", parse_bypass, kBypassHint);
}

model::Bypass decode_bypass(Decoder& decoder, Value document, const model::ObjectMeta& meta) {
  Annotations annotations(decoder, document, meta);
  return annotations.get("weft.mesh/bypass", parse_bypass, kBypassHint)
      .value_or(model::Bypass::kUnsaid);
}

model::Rank decode_rank(Decoder& decoder, Value document, const model::ObjectMeta& meta) {
  Annotations annotations(decoder, document, meta);
  model::Rank rank;
  rank.priority = annotations.number<std::uint8_t>("weft.mesh/priority", 0, 127).value_or(0);
  rank.weight = annotations.number<std::uint16_t>("weft.mesh/weight", 1, 1000).value_or(1);
  return rank;
}

}  // namespace weft::manifest
