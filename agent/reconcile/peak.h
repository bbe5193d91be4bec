// The most endpoints there were of late. A directory of thousands of files empties in many small
// changes, each under half of what the one before left; against the peak they add up to what they
// are.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>

namespace weft::reconcile {

// Pure: the caller tells the time, which must not run backwards.
class Peak {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit Peak(std::chrono::steady_clock::duration window) : window_(window) {}

  // From now on there are that many.
  void observe(Time now, std::size_t count) {
    // The count before was true until this moment; it leaves the window counted from here.
    if (!seen_.empty()) seen_.back().until = now;
    while (!seen_.empty() && seen_.back().count <= count) seen_.pop_back();
    seen_.push_back({now, count});
  }
  std::size_t value(Time now) {
    while (seen_.size() > 1 && seen_.front().until + window_ < now) seen_.pop_front();
    return seen_.empty() ? 0 : seen_.front().count;
  }
  // Somebody confirmed the loss: what was before does not count any more.
  void forget() { seen_.clear(); }

 private:
  struct Seen {
    Time until;  // of the newest: when it was told
    std::size_t count;
  };
  std::chrono::steady_clock::duration window_;
  std::deque<Seen> seen_;  // counts falling
};

}  // namespace weft::reconcile
