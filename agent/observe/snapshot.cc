#include "agent/observe/snapshot.h"

#include <algorithm>

namespace weft::observe {

void Histogram::observe(double seconds) {
  const auto bound = std::lower_bound(std::begin(kBounds), std::end(kBounds), seconds);
  ++buckets[bound - std::begin(kBounds)];
  sum += seconds;
}

}  // namespace weft::observe
