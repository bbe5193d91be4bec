// Active health checks, between the sources' mesh and everything that acts on it: follows the mesh,
// tells the log of verdicts, and hands on a mesh in which unhealthy endpoints are not ready.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <string>

#include "agent/compile/map_state.h"
#include "agent/health/checker.h"
#include "agent/health/overlay.h"
#include "agent/observe/snapshot.h"

namespace weft::app {

class HealthChecks {
 public:
  // `changed` when a verdict has changed: the mesh is to be applied again.
  // `inherited`: what the maps hold before the first plan.
  HealthChecks(boost::asio::io_context& io, const std::string& node,
               const compile::MapState& inherited, std::function<void()> changed);

  // The mesh as its sources tell it -> as the checks find it. The same pointer where nobody is
  // unhealthy.
  model::MeshPtr apply(const model::MeshPtr& mesh);

  // For people. The same pointer while nothing of it changes.
  observe::HealthPtr list();
  observe::ProbeCounts probes() const;

 private:
  void tell_of_changes();

  std::function<void()> changed_;
  health::Checker checker_;
  health::Overlay overlay_;
  health::Unhealthy told_;
  observe::HealthPtr list_ = std::make_shared<std::vector<observe::EndpointHealth>>();
  std::uint64_t listed_ = 0;  // checker_.changes() then
};

}  // namespace weft::app
