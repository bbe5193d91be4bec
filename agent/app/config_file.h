// --config FILE: one YAML mapping whose keys are flag names without the dashes; a value is a scalar
// or a sequence of scalars.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

namespace weft::app {

struct ConfigEntry {
  std::string key;
  std::vector<std::string> values;
  int line = 0;
};

// Errors name the line. Aliases, duplicate keys and nested mappings are refused.
absl::StatusOr<std::vector<ConfigEntry>> parse_config(std::string_view yaml);

}  // namespace weft::app
