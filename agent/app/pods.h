// The node's pods, kept enrolled in the kernel: cgroups appear, the API tells whose they are, and
// the map that programs ask follows. Control thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "agent/kernel/background.h"
#include "agent/kernel/maps.h"
#include "agent/node/cgroup_watcher.h"
#include "agent/node/workloads.h"

namespace weft::app {

class Pods {
 public:
  // `changed` after any change of list(). All references outlive this.
  Pods(boost::asio::io_context& control, kernel::Maps& maps, kernel::Background& background,
       std::set<std::string> excluded_namespaces, std::function<void()> changed);

  // Looks at the cgroups below `root` and follows them.
  absl::Status start(const std::string& root);
  void set_unit(const std::string& name, const std::shared_ptr<const model::Unit>& unit);
  // Everybody has spoken: what the map still enrols from an earlier run and nobody claims, goes.
  // Before that an earlier agent's decisions stand.
  void settle();
  // Writes again what the map refused.
  void retry();
  // Asks for namespace cookies that are not known yet; cheap where all are.
  void look_up_cookies();

  const node::Workloads& workloads() const { return workloads_; }
  std::string error() const;

 private:
  void write(std::uint64_t cgroup_id, bool enrolled);

  boost::asio::io_context& control_;
  kernel::Maps& maps_;
  kernel::Background& background_;
  std::function<void()> changed_;
  std::set<std::uint64_t> enrolled_, inherited_;
  std::map<std::uint64_t, bool> failed_;  // what the map refused, and should hold
  bool settled_ = false, looking_ = false;
  std::size_t turn_ = 0;
  std::string write_error_;
  node::Workloads workloads_;
  std::unique_ptr<node::CgroupWatcher> watcher_;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace weft::app
