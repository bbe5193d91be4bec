// v1 Pod, as far as endpoints come from it. The many other fields of a Pod are its node's business,
// so none is called unknown here.
#include "mesh/manifest/annotations.h"
#include "mesh/manifest/decode.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

void decode_container_port(Decoder& decoder, Value value, const std::string& path,
                           model::PodObject& pod) {
  if (!decoder.is(value, Type::kMapping, path)) return;
  if (!value["containerPort"].present()) decoder.reject(value, path + ".containerPort is missing");
  const auto number = decoder.port(value, path, "containerPort");
  const auto protocol = decoder.protocol(value, path);
  auto name = decoder.text(value, path, "name").value_or("");
  if (number && protocol) pod.ports.push_back({std::move(name), *number, *protocol});
}

// Of init containers only sidecars stay, which is what restartPolicy Always makes of them.
void decode_containers(Decoder& decoder, Value spec, const char* field, model::PodObject& pod) {
  std::size_t index = 0;
  for (const Value container : decoder.sequence(spec, "spec", field)) {
    const auto path = join_path("spec", field, index++);
    if (!decoder.is(container, Type::kMapping, path)) continue;
    const auto restart = decoder.text(container, path, "restartPolicy");
    if (field == std::string_view("initContainers") && restart != "Always") continue;
    std::size_t port = 0;
    for (const Value value : decoder.sequence(container, path, "ports"))
      decode_container_port(decoder, value, join_path(path, "ports", port++), pod);
  }
}

void decode_ips(Decoder& decoder, Value status, model::PodObject& pod) {
  std::size_t index = 0;
  for (const Value entry : decoder.sequence(status, "status", "podIPs")) {
    const auto path = join_path("status", "podIPs", index++);
    if (!decoder.is(entry, Type::kMapping, path) || !entry["ip"].present()) continue;
    if (const auto address = decoder.address(entry["ip"], path + ".ip"))
      pod.ips.push_back(*address);
  }
  const Value single = status["podIP"];
  if (index > 0 || !single.present() || (single.type() == Type::kString && single.text().empty()))
    return;
  if (const auto address = decoder.address(single, "status.podIP")) pod.ips.push_back(*address);
}

void decode_readiness(Decoder& decoder, Value status, model::PodObject& pod) {
  const auto phase = decoder.text(status, "status", "phase");
  pod.finished = phase == "Succeeded" || phase == "Failed";
  std::size_t index = 0;
  for (const Value condition : decoder.sequence(status, "status", "conditions")) {
    const auto path = join_path("status", "conditions", index++);
    if (!decoder.is(condition, Type::kMapping, path)) continue;
    if (decoder.text(condition, path, "type") == "Ready")
      pod.ready = decoder.text(condition, path, "status") == "True";
  }
}

// kubelet names a static pod's cgroup by its file's hash; the mirror that the API shows has another
// UID, and the hash as an annotation.
std::string uid_of(Decoder& decoder, Value document) {
  const Value metadata = decoder.mapping(document, "", "metadata");
  const Value annotations = decoder.mapping(metadata, "metadata", "annotations");
  const auto mirror =
      decoder.text(annotations, "metadata.annotations", "kubernetes.io/config.mirror");
  return mirror ? *mirror : decoder.text(metadata, "metadata", "uid").value_or("");
}

}  // namespace

void decode_pod(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::PodObject pod;
  pod.meta = decode_meta(decoder, document, Name::kSubdomain, kPodAnnotations);
  pod.rank = decode_rank(decoder, document, pod.meta);
  pod.bypass = decode_bypass(decoder, document, pod.meta);
  pod.terminating = document["metadata"]["deletionTimestamp"].present();
  const Value spec = decoder.mapping(document, "", "spec");
  pod.node = decoder.text(spec, "spec", "nodeName").value_or("");
  decode_containers(decoder, spec, "containers", pod);
  decode_containers(decoder, spec, "initContainers", pod);
  pod.service_account = decoder.text(spec, "spec", "serviceAccountName").value_or("");
  pod.host_network = decoder.boolean(spec, "spec", "hostNetwork").value_or(false);
  pod.uid = uid_of(decoder, document);
  const Value status = decoder.mapping(document, "", "status");
  decode_ips(decoder, status, pod);
  decode_readiness(decoder, status, pod);
  if (const auto zone = pod.meta.labels.find("topology.kubernetes.io/zone");
      zone != pod.meta.labels.end())
    pod.zone = zone->second;
  if (const auto subzone = pod.meta.labels.find("topology.istio.io/subzone");
      subzone != pod.meta.labels.end())
    pod.subzone = subzone->second;
  objects.push_back(std::move(pod));
}

}  // namespace weft::manifest
