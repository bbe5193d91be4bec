// What the name of a cgroup directory says: whether it is a pod's, and whose.
//
// Kubelet makes one cgroup a pod and names it by the pod's UID; the runtime's containers lie below.
// So the node's pods are found without asking the container runtime.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace weft::node {

struct PodCgroup {
  std::string uid;   // as pod_uid_of() has it
  std::string path;  // of the directory
  // The directory's inode number, which on cgroup v2 is what BPF programs call the cgroup's id. The
  // kernel does not use one twice.
  std::uint64_t id = 0;

  bool operator==(const PodCgroup&) const = default;
};

// The UID of the pod whose cgroup directory has this name; nothing for all other names, such as
// QoS classes and containers. In lower case; a UUID has its dashes as in the API, a static pod's is
// 32 hexadecimal digits (the hash of its file).
//   cgroupfs driver: "pod<uid>"
//   systemd driver:  "kubepods[-burstable|-besteffort]-pod<uid>.slice", the uid's dashes as "_";
//                    --cgroup-root of kubelet comes in front, as in "kubelet-kubepods-..." (kind)
std::optional<std::string> pod_uid_of(std::string_view directory_name);

}  // namespace weft::node
