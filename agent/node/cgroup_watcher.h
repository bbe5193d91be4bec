// The pods' cgroups below a root, followed by inotify: cgroupfs tells of mkdir and rmdir, which is
// all that is asked here.
#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <string>

#include "agent/node/pod_cgroup.h"

namespace boost::asio {
class io_context;
}

namespace weft::node {

class CgroupWatcher {
 public:
  // Called on the control thread; they do not destroy the watcher.
  struct Events {
    std::function<void(const PodCgroup&)> appeared;
    std::function<void(const PodCgroup&)> gone;
  };

  // Pods lie directly below `root`, or one level deeper in a directory of their QoS class. When
  // this returns appeared() has been called for all that are there; changes follow through `io`.
  // Every directory is watched before it is read, so nothing is missed in between, and dropped
  // events make it read everything again at once. A cgroup that was replaced under its name is gone
  // first.
  //
  // What cannot be watched or read (no inotify watches left, the root gone) is no failure: it is
  // read again every second until it can be, and error() says so. Only a root that is not there to
  // begin with is refused. `io` outlives the watcher.
  static absl::StatusOr<std::unique_ptr<CgroupWatcher>> start(boost::asio::io_context& io,
                                                              const std::string& root,
                                                              Events events);
  virtual ~CgroupWatcher() = default;
  virtual const std::string& error() const = 0;  // one sentence; empty: changes are told at once
};

}  // namespace weft::node
