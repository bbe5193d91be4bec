// Text conversions. Debian's abseil is built with a string_view of its own, which does not convert
// to std::string_view; this is the one place that knows.
#pragma once

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace weft::base {

inline absl::string_view to_absl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view to_std(absl::string_view text) { return {text.data(), text.size()}; }

// The message alone, without abseil's "INVALID_ARGUMENT: " in front: people read it.
inline std::string message_of(const absl::Status& status) { return std::string(status.message()); }

// Whole decimal text, nothing before, nothing after, no sign for unsigned types.
template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace weft::base
