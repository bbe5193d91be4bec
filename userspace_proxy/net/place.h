// A connection's place among those that its endpoint and its service may have (tcp.maxConnections,
// weft.mesh/max-connections-per-endpoint). Sockets that the kernel balances and the proxy's
// connections share the limits: each side counts in words of its own and compares the sum
// (bpf/abi/service.h). What a process held that died, weftd gives back.
#pragma once

#include <cstdint>
#include <utility>

#include "userspace_proxy/net/config.h"

namespace weft::net {

enum class Room : std::uint8_t {
  kYes,
  kEndpointFull,
  kServiceFull,
  kProxyFull,  // as many connections as a worker, or a caller in it, may have
};

class Place {
 public:
  Place() = default;
  Place(Place&& other) noexcept
      : shares_(std::move(other.shares_)), service_incarnation_(other.service_incarnation_) {}
  Place& operator=(Place&&) = delete;
  ~Place() { give_back(); }

  // Reserves, then checks; nothing is held where that fails. An endpoint that has left the mesh has
  // room for everybody and counts nobody.
  Room take(SharesPtr shares);
  void give_back();  // once, however often it is called

  // Whether take() would find room now.
  static bool is_free(const Shares& shares);

 private:
  SharesPtr shares_;  // null: none is held
  std::uint32_t service_incarnation_ = 0;
};

// Whether the words are still this endpoint's: its id may be another's by now.
bool is_current(const Shares& shares);

// Takes one off a word of the shared tables, unless it was zeroed for another life just now: it
// never goes below zero.
void one_less(std::uint32_t& word);

}  // namespace weft::net
