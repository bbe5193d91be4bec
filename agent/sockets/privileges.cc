#include "agent/sockets/privileges.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace weft::sockets {

absl::Status keep_what_is_needed() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    return absl::ErrnoToStatus(errno, "cannot set no_new_privs");
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  // Refused without CAP_SETPCAP; then no_new_privs alone keeps a program that is started from
  // having more than this one.
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability)
    if (capability != CAP_SYS_ADMIN) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2] = {};
  sets[0].effective = sets[0].permitted = 1u << CAP_SYS_ADMIN;
  if (syscall(SYS_capset, &header, sets))
    return absl::ErrnoToStatus(errno, "cannot keep CAP_SYS_ADMIN, which entering namespaces needs");
  // Nobody of the same user looks into its memory or takes its descriptors.
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  return absl::OkStatus();
}

}  // namespace weft::sockets
