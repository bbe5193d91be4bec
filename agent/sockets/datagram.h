// One datagram with descriptors, over a seqpacket socket. Neither call blocks where the socket does
// not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "mesh/base/fd.h"

namespace weft::sockets {

inline constexpr std::size_t kMostDescriptors = 16;

// 0 or the errno. The descriptors stay the caller's.
int send_datagram(int socket, std::span<const std::byte> bytes,
                  std::span<const base::Fd> descriptors = {});

struct Datagram {
  std::vector<std::byte> bytes;
  std::vector<base::Fd> descriptors;
  // Longer than the room, or descriptors were lost: this process may have no more of them.
  bool cut = false;

  template <class T>
  bool read(T& value) const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (cut || bytes.size() != sizeof value) return false;
    __builtin_memcpy(&value, bytes.data(), sizeof value);
    return true;
  }
};
// 0, or the errno; ECONNRESET where the other end is closed.
int receive_datagram(int socket, Datagram& datagram);

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  static_assert(std::has_unique_object_representations_v<T>);
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace weft::sockets
