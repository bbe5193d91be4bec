// v1 Pod, as far as endpoints come from it.
#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

void decode_container_ports(Decoder& decoder, Value containers, const std::string& path, model::PodObject& pod) {
  std::size_t index = 0;
  for (const Value container : containers) {
    const auto where = path + "[" + std::to_string(index++) + "]";
    if (!decoder.is(container, Type::kMapping, where)) continue;
    std::size_t port_index = 0;
    for (const Value value : decoder.sequence(container, where, "ports")) {
      const auto port_path = join_path(where, "ports", port_index++);
      if (!decoder.is(value, Type::kMapping, port_path)) continue;
      const auto protocol = decoder.text(value, port_path, "protocol").value_or("TCP");
      const auto number = decoder.port(value, port_path, "containerPort");
      if (!number || (protocol != "TCP" && protocol != "UDP")) continue;
      pod.ports.push_back({decoder.text(value, port_path, "name").value_or(""), *number,
                           protocol == "TCP" ? model::Protocol::kTcp : model::Protocol::kUdp});
    }
  }
}

void decode_ips(Decoder& decoder, Value status, model::PodObject& pod) {
  std::size_t index = 0;
  for (const Value entry : decoder.sequence(status, "status", "podIPs")) {
    const auto path = join_path("status", "podIPs", index++);
    if (!decoder.is(entry, Type::kMapping, path) || !entry["ip"].present()) continue;
    if (const auto address = decoder.address(entry["ip"], path + ".ip")) pod.ips.push_back(*address);
  }
  if (pod.ips.empty() && status["podIP"].present() && !(status["podIP"].type() == Type::kString && status["podIP"].text().empty()))
    if (const auto address = decoder.address(status["podIP"], "status.podIP")) pod.ips.push_back(*address);
}

}  // namespace

void decode_pod(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::PodObject pod;
  pod.meta = decode_meta(decoder, document, /*name_is_label=*/false);
  pod.terminating = document["metadata"]["deletionTimestamp"].present();
  const Value spec = decoder.mapping(document, "", "spec");
  pod.node = decoder.text(spec, "spec", "nodeName").value_or("");
  decode_container_ports(decoder, decoder.sequence(spec, "spec", "containers"), "spec.containers", pod);
  // Sidecars are init containers that stay; the others have ended before the pod is ready, so asking them
  // for a named port does no harm.
  decode_container_ports(decoder, decoder.sequence(spec, "spec", "initContainers"), "spec.initContainers", pod);
  const Value status = decoder.mapping(document, "", "status");
  decode_ips(decoder, status, pod);
  const auto phase = decoder.text(status, "status", "phase").value_or("");
  pod.finished = phase == "Succeeded" || phase == "Failed";
  std::size_t index = 0;
  for (const Value condition : decoder.sequence(status, "status", "conditions")) {
    const auto path = join_path("status", "conditions", index++);
    if (!decoder.is(condition, Type::kMapping, path)) continue;
    if (decoder.text(condition, path, "type") == "Ready")
      pod.ready = decoder.text(condition, path, "status") == "True";
  }
  if (const auto zone = pod.meta.labels.find("topology.kubernetes.io/zone"); zone != pod.meta.labels.end())
    pod.zone = zone->second;
  objects.push_back(std::move(pod));
}

}  // namespace weft::manifest
