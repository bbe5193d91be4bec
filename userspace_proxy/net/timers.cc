#include "userspace_proxy/net/timers.h"

#include <algorithm>

namespace weft::net {

void Timer::unlink() {
  if (!link_) return;
  *link_ = next_;
  if (next_) next_->link_ = link_;
  next_ = nullptr;
  link_ = nullptr;
}

void Timer::cancel() {
  deadline_ms_ = 0;
  unlink();
}

void Timers::place(Timer& timer, std::uint64_t at_ms) {
  const auto tick = std::max(at_ms / kTickMs + 1, tick_);
  auto*& head = slots_[tick % kSlots];
  timer.unlink();
  timer.looked_at_ms_ = tick * kTickMs;
  timer.next_ = head;
  timer.link_ = &head;
  if (head) head->link_ = &timer.next_;
  head = &timer;
}

void Timers::set(Timer& timer, std::uint64_t deadline_ms) {
  timer.deadline_ms_ = std::max<std::uint64_t>(deadline_ms, 1);
  if (timer.link_ && timer.looked_at_ms_ <= deadline_ms + kTickMs) return;
  place(timer, deadline_ms);
}

void Timers::advance(std::uint64_t now_ms) {
  const auto now_tick = now_ms / kTickMs;
  if (!tick_) tick_ = now_tick;
  // After a long sleep every slot is visited once, not once a tick.
  if (now_tick - tick_ > kSlots && now_tick > tick_) tick_ = now_tick - kSlots;
  for (; tick_ <= now_tick; ++tick_) {
    // What fires may set timers, also into this slot: only those that are in it now are visited.
    Timer* due = slots_[tick_ % kSlots];
    slots_[tick_ % kSlots] = nullptr;
    if (due) due->link_ = &due;
    while (due) {
      Timer& timer = *due;
      timer.unlink();
      if (!timer.deadline_ms_) continue;
      if (timer.deadline_ms_ > now_ms) {
        place(timer, timer.deadline_ms_);
        continue;
      }
      timer.deadline_ms_ = 0;
      timer.on_due_();
    }
  }
}

std::uint64_t Timers::idle_ms(std::uint64_t now_ms, std::uint64_t most_ms) const {
  const auto ticks = most_ms / kTickMs;
  for (std::uint64_t i = 0; i < std::min(ticks, kSlots); ++i)
    if (slots_[(tick_ + i) % kSlots]) {
      const auto at = (tick_ + i) * kTickMs;
      return at > now_ms ? at - now_ms : 0;
    }
  return most_ms;
}

}  // namespace weft::net
