// All of weftd's wiring; app.cc reads as the picture in docs/architecture.md.
#pragma once

#include <memory>

#include "agent/app/options.h"
#include "agent/compile/map_state.h"
#include "agent/kernel/datapath.h"

namespace weft::app {

// The control thread: sources, reconciler, timers, until a signal or a failure ends it. `actual` is
// what the maps hold. Returns the exit code.
int serve(const Options& options, std::unique_ptr<kernel::Datapath> datapath,
          compile::MapState actual);

}  // namespace weft::app
