// Session affinity entries whose time has passed are removed here: programs never delete.
#pragma once

#include <absl/status/statusor.h>

#include <cstddef>

#include "agent/kernel/maps.h"

namespace weft::kernel {

// Removes what expired before now; returns how many. Blocks for one pass over the map.
absl::StatusOr<std::size_t> expire_affinities(Maps& maps);

}  // namespace weft::kernel
