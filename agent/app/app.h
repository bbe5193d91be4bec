// All of weftd's wiring; app.cc reads as the picture in docs/architecture.md.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>

#include "agent/app/feed.h"
#include "agent/app/options.h"
#include "agent/compile/map_state.h"
#include "agent/kernel/datapath.h"
#include "mesh/base/fd.h"

namespace weft::app {

// What outlives the serving: all of it the caller's.
struct Place {
  const Options& options;
  boost::asio::io_context& control;
  Feed& feed;          // started
  base::Fd& listener;  // of /metrics, from a predecessor; taken where it is there
};

struct Outcome {
  int exit_code = 0;
  bool handed_over = false;  // another weftd waits for the lock on the data path
};

// The control thread: feed, reconciler, timers, until a signal, a failure or a successor ends it.
// `actual` is what the maps hold.
Outcome serve(Place place, std::unique_ptr<kernel::Datapath> datapath, compile::MapState actual);

}  // namespace weft::app
