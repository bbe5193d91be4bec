// One weftd per run directory.
#pragma once

#include <absl/status/statusor.h>

#include <string>

#include "mesh/base/fd.h"

namespace weft::app {

// Makes the directory and takes the lock in it; held until the descriptor closes, also by death.
// AlreadyExists where another process holds it, naming its pid.
absl::StatusOr<base::Fd> lock_run_dir(const std::string& run_dir);

}  // namespace weft::app
