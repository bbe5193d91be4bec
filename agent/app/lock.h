// One weftd per data path: whoever holds the bpffs directory writes the maps in it. (The run
// directory is locked by the admin server, which lives in it.)
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <string>

#include "mesh/base/fd.h"

namespace weft::app {

// Makes the directory and takes the lock on it; held until the descriptor closes, also by death.
// AlreadyExists where another process holds it, still so after `patience` (blocks).
absl::StatusOr<base::Fd> lock_bpffs(const std::string& bpffs,
                                    std::chrono::milliseconds patience = {});

}  // namespace weft::app
