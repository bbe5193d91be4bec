#include "agent/app/hold.h"

namespace weft::app {
namespace {

constexpr char kKeptApiServer[] =
    "default/kubernetes would lose its last endpoint: it is kept, since it is the way back; "
    "weftctl confirm takes it away";

std::string in_seconds(std::chrono::milliseconds duration) {
  const auto ms = duration.count();
  return ms % 1000 ? std::to_string(ms) + " ms" : std::to_string(ms / 1000) + " s";
}

std::string mass_removal_text(const reconcile::Result& result, std::chrono::milliseconds patience) {
  return std::to_string(result.endpoints_before - result.endpoints_after) + " of " +
         std::to_string(result.endpoints_before) +
         " endpoints would go at once, which is more often a fault than a wish: held back for " +
         in_seconds(patience) +
         ". To apply it now: weftctl confirm; to never hold back: --allow-empty";
}

}  // namespace

Hold::Change Hold::note(const reconcile::Result& result) {
  allowed_ = confirmed_ = false;
  auto change = Change::kNone;
  if (result.held_back != holding_) {
    holding_ = result.held_back;
    change = holding_ ? Change::kBegun : Change::kEnded;
    mass_text_ = holding_ ? mass_removal_text(result, patience_) : "";
  }
  text_ = mass_text_;
  if (result.kept_api_server) text_ += (text_.empty() ? "" : "; ") + std::string(kKeptApiServer);
  return change;
}

}  // namespace weft::app
