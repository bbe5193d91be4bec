// All of weftd's wiring; app.cc reads as the picture in docs/architecture.md.
#pragma once

#include "agent/app/options.h"

namespace weft::app {

// Runs until SIGTERM or SIGINT; returns the exit code. The data path stays pinned.
int run(const Options& options);

// weftd --uninstall: links, pins and run directory go. Absent is fine.
int uninstall(const Options& options);

}  // namespace weft::app
