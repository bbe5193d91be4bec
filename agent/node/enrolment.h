// Who is enrolled: whose connections weft serves. Pure.
//
// Pods of a namespace labelled weft.mesh/enrol=true are; the pod's own label says otherwise where
// it has one. Pods in the host's network never are: the node itself must work without weft. Nor are
// those of system namespaces, unless the pod itself says so.
#pragma once

#include <set>
#include <string>

#include "mesh/model/object.h"

namespace weft::node {

inline constexpr const char* kEnrolLabel = "weft.mesh/enrol";

struct Verdict {
  bool enrolled = false;
  std::string reason;  // part of a sentence: "namespace shop is labelled weft.mesh/enrol=true"

  bool operator==(const Verdict&) const = default;
};

// Labels of the namespace are null where nobody has told of it yet. A label that is neither "true"
// nor "false" enrols nobody, and the reason says so: guessing either way would surprise somebody.
Verdict enrolment_of(const model::PodObject& pod, const model::Labels* namespace_labels,
                     const std::set<std::string>& system_namespaces);

}  // namespace weft::node
