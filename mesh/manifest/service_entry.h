// The two files that read a ServiceEntry.
#pragma once

#include <string>

#include "mesh/manifest/decode.h"

namespace weft::manifest {

// How spec.resolution says that endpoints are found.
enum class Resolution { kNone, kStatic, kDns };

// service_entry_endpoints.cc: spec.endpoints. `entry` has its ports and its `entry`; every endpoint
// that cannot be used is reported. How many are written there.
std::size_t decode_entry_endpoints(Decoder& decoder, Value spec, Resolution resolution,
                                   const model::Rank& rank, model::ServiceObject& entry);

}  // namespace weft::manifest
