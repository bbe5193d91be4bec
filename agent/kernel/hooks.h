// The attach points, in the order in which they are attached.
#pragma once

#include <absl/status/status.h>
#include <linux/bpf.h>

#include <span>
#include <string>

#include "agent/kernel/maps.h"

namespace weft::kernel {

struct Hook;  // datapath.h

struct HookType {
  const char* name;     // as people and pins call it
  const char* program;  // function in bpf/
  bpf_attach_type type;
};
std::span<const HookType> hook_types();
// Not among them: it hangs on the proxy's cgroup, and only where there is a proxy.
inline constexpr HookType kSockoptHook{"getsockopt", "weft_getsockopt", BPF_CGROUP_GETSOCKOPT};

// Puts the program in force at the cgroup: updates the pinned link in place where it hangs there,
// else makes and pins a new one before the old goes.
absl::Status attach_hook(const Pins& pins, const HookType& hook, int program,
                         const std::string& cgroup);
// The pinned link as it is, whoever made it; without `cgroup` any living one is fine.
Hook read_link(const std::string& name, const std::string& pin, const std::string& cgroup);
// Absent is fine.
absl::Status detach_hook(const Pins& pins, const HookType& hook);

}  // namespace weft::kernel
