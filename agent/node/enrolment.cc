#include "agent/node/enrolment.h"

namespace weft::node {
namespace {

const std::string* label_of(const model::Labels& labels) {
  const auto found = labels.find(kEnrolLabel);
  return found == labels.end() ? nullptr : &found->second;
}

// `who`: "the pod", "namespace shop".
Verdict by_label(const std::string& who, const std::string& value) {
  const bool known = value == "true" || value == "false";
  return {value == "true", who + " is labelled " + kEnrolLabel + "=" + value +
                               (known ? "" : ", which is neither true nor false")};
}

}  // namespace

Verdict enrolment_of(const model::PodObject& pod, const model::Labels* namespace_labels,
                     const std::set<std::string>& system_namespaces) {
  if (pod.host_network) return {false, "the pod is in the host's network"};
  if (const auto* own = label_of(pod.meta.labels)) return by_label("the pod", *own);
  const std::string place = "namespace " + pod.meta.namespace_name;
  if (system_namespaces.contains(pod.meta.namespace_name))
    return {false, place + " is a system namespace"};
  if (!namespace_labels) return {false, place + " is not known yet"};
  if (const auto* label = label_of(*namespace_labels)) return by_label(place, *label);
  return {false, place + " is not labelled " + kEnrolLabel + "=true"};
}

}  // namespace weft::node
