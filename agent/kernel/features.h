// What this kernel can do, found out by loading real minimal programs: version numbers lie (vendors
// backport), and libbpf's helper probe answers yes to impossible pairs (measured, docs/kernel.md).
#pragma once

#include <vector>

#include "agent/kernel/datapath.h"

namespace weft::kernel {

struct Probed {
  Feature set_retval;  // refusals are ECONNREFUSED
  Feature v6only;      // V6ONLY sockets are seen
  Feature sock_error;  // errno of failed connects is known
  Feature membarrier;  // grace periods are waited for, not slept through
  Feature self;        // the agent's own calls are told apart

  std::vector<Feature> list() const { return {set_retval, v6only, sock_error, membarrier, self}; }
};
Probed probe_features();

// This process as the kernel counts processes, which is what programs see: another number than
// getpid() in a PID namespace. 0 where the kernel does not say.
std::uint32_t own_tgid();

}  // namespace weft::kernel
