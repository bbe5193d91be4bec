// What must hold on this kernel, else the bypass stays off.
#pragma once

#include <vector>

#include "agent/bypass/report.h"
#include "agent/kernel/bypass.h"

namespace weft::bypass {

// The caller is in the cgroup where that bypass was put in force, and in a network namespace with a
// loopback; nobody else is. The mode is set here, and is off afterwards. The first check that fails
// is the last. `credit` is what the maps are meant to say: what a stalled reader may have queued is
// held against it.
std::vector<Check> run_checks(kernel::BypassMaps& maps,
                              std::uint64_t credit = kernel::kBypassCredit);

// The calls that a bypassed socket answers differently from plain TCP, each tried with both.
std::vector<std::string> find_differences(kernel::BypassMaps& maps);

}  // namespace weft::bypass
