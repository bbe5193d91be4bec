// networking.istio.io DestinationRule. Whatever its traffic policy asks for and does not get is
// reported as not enforced: somebody relies on it. The policy itself is traffic_policy.cc's.
#include "mesh/manifest/traffic_policy.h"

#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

// A name, possibly with a wildcard in front; which Service it means is merge()'s to find out.
bool is_host(std::string_view host) {
  if (host == "*") return true;
  if (host.starts_with("*.")) host.remove_prefix(2);
  return is_dns_subdomain(host);
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
  decode_traffic_policy(decoder, decoder.mapping(spec, "spec", "trafficPolicy"),
                        "spec.trafficPolicy", rule);
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
