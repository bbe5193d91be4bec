// Closes connections to endpoints that are on their way out, in whatever network namespace their
// sockets are: bpf_sock_destroy() from socket iterators (Linux 6.5; bpf/close.bpf.c).
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "abi/close.h"
#include "agent/kernel/datapath.h"

namespace weft::kernel {

struct ClosingTarget {
  std::uint32_t endpoint = 0, incarnation = 0;
};

struct Closed {
  std::vector<std::uint32_t> sockets;  // of each target
  std::uint32_t own = 0;               // the proxy's connections
};

// Connections that hold a reservation at one of `targets`, and the proxy's own to one of `own`
// (port in network order), in each of `namespaces` (descriptors). At most WEFT_MAX_CLOSING of each.
// Blocks for as long as it takes to walk all sockets there. A namespace that cannot be entered ends
// it with an error, after the others.
absl::StatusOr<Closed> close_connections(const Pins& pins, std::span<const ClosingTarget> targets,
                                         std::span<const weft_frontend_key> own,
                                         std::span<const int> namespaces);

// "sock_destroy", by loading the very programs.
Feature probe_sock_destroy();

}  // namespace weft::kernel
