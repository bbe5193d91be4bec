// discovery.k8s.io/v1 EndpointSlice.
#include "mesh/manifest/annotations.h"
#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

constexpr char kServiceLabel[] = "kubernetes.io/service-name";

void decode_port(Decoder& decoder, Value value, const std::string& path,
                 model::EndpointSliceObject& slice) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::SlicePort port;
  port.name = decoder.text(value, path, "name");
  port.port = decoder.port(value, path, "port");
  const auto protocol = decoder.protocol(value, path);
  decoder.unknown_fields(value, path, {"name", "port", "protocol"}, {"appProtocol"});
  if (!protocol) return;  // of SCTP the Service's port said so
  port.protocol = *protocol;
  if (!decoder.rejected()) slice.ports.push_back(std::move(port));
}

// Nil means true for ready and serving, false for terminating (discovery.k8s.io/v1, kube-proxy).
void decode_conditions(Decoder& decoder, Value value, const std::string& path,
                       model::SliceEndpoint& endpoint) {
  const Value conditions = decoder.mapping(value, path, "conditions");
  const auto where = join_path(path, "conditions");
  endpoint.ready = decoder.boolean(conditions, where, "ready").value_or(true);
  endpoint.serving = decoder.boolean(conditions, where, "serving").value_or(true);
  endpoint.terminating = decoder.boolean(conditions, where, "terminating").value_or(false);
  decoder.unknown_fields(conditions, where, {"ready", "serving", "terminating"});
}

// How many of them are good; the first is the endpoint's.
std::size_t decode_addresses(Decoder& decoder, Value value, const std::string& path,
                             model::Family family, model::SliceEndpoint& endpoint) {
  std::size_t index = 0, good = 0;
  for (const Value entry : decoder.sequence(value, path, "addresses")) {
    const auto where = join_path(path, "addresses", index++);
    const auto address = decoder.address(entry, where);
    if (!address) continue;
    if (address->family() != family)
      decoder.reject(entry,
                     where + " " + quoted(entry.text()) + " is not of the slice's addressType");
    else if (good++ == 0)
      endpoint.address = *address;
  }
  if (index == 0) decoder.reject(value, path + ".addresses is missing or empty");
  return good;
}

void decode_hints(Decoder& decoder, Value value, const std::string& path,
                  model::SliceEndpoint& endpoint) {
  const Value hints = decoder.mapping(value, path, "hints");
  const auto where = join_path(path, "hints");
  std::size_t index = 0;
  for (const Value zone : decoder.sequence(hints, where, "forZones")) {
    const auto at = join_path(where, "forZones", index++);
    if (!decoder.is(zone, Type::kMapping, at)) continue;
    if (auto name = decoder.text(zone, at, "name")) endpoint.for_zones.push_back(std::move(*name));
  }
  // forNodes repeats nodeName, which is compared itself.
  decoder.unknown_fields(hints, where, {"forZones"}, {"forNodes"});
}

// Whose labels a subset is chosen by.
void decode_target(Decoder& decoder, Value value, const std::string& path,
                   model::SliceEndpoint& endpoint) {
  const Value target = decoder.mapping(value, path, "targetRef");
  const auto where = join_path(path, "targetRef");
  const auto kind = decoder.text(target, where, "kind");
  const auto name = decoder.text(target, where, "name");
  if (kind == "Pod") endpoint.pod = name.value_or("");
}

void decode_endpoint(Decoder& decoder, Value value, const std::string& path,
                     model::EndpointSliceObject& slice, bool& several_seen) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::SliceEndpoint endpoint;
  const auto addresses = decode_addresses(decoder, value, path, slice.family, endpoint);
  if (addresses > 1 && !several_seen) {
    several_seen = true;
    decoder.warn(value, path +
                            ".addresses has several: the first is used, as kube-proxy does; to use "
                            "all make each an endpoint of its own");
  }
  decode_conditions(decoder, value, path, endpoint);
  endpoint.zone = decoder.text(value, path, "zone").value_or("");
  endpoint.node = decoder.text(value, path, "nodeName").value_or("");
  decode_hints(decoder, value, path, endpoint);
  decode_target(decoder, value, path, endpoint);
  decoder.unknown_fields(value, path,
                         {"addresses", "conditions", "zone", "nodeName", "hints", "targetRef"},
                         {"hostname", "deprecatedTopology"});
  if (!decoder.rejected()) slice.endpoints.push_back(std::move(endpoint));
}

void decode_service_name(Decoder& decoder, Value document, model::EndpointSliceObject& slice) {
  const auto label = slice.meta.labels.find(kServiceLabel);
  const Value at = document["metadata"]["labels"][kServiceLabel];
  if (label == slice.meta.labels.end() || label->second.empty())
    return decoder.warn(document,
                        "label kubernetes.io/service-name is missing: it belongs to no Service "
                        "and has no effect");
  if (!is_dns_label(label->second))
    decoder.reject(at, "label kubernetes.io/service-name " + quoted(label->second) +
                           " is not a Service's name");
  slice.service = label->second;
}

// False: the slice is not read any further.
bool decode_family(Decoder& decoder, Value document, model::EndpointSliceObject& slice) {
  const auto type = decoder.text(document, "", "addressType");
  if (!type) decoder.reject(document, "addressType is missing");
  if (type == "IPv6") slice.family = model::Family::kIpv6;
  if (type == "FQDN") {
    decoder.warn(document["addressType"], "addressType FQDN is not supported: ignored");
  } else if (type && type != "IPv4" && type != "IPv6") {
    decoder.reject(document["addressType"],
                   "addressType " + quoted(*type) + " is not IPv4, IPv6 or FQDN");
  }
  return type == "IPv4" || type == "IPv6";
}

}  // namespace

void decode_endpoint_slice(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::EndpointSliceObject slice;
  slice.meta = decode_meta(decoder, document, Name::kSubdomain, kRankAnnotations);
  slice.rank = decode_rank(decoder, document, slice.meta);
  decode_service_name(decoder, document, slice);
  if (!decode_family(decoder, document, slice)) return;
  std::size_t index = 0;
  for (const Value port : decoder.sequence(document, "", "ports"))
    decode_port(decoder, port, join_path("", "ports", index++), slice);
  index = 0;
  bool several_seen = false;
  for (const Value endpoint : decoder.sequence(document, "", "endpoints"))
    decode_endpoint(decoder, endpoint, join_path("", "endpoints", index++), slice, several_seen);
  decoder.unknown_fields(document, "",
                         {"apiVersion", "kind", "metadata", "addressType", "ports", "endpoints"});
  objects.push_back(std::move(slice));
}

}  // namespace weft::manifest
