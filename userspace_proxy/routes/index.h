// What a Table holds; for table.cc and edit.cc only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>

#include "userspace_proxy/routes/candidates.h"
#include "userspace_proxy/routes/condition.h"
#include "userspace_proxy/routes/table.h"

namespace weft::routes {

struct Table::Index {
  model::HttpRoutes routes;
  // All matches of all rules, in the order of trial; a rule without any has one that asks nothing.
  std::vector<std::vector<Condition>> matches;
  std::vector<Match> names;                  // which rule's, which of it
  std::vector<std::uint32_t> first_of_rule;  // into matches; one more at the end
  std::optional<Candidates> candidates;
  absl::flat_hash_map<std::string, std::shared_ptr<const re2::RE2>> edits;  // by PathEdit::regex

  absl::Status add(std::uint32_t rule, RegexBudget& budget);
  absl::Status add_edit(const model::PathEdit& edit, RegexBudget& budget);
};

}  // namespace weft::routes
