// From flags to a running agent, or to one line that says why not.
#pragma once

#include "agent/app/options.h"

namespace weft::app {

// Runs until SIGTERM or SIGINT; returns the exit code. The data path stays pinned.
int run(const Options& options);

// weftd --uninstall: links, pins and run directory go. Absent is fine.
int uninstall(const Options& options);

}  // namespace weft::app
