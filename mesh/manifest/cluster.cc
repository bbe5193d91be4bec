// v1 Namespace and Node: their labels say who is enrolled, and where a node is.
#include "mesh/manifest/decode.h"

namespace weft::manifest {

void decode_namespace(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  objects.push_back(model::NamespaceObject{decode_meta(decoder, document, Name::kLabel)});
}

void decode_node(Decoder& decoder, Value document, std::vector<model::Object>& objects) {
  objects.push_back(model::NodeObject{decode_meta(decoder, document, Name::kSubdomain)});
}

}  // namespace weft::manifest
