// Looks at the kernel beside the loop: what the maps really hold, and who else is at work on this
// node.
#pragma once

#include <string>
#include <vector>

#include "agent/compile/map_state.h"
#include "agent/kernel/maps.h"
#include "agent/node/rules.h"

namespace weft::app {

// Services that differ between what was written and what the maps hold now, a line each.
std::vector<std::string> differences_of(const compile::MapState& placed, const kernel::Maps& maps);

// Rules and programs of others that turn the same calls. May take a while: off the control thread.
// What cannot be read now may be the next time.
std::vector<node::Neighbour> neighbours_of(const kernel::Pins& pins, const std::string& cgroup);

}  // namespace weft::app
