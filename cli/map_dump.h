// The entries of the pinned maps, decoded: what `weftctl map dump` knows.
#pragma once

#include <span>

#include "cli/cli.h"

namespace weft::cli {

struct MapDump {
  const char* name;
  Json (*dump)(const Context&, const kernel::Maps&);
};

// Of the bypass; empty lists where it was never loaded.
std::span<const MapDump> bypass_dumps();

}  // namespace weft::cli
