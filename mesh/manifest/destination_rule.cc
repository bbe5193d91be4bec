// networking.istio.io DestinationRule. Whatever its traffic policy asks for and does not get is
// reported as not enforced: somebody relies on it. The policy itself is traffic_policy.cc's.
#include "mesh/manifest/traffic_policy.h"

#include <algorithm>

#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

// A name, possibly with a wildcard in front; which Service it means is merge()'s to find out.
bool is_host(std::string_view host) {
  if (host == "*") return true;
  if (host.starts_with("*.")) host.remove_prefix(2);
  return is_dns_subdomain(host);
}

void decode_subset(Decoder& decoder, Value value, const std::string& path,
                   model::DestinationRuleObject& rule) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::Subset subset;
  subset.name = decoder.text(value, path, "name").value_or("");
  if (!value["name"].present())
    decoder.reject(value, path + ".name is missing");
  else if (!is_dns_label(subset.name))
    decoder.reject(value["name"],
                   path + ".name " + quoted(subset.name) + " is not a DNS label (RFC 1123)");
  const auto same = [&](const auto& other) { return other.name == subset.name; };
  if (std::any_of(rule.subsets.begin(), rule.subsets.end(), same))
    decoder.reject(value["name"], path + ".name " + quoted(subset.name) + " is there twice");
  subset.labels = decoder.labels(value, path, "labels");
  if (value["trafficPolicy"].present())
    decoder.not_enforced(value["trafficPolicy"], path + ".trafficPolicy");
  decoder.unknown_fields(value, path, {"name", "labels", "trafficPolicy"});
  if (!decoder.rejected()) rule.subsets.push_back(std::move(subset));
}

// Whether a route chooses one of them is merge()'s to say.
void decode_subsets(Decoder& decoder, Value spec, model::DestinationRuleObject& rule) {
  std::size_t index = 0;
  for (const Value subset : decoder.sequence(spec, "spec", "subsets"))
    decode_subset(decoder, subset, join_path("spec", "subsets", index++), rule);
  if (index > 0) rule.subsets_origin = decoder.origin(spec["subsets"]);
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
  decode_subsets(decoder, spec, rule);
  if (spec["workloadSelector"].present())
    decoder.not_enforced(spec["workloadSelector"], "spec.workloadSelector",
                         "the rule applies to every caller");
  decoder.unknown_fields(spec, "spec", {"host", "trafficPolicy", "subsets", "workloadSelector"},
                         {"exportTo"});
  decoder.unknown_fields(document, "", {"apiVersion", "kind", "metadata", "spec"}, {"status"});
  objects.push_back(std::move(rule));
}

}  // namespace weft::manifest
