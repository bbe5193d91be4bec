// The sockets themselves, made in the thread's network namespace and the process's cgroup.
#pragma once

#include <vector>

#include "agent/sockets/protocol.h"
#include "mesh/base/fd.h"

namespace weft::sockets {

// What the loopback's queue holds while a proxy is busy: as many as connect at once in a storm.
inline constexpr int kBacklog = 4096;

// On WEFT_CAPTURE_PORT of 127.0.0.1 or [::1]; none, and `error`, where it cannot be.
base::Fd make_listener(int family, int& error);

struct Made {
  std::vector<base::Fd> sockets;
  int error = 0;  // errno, where they are less than asked for
};
// Maps that sockets are marked in; the second may be missing.
struct Marks {
  base::Fd own_sockets, bypass_readers;
};
// To connect to endpoints with, marked as the proxy's own before anybody has them.
Made make_upstreams(const Marks& marks, int family, int count);

}  // namespace weft::sockets
