// What an unquoted YAML scalar means to Kubernetes: YAML 1.1, as its own reader (goyaml.v2 under
// sigs.k8s.io/yaml) has it, so that `on` and `yes` are booleans here too.
#pragma once

#include <string_view>

#include "mesh/manifest/tree.h"

namespace weft::manifest {

Type plain_type(std::string_view text);   // kNull, kBool, kNumber or kString
bool plain_truth(std::string_view text);  // of a kBool

}  // namespace weft::manifest
