#include "agent/observe/health.h"

namespace weft::observe {

std::string why_unhealthy(const Heartbeat& heartbeat, Clock::time_point now) {
  const auto age = heartbeat.age(now);
  if (age <= Heartbeat::kLimit) return "";
  return "the control thread has not moved for " +
         std::to_string(std::chrono::duration_cast<std::chrono::seconds>(age).count()) + " s";
}

std::string why_not_ready(const Snapshot& snapshot) {
  if (snapshot.ready) return "";
  for (const auto& source : snapshot.sources) {
    if (source.state == "synced") continue;
    std::string text = "source " + source.uri + " is not ready: " + source.state;
    if (!source.error.empty()) text += ": " + source.error;
    return text;
  }
  if (snapshot.held_back) return "held back: " + snapshot.held_back_text;
  if (!snapshot.apply.last_error.empty())
    return "the configuration cannot be written: " + snapshot.apply.last_error;
  return "the first configuration is not in the kernel yet";
}

}  // namespace weft::observe
