// networking.istio.io ServiceEntry: a service of endpoints that no kubelet watches. It becomes what
// a Service with its endpoints is, so that whatever is there for these is there for it.
//
// Where it says nobody whom connect() could choose (resolution NONE, names that only the DNS knows)
// connections pass as they are, which is said: refusing them would break what works without us.
#include "mesh/manifest/service_entry.h"

#include <algorithm>
#include <set>

#include "mesh/base/text.h"
#include "mesh/manifest/annotations.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

// What the kernel's table of names has room for; a Service's name is never longer.
constexpr std::size_t kMostName = 63;

void decode_host(Decoder& decoder, Value value, const std::string& path, bool others,
                 std::vector<std::string>& hosts) {
  if (!decoder.is(value, Type::kString, path)) return;
  const auto host = value.text();
  if (host.starts_with("*.") && is_dns_subdomain(host.substr(2))) {
    const auto what = path + " " + quoted(host);
    if (others)
      decoder.warn(value, what + " has no effect: the other hosts are what the entry is known by");
    else
      decoder.not_enforced(value, what, "a wildcard names no service; write hosts out");
  } else if (!is_dns_subdomain(host)) {
    decoder.reject(value, path + " " + quoted(host) + " is not a host's name");
  } else if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) {
    hosts.emplace_back(host);
  }
}

// The first that is short enough names the service and comes first. Empty: nobody could name it,
// which is said.
std::vector<std::string> decode_hosts(Decoder& decoder, Value document, Value spec) {
  std::vector<std::string> hosts;
  const Value list = decoder.sequence(spec, "spec", "hosts");
  std::size_t index = 0;
  const auto is_plain = [](Value host) { return !host.text().starts_with('*'); };
  bool others = false;
  for (const Value host : list) others |= is_plain(host);
  for (const Value host : list)
    decode_host(decoder, host, join_path("spec", "hosts", index++), others, hosts);
  if (index == 0)
    decoder.reject(spec.present() ? spec : document, "spec.hosts is missing or empty");
  const auto name = std::find_if(hosts.begin(), hosts.end(),
                                 [](const auto& host) { return host.size() <= kMostName; });
  if (name != hosts.end()) {
    std::rotate(hosts.begin(), name, name + 1);
  } else if (!hosts.empty()) {
    decoder.not_enforced(list, "spec.hosts",
                         "none is of at most 63 characters, which a service's name is");
    hosts.clear();
  }
  return hosts;
}

// A single address, also written as a range of one. Nothing for real ranges and for what is wrong,
// which is reported.
std::optional<model::Address> decode_address(Decoder& decoder, Value value,
                                             const std::string& path) {
  const auto text = value.text();
  const auto slash = text.find('/');
  if (value.type() != Type::kString || slash == text.npos) return decoder.address(value, path);
  const auto address = model::Address::parse(text.substr(0, slash));
  const auto length = base::parse_number<unsigned>(text.substr(slash + 1));
  const unsigned whole = address && address->family() == model::Family::kIpv4 ? 32 : 128;
  if (!address || !length || *length > whole) {
    decoder.reject(value, path + " " + quoted(text) + " is no IP address and no range of them");
  } else if (*length < whole) {
    decoder.not_enforced(value, path + " " + quoted(text),
                         "it is a range, and connect() finds services by single addresses; "
                         "connections to it pass as they are");
  } else if (const auto why = address->unusable_because()) {
    decoder.reject(value, path + " " + quoted(text) + " cannot be served: " + *why);
  } else {
    return address;
  }
  return std::nullopt;
}

// Istio's controller allocates addresses for entries that have none and writes them to the status.
// Several entries may share an address where their ports differ, as external IPs may.
void decode_addresses(Decoder& decoder, Value document, Value spec, model::ServiceObject& entry) {
  auto& addresses = entry.external_ips;
  const auto add = [&](Value value, const std::string& path) {
    const auto address = decode_address(decoder, value, path);
    if (address && std::find(addresses.begin(), addresses.end(), *address) == addresses.end())
      addresses.push_back(*address);
  };
  std::size_t index = 0;
  for (const Value value : decoder.sequence(spec, "spec", "addresses"))
    add(value, join_path("spec", "addresses", index++));
  if (index > 0) return;
  const Value status = decoder.mapping(document, "", "status");
  for (const Value given : decoder.sequence(status, "status", "addresses")) {
    const auto path = join_path("status", "addresses", index++);
    if (decoder.is(given, Type::kMapping, path) && given["value"].present())
      add(given["value"], path + ".value");
  }
}

std::optional<model::AppProtocol> decode_protocol(Decoder& decoder, Value value,
                                                  const std::string& path,
                                                  model::ServicePortSpec& port) {
  const auto text = decoder.text(value, path, "protocol").value_or("");
  if (text.empty()) return model::AppProtocol::kUnknown;
  if (text == "UDP") {
    port.protocol = model::Protocol::kUdp;
    return model::AppProtocol::kUnknown;
  }
  if (text == "HTTP_PROXY") return model::AppProtocol::kTcp;  // CONNECT: no requests of ours
  const auto known = parse_app_protocol(text);
  if (!known)
    decoder.reject(value["protocol"],
                   path + ".protocol " + quoted(text) +
                       " is not known: HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TCP, TLS, MONGO, "
                       "MYSQL, REDIS and UDP are");
  return known;
}

void decode_port(Decoder& decoder, Value value, const std::string& path,
                 model::ServiceObject& entry) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::ServicePortSpec port;
  if (!value["number"].present()) decoder.reject(value, path + ".number is missing");
  port.port = decoder.port(value, path, "number").value_or(0);
  port.name = decoder.text(value, path, "name").value_or("");
  if (!value["name"].present())
    decoder.reject(value, path + ".name is missing");
  else if (!is_dns_label(port.name))
    decoder.reject(value["name"],
                   path + ".name " + quoted(port.name) + " is not a DNS label (RFC 1123)");
  if (const auto target = decoder.port(value, path, "targetPort")) port.target = *target;
  port.app_protocol = decode_protocol(decoder, value, path, port).value_or(port.app_protocol);
  decoder.unknown_fields(value, path, {"number", "name", "protocol", "targetPort"});
  for (const auto& other : entry.ports) {
    if (other.port == port.port && other.protocol == port.protocol)
      decoder.reject(value, path + ".number " + std::to_string(port.port) + "/" +
                                model::to_text(port.protocol) + " is there twice");
    if (other.name == port.name)
      decoder.reject(value, path + ".name " + quoted(port.name) + " is there twice");
  }
  if (!decoder.rejected()) entry.ports.push_back(std::move(port));
}

Resolution decode_resolution(Decoder& decoder, Value spec) {
  const auto text = decoder.text(spec, "spec", "resolution").value_or("NONE");
  if (text == "STATIC") return Resolution::kStatic;
  if (text == "DNS" || text == "DNS_ROUND_ROBIN" || text == "DYNAMIC_DNS") return Resolution::kDns;
  if (text != "NONE")
    decoder.reject(spec["resolution"],
                   "spec.resolution " + quoted(text) +
                       " is not NONE, STATIC, DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS");
  return Resolution::kNone;
}

void decode_location(Decoder& decoder, Value spec) {
  const auto text = decoder.text(spec, "spec", "location").value_or("MESH_EXTERNAL");
  if (text != "MESH_EXTERNAL" && text != "MESH_INTERNAL")
    decoder.reject(spec["location"],
                   "spec.location " + quoted(text) + " is not MESH_EXTERNAL or MESH_INTERNAL");
}

void decode_selector(Decoder& decoder, Value spec, model::ServiceObject& entry) {
  const Value selector = decoder.mapping(spec, "spec", "workloadSelector");
  if (!selector.present()) return;
  entry.selector = decoder.labels(selector, "spec.workloadSelector", "labels");
  decoder.unknown_fields(selector, "spec.workloadSelector", {"labels"});
  if (entry.selector.empty())
    decoder.reject(selector, "spec.workloadSelector.labels is missing or empty");
  if (spec["endpoints"].present())
    decoder.reject(selector,
                   "spec.workloadSelector is beside spec.endpoints: it is one of the two");
  decoder.warn(selector,
               "spec.workloadSelector selects Pods of the namespace alone: WorkloadEntries are not "
               "read by this build");
  for (const auto name : kRankAnnotations)
    if (entry.meta.annotations.contains(std::string(name)))
      decoder.warn(
          selector,
          std::string(name) + " has no effect beside spec.workloadSelector: Pods have their own");
}

// Whom connect() chooses from; `unserved_type` where that is nobody's business.
void decode_choice(Decoder& decoder, Value document, Value spec, model::ServiceObject& entry) {
  const auto resolution = decode_resolution(decoder, spec);
  const auto rank = decode_rank(decoder, document, entry.meta);
  decode_selector(decoder, spec, entry);
  const auto written = decode_entry_endpoints(decoder, spec, resolution, rank, entry);
  const bool anybody = !entry.selector.empty() || !entry.entry->endpoints.empty();
  const Value at = spec["resolution"].present() ? spec["resolution"] : spec;
  if (resolution == Resolution::kNone) {
    entry.unserved_type = true;
    if (written > 0 || !entry.selector.empty())
      decoder.reject(at, "spec.resolution NONE has no endpoints and no workloadSelector");
    else
      decoder.warn(at, "spec.resolution NONE: not balanced, connections pass as they are");
  } else if (resolution == Resolution::kDns && written == 0 && !anybody) {
    entry.unserved_type = true;
    decoder.not_enforced(at, "spec.resolution " + std::string(at.text()),
                         "names are not resolved by this build, connections pass as they are; list "
                         "endpoints with IP addresses");
  } else if (!anybody && written > 0) {
    entry.unserved_type = true;  // of each it was said why
  } else if (!anybody) {
    decoder.warn(at, "spec.endpoints is missing or empty: connections to it are refused");
  }
}

// What cannot have any effect as a whole.
void say_idle(Decoder& decoder, Value document, Value spec, const model::ServiceObject& entry) {
  if (entry.unserved_type && !entry.meta.annotations.empty())
    decoder.warn(document["metadata"]["annotations"],
                 "annotations weft.mesh/... have no effect: there is nobody to choose from");
  if (!entry.unserved_type && entry.external_ips.empty())
    decoder.not_enforced(spec, "an entry without an address of its own",
                         "connect() finds services by address; write spec.addresses. Until then "
                         "only routes lead to it");
  if (entry.ports.empty() && !decoder.rejected())
    decoder.warn(spec, "spec.ports is missing or empty: no port is served");
}

}  // namespace

void decode_service_entry(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::ServiceObject entry;
  entry.meta = decode_meta(decoder, document, Name::kSubdomain, kEntryAnnotations);
  entry.entry.emplace();
  const Value spec = decoder.mapping(document, "", "spec");
  if (!spec.present()) decoder.reject(document, "spec is missing");
  entry.entry->hosts = decode_hosts(decoder, document, spec);
  decode_addresses(decoder, document, spec, entry);
  std::size_t index = 0;
  for (const Value port : decoder.sequence(spec, "spec", "ports"))
    decode_port(decoder, port, join_path("spec", "ports", index++), entry);
  decode_location(decoder, spec);
  decode_choice(decoder, document, spec, entry);
  entry.entry->export_to = decoder.texts(spec, "spec", "exportTo");
  if (decoder.sequence(spec, "spec", "subjectAltNames").present())
    decoder.not_enforced(spec["subjectAltNames"], "spec.subjectAltNames",
                         "this build opens no TLS of its own, so nobody compares them");
  decode_service_annotations(decoder, document, entry);
  say_idle(decoder, document, spec, entry);
  decoder.unknown_fields(spec, "spec",
                         {"hosts", "addresses", "ports", "location", "resolution", "endpoints",
                          "workloadSelector", "exportTo", "subjectAltNames"});
  decoder.unknown_fields(document, "", {"apiVersion", "kind", "metadata", "spec"}, {"status"});
  if (!entry.entry->hosts.empty()) objects.push_back(std::move(entry));
}

}  // namespace weft::manifest
