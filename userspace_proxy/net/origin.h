// What an accepted connection's client dialled, and whose it is: asked of the getsockopt program.
#pragma once

#include <cstdint>
#include <optional>

#include "userspace_proxy/net/config.h"

namespace weft::net {

struct Origin {
  Dialled dialled;
  // Who shares upstream connections: the caller's network namespace, or, in the node's own, its
  // cgroup.
  std::uint64_t owner = 0;
};

// Nothing: nobody captured this connection, it was made to the port itself.
std::optional<Origin> origin_of(int fd, const Caller& caller);

}  // namespace weft::net
