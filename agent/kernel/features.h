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

  std::vector<Feature> list() const { return {set_retval, v6only, sock_error, membarrier}; }
};
Probed probe_features();

}  // namespace weft::kernel
