#include "agent/health/verdict.h"

#include <algorithm>
#include <limits>

namespace weft::health {

const char* to_text(State state) {
  switch (state) {
    case State::kUnknown:
      return "unknown";
    case State::kHealthy:
      return "healthy";
    case State::kUnhealthy:
      return "unhealthy";
  }
  return "?";
}

bool Verdict::record(const Result& result, const Thresholds& thresholds) {
  if (!result.asked) return false;
  if (result.ok != last_ok) in_a_row = 0;
  last_ok = result.ok;
  if (in_a_row < std::numeric_limits<std::uint32_t>::max()) ++in_a_row;
  const bool before = healthy();
  const auto needed = result.ok ? thresholds.healthy_after : thresholds.unhealthy_after;
  if (in_a_row >= std::max(needed, 1u)) state = result.ok ? State::kHealthy : State::kUnhealthy;
  return healthy() != before;
}

}  // namespace weft::health
