#include "userspace_proxy/routes/origins.h"

#include <algorithm>

#include "userspace_proxy/routes/pattern.h"

namespace weft::routes {

absl::StatusOr<Origins> Origins::compile(const model::Cors& cors) {
  Origins origins;
  RegexBudget budget(cors.allow_origins.size());
  std::vector<Pattern> patterns;
  for (const auto& match : cors.allow_origins) {
    if (match.kind == model::TextMatch::Kind::kExact && match.text == "*") {
      origins.any_ = true;
      continue;
    }
    auto pattern = Pattern::compile(match, budget);
    if (!pattern.ok()) return pattern.status();
    patterns.push_back(*std::move(pattern));
  }
  origins.patterns_ = std::make_shared<const std::vector<Pattern>>(std::move(patterns));
  return origins;
}

bool Origins::allows(std::string_view origin) const {
  return any_ || (patterns_ && std::any_of(patterns_->begin(), patterns_->end(),
                                           [&](const auto& one) { return one.holds(origin); }));
}

}  // namespace weft::routes
