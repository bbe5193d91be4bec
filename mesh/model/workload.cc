#include "mesh/model/workload.h"

#include <initializer_list>

namespace weft::model {
namespace {

constexpr char kTemplateHash[] = "pod-template-hash";  // of a ReplicaSet, which a Deployment made

// The first of these labels that says something.
std::string first_of(const Labels& labels, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const auto at = labels.find(name); at != labels.end() && !at->second.empty())
      return at->second;
  return "";
}

}  // namespace

std::string deployment_of(const std::string& pod, const Labels& labels) {
  const auto hash = labels.find(kTemplateHash);
  if (hash == labels.end()) return "";
  const auto at = pod.rfind("-" + hash->second + "-");
  return at == std::string::npos ? "" : pod.substr(0, at);
}

std::string canonical_service(const Labels& labels, const std::string& workload) {
  const auto said =
      first_of(labels, {"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"});
  return said.empty() ? workload : said;
}

std::string canonical_revision(const Labels& labels) {
  const auto said = first_of(
      labels, {"service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"});
  return said.empty() ? "latest" : said;
}

Workload workload_of(const std::string& namespace_name, const std::string& pod,
                     const Labels& labels) {
  Workload workload;
  workload.namespace_name = namespace_name;
  workload.name = deployment_of(pod, labels);
  if (workload.name.empty()) workload.name = pod;
  workload.app = first_of(labels, {"app"});
  workload.version = first_of(labels, {"version"});
  workload.canonical_service = canonical_service(labels, workload.name);
  workload.canonical_revision = canonical_revision(labels);
  return workload;
}

}  // namespace weft::model
