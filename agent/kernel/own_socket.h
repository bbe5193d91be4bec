// Marks sockets as the proxy's own (weft_own_sockets, abi/capture.h). By descriptors only, so that
// weft-sockets needs neither bpffs nor the rest of this folder.
#pragma once

#include <absl/status/status.h>

namespace weft::kernel {

// From here on connect() of that socket is left alone. Needs no capability where the map's
// descriptor is held, but CAP_BPF before Linux 5.19 if unprivileged bpf() is disabled.
absl::Status mark_own_socket(int own_sockets_map, int socket);

// Marks a socket of weft-proxy, or a listener for all that it accepts from here on, as one whose
// reader bears the same-node bypass (weft_bypass_readers, abi/bypass.h).
absl::Status mark_proxy_reader(int bypass_readers_map, int socket);

}  // namespace weft::kernel
