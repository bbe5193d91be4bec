// Where the child lives: a cgroup and a directory for pins, both with this process's number in
// their names. What a weftd left that was killed meanwhile goes when the next one makes its own.
//
// The cgroup is beside the agent's; where that hierarchy is mounted read-only, as in a pod, it is
// below this process's own, by a mount that nobody else sees.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "mesh/base/fd.h"

namespace weft::bypass {

class Scratch {
 public:
  static absl::StatusOr<std::unique_ptr<Scratch>> make(const std::string& bpffs_root,
                                                       const std::string& cgroup);
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();

  const std::string& pins() const { return pins_; }
  int cgroup_fd() const { return cgroup_fd_.get(); }

 private:
  Scratch() = default;
  absl::Status make_cgroup(const std::string& parent);

  base::Fd mount_;
  std::string pins_, cgroup_;
  base::Fd cgroup_fd_;
};

}  // namespace weft::bypass
