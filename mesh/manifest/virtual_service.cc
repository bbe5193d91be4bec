// networking.istio.io VirtualService: known, checked as far as warnings need it, not served.
#include "mesh/manifest/decode.h"

namespace weft::manifest {

void decode_virtual_service(Decoder& decoder, Value document, std::vector<model::Object>&) {
  decode_meta(decoder, document, Name::kSubdomain);
  const Value spec = decoder.mapping(document, "", "spec");
  if (!spec["hosts"].present()) decoder.reject(document, "spec.hosts is missing");
  std::size_t index = 0;
  for (const Value host : decoder.sequence(spec, "spec", "hosts"))
    if (decoder.is(host, Type::kString, join_path("spec", "hosts", index++)) && host.text() == "*")
      decoder.warn(host,
                   "host \"*\" covers the services of its own namespace only; istiod would refuse "
                   "it");
  for (const char* rules : {"http", "tls", "tcp"})
    if (decoder.sequence(spec, "spec", rules).present())
      decoder.warn(spec[rules], std::string("spec.") + rules +
                                    " rules have no effect yet: they need weft-proxy, which this "
                                    "build does not have; traffic goes to the service that was "
                                    "dialled");
  decoder.unknown_fields(spec, "spec", {"hosts", "http", "tls", "tcp"}, {"gateways", "exportTo"});
  decoder.unknown_fields(document, "", {"apiVersion", "kind", "metadata", "spec"}, {"status"});
}

}  // namespace weft::manifest
