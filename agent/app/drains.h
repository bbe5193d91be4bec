// Connections to endpoints that terminate or have gone, closed at their service's deadline
// (weft.mesh/drain-deadline): agent/drain says which and when, agent/kernel/close.h does it, here
// is the wiring. Control thread; walking sockets is a thread's of its own.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>
#include <vector>

#include "agent/app/options.h"
#include "agent/drain/deadlines.h"
#include "agent/kernel/background.h"
#include "agent/kernel/datapath.h"
#include "agent/observe/snapshot.h"

namespace weft::app {

class Drains {
 public:
  // References outlive this. `inherited`: what the maps hold before the first plan.
  Drains(boost::asio::io_context& io, const Options& options, kernel::Datapath& datapath,
         const compile::MapState& inherited);

  // After every plan: `placed` is what the maps hold of the mesh.
  void set_mesh(const model::Mesh& mesh, const compile::MapState& placed);
  const observe::DrainCounts& counts() const { return counts_; }

 private:
  using Batch = std::shared_ptr<const std::vector<drain::Doomed>>;
  struct Sweep;  // what one found

  void arm();
  void begin();
  void sweep(const Batch& batch);
  void take(const Batch& batch, const Sweep& sweep);

  boost::asio::io_context& io_;
  const Options& options_;
  const bool able_;  // this kernel can
  drain::Deadlines deadlines_;
  observe::DrainCounts counts_;
  int tries_ = 0;  // of the batch under way
  boost::asio::steady_timer timer_;
  bool sweeping_ = false;
  std::unique_ptr<kernel::Background> sweeper_;  // last: its task uses the rest
};

}  // namespace weft::app
