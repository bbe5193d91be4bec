// spec.endpoints of a ServiceEntry.
#include <algorithm>
#include <limits>

#include "mesh/manifest/service_entry.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

constexpr std::int64_t kMostWeight = 1000;  // as of the annotation weft.mesh/weight

// Nothing where nobody can be sent there; that is reported. An address is an IP, of DNS ones also a
// name; Istio's own validation refuses a name beside STATIC.
std::optional<model::Address> decode_address(Decoder& decoder, Value value, const std::string& path,
                                             Resolution resolution) {
  const auto where = join_path(path, "address");
  const Value at = value["address"];
  const auto text = decoder.text(value, path, "address").value_or("");
  if (text.empty()) {
    if (value["network"].present())
      decoder.not_enforced(value, path,
                           "an endpoint without an address is reached by its network's gateway, "
                           "which this build does not know; nobody is sent there");
    else if (!at.present() || at.type() == Type::kString)
      decoder.reject(value, where + " is missing");
    return std::nullopt;
  }
  if (model::Address::parse(text)) return decoder.address(at, where);
  if (text.starts_with("unix://")) {
    decoder.not_enforced(at, where + " " + quoted(text),
                         "a Unix socket is nothing that connect() to an IP address can lead to");
  } else if (resolution == Resolution::kDns && is_dns_subdomain(text)) {
    decoder.not_enforced(at, where + " " + quoted(text),
                         "names are not resolved by this build; nobody is sent there, write IP "
                         "addresses");
  } else {
    decoder.reject(at, where + " " + quoted(text) + " is not an IP address" +
                           (is_dns_subdomain(text) ? ": a name needs spec.resolution DNS" : ""));
  }
  return std::nullopt;
}

void decode_ports(Decoder& decoder, Value value, const std::string& path,
                  const model::ServiceObject& entry, model::EntryEndpoint& endpoint) {
  const Value ports = decoder.mapping(value, path, "ports");
  const auto where = join_path(path, "ports");
  for (const Value port : ports) {
    const std::string name(port.key());
    const auto number = decoder.port(ports, where, name);
    const bool known = std::any_of(entry.ports.begin(), entry.ports.end(),
                                   [&](const auto& spec) { return spec.name == name; });
    if (!known)
      decoder.reject(port, where + " names " + quoted(name) + ", which is none of spec.ports");
    if (number) endpoint.ports.emplace(name, *number);
  }
}

// "region/zone/subzone"; the last is of no use here.
void decode_locality(Decoder& decoder, Value value, const std::string& path,
                     model::EntryEndpoint& endpoint) {
  if (!decoder.text(value, path, "locality")) return;
  std::string_view rest = value["locality"].text();
  const auto slash = std::min(rest.find('/'), rest.size());
  endpoint.region = rest.substr(0, slash);
  rest.remove_prefix(std::min(slash + 1, rest.size()));
  endpoint.zone = rest.substr(0, rest.find('/'));
}

// 0 is what an API server makes of "nothing said". Its own weight beats the annotation for all.
void decode_weight(Decoder& decoder, Value value, const std::string& path,
                   model::EntryEndpoint& endpoint) {
  const auto weight =
      decoder.integer(value, path, "weight", 0, std::numeric_limits<std::uint32_t>::max());
  if (weight.value_or(0) == 0) return;
  if (*weight > kMostWeight)
    decoder.not_enforced(value["weight"], join_path(path, "weight") + " " + std::to_string(*weight),
                         "weights are at most " + std::to_string(kMostWeight) + ", which is used");
  endpoint.rank.weight = static_cast<std::uint16_t>(std::min(*weight, kMostWeight));
}

void decode_endpoint(Decoder& decoder, Value value, const std::string& path, Resolution resolution,
                     model::EntryEndpoint endpoint, model::ServiceObject& entry) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  const auto address = decode_address(decoder, value, path, resolution);
  decode_ports(decoder, value, path, entry, endpoint);
  endpoint.labels = decoder.labels(value, path, "labels");
  decode_locality(decoder, value, path, endpoint);
  decode_weight(decoder, value, path, endpoint);
  if (address && value["network"].present())
    decoder.warn(value["network"],
                 join_path(path, "network") +
                     " has no effect: the address is connected to, whatever network it is of");
  // serviceAccount is an identity that nobody here asks for.
  decoder.unknown_fields(
      value, path,
      {"address", "ports", "labels", "network", "locality", "weight", "serviceAccount"});
  if (!address || decoder.rejected()) return;
  endpoint.address = *address;
  entry.entry->endpoints.push_back(std::move(endpoint));
}

}  // namespace

std::size_t decode_entry_endpoints(Decoder& decoder, Value spec, Resolution resolution,
                                   const model::Rank& rank, model::ServiceObject& entry) {
  std::size_t index = 0;
  model::EntryEndpoint blank;
  blank.rank = rank;
  for (const Value endpoint : decoder.sequence(spec, "spec", "endpoints"))
    decode_endpoint(decoder, endpoint, join_path("spec", "endpoints", index++), resolution, blank,
                    entry);
  return index;
}

}  // namespace weft::manifest
