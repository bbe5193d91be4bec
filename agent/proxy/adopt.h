// The listening sockets of a proxy that an earlier weftd has started: the next generation accepts
// on the very same ones, so that no connection is refused when the old one goes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <vector>

#include "mesh/base/fd.h"

namespace weft::proxy {

struct Adopted {
  std::uint32_t families = 0;       // enum weft_listening, or-ed
  std::vector<base::Fd> listeners;  // IPv4 first
};

// By the cookie of their namespace; those on WEFT_CAPTURE_PORT of the loopback. Needs what ptrace
// needs. Each socket once, whoever has it.
std::map<std::uint64_t, Adopted> listeners_of(const std::vector<pid_t>& processes);

}  // namespace weft::proxy
