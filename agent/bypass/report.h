// What the child tells its parent: one line of JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/bypass/self_test.h"

namespace weft::bypass {

struct Check {
  std::string name;
  std::string reason;  // why it failed; empty: it did not

  bool ok() const { return reason.empty(); }
};

struct Report {
  std::vector<Check> checks;
  std::vector<std::string> differences;
  double seconds = 0;

  bool ok() const;
};

std::string to_json(const Report& report);
// Nothing where that is not a report, or one in which nothing was checked.
std::optional<SelfTest> result_of(std::string_view line);

}  // namespace weft::bypass
