// From shares of destinations to weights of endpoints. Apart from routes.cc, which knows the
// objects: this is arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "mesh/model/mesh.h"

namespace weft::model {

// Endpoints that together take `share` of the connections, in proportion to the other groups'.
struct ShareGroup {
  std::vector<Endpoint> endpoints;
  std::uint32_t share = 0;
};

// The union, sorted by (address, port); an endpoint in two groups has both weights. Weights are
// exact, and the smallest whole numbers that are, as long as they fit in 16 bits: 90 % over 3
// endpoints and 10 % over 7 are 21 and 1. Else they are rounded, the heaviest to 65535 and none to
// 0: then a share may be off by half a weight an endpoint.
std::vector<Endpoint> share_out(std::vector<ShareGroup> groups);

}  // namespace weft::model
