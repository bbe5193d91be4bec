// discovery.k8s.io/v1 EndpointSlice.
#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

void decode_port(Decoder& decoder, Value value, const std::string& path, model::EndpointSliceObject& slice) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::SlicePort port;
  port.name = decoder.text(value, path, "name");
  port.port = decoder.port(value, path, "port");
  const auto protocol = decoder.text(value, path, "protocol").value_or("TCP");
  decoder.unknown_fields(value, path, {"name", "port", "protocol"}, {"appProtocol"});
  if (protocol == "SCTP") return;  // the Service's port said so
  if (protocol != "TCP" && protocol != "UDP")
    return decoder.reject(value["protocol"], path + ".protocol " + quoted(protocol) + " is not TCP, UDP or SCTP");
  port.protocol = protocol == "TCP" ? model::Protocol::kTcp : model::Protocol::kUdp;
  slice.ports.push_back(std::move(port));
}

// Nil means true for ready and serving, false for terminating (discovery.k8s.io/v1).
void decode_conditions(Decoder& decoder, Value value, const std::string& path, model::SliceEndpoint& endpoint) {
  const Value conditions = decoder.mapping(value, path, "conditions");
  const auto where = join_path(path, "conditions");
  endpoint.ready = decoder.boolean(conditions, where, "ready").value_or(true);
  endpoint.serving = decoder.boolean(conditions, where, "serving").value_or(true);
  endpoint.terminating = decoder.boolean(conditions, where, "terminating").value_or(false);
  decoder.unknown_fields(conditions, where, {"ready", "serving", "terminating"});
}

struct Seen {
  bool several_addresses = false;
};

void decode_endpoint(Decoder& decoder, Value value, const std::string& path, model::EndpointSliceObject& slice, Seen& seen) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::SliceEndpoint endpoint;
  std::size_t count = 0;
  for (const Value entry : decoder.sequence(value, path, "addresses")) {
    const auto where = join_path(path, "addresses", count);
    const auto address = decoder.address(entry, where);
    if (address && address->family() != slice.family)
      decoder.reject(entry, where + " " + quoted(entry.text()) + " is not of the slice's addressType");
    if (address && count++ == 0) endpoint.address = *address;
  }
  if (count == 0 && !decoder.rejected()) return decoder.reject(value, path + ".addresses is missing or empty");
  if (count > 1 && !seen.several_addresses) {
    seen.several_addresses = true;
    decoder.warn(value, path + ".addresses has several: the first is used, as the API allows; write an endpoint each to use all");
  }
  decode_conditions(decoder, value, path, endpoint);
  endpoint.zone = decoder.text(value, path, "zone").value_or("");
  endpoint.node = decoder.text(value, path, "nodeName").value_or("");
  decoder.unknown_fields(value, path, {"addresses", "conditions", "zone", "nodeName"},
                         {"hostname", "targetRef", "hints", "deprecatedTopology"});
  slice.endpoints.push_back(std::move(endpoint));
}

}  // namespace

void decode_endpoint_slice(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::EndpointSliceObject slice;
  slice.meta = decode_meta(decoder, document, /*name_is_label=*/false);
  const auto label = slice.meta.labels.find("kubernetes.io/service-name");
  if (label == slice.meta.labels.end())
    decoder.warn(document, "label kubernetes.io/service-name is missing: it belongs to no Service and is ignored");
  else
    slice.service = label->second;
  const auto type = decoder.text(document, "", "addressType");
  if (!type) decoder.reject(document, "addressType is missing");
  if (type == "FQDN") return decoder.warn(document["addressType"], "addressType FQDN is not supported: ignored");
  if (type && type != "IPv4" && type != "IPv6")
    return decoder.reject(document["addressType"], "addressType " + quoted(*type) + " is not IPv4, IPv6 or FQDN");
  slice.family = type == "IPv6" ? model::Family::kIpv6 : model::Family::kIpv4;
  std::size_t index = 0;
  for (const Value port : decoder.sequence(document, "", "ports"))
    decode_port(decoder, port, join_path("", "ports", index++), slice);
  index = 0;
  Seen seen;
  for (const Value endpoint : decoder.sequence(document, "", "endpoints"))
    decode_endpoint(decoder, endpoint, join_path("", "endpoints", index++), slice, seen);
  decoder.unknown_fields(document, "", {"apiVersion", "kind", "metadata", "addressType", "ports", "endpoints"});
  objects.push_back(std::move(slice));
}

}  // namespace weft::manifest
