// A removal of most endpoints that is held back: what people read of it, and when it may be applied
// after all. The reconciler decides that something is held back; this remembers it between applies.
#pragma once

#include <chrono>
#include <string>

#include "agent/reconcile/reconciler.h"

namespace weft::app {

// Pure: the caller keeps the time.
class Hold {
 public:
  // `patience`: how long it is held back (--hold-empty). `never`: nothing is (--allow-empty).
  Hold(std::chrono::milliseconds patience, bool never) : patience_(patience), never_(never) {}

  // Of the next apply: it may remove what was held back, and even the last endpoint of the API
  // server, since somebody has said so.
  bool allows() const { return never_ || allowed_; }
  bool allows_api_server() const { return never_ || confirmed_; }
  void confirm() { allowed_ = confirmed_ = true; }
  void time_is_over() { allowed_ = true; }

  // After an apply. kBegun: the caller waits for patience(), then calls time_is_over().
  enum class Change { kNone, kBegun, kEnded };
  Change note(const reconcile::Result& result);

  std::chrono::milliseconds patience() const { return patience_; }
  const std::string& text() const { return text_; }  // one line; empty: nothing is held back

 private:
  std::chrono::milliseconds patience_;
  bool never_;
  bool allowed_ = false, confirmed_ = false;
  bool holding_ = false;  // the last apply held a removal back
  std::string mass_text_, text_;
};

}  // namespace weft::app
