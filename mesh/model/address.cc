#include "mesh/model/address.h"

#include <arpa/inet.h>

#include <algorithm>

namespace weft::model {
namespace {

constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

std::optional<Address> Address::parse(std::string_view text) {
  if (text.size() >= INET6_ADDRSTRLEN) return std::nullopt;
  const std::string copy(text);  // inet_pton wants a terminator
  if (copy.size() != text.size() || copy.find('\0') != std::string::npos) return std::nullopt;
  Address address;
  std::copy(kMapped.begin(), kMapped.end(), address.bytes.begin());
  if (inet_pton(AF_INET, copy.c_str(), address.bytes.data() + 12) == 1) return address;
  if (inet_pton(AF_INET6, copy.c_str(), address.bytes.data()) == 1) return address;
  return std::nullopt;
}

Family Address::family() const {
  return std::equal(kMapped.begin(), kMapped.end(), bytes.begin()) ? Family::kIpv4 : Family::kIpv6;
}

std::string Address::to_text() const {
  char text[INET6_ADDRSTRLEN];
  if (family() == Family::kIpv4) return inet_ntop(AF_INET, bytes.data() + 12, text, sizeof text);
  return inet_ntop(AF_INET6, bytes.data(), text, sizeof text);
}

std::optional<std::string> Address::unusable_because() const {
  const bool v4 = family() == Family::kIpv4;
  const auto zero = [](std::uint8_t byte) { return byte == 0; };
  if (std::all_of(bytes.begin() + (v4 ? 12 : 0), bytes.end(), zero))
    return "it is the unspecified address";
  if (v4 ? (bytes[12] & 0xf0) == 0xe0 : bytes[0] == 0xff) return "it is a multicast address";
  if (v4 ? bytes[12] == 169 && bytes[13] == 254 : bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80)
    return "it is a link-local address";
  return std::nullopt;
}

}  // namespace weft::model
