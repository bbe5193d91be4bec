#include "agent/kernel/own_socket.h"

#include <bpf/bpf.h>

#include <cerrno>

#include "abi/bypass.h"
#include "abi/capture.h"

namespace weft::kernel {

absl::Status mark_own_socket(int own_sockets_map, int socket) {
  // Socket storage has the socket's descriptor for a key.
  const __u32 flags = WEFT_OWN_UPSTREAM;
  if (bpf_map_update_elem(own_sockets_map, &socket, &flags, BPF_ANY))
    return absl::ErrnoToStatus(errno, "cannot mark a socket in weft_own_sockets");
  return absl::OkStatus();
}

absl::Status mark_proxy_reader(int bypass_readers_map, int socket) {
  const __u32 reader = WEFT_BYPASS_READER_PROXY;
  if (bpf_map_update_elem(bypass_readers_map, &socket, &reader, BPF_ANY))
    return absl::ErrnoToStatus(errno, "cannot mark a socket in weft_bypass_readers");
  return absl::OkStatus();
}

}  // namespace weft::kernel
