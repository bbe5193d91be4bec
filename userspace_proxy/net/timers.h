// Timers of one thread: a hashed wheel (Varghese and Lauck 1987), since nearly every timer of a
// proxy is moved before it fires. Moving one to a later time only writes its deadline; the wheel
// looks again when the old time comes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <utility>

namespace weft::net {

class Timers;

// Fires once, at its deadline or up to a tick later. Destroying it cancels it. Belongs to the
// wheel's thread.
class Timer {
 public:
  explicit Timer(std::function<void()> on_due) : on_due_(std::move(on_due)) {}
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void cancel();
  bool armed() const { return deadline_ms_ != 0; }

 private:
  friend class Timers;
  void unlink();

  std::function<void()> on_due_;
  Timer* next_ = nullptr;
  Timer** link_ = nullptr;          // what points at it; null: in no slot
  std::uint64_t deadline_ms_ = 0;   // 0: not armed
  std::uint64_t looked_at_ms_ = 0;  // when its slot is visited
};

class Timers {
 public:
  static constexpr std::uint64_t kTickMs = 8;

  // Milliseconds of the loop's clock.
  void set(Timer& timer, std::uint64_t deadline_ms);
  void advance(std::uint64_t now_ms);
  // How long a thread with nothing else to do may sleep, at most `most_ms`.
  std::uint64_t idle_ms(std::uint64_t now_ms, std::uint64_t most_ms) const;

 private:
  static constexpr std::uint64_t kSlots = 1024;
  void place(Timer& timer, std::uint64_t at_ms);

  std::array<Timer*, kSlots> slots_{};
  std::uint64_t tick_ = 0;  // the first that was not visited yet
};

}  // namespace weft::net
