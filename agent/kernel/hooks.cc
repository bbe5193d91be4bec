// Pinned links: reading, making, replacing in place.
#include "agent/kernel/hooks.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>

#include "agent/kernel/datapath.h"
#include "agent/kernel/pins.h"
#include "mesh/base/fd.h"

namespace weft::kernel {
namespace {

// Release and outcome before connect: no connection is ever reserved that nobody would release.
constexpr HookType kHooks[] = {
    {"sock_release", "weft_sock_release", BPF_CGROUP_INET_SOCK_RELEASE},
    {"sockops", "weft_sockops", BPF_CGROUP_SOCK_OPS},
    {"getpeername4", "weft_getpeername4", BPF_CGROUP_INET4_GETPEERNAME},
    {"getpeername6", "weft_getpeername6", BPF_CGROUP_INET6_GETPEERNAME},
    {"recvmsg4", "weft_recvmsg4", BPF_CGROUP_UDP4_RECVMSG},
    {"recvmsg6", "weft_recvmsg6", BPF_CGROUP_UDP6_RECVMSG},
    {"sendmsg4", "weft_sendmsg4", BPF_CGROUP_UDP4_SENDMSG},
    {"sendmsg6", "weft_sendmsg6", BPF_CGROUP_UDP6_SENDMSG},
    {"connect4", "weft_connect4", BPF_CGROUP_INET4_CONNECT},
    {"connect6", "weft_connect6", BPF_CGROUP_INET6_CONNECT},
};

absl::StatusOr<bpf_link_info> link_info(int fd) {
  bpf_link_info info{};
  __u32 length = sizeof info;
  if (bpf_obj_get_info_by_fd(fd, &info, &length))
    return absl::ErrnoToStatus(errno, "cannot read link");
  return info;
}

absl::Status create_link(const std::string& pin, int program, int cgroup, const HookType& hook) {
  const base::Fd link(bpf_link_create(program, cgroup, hook.type, nullptr));
  if (!link) {
    const char* hint =
        errno == EPERM ? " (a program of somebody else holds this cgroup exclusively?)" : "";
    return absl::ErrnoToStatus(errno, std::string("cannot attach ") + hook.name + hint);
  }
  // Beside the old pin and then over it: the hook is never without a program.
  const std::string fresh = pin + "_new";
  unlink(fresh.c_str());
  if (bpf_obj_pin(link.get(), fresh.c_str()))
    return absl::ErrnoToStatus(errno, std::string("cannot pin link ") + fresh);
  if (rename(fresh.c_str(), pin.c_str()))
    return absl::ErrnoToStatus(errno, "cannot pin link " + pin);
  return absl::OkStatus();
}

}  // namespace

std::span<const HookType> hook_types() { return kHooks; }

absl::Status attach_hook(const Pins& pins, const HookType& hook, int program,
                         const std::string& cgroup) {
  const std::string pin = pins.link(hook.name);
  const base::Fd link(bpf_obj_get(pin.c_str()));
  if (link) {
    const auto info = link_info(link.get());
    if (info.ok() && info->cgroup.cgroup_id == cgroup_id(cgroup)) {
      if (bpf_link_update(link.get(), program, nullptr) == 0) return absl::OkStatus();
      return absl::ErrnoToStatus(errno, std::string("cannot replace the program at ") + hook.name);
    }
  }
  const base::Fd directory(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return absl::ErrnoToStatus(errno, "cannot open cgroup " + cgroup);
  return create_link(pin, program, directory.get(), hook);
}

absl::Status detach_hook(const Pins& pins, const HookType& hook) {
  const std::string pin = pins.link(hook.name);
  // Detached by name: a link whose last pin goes lives on until its inode is freed.
  if (const base::Fd link(bpf_obj_get(pin.c_str())); link) bpf_link_detach(link.get());
  if (unlink(pin.c_str()) && errno != ENOENT)
    return absl::ErrnoToStatus(errno, "cannot remove " + pin);
  return absl::OkStatus();
}

const std::vector<std::string>& hook_names() {
  static const auto* names = [] {
    auto* list = new std::vector<std::string>;
    for (const auto& hook : kHooks) list->push_back(hook.name);
    return list;
  }();
  return *names;
}

Hook read_link(const std::string& name, const std::string& pin, const std::string& cgroup) {
  Hook hook;
  hook.name = name;
  hook.cgroup = cgroup;
  const base::Fd link(bpf_obj_get(pin.c_str()));
  if (!link) return hook;
  const auto info = link_info(link.get());
  if (!info.ok()) return hook;
  hook.attached = true;
  hook.link_id = info->id;
  hook.program_id = info->prog_id;
  hook.cgroup_id = info->cgroup.cgroup_id;
  // A link whose cgroup died says 0: attached to nothing, as peers' status has failed to tell.
  hook.effective = hook.cgroup_id != 0 && (cgroup.empty() || hook.cgroup_id == cgroup_id(cgroup));
  return hook;
}

std::vector<Hook> read_hooks(const Pins& pins, const std::string& cgroup) {
  std::vector<Hook> hooks;
  for (const auto& type : kHooks)
    hooks.push_back(read_link(type.name, pins.link(type.name), cgroup));
  return hooks;
}

Hook read_proxy_hook(const Pins& pins) {
  return read_link(kSockoptHook.name, pins.link(kSockoptHook.name), "");
}

}  // namespace weft::kernel
