#include "agent/sockets/namespaces.h"

#include <fcntl.h>
#include <sched.h>

#include <cstdlib>

#include "mesh/base/log.h"

namespace weft::sockets {

absl::StatusOr<Namespaces> Namespaces::at_home() {
  base::Fd home(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!home) return absl::ErrnoToStatus(errno, "cannot open this network namespace");
  return Namespaces(std::move(home));
}

int Namespaces::enter(std::uint64_t cookie) {
  const auto at = known_.find(cookie);
  if (at == known_.end()) return ENONET;
  return setns(at->second.get(), CLONE_NEWNET) ? errno : 0;
}

void Namespaces::come_home() {
  if (setns(home_.get(), CLONE_NEWNET) == 0) return;
  log::error("namespace",
             {{"error", "no way back to the node's network namespace"}, {"errno", errno}});
  std::_Exit(1);
}

}  // namespace weft::sockets
