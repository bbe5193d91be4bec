// What a Pod is a part of, in Istio's words for its metrics: read from the Pod's name and labels,
// so from what its owner says and never from what a client sends.
#pragma once

#include <memory>
#include <string>

#include "mesh/model/object.h"

namespace weft::model {

struct Workload {
  std::string namespace_name;
  std::string name;          // of the Deployment, else of the Pod
  std::string app, version;  // labels of these names
  std::string canonical_service, canonical_revision;

  auto operator<=>(const Workload&) const = default;
};

// Shared by those that are of it, and compared by what it says.
struct WorkloadRef {
  std::shared_ptr<const Workload> to;  // null: not known

  bool operator==(const WorkloadRef& other) const {
    return to == other.to || (to && other.to && *to == *other.to);
  }
};

// "web" of the pod "web-7d4b9c-x2x9p" with that pod-template-hash; empty: no Deployment made it.
std::string deployment_of(const std::string& pod, const Labels& labels);

// Istio's rules: the labels service.istio.io/canonical-name, app.kubernetes.io/name, app, else the
// workload; service.istio.io/canonical-revision, app.kubernetes.io/version, version, else "latest".
std::string canonical_service(const Labels& labels, const std::string& workload);
std::string canonical_revision(const Labels& labels);

Workload workload_of(const std::string& namespace_name, const std::string& pod,
                     const Labels& labels);

}  // namespace weft::model
