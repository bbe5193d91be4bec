// An IP address as the kernel maps keep it: 16 bytes, IPv4 v4-mapped (RFC 4291 2.5.5.2), network
// order. One type for both families, so that nothing above or below needs a pair of code paths.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace weft::model {

enum class Family : std::uint8_t { kIpv4 = 4, kIpv6 = 6 };

struct Address {
  std::array<std::uint8_t, 16> bytes{};

  // Textual IPv4 or IPv6 without zone or prefix length; v4-mapped IPv6 text becomes IPv4.
  static std::optional<Address> parse(std::string_view text);

  Family family() const;
  std::string to_text() const;
  // 0.0.0.0, ::, loopback, link-local or multicast: never a Kubernetes endpoint or service address.
  // Returns why, or nothing where the address is fine. Loopback is allowed: a laptop's services
  // live there.
  std::optional<std::string> unusable_because() const;

  auto operator<=>(const Address&) const = default;
};

}  // namespace weft::model
