// v1 Service.
#include <algorithm>
#include <set>

#include "mesh/manifest/annotations.h"
#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

// Seconds, as the API has them.
constexpr std::int64_t kAffinityDefault = 10800, kAffinityMost = 86400;

// IANA service name, as the API wants a port's name: with a letter, so that no number is one.
bool is_port_name(const std::string& name) {
  const bool has_letter =
      std::any_of(name.begin(), name.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  return has_letter && is_dns_label(name) && name.size() <= 15;
}

std::optional<model::TargetPort> target_port(Decoder& decoder, Value port,
                                             const std::string& path) {
  const Value target = port["targetPort"];
  if (!target.present()) return std::nullopt;
  if (target.type() == Type::kNumber) {
    const auto number = decoder.port(port, path, "targetPort");
    return number ? std::optional<model::TargetPort>(*number) : std::nullopt;
  }
  const auto name = decoder.text(port, path, "targetPort");
  if (name && is_port_name(*name)) return model::TargetPort(*name);
  if (name)
    decoder.reject(target, path + ".targetPort " + quoted(*name) +
                               " is not a port's name (at most 15 of a-z, 0-9 and -, with a "
                               "letter; a number is written without quotes)");
  return std::nullopt;
}

struct ProtocolName {
  std::string_view name;
  model::AppProtocol protocol;
};

}  // namespace

// Istio's names, which are the first word of a port's name or its appProtocol, and Kubernetes' own
// values of the latter. gRPC-Web and WebSocket begin as HTTP/1.1.
std::optional<model::AppProtocol> parse_app_protocol(std::string_view text) {
  using model::AppProtocol;
  static constexpr ProtocolName kNames[] = {{"http", AppProtocol::kHttp},
                                            {"http2", AppProtocol::kHttp2},
                                            {"h2c", AppProtocol::kHttp2},
                                            {"grpc", AppProtocol::kGrpc},
                                            {"grpc-web", AppProtocol::kHttp},
                                            {"https", AppProtocol::kTls},
                                            {"tls", AppProtocol::kTls},
                                            {"tcp", AppProtocol::kTcp},
                                            {"mongo", AppProtocol::kTcp},
                                            {"mysql", AppProtocol::kTcp},
                                            {"redis", AppProtocol::kTcp},
                                            {"kubernetes.io/h2c", AppProtocol::kHttp2},
                                            {"kubernetes.io/ws", AppProtocol::kHttp},
                                            {"kubernetes.io/wss", AppProtocol::kTls}};
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  for (const auto& known : kNames)
    if (known.name == lower) return known.protocol;
  return std::nullopt;
}

namespace {

model::AppProtocol app_protocol(Decoder& decoder, Value port, const std::string& path,
                                std::string_view name) {
  // As in Istio: the field decides where it is there, whether or not it says anything to us.
  if (const auto said = decoder.text(port, path, "appProtocol"))
    return parse_app_protocol(*said).value_or(model::AppProtocol::kUnknown);
  if (name.starts_with("grpc-web"))
    name = "grpc-web";
  else
    name = name.substr(0, name.find('-'));
  return parse_app_protocol(name).value_or(model::AppProtocol::kUnknown);
}

struct SeenPorts {
  std::set<std::pair<std::uint16_t, model::Protocol>> numbers;
  std::set<std::string> names;
};

void reject_duplicates(Decoder& decoder, Value value, const std::string& path,
                       const model::ServicePortSpec& port, SeenPorts& seen) {
  if (port.port && !seen.numbers.emplace(port.port, port.protocol).second)
    decoder.reject(value, path + ".port " + std::to_string(port.port) + "/" +
                              model::to_text(port.protocol) + " is there twice");
  if (!port.name.empty() && !seen.names.insert(port.name).second)
    decoder.reject(value, path + ".name " + quoted(port.name) + " is there twice");
}

void decode_port(Decoder& decoder, Value value, const std::string& path, SeenPorts& seen,
                 model::ServiceObject& service) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::ServicePortSpec port;
  port.name = decoder.text(value, path, "name").value_or("");
  if (!port.name.empty() && !is_dns_label(port.name))
    decoder.reject(value["name"],
                   path + ".name " + quoted(port.name) + " is not a DNS label (RFC 1123)");
  if (!value["port"].present()) decoder.reject(value, path + ".port is missing");
  port.port = decoder.port(value, path, "port").value_or(0);
  port.target = target_port(decoder, value, path);
  port.app_protocol = app_protocol(decoder, value, path, port.name);
  decoder.unknown_fields(value, path, {"name", "protocol", "port", "targetPort", "appProtocol"},
                         {"nodePort"});
  const auto protocol = decoder.protocol(value, path);
  if (!protocol) {
    if (!decoder.rejected())
      decoder.warn(value, path + ".protocol SCTP is not supported: this port is not served");
    return;
  }
  port.protocol = *protocol;
  reject_duplicates(decoder, value, path, port, seen);
  if (!decoder.rejected()) service.ports.push_back(std::move(port));
}

void decode_ports(Decoder& decoder, Value spec, model::ServiceObject& service) {
  std::size_t index = 0;
  SeenPorts seen;
  for (const Value port : decoder.sequence(spec, "spec", "ports"))
    decode_port(decoder, port, join_path("spec", "ports", index++), seen, service);
  const bool unnamed = std::any_of(service.ports.begin(), service.ports.end(),
                                   [](const auto& port) { return port.name.empty(); });
  if (index > 1 && unnamed)
    decoder.reject(spec["ports"], "spec.ports: several ports need a name each");
}

// In the order they are written, each once.
class AddressList {
 public:
  void add(std::optional<model::Address> address) {
    if (address && seen_.insert(*address).second) addresses_.push_back(*address);
  }
  std::size_t size() const { return addresses_.size(); }
  std::vector<model::Address> take() { return std::move(addresses_); }

 private:
  std::vector<model::Address> addresses_;
  std::set<model::Address> seen_;
};

void decode_cluster_ips(Decoder& decoder, Value spec, model::ServiceObject& service) {
  AddressList addresses;
  const auto decode = [&](Value value, const std::string& path) {
    if (value.type() == Type::kString && value.text() == "None")
      service.headless = true;
    else if (value.type() != Type::kString || !value.text().empty())
      addresses.add(decoder.address(value, path));
  };
  std::size_t index = 0;
  for (const Value entry : decoder.sequence(spec, "spec", "clusterIPs"))
    decode(entry, join_path("spec", "clusterIPs", index++));
  // The API server keeps clusterIP equal to the first of clusterIPs: a file where they differ was
  // edited in one place only.
  const auto listed = addresses.size();
  if (spec["clusterIP"].present()) decode(spec["clusterIP"], "spec.clusterIP");
  const bool addresses_agree = listed == 0 || addresses.size() == listed;
  if (!addresses_agree)
    decoder.reject(spec["clusterIP"], "spec.clusterIP is not among spec.clusterIPs");
  service.cluster_ips = addresses.take();
  const auto count = [&](model::Family family) {
    return std::count_if(service.cluster_ips.begin(), service.cluster_ips.end(),
                         [&](const auto& address) { return address.family() == family; });
  };
  for (const auto family : {model::Family::kIpv4, model::Family::kIpv6})
    if (addresses_agree && count(family) > 1)
      decoder.reject(
          spec["clusterIPs"],
          "spec.clusterIPs holds several addresses of one family: there is one a family; "
          "externalIPs takes more");
  if (service.headless && !service.cluster_ips.empty())
    decoder.reject(spec, "spec.clusterIPs holds None beside addresses");
}

void decode_external_ips(Decoder& decoder, Value spec, model::ServiceObject& service) {
  AddressList addresses;
  std::size_t index = 0;
  for (const Value entry : decoder.sequence(spec, "spec", "externalIPs"))
    addresses.add(decoder.address(entry, join_path("spec", "externalIPs", index++)));
  service.external_ips = addresses.take();
}

void decode_affinity(Decoder& decoder, Value spec, model::ServiceObject& service) {
  const std::string path = "spec.sessionAffinityConfig";
  const auto affinity = decoder.text(spec, "spec", "sessionAffinity").value_or("None");
  const Value config = decoder.mapping(spec, "spec", "sessionAffinityConfig");
  const Value client = decoder.mapping(config, path, "clientIP");
  const auto timeout =
      decoder.integer(client, path + ".clientIP", "timeoutSeconds", 1, kAffinityMost);
  decoder.unknown_fields(config, path, {"clientIP"});
  decoder.unknown_fields(client, path + ".clientIP", {"timeoutSeconds"});
  if (affinity == "ClientIP")
    service.affinity = std::chrono::seconds(timeout.value_or(kAffinityDefault));
  else if (affinity != "None")
    decoder.reject(spec["sessionAffinity"],
                   "spec.sessionAffinity " + quoted(affinity) + " is not None or ClientIP");
}

void decode_type(Decoder& decoder, Value spec, model::ServiceObject& service) {
  const auto type = decoder.text(spec, "spec", "type").value_or("ClusterIP");
  if (type == "ExternalName") {
    service.unserved_type = true;
    decoder.warn(spec["type"],
                 "spec.type ExternalName is not served yet: its name is left to the DNS");
  } else if (type == "NodePort" || type == "LoadBalancer") {
    decoder.warn(spec["type"],
                 "spec.type " + type +
                     ": cluster and external IPs are served; node ports and load balancer ingress "
                     "need the packet path, which this build does not have yet");
  } else if (type != "ClusterIP") {
    decoder.reject(spec["type"], "spec.type " + quoted(type) + " is not a Service's type");
  }
}

// Cluster or Local: true for Local.
bool is_local(Decoder& decoder, Value spec, const char* field) {
  const auto policy = decoder.text(spec, "spec", field).value_or("Cluster");
  if (policy != "Cluster" && policy != "Local")
    decoder.reject(spec[field], std::string("spec.") + field + " " + quoted(policy) +
                                    " is not Cluster or Local");
  return policy == "Local";
}

// Which endpoints are near enough, or better than others.
void decode_nearness(Decoder& decoder, Value spec, model::ServiceObject& service) {
  service.traffic.only_local = is_local(decoder, spec, "internalTrafficPolicy");
  if (is_local(decoder, spec, "externalTrafficPolicy"))
    decoder.warn(spec["externalTrafficPolicy"],
                 "spec.externalTrafficPolicy Local has no effect yet: endpoints of all nodes are "
                 "used");
  using Prefer = model::LocalityPolicy::Prefer;
  const auto distribution = decoder.text(spec, "spec", "trafficDistribution");
  if (distribution == "PreferClose" || distribution == "PreferSameZone")
    service.traffic.prefer = Prefer::kZone;
  else if (distribution == "PreferSameNode")
    service.traffic.prefer = Prefer::kNode;
  else if (distribution)
    decoder.not_enforced(spec["trafficDistribution"],
                         "spec.trafficDistribution " + quoted(*distribution),
                         "this build has PreferClose, PreferSameZone and PreferSameNode");
}

}  // namespace

void decode_service(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::ServiceObject service;
  service.meta = decode_meta(decoder, document, Name::kLabel, kServiceAnnotations);
  const Value spec = decoder.mapping(document, "", "spec");
  if (!spec.present()) decoder.reject(document, "spec is missing");
  decode_type(decoder, spec, service);
  decode_cluster_ips(decoder, spec, service);
  decode_external_ips(decoder, spec, service);
  decode_affinity(decoder, spec, service);
  service.publish_not_ready =
      decoder.boolean(spec, "spec", "publishNotReadyAddresses").value_or(false);
  service.selector = decoder.labels(spec, "spec", "selector");
  decode_ports(decoder, spec, service);
  decode_nearness(decoder, spec, service);
  decode_service_annotations(decoder, document, service);
  decoder.unknown_fields(
      spec, "spec",
      {"type", "clusterIP", "clusterIPs", "externalIPs", "sessionAffinity", "sessionAffinityConfig",
       "publishNotReadyAddresses", "selector", "ports", "internalTrafficPolicy",
       "externalTrafficPolicy", "trafficDistribution"},
      // Of DNS, and of the addresses that decode_type() says are not served.
      {"ipFamilies", "ipFamilyPolicy", "externalName", "healthCheckNodePort", "loadBalancerIP",
       "loadBalancerClass", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts"});
  decoder.unknown_fields(document, "", {"apiVersion", "kind", "metadata", "spec"}, {"status"});
  objects.push_back(std::move(service));
}

}  // namespace weft::manifest
