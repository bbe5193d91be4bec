// The cookie by which BPF programs know a pod's network namespace (bpf_get_netns_cookie).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mesh/model/address.h"

namespace weft::node {

// Of the first process in the cgroup or below. Nothing where no process is there yet (kubelet makes
// the pod's cgroup before the first container), or none can be looked at.
//
// Needs CAP_SYS_ADMIN and a /proc that shows the node's processes (hostPID). A container's first
// process may join the cgroup before it joins the pod's namespace, and then has the node's for a
// moment: ask again where the answer is the node's own.
std::optional<std::uint64_t> netns_cookie_of_cgroup(const std::string& cgroup_path);

// Of all its interfaces, as they are now. `netns`: a descriptor of the namespace. Empty where it
// cannot be entered.
std::vector<model::Address> addresses_in_netns(int netns);

}  // namespace weft::node
