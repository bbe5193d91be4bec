// Where the child lives: a cgroup and a directory for pins, both with this process's number in
// their names. What a weftd left that was killed meanwhile goes when the next one makes its own.
#pragma once

#include <absl/status/statusor.h>

#include <string>

#include "mesh/base/fd.h"

namespace weft::bypass {

class Scratch {
 public:
  static absl::StatusOr<Scratch> make(const std::string& bpffs_root, const std::string& cgroup);
  Scratch(Scratch&&) = default;
  Scratch& operator=(Scratch&&) = delete;
  ~Scratch();

  const std::string& pins() const { return pins_; }
  const std::string& cgroup() const { return cgroup_; }
  int cgroup_fd() const { return cgroup_fd_.get(); }

 private:
  Scratch() = default;

  std::string pins_, cgroup_;
  base::Fd cgroup_fd_;
};

}  // namespace weft::bypass
