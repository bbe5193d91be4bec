// Durations as people write them in flags: Kubernetes' units.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "mesh/base/text.h"

namespace weft::base {

// "500ms", "30s", "2m", "1h"; a bare number is seconds. Nothing for anything else.
inline std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  const auto digits = text.find_first_not_of("0123456789");
  const auto unit = digits == std::string_view::npos ? "s" : text.substr(digits);
  const auto number = parse_number<std::uint32_t>(text.substr(0, digits));
  const std::int64_t factor = unit == "ms"  ? 1
                              : unit == "s" ? 1000
                              : unit == "m" ? 60000
                              : unit == "h" ? 3600000
                                            : 0;
  if (!number || !factor) return std::nullopt;
  return std::chrono::milliseconds(*number * factor);
}

}  // namespace weft::base
