// networking.istio.io DestinationRule and VirtualService.
#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

void decode_load_balancer(Decoder& decoder, Value policy, model::DestinationRuleObject& rule) {
  const std::string path = "spec.trafficPolicy.loadBalancer";
  const Value balancer = decoder.mapping(policy, "spec.trafficPolicy", "loadBalancer");
  const auto simple = decoder.text(balancer, path, "simple");
  if (simple == "ROUND_ROBIN")
    rule.balancer = model::Balancer::kRoundRobin;
  else if (simple == "RANDOM")
    rule.balancer = model::Balancer::kRandom;
  else if (simple)
    decoder.not_enforced(balancer["simple"], path + ".simple " + quoted(*simple) +
                                                 " is NOT ENFORCED: this build has ROUND_ROBIN and RANDOM");
  const Value hash = decoder.mapping(balancer, path, "consistentHash");
  for (const Value field : hash) {
    if (field.key() == "useSourceIp") {
      if (decoder.boolean(hash, path + ".consistentHash", "useSourceIp").value_or(false))
        rule.balancer = model::Balancer::kSourceHash;
    } else {
      decoder.not_enforced(field, join_path(path + ".consistentHash", field.key()) +
                                      " is NOT ENFORCED: this build hashes the source (useSourceIp) only");
    }
  }
  for (const Value field : balancer)
    if (field.key() != "simple" && field.key() != "consistentHash")
      decoder.not_enforced(field, join_path(path, field.key()) + " is NOT ENFORCED by this build");
}

}  // namespace

void decode_destination_rule(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::DestinationRuleObject rule;
  rule.meta = decode_meta(decoder, document, /*name_is_label=*/false);
  const Value spec = decoder.mapping(document, "", "spec");
  rule.host = decoder.text(spec, "spec", "host").value_or("");
  if (rule.host.empty()) decoder.reject(document, "spec.host is missing");
  const Value policy = decoder.mapping(spec, "spec", "trafficPolicy");
  decode_load_balancer(decoder, policy, rule);
  for (const Value field : policy)
    if (field.key() != "loadBalancer")
      decoder.not_enforced(field, join_path("spec.trafficPolicy", field.key()) + " is NOT ENFORCED by this build");
  std::size_t index = 0;
  for (const Value subset : decoder.sequence(spec, "spec", "subsets")) {
    const auto path = join_path("spec", "subsets", index++);
    if (!decoder.is(subset, Type::kMapping, path)) continue;
    if (subset["trafficPolicy"].present())
      decoder.not_enforced(subset["trafficPolicy"], path + ".trafficPolicy is NOT ENFORCED by this build");
  }
  if (spec["subsets"].present())
    decoder.warn(spec["subsets"], "spec.subsets have no effect yet: no route of this build chooses one");
  decoder.unknown_fields(spec, "spec", {"host", "trafficPolicy", "subsets"}, {"exportTo"});
  if (spec["workloadSelector"].present())
    decoder.not_enforced(spec["workloadSelector"], "spec.workloadSelector is NOT ENFORCED: the rule applies to every caller");
  objects.push_back(std::move(rule));
}

void decode_virtual_service(Decoder& decoder, Value document, std::vector<model::Object>&) {
  decode_meta(decoder, document, /*name_is_label=*/false);
  const Value spec = decoder.mapping(document, "", "spec");
  if (!spec["hosts"].present()) decoder.reject(document, "spec.hosts is missing");
  for (const Value host : decoder.sequence(spec, "spec", "hosts"))
    if (host.text() == "*")
      decoder.warn(host, "host \"*\" covers the services of its own namespace only (istiod would refuse it)");
  for (const auto key : {"http", "tls", "tcp"})
    if (spec[key].present())
      decoder.warn(spec[key], std::string("spec.") + key +
                                  " rules have no effect yet: they need the L7 proxy, which this build does not have; "
                                  "traffic goes to the service that was dialled");
}

}  // namespace weft::manifest
