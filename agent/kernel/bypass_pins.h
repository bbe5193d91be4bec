// Names of what the bypass pins, shared by who loads and who reads.
#pragma once

#include <string>

#include "abi/bypass.h"
#include "agent/kernel/hooks.h"
#include "agent/kernel/maps.h"

namespace weft::kernel {

inline constexpr char kBypassDirectory[] = "bypass_";  // and the layout's number
inline constexpr char kBypassLook[] = "look";          // the program
inline constexpr char kBypassLink[] = "join";          // the link at the cgroup

inline std::string bypass_directory(const Pins& pins, int layout = WEFT_BYPASS_LAYOUT) {
  return pins.root + "/" + kBypassDirectory + std::to_string(layout);
}

}  // namespace weft::kernel
