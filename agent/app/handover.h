// One weftd takes a node over from another that lives: the new one learns the mesh, asks the old
// one through its admin socket, and gets the listening socket of /metrics; the old one's last act
// is to let go of the lock on the data path. Nothing is detached at any time.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <functional>
#include <string>

#include "mesh/base/fd.h"

namespace weft::app {

// Asks the agent behind `run_dir` to hand over. Its metrics listener; an invalid descriptor where
// it has none to give. NotFound: nobody answers there. Blocks for at most 10 s.
absl::StatusOr<base::Fd> ask_for_handover(const std::string& run_dir);

// Waits until the data path's lock is free and takes it. DeadlineExceeded after `most`.
// `give_up` is asked every 10 ms; then Cancelled.
absl::StatusOr<base::Fd> wait_for_lock(const std::string& bpffs, std::chrono::milliseconds most,
                                       const std::function<bool()>& give_up);

// After a handover: waits until the successor has died, and then takes the lock back. An invalid
// descriptor where SIGTERM or SIGINT came first.
absl::StatusOr<base::Fd> stand_by(const std::string& bpffs);

}  // namespace weft::app
