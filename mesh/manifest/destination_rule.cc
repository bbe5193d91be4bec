// networking.istio.io DestinationRule. Whatever its traffic policy asks for and does not get is
// reported as not enforced: somebody relies on it.
#include <algorithm>

#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

constexpr char kPolicy[] = "spec.trafficPolicy";
constexpr char kBalancer[] = "spec.trafficPolicy.loadBalancer";
constexpr char kHash[] = "spec.trafficPolicy.loadBalancer.consistentHash";

// A name, possibly with a wildcard in front; which Service it means is merge()'s to find out.
bool is_host(std::string_view host) {
  if (host == "*") return true;
  if (host.starts_with("*.")) host.remove_prefix(2);
  return is_dns_subdomain(host);
}

void others_not_enforced(Decoder& decoder, Value parent, const std::string& path,
                         std::initializer_list<std::string_view> enforced,
                         const std::string& why = "") {
  for (const Value field : parent)
    if (field.present() &&
        std::find(enforced.begin(), enforced.end(), field.key()) == enforced.end())
      decoder.not_enforced(field, join_path(path, cleaned(field.key(), 80)), why);
}

void decode_hash(Decoder& decoder, Value balancer, model::DestinationRuleObject& rule) {
  const Value hash = decoder.mapping(balancer, kBalancer, "consistentHash");
  if (decoder.boolean(hash, kHash, "useSourceIp").value_or(false))
    rule.balancer = model::Balancer::kSourceHash;
  others_not_enforced(decoder, hash, kHash, {"useSourceIp"},
                      "this build hashes the source (useSourceIp) only");
}

void decode_load_balancer(Decoder& decoder, Value policy, model::DestinationRuleObject& rule) {
  const Value balancer = decoder.mapping(policy, kPolicy, "loadBalancer");
  const auto simple = decoder.text(balancer, kBalancer, "simple").value_or("UNSPECIFIED");
  if (simple == "ROUND_ROBIN")
    rule.balancer = model::Balancer::kRoundRobin;
  else if (simple == "RANDOM")
    rule.balancer = model::Balancer::kRandom;
  else if (simple != "UNSPECIFIED")
    decoder.not_enforced(balancer["simple"], join_path(kBalancer, "simple") + " " + quoted(simple),
                         "this build has ROUND_ROBIN and RANDOM");
  decode_hash(decoder, balancer, rule);
  others_not_enforced(decoder, balancer, kBalancer, {"simple", "consistentHash"});
}

void decode_subsets(Decoder& decoder, Value spec) {
  std::size_t index = 0;
  for (const Value subset : decoder.sequence(spec, "spec", "subsets")) {
    const auto path = join_path("spec", "subsets", index++);
    if (decoder.is(subset, Type::kMapping, path) && subset["trafficPolicy"].present())
      decoder.not_enforced(subset["trafficPolicy"], path + ".trafficPolicy");
  }
  if (index > 0)
    decoder.warn(spec["subsets"],
                 "spec.subsets have no effect yet: no route of this build chooses one");
}

}  // namespace

void decode_destination_rule(Decoder& decoder, Value document,
                             std::vector<model::Object>& objects) {
  model::DestinationRuleObject rule;
  rule.meta = decode_meta(decoder, document, Name::kSubdomain);
  const Value spec = decoder.mapping(document, "", "spec");
  rule.host = decoder.text(spec, "spec", "host").value_or("");
  if (rule.host.empty())
    decoder.reject(document, "spec.host is missing");
  else if (!is_host(rule.host))
    decoder.reject(spec["host"], "spec.host " + quoted(rule.host) + " is not a host's name");
  const Value policy = decoder.mapping(spec, "spec", "trafficPolicy");
  decode_load_balancer(decoder, policy, rule);
  others_not_enforced(decoder, policy, kPolicy, {"loadBalancer"});
  decode_subsets(decoder, spec);
  if (spec["workloadSelector"].present())
    decoder.not_enforced(spec["workloadSelector"], "spec.workloadSelector",
                         "the rule applies to every caller");
  decoder.unknown_fields(spec, "spec", {"host", "trafficPolicy", "subsets", "workloadSelector"},
                         {"exportTo"});
  decoder.unknown_fields(document, "", {"apiVersion", "kind", "metadata", "spec"}, {"status"});
  objects.push_back(std::move(rule));
}

}  // namespace weft::manifest
