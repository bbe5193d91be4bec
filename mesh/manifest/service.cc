// v1 Service.
#include <algorithm>

#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

constexpr std::int64_t kAffinityDefault = 10800, kAffinityMost = 86400;  // seconds, as the API has them

std::optional<model::TargetPort> target_port(Decoder& decoder, Value port, const std::string& path) {
  const Value target = port["targetPort"];
  if (!target.present()) return std::nullopt;
  if (target.type() == Type::kNumber) {
    const auto number = decoder.port(port, path, "targetPort");
    return number ? std::optional<model::TargetPort>(*number) : std::nullopt;
  }
  const auto name = decoder.text(port, path, "targetPort");
  if (!name) return std::nullopt;
  const bool has_letter = std::any_of(name->begin(), name->end(), [](char c) { return c >= 'a' && c <= 'z'; });
  if (!has_letter || !is_dns_label(*name) || name->size() > 15) {
    decoder.reject(target, path + ".targetPort " + quoted(*name) +
                               " is not a port's name (at most 15 of a-z, 0-9 and -, with a letter; a number is "
                               "written without quotes)");
    return std::nullopt;
  }
  return model::TargetPort(*name);
}

void decode_port(Decoder& decoder, Value value, const std::string& path, model::ServiceObject& service) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  model::ServicePortSpec port;
  port.name = decoder.text(value, path, "name").value_or("");
  if (!port.name.empty() && !is_dns_label(port.name))
    decoder.reject(value["name"], path + ".name " + quoted(port.name) + " is not a DNS label");
  const auto protocol = decoder.text(value, path, "protocol").value_or("TCP");
  const auto number = decoder.port(value, path, "port");
  if (!value["port"].present()) decoder.reject(value, path + ".port is missing");
  port.port = number.value_or(0);
  port.target = target_port(decoder, value, path);
  decoder.unknown_fields(value, path, {"name", "protocol", "port", "targetPort"}, {"nodePort", "appProtocol"});
  if (protocol == "SCTP")
    return decoder.warn(value, path + ".protocol SCTP is not supported: this port is not served");
  if (protocol != "TCP" && protocol != "UDP")
    return decoder.reject(value["protocol"], path + ".protocol " + quoted(protocol) + " is not TCP, UDP or SCTP");
  port.protocol = protocol == "TCP" ? model::Protocol::kTcp : model::Protocol::kUdp;
  for (const auto& other : service.ports) {
    if (other.port == port.port && other.protocol == port.protocol)
      decoder.reject(value, path + ".port " + std::to_string(port.port) + "/" + protocol + " is there twice");
    if (other.name == port.name)
      decoder.reject(value, path + ".name " + quoted(port.name) + " is there twice: several ports need names of their own");
  }
  service.ports.push_back(std::move(port));
}

void decode_addresses(Decoder& decoder, Value spec, model::ServiceObject& service) {
  std::vector<std::pair<Value, std::string>> found;
  std::size_t index = 0;
  for (const Value entry : decoder.sequence(spec, "spec", "clusterIPs"))
    found.emplace_back(entry, join_path("spec", "clusterIPs", index++));
  if (spec["clusterIP"].present()) found.emplace_back(spec["clusterIP"], "spec.clusterIP");
  for (const auto& [value, path] : found) {
    if (value.type() == Type::kString && (value.text() == "None" || value.text().empty())) {
      service.headless |= value.text() == "None";
      continue;
    }
    const auto address = decoder.address(value, path);
    if (address && std::find(service.cluster_ips.begin(), service.cluster_ips.end(), *address) == service.cluster_ips.end())
      service.cluster_ips.push_back(*address);
  }
  if (service.headless && !service.cluster_ips.empty())
    decoder.reject(spec, "spec.clusterIPs holds None beside addresses");
  index = 0;
  for (const Value entry : decoder.sequence(spec, "spec", "externalIPs"))
    if (const auto address = decoder.address(entry, join_path("spec", "externalIPs", index++)))
      service.external_ips.push_back(*address);
}

void decode_affinity(Decoder& decoder, Value spec, model::ServiceObject& service) {
  const auto affinity = decoder.text(spec, "spec", "sessionAffinity").value_or("None");
  const Value config = decoder.mapping(spec, "spec", "sessionAffinityConfig");
  const Value client = decoder.mapping(config, "spec.sessionAffinityConfig", "clientIP");
  const auto timeout = decoder.integer(client, "spec.sessionAffinityConfig.clientIP", "timeoutSeconds", 1, kAffinityMost);
  if (affinity == "ClientIP")
    service.affinity = std::chrono::seconds(timeout.value_or(kAffinityDefault));
  else if (affinity != "None")
    decoder.reject(spec["sessionAffinity"], "spec.sessionAffinity " + quoted(affinity) + " is not None or ClientIP");
}

void decode_type(Decoder& decoder, Value spec, model::ServiceObject& service) {
  const auto type = decoder.text(spec, "spec", "type").value_or("ClusterIP");
  if (type == "ExternalName") {
    service.unserved_type = true;
    decoder.warn(spec["type"], "type ExternalName is not served yet: its name goes to the DNS as it is");
  } else if (type == "NodePort" || type == "LoadBalancer") {
    decoder.warn(spec["type"], "type " + type + ": cluster and external IPs are served; node ports and load balancer "
                                                "addresses are not served yet, they need the packet path");
  } else if (type != "ClusterIP") {
    decoder.reject(spec["type"], "spec.type " + quoted(type) + " is not a Service's type");
  }
}

// Fields that change where traffic goes elsewhere, and do not here yet.
void warn_without_effect(Decoder& decoder, Value spec) {
  if (decoder.text(spec, "spec", "internalTrafficPolicy").value_or("Cluster") == "Local")
    decoder.warn(spec["internalTrafficPolicy"], "spec.internalTrafficPolicy Local has no effect yet: endpoints of all nodes are used");
  if (const auto distribution = decoder.text(spec, "spec", "trafficDistribution"))
    decoder.warn(spec["trafficDistribution"], "spec.trafficDistribution " + quoted(*distribution) + " has no effect yet");
}

void decode_annotations(Decoder& decoder, Value document, model::ServiceObject& service) {
  for (const auto& [key, value] : service.meta.annotations) {
    const Value at = document["metadata"]["annotations"][key];
    if (key != "weft.mesh/balancer") {
      decoder.warn(at, "annotation " + quoted(key) + " is not known to this build: it has no effect");
    } else if (value == "round-robin") {
      service.balancer = model::Balancer::kRoundRobin;
    } else if (value == "random") {
      service.balancer = model::Balancer::kRandom;
    } else if (value == "maglev") {
      service.balancer = model::Balancer::kSourceHash;
    } else {
      decoder.not_enforced(at, "annotation weft.mesh/balancer " + quoted(value) +
                                   " is not one of round-robin, random, maglev: connections are balanced in turn");
    }
  }
}

}  // namespace

void decode_service(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::ServiceObject service;
  service.meta = decode_meta(decoder, document, /*name_is_label=*/true);
  const Value spec = decoder.mapping(document, "", "spec");
  if (!spec.present()) decoder.reject(document, "spec is missing");
  decode_type(decoder, spec, service);
  decode_addresses(decoder, spec, service);
  decode_affinity(decoder, spec, service);
  service.publish_not_ready = decoder.boolean(spec, "spec", "publishNotReadyAddresses").value_or(false);
  service.selector = decoder.labels(spec, "spec", "selector");
  std::size_t index = 0;
  for (const Value port : decoder.sequence(spec, "spec", "ports"))
    decode_port(decoder, port, join_path("spec", "ports", index++), service);
  if (service.ports.size() > 1)
    for (const auto& port : service.ports)
      if (port.name.empty()) decoder.reject(spec["ports"], "spec.ports: several ports need a name each");
  warn_without_effect(decoder, spec);
  decode_annotations(decoder, document, service);
  decoder.unknown_fields(spec, "spec",
                         {"type", "clusterIP", "clusterIPs", "externalIPs", "sessionAffinity", "sessionAffinityConfig",
                          "publishNotReadyAddresses", "selector", "ports", "internalTrafficPolicy", "trafficDistribution"},
                         {"ipFamilies", "ipFamilyPolicy", "externalName", "externalTrafficPolicy", "healthCheckNodePort",
                          "loadBalancerIP", "loadBalancerClass", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts"});
  decoder.unknown_fields(document, "", {"apiVersion", "kind", "metadata", "spec"}, {"status"});
  objects.push_back(std::move(service));
}

}  // namespace weft::manifest
