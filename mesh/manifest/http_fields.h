// Parts of HTTP rules that Istio's VirtualService and Gateway API's HTTPRoute share, and what both
// must keep out: expressions that do not compile, headers that would break a message's framing.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/manifest/decode.h"

namespace weft::manifest {

// Each rejects the document at `at` and says false where the text is not what it should be.
bool check_regex(Decoder& decoder, Value at, const std::string& path, const std::string& regex);
// With \1 .. \9 for what parentheses in `regex`, which is fine, caught.
bool check_replacement(Decoder& decoder, Value at, const std::string& path,
                       const std::string& regex, const std::string& text);
bool check_header_name(Decoder& decoder, Value at, const std::string& path, std::string_view name);
bool check_header_value(Decoder& decoder, Value at, const std::string& path,
                        std::string_view value);
bool check_authority(Decoder& decoder, Value at, const std::string& path, std::string_view text);

std::string in_lower_case(std::string_view text);

// As Decoder::duration(), and 0 ("0s"), which switches off.
std::optional<std::chrono::milliseconds> decode_timeout(Decoder& decoder, Value parent,
                                                        const std::string& path,
                                                        std::string_view key);

// Its index in the list, where each stands once.
std::uint32_t index_of(std::vector<model::HttpBackend>& backends, model::HttpBackend backend);

constexpr std::uint16_t operator|(model::RetryOn a, model::RetryOn b) {
  return static_cast<std::uint16_t>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}

}  // namespace weft::manifest
