#include "agent/kernel/breaker.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <ctime>
#include <map>
#include <unordered_map>

namespace weft::kernel {
namespace {

bool exchange(weft_endpoint_state& state, std::uint64_t& seen, std::uint64_t next) {
  // The kernel's word and ours are two types of one size.
  auto* word = &state.breaker;
  auto expected = static_cast<std::remove_reference_t<decltype(*word)>>(seen);
  const bool done =
      __atomic_compare_exchange_n(word, &expected, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  seen = expected;
  return done;
}

// Never below zero: the service's index may have been cleared just before.
void one_ejected_less(weft_service_state& service) {
  std::uint32_t seen = __atomic_load_n(&service.ejected, __ATOMIC_ACQUIRE);
  while (seen && !__atomic_compare_exchange_n(&service.ejected, &seen, seen - 1, false,
                                              __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
  }
}

bool counts(std::uint64_t word) {
  return weft_breaker_state(word) != WEFT_BREAKER_CLOSED && weft_breaker_counts(word);
}

std::uint64_t word_after(std::uint64_t word, const Verdict& verdict, std::uint64_t now) {
  switch (verdict.action) {
    case Verdict::Action::kOpen:
      // One that counts goes on counting: what its failures have done stands.
      return weft_breaker_make(WEFT_BREAKER_OPEN, verdict.reason, counts(word),
                               weft_breaker_ejections(word),
                               now + static_cast<std::uint64_t>(verdict.expires.count()));
    case Verdict::Action::kClose:
      if (weft_breaker_state(word) == WEFT_BREAKER_CLOSED) return word;  // no second warm-up
      return weft_breaker_make(WEFT_BREAKER_CLOSED, verdict.reason, 0, weft_breaker_ejections(word),
                               now);
    case Verdict::Action::kReset:
      break;
  }
  return 0;
}

// False where a newer verdict was carried out already.
bool enter_epoch(weft_endpoint_state& state, std::uint32_t epoch) {
  std::uint32_t seen = __atomic_load_n(&state.verdict_epoch, __ATOMIC_ACQUIRE);
  do {
    if (epoch < seen) return false;
  } while (!__atomic_compare_exchange_n(&state.verdict_epoch, &seen, epoch, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST));
  return true;
}

// No failure in a row is left, of whatever kind.
void end_failures(weft_endpoint_state& state) {
  __atomic_store_n(&state.consecutive, 0u, __ATOMIC_RELEASE);
  store(state.failing_since_ms, 0);
  __atomic_store_n(&state.consecutive_5xx, 0u, __ATOMIC_RELEASE);
  __atomic_store_n(&state.consecutive_gateway, 0u, __ATOMIC_RELEASE);
}

struct Turn {
  std::uint64_t from, to, at_ms;
};
weft_transition told_of(const weft_endpoint_state& state, std::uint32_t endpoint,
                        std::uint32_t service, const Turn& turn, std::uint32_t reason) {
  return {.at_ns = turn.at_ms * 1000000,
          .from = turn.from,
          .to = turn.to,
          .service = service,
          .endpoint = endpoint,
          .incarnation = state.incarnation,
          .reason = reason};
}

// Endpoints that count as ejected, by service index.
std::unordered_map<std::uint32_t, std::uint32_t> count_ejected(const Maps& maps) {
  std::unordered_map<std::uint32_t, std::uint32_t> ejected;
  const auto endpoints = maps.endpoints.values();
  for (std::uint32_t id = 1; id < endpoints.size(); ++id) {
    const auto word = load(endpoints[id].word);
    if (weft_endpoint_flags(word) & WEFT_ENDPOINT_USED &&
        counts(load(maps.endpoint_states.at(id).breaker)))
      ++ejected[weft_endpoint_service(word)];
  }
  return ejected;
}

}  // namespace

std::uint64_t now_ms() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000ull + time.tv_nsec / 1000000;
}

const char* breaker_reason_text(std::uint32_t reason) {
  static constexpr const char* kTexts[] = {
#define WEFT_BREAKER_TEXT(name, label) #label,
      WEFT_BREAKER_REASONS(WEFT_BREAKER_TEXT)
#undef WEFT_BREAKER_TEXT
  };
  return reason < std::size(kTexts) ? kTexts[reason] : "unknown";
}

const char* breaker_state_text(std::uint32_t state) {
  return state == WEFT_BREAKER_OPEN        ? "open"
         : state == WEFT_BREAKER_HALF_OPEN ? "half_open"
                                           : "closed";
}

std::optional<weft_transition> carry_out(const Maps& maps, std::uint32_t endpoint,
                                         const Verdict& verdict) {
  auto& state = maps.endpoint_states.at(endpoint);
  if (verdict.epoch && !enter_epoch(state, verdict.epoch)) return std::nullopt;
  const auto service = weft_endpoint_service(load(maps.endpoints.at(endpoint).word));
  std::uint64_t seen = load(state.breaker), next = 0, now = 0;
  do {
    now = now_ms();
    next = word_after(seen, verdict, now);
  } while (!exchange(state, seen, next));
  if (counts(seen) && !counts(next)) one_ejected_less(maps.service_states.at(service));
  if (verdict.action != Verdict::Action::kOpen) {
    end_failures(state);
    if (weft_breaker_state(seen) == WEFT_BREAKER_CLOSED) return std::nullopt;
  }
  return told_of(state, endpoint, service, {seen, next, now}, verdict.reason);
}

std::optional<weft_transition> leave_rotation(const Maps& maps, std::uint32_t endpoint,
                                              std::uint32_t service) {
  auto& state = maps.endpoint_states.at(endpoint);
  std::uint64_t seen = load(state.breaker);
  while (!exchange(state, seen, 0)) {
  }
  if (counts(seen)) one_ejected_less(maps.service_states.at(service));
  if (weft_breaker_state(seen) == WEFT_BREAKER_CLOSED) return std::nullopt;
  return told_of(state, endpoint, service, {seen, 0, now_ms()}, WEFT_BREAKER_REMOVED);
}

std::optional<weft_transition> come_back(const Maps& maps, std::uint32_t endpoint,
                                         std::uint32_t service) {
  auto& state = maps.endpoint_states.at(endpoint);
  end_failures(state);
  std::uint64_t seen = load(state.breaker), next = 0, now = 0;
  do {
    const auto reason = weft_breaker_reason(seen);
    if (weft_breaker_state(seen) == WEFT_BREAKER_CLOSED || reason == WEFT_BREAKER_OPERATOR ||
        reason == WEFT_BREAKER_CLUSTER)
      return std::nullopt;
    now = now_ms();
    next = weft_breaker_make(WEFT_BREAKER_CLOSED, reason, 0, weft_breaker_ejections(seen), now);
  } while (!exchange(state, seen, next));
  if (counts(seen)) one_ejected_less(maps.service_states.at(service));
  return told_of(state, endpoint, service, {seen, next, now}, WEFT_BREAKER_READY);
}

void stop_counting(const Maps& maps, std::uint32_t endpoint, std::uint32_t service) {
  auto& state = maps.endpoint_states.at(endpoint);
  std::uint64_t seen = load(state.breaker);
  while (counts(seen)) {
    const auto next = weft_breaker_make(weft_breaker_state(seen), weft_breaker_reason(seen), 0,
                                        weft_breaker_ejections(seen), weft_breaker_until_ms(seen));
    if (!exchange(state, seen, next)) continue;
    return one_ejected_less(maps.service_states.at(service));
  }
}

void begin_warmup(weft_endpoint_state& state) {
  std::uint64_t seen = load(state.breaker);
  while (weft_breaker_state(seen) == WEFT_BREAKER_CLOSED &&
         !exchange(state, seen,
                   weft_breaker_make(WEFT_BREAKER_CLOSED, weft_breaker_reason(seen), 0,
                                     weft_breaker_ejections(seen), now_ms()))) {
  }
}

namespace {

struct Miscount {
  std::uint32_t says, right;
  bool operator==(const Miscount&) const = default;
};

// By service index. Programs go on meanwhile, so what one look finds may be in motion.
std::map<std::uint32_t, Miscount> look_for_miscounts(const Maps& maps) {
  std::map<std::uint32_t, Miscount> found;
  const auto ejected = count_ejected(maps);
  const auto services = maps.service_states.values();
  for (std::uint32_t index = 1; index < services.size(); ++index) {
    const auto known = ejected.find(index);
    const std::uint32_t right = known == ejected.end() ? 0 : known->second;
    const auto says = __atomic_load_n(&services[index].ejected, __ATOMIC_ACQUIRE);
    if (says != right) found[index] = {says, right};
  }
  return found;
}

// Those that two looks agree on.
std::map<std::uint32_t, Miscount> miscounts(const Maps& maps) {
  auto first = look_for_miscounts(maps);
  if (first.empty()) return first;
  const auto second = look_for_miscounts(maps);
  std::erase_if(first, [&](const auto& entry) {
    const auto again = second.find(entry.first);
    return again == second.end() || again->second != entry.second;
  });
  return first;
}

}  // namespace

std::size_t recount_ejected(const Maps& maps) {
  const auto wrong = miscounts(maps);
  // A difference is added, not a value stored: what programs count meanwhile stays counted.
  for (const auto& [index, count] : wrong)
    __atomic_fetch_add(&maps.service_states.at(index).ejected, count.right - count.says,
                       __ATOMIC_SEQ_CST);
  return wrong.size();
}

std::vector<std::string> miscounted(const Maps& maps) {
  std::vector<std::string> lines;
  for (const auto& [index, count] : miscounts(maps))
    lines.push_back("service index " + std::to_string(index) + ": counts " +
                    std::to_string(count.says) + " ejected endpoints, " +
                    std::to_string(count.right) + " are");
  return lines;
}

struct Transitions::State {
  base::Fd map;
  ring_buffer* ring = nullptr;
  std::vector<weft_transition> taken;
  ~State() { ring_buffer__free(ring); }
};

Transitions::Transitions(std::unique_ptr<State> state) : state_(std::move(state)) {}
Transitions::Transitions(Transitions&&) noexcept = default;
Transitions& Transitions::operator=(Transitions&&) noexcept = default;
Transitions::~Transitions() = default;

absl::StatusOr<Transitions> Transitions::open(const Pins& pins) {
  auto state = std::make_unique<State>();
  const std::string path = pins.map("weft_transitions");
  state->map = base::Fd(bpf_obj_get(path.c_str()));
  if (!state->map) return absl::ErrnoToStatus(errno, "cannot open map " + path);
  const auto read = [](void* context, void* data, std::size_t size) {
    if (size < sizeof(weft_transition)) return 0;
    weft_transition told;
    __builtin_memcpy(&told, data, sizeof told);
    static_cast<State*>(context)->taken.push_back(told);
    return 0;
  };
  state->ring = ring_buffer__new(state->map.get(), read, state.get(), nullptr);
  if (!state->ring) return absl::ErrnoToStatus(errno, "cannot read " + path);
  return Transitions(std::move(state));
}

int Transitions::poll_fd() const { return ring_buffer__epoll_fd(state_->ring); }

std::vector<weft_transition> Transitions::take() {
  ring_buffer__consume(state_->ring);
  return std::exchange(state_->taken, {});
}

}  // namespace weft::kernel
