// Circuit breakers as user space moves them: by hand, from above, and when an endpoint goes. The
// same compare-and-exchange on the same word as the programs (abi/breaker.h), so nobody's
// transition is lost. Pure memory access; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/kernel/maps.h"

namespace weft::kernel {

std::uint64_t now_ms();  // CLOCK_MONOTONIC, as bpf_ktime_get_ns() of the programs

const char* breaker_reason_text(std::uint32_t reason);
const char* breaker_state_text(std::uint32_t state);  // "closed", "open", "half_open"

// Longer than this nobody's word keeps an endpoint out, with an agent or without.
inline constexpr std::chrono::milliseconds kLongestVerdict = std::chrono::days(30);

struct Verdict {
  enum class Action { kOpen, kClose, kReset } action = Action::kOpen;
  // Of kOpen: an ejection by hand or from above ends by itself, so that nothing stays out because
  // whoever said so has died. Afterwards a probe decides.
  std::chrono::milliseconds expires{0};
  std::uint32_t reason = WEFT_BREAKER_OPERATOR;
  // Verdicts from above are numbered: one older than the newest that was carried out is ignored.
  // 0: an operator's, never ignored.
  std::uint32_t epoch = 0;
};

// The transition that this made; nothing where the verdict was outdated, or where it closes what is
// closed: failures in a row are forgotten then, but nothing has moved. The id must be in use.
std::optional<weft_transition> carry_out(const Maps& maps, std::uint32_t endpoint,
                                         const Verdict& verdict);

// The endpoint goes: it has no breaker any more and is none of its service's ejected. Returns what
// people must be told, where its breaker was not closed.
std::optional<weft_transition> leave_rotation(const Maps& maps, std::uint32_t endpoint,
                                              std::uint32_t service);
// It takes no new connections for now: it stays out, but what the service may spare is for others.
void stop_counting(const Maps& maps, std::uint32_t endpoint, std::uint32_t service);
// It is ready again: whoever says so has looked, so what its connections did before counts no more,
// only how often it was out. What a person or the control plane opened stays so. What was changed,
// if anything was.
std::optional<weft_transition> come_back(const Maps& maps, std::uint32_t endpoint,
                                         std::uint32_t service);
// It begins to warm up, unless its breaker holds it out.
void begin_warmup(weft_endpoint_state& state);

// Makes every service's count of ejected endpoints what its endpoints say; a writer that was killed
// between a word and its count is all that can make them differ. Returns how many were wrong.
std::size_t recount_ejected(const Maps& maps);

// Lines where count and endpoints differ, also at a second look; for audit.
std::vector<std::string> miscounted(const Maps& maps);

// The transitions that programs have told of and nobody has read, oldest first. Reading consumes:
// one reader at a time, which is the agent that holds the lock on the data path.
class Transitions {
 public:
  static absl::StatusOr<Transitions> open(const Pins& pins);
  Transitions(Transitions&&) noexcept;
  Transitions& operator=(Transitions&&) noexcept;
  ~Transitions();
  int poll_fd() const;  // readable when there are some
  std::vector<weft_transition> take();

 private:
  struct State;
  explicit Transitions(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weft::kernel
