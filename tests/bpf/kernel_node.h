// A data path of its own on the running kernel: a cgroup nobody is in, a directory on a bpffs, and
// the maps and programs in it. Nothing else on the machine notices; all of it goes with the object.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/compile/compile.h"
#include "agent/kernel/datapath.h"
#include "agent/kernel/writer.h"
#include "agent/reconcile/plan.h"
#include "mesh/model/mesh.h"

namespace weft::tests {

class KernelNode {
 public:
  explicit KernelNode(bool proxy = false);
  ~KernelNode();
  KernelNode(const KernelNode&) = delete;
  KernelNode& operator=(const KernelNode&) = delete;

  // Loads and attaches, as weftd does at a start; what was loaded before is dropped, as if killed.
  void start(const compile::Limits& limits = small_limits());
  // The same without attaching.
  void load(const compile::Limits& limits);
  // Forgets the data path, as a process that is killed does. Pins stay.
  void kill() { datapath_.reset(); }

  // Starts anew from what the maps hold, as after a kill, but keeps the programs: loading takes a
  // while.
  void resume();

  // Makes the maps equal to the mesh, clean-up and grace period included.
  void apply(const model::Mesh& mesh);
  // The plan from what the maps are known to hold to the mesh; numbers are taken.
  reconcile::Plan plan(const model::Mesh& mesh);
  // What plan() planned is in the maps.
  void planned_is_done(const reconcile::Plan& plan);
  void write(const std::vector<reconcile::MapOp>& ops);

  weft_answer ask(const std::string& address, std::uint16_t port, std::uint64_t netns_cookie = 1,
                  std::uint16_t reach = WEFT_REACH_V4 | WEFT_REACH_V6, bool dry = false) const;
  std::uint64_t events(weft_event event) const;
  compile::MapState read() const;
  std::uint32_t index_of(const std::string& service) const;  // first port of default/NAME

  kernel::Datapath& datapath() { return *datapath_; }
  kernel::Maps& maps() { return datapath_->maps(); }
  const kernel::Pins& pins() const { return options_.pins; }
  const std::string& cgroup() const { return options_.cgroup; }
  const compile::MapState& placed() const { return placed_; }

  static compile::Limits small_limits();

 private:
  kernel::DatapathOptions options_;
  std::unique_ptr<kernel::Datapath> datapath_;
  compile::MapState in_maps_, placed_, desired_;
  std::optional<compile::Ids> ids_;
};

// Endpoints are on port 8080: "10.0.0.1", "10.0.0.2 not-ready", "10.0.0.3 draining".
model::Service make_service(const std::string& name, const std::vector<std::string>& addresses,
                            const std::vector<std::string>& endpoints,
                            model::Balancer balancer = model::Balancer::kRoundRobin);
model::Mesh make_mesh(const std::vector<model::Service>& services);

std::string text_of(const weft_answer& answer);  // "10.0.0.1:8080", or the verdict's name

}  // namespace weft::tests
