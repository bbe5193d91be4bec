#include "userspace_proxy/net/sandbox.h"

#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <initializer_list>
#include <memory>

namespace weft::net {

absl::Status enter_sandbox() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return absl::ErrnoToStatus(errno, "PR_SET_NO_NEW_PRIVS");
  const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_ALLOW),
                                                                 &seccomp_release);
  if (!filter) return absl::InternalError("seccomp_init failed");
  int failed = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                                SCMP_A0(SCMP_CMP_NE, AF_UNIX));
  for (const int call : {SCMP_SYS(execve),
                         SCMP_SYS(execveat),
                         SCMP_SYS(bpf),
                         SCMP_SYS(ptrace),
                         SCMP_SYS(setns),
                         SCMP_SYS(unshare),
                         SCMP_SYS(mount),
                         SCMP_SYS(umount2),
                         SCMP_SYS(pivot_root),
                         SCMP_SYS(chroot),
                         SCMP_SYS(init_module),
                         SCMP_SYS(finit_module),
                         SCMP_SYS(kexec_load),
                         SCMP_SYS(perf_event_open),
                         SCMP_SYS(userfaultfd),
                         SCMP_SYS(process_vm_readv),
                         SCMP_SYS(process_vm_writev),
                         SCMP_SYS(keyctl),
                         SCMP_SYS(add_key),
                         SCMP_SYS(open_by_handle_at),
                         SCMP_SYS(io_uring_setup),
                         SCMP_SYS(fork),
                         SCMP_SYS(vfork)})
    if (const int result = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), call, 0);
        result != 0 && result != -EDOM)  // EDOM: this architecture has no such call
      failed = result;
  if (!failed) failed = seccomp_load(filter.get());
  return failed ? absl::ErrnoToStatus(-failed, "seccomp") : absl::OkStatus();
}

}  // namespace weft::net
