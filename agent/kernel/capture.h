// What weftd tells the data path of the proxy: where it listens, and whether it serves
// (abi/capture.h).
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "agent/kernel/maps.h"
#include "mesh/base/fd.h"

namespace weft::kernel {

// Which listeners the namespace has: enum weft_listening, or-ed. Only after they listen: from here
// on connections go there.
absl::Status set_capture(Maps& maps, std::uint64_t netns_cookie, std::uint32_t listening);
// Before the listeners close. Absent is fine.
absl::Status erase_capture(Maps& maps, std::uint64_t netns_cookie);

// One atomic store: no proxy serves means that connections follow each service's rule for that.
void set_proxy_up(const Maps& maps, bool up);
// The generation of this column serves: for as long as its heart beats.
void set_proxy_up_by(const Maps& maps, std::uint32_t column);
bool proxy_is_up(const Maps& maps);

// The map that weft-sockets marks sockets in (own_socket.h), for it to inherit. While a data path
// is attached.
absl::StatusOr<base::Fd> open_own_sockets(const Pins& pins);

// Of a generation of the proxy that is no more: its requests are in flight no longer, the places
// that its connections held are free, and its heart does not beat for the next one.
void clear_generation(const Maps& maps, std::uint32_t column);

// Longer than the kernel tries to finish a handshake whose listener had no room (SYN-ACKs are sent
// again after 1, 3, 7, 15 and 31 s): until then the entry may still be asked for.
inline constexpr std::chrono::seconds kOriginalLife{60};

// Removes destinations that no accepted socket took within `age`: the caller died in between, or
// the listener had no room. Returns how many. Blocks for one pass over the map.
absl::StatusOr<std::size_t> sweep_originals(Maps& maps,
                                            std::chrono::nanoseconds age = kOriginalLife);

}  // namespace weft::kernel
