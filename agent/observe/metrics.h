// Readings -> Prometheus text. The only part that sees the Prometheus library.
#pragma once

#include <string>

#include "agent/observe/readings.h"

namespace weft::observe {

// Prometheus text format 0.0.4. Pure.
std::string render(const Readings& readings);

}  // namespace weft::observe
