// What is asked for its labels only: v1 Namespace and Node say who is enrolled and where a node is,
// the metadata of Pods which subset they are in.
#include "mesh/manifest/annotations.h"
#include "mesh/manifest/decode.h"

namespace weft::manifest {

void decode_namespace(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  objects.push_back(model::NamespaceObject{decode_meta(decoder, document, Name::kLabel)});
}

// Of a cluster's pods there are many: nothing else is kept.
void decode_pod_labels(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  model::PodLabelsObject pod{decode_meta(decoder, document, Name::kSubdomain, kRankAnnotations)};
  pod.meta.annotations.clear();
  pod.meta.origin = {};
  objects.push_back(std::move(pod));
}

void decode_node(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  objects.push_back(model::NodeObject{decode_meta(decoder, document, Name::kSubdomain)});
}

}  // namespace weft::manifest
