#include "userspace_proxy/net/breaker.h"

#include <algorithm>

#include "userspace_proxy/net/place.h"

namespace weft::net {
namespace {

template <class T>
T load(const T& word) {
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}

template <class T>
void store(T& word, std::uint64_t value) {
  __atomic_store_n(&word, static_cast<T>(value), __ATOMIC_RELEASE);
}

void one_ejected_less(weft_service_state& total) {
  std::uint32_t seen = load(total.ejected);
  while (seen && !__atomic_compare_exchange_n(&total.ejected, &seen, seen - 1, false,
                                              __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
  }
}

bool take_ejection(const Shares& shares) {
  if (__atomic_fetch_add(&shares.total->ejected, 1, __ATOMIC_SEQ_CST) <
      load(shares.policy->max_ejected))
    return true;
  one_ejected_less(*shares.total);
  return false;
}

// Ejections so far, less one for every interval that it has been closed since.
std::uint32_t ejections(std::uint64_t word, std::uint64_t now, const weft_policy& policy) {
  const auto before = weft_breaker_ejections(word);
  const auto since = weft_breaker_until_ms(word);
  if (weft_breaker_state(word) != WEFT_BREAKER_CLOSED || !policy.interval_ms || now < since)
    return before;
  const auto forgotten = (now - since) / policy.interval_ms;
  return forgotten < before ? before - static_cast<std::uint32_t>(forgotten) : 0;
}

std::uint64_t opened_word(std::uint64_t word, std::uint64_t now, std::uint32_t reason,
                          const weft_policy& policy) {
  const auto count = std::min(ejections(word, now, policy) + 1, 255u);
  const auto time = std::min<std::uint64_t>(std::uint64_t{policy.base_ejection_ms} * count,
                                            policy.max_ejection_ms);
  return weft_breaker_make(WEFT_BREAKER_OPEN, reason, 1, count, now + time);
}

bool is_warm(std::uint64_t word, const weft_policy& policy, std::uint64_t now,
             std::uint32_t random) {
  const auto age = now - weft_breaker_until_ms(word);
  if (age >= policy.warmup_ms) return true;
  const auto share = std::max<std::uint64_t>(age * 1000 / policy.warmup_ms,
                                             std::uint64_t{policy.warmup_percent} * 10);
  return random % 1000 < share;
}

}  // namespace

bool Breaker::turn(Shares& shares, std::uint64_t from, std::uint64_t to,
                   std::uint32_t reason) const {
  auto expected = static_cast<decltype(shares.state->breaker)>(from);
  if (!__atomic_compare_exchange_n(&shares.state->breaker, &expected, to, false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_SEQ_CST))
    return false;
  if (tell_) tell_(shares, from, to, reason);
  return true;
}

void Breaker::close(Shares& shares, std::uint64_t word, std::uint32_t reason,
                    std::uint64_t now) const {
  const auto closed = weft_breaker_make(WEFT_BREAKER_CLOSED, weft_breaker_reason(word), 0,
                                        weft_breaker_ejections(word), now);
  if (turn(shares, word, closed, reason) && weft_breaker_counts(word))
    one_ejected_less(*shares.total);
}

void Breaker::eject(Shares& shares, std::uint64_t word, std::uint32_t reason,
                    std::uint64_t now) const {
  if (!take_ejection(shares)) return;
  if (!turn(shares, word, opened_word(word, now, reason, *shares.policy), reason))
    one_ejected_less(*shares.total);
}

void Breaker::reopen(Shares& shares, std::uint64_t word, std::uint32_t reason,
                     std::uint64_t now) const {
  const bool counted = weft_breaker_counts(word);
  if (!counted && !take_ejection(shares)) return close(shares, word, reason, now);
  if (!turn(shares, word, opened_word(word, now, reason, *shares.policy), reason) && !counted)
    one_ejected_less(*shares.total);
}

bool Breaker::is_open(const Shares& shares, std::uint64_t now) const {
  const auto word = load(shares.state->breaker);
  return weft_breaker_state(word) != WEFT_BREAKER_CLOSED && now < weft_breaker_until_ms(word);
}

Admission Breaker::admit(Shares& shares, std::uint64_t now, std::uint32_t random,
                         bool last_resort) const {
  const std::uint64_t word = load(shares.state->breaker);
  const auto& policy = *shares.policy;
  if (weft_breaker_state(word) == WEFT_BREAKER_CLOSED)
    return word && policy.warmup_ms && !is_warm(word, policy, now, random) ? Admission::kLater
                                                                           : Admission::kYes;
  const bool over = last_resort && load(shares.total->ejected) > policy.max_ejected;
  const bool serves = weft_breaker_counts(word) && (over || !weft_policy_ejects(&policy));
  const auto otherwise = serves ? Admission::kYes : Admission::kEjected;
  // A probe that has no place for its connection would be lent and taken back at every request.
  if (now < weft_breaker_until_ms(word) || !Place::is_free(shares)) return otherwise;
  const auto next = weft_breaker_make(WEFT_BREAKER_HALF_OPEN, weft_breaker_reason(word),
                                      weft_breaker_counts(word), weft_breaker_ejections(word),
                                      now + policy.lease_ms);
  return turn(shares, word, next, WEFT_BREAKER_PROBE) ? Admission::kProbe : otherwise;
}

void Breaker::charge(Shares& shares, std::uint32_t reason, bool probe, std::uint64_t now) const {
  if (!is_current(shares)) return;
  auto& state = *shares.state;
  const auto& policy = *shares.policy;
  __atomic_fetch_add(&state.failed, 1, __ATOMIC_RELAXED);
  const auto count = __atomic_fetch_add(&state.consecutive, 1, __ATOMIC_SEQ_CST) + 1;
  auto since = load(state.failing_since_ms);
  if (!since) {
    store(state.failing_since_ms, now);
    since = now;
  }
  store(state.last_reason, reason);
  const std::uint64_t word = load(state.breaker);
  if (probe) {
    if (weft_breaker_state(word) == WEFT_BREAKER_HALF_OPEN) reopen(shares, word, reason, now);
    return;
  }
  if (weft_breaker_state(word) != WEFT_BREAKER_CLOSED) return;
  if ((policy.threshold && count >= policy.threshold) ||
      (policy.failing_for_ms && count > 1 && now - since >= policy.failing_for_ms))
    eject(shares, word, reason, now);
}

void Breaker::on_status(Shares& shares, std::uint16_t status, bool probe, std::uint64_t now) const {
  if (!is_current(shares)) return;
  auto& state = *shares.state;
  if (load(state.consecutive)) {
    store(state.consecutive, 0);
    store(state.failing_since_ms, 0);
  }
  count_status(shares, status, probe, now);
}

// As Envoy: unsplit a 504, but no end of a run of failed connects; split a failure of local origin.
void Breaker::on_timeout(Shares& shares, bool probe, std::uint64_t now) const {
  if (!is_current(shares)) return;
  const auto& policy = *shares.policy;
  if (load(policy.flags) & WEFT_POLICY_SPLIT_LOCAL)
    return charge(shares, WEFT_BREAKER_TIMEOUT, probe, now);
  // Where answers do not count it says nothing of the endpoint: not that it is well, either.
  if (probe && !policy.threshold_5xx && !policy.threshold_gateway) return lose(shares, now);
  count_status(shares, 504, probe, now);
}

void Breaker::count_status(Shares& shares, std::uint16_t status, bool probe,
                           std::uint64_t now) const {
  auto& state = *shares.state;
  const auto& policy = *shares.policy;
  const bool bad = status >= 500, gateway = status >= 502 && status <= 504;
  // Reads first: a line that nobody writes to stays in every processor's cache.
  if (!bad && load(state.consecutive_5xx)) store(state.consecutive_5xx, 0);
  if (!gateway && load(state.consecutive_gateway)) store(state.consecutive_gateway, 0);
  std::uint32_t reason = WEFT_BREAKER_NONE;
  if (bad && policy.threshold_5xx &&
      __atomic_add_fetch(&state.consecutive_5xx, 1, __ATOMIC_SEQ_CST) >= policy.threshold_5xx)
    reason = WEFT_BREAKER_HTTP_5XX;
  if (gateway && policy.threshold_gateway &&
      __atomic_add_fetch(&state.consecutive_gateway, 1, __ATOMIC_SEQ_CST) >=
          policy.threshold_gateway)
    reason = WEFT_BREAKER_GATEWAY;
  if (!probe && !reason) return;
  const std::uint64_t word = load(state.breaker);
  if (probe && weft_breaker_state(word) == WEFT_BREAKER_HALF_OPEN) {
    // What opened it by its answers must answer better to come back.
    if (bad && (policy.threshold_5xx || policy.threshold_gateway))
      reopen(shares, word, gateway ? WEFT_BREAKER_GATEWAY : WEFT_BREAKER_HTTP_5XX, now);
    else
      close(shares, word, WEFT_BREAKER_PROBE, now);
  } else if (reason && weft_breaker_state(word) == WEFT_BREAKER_CLOSED) {
    eject(shares, word, reason, now);
    store(state.consecutive_5xx, 0);
    store(state.consecutive_gateway, 0);
  }
}

void Breaker::lose(Shares& shares, std::uint64_t now) const {
  const std::uint64_t word = load(shares.state->breaker);
  if (!is_current(shares) || weft_breaker_state(word) != WEFT_BREAKER_HALF_OPEN) return;
  turn(shares, word,
       weft_breaker_make(WEFT_BREAKER_OPEN, weft_breaker_reason(word), weft_breaker_counts(word),
                         weft_breaker_ejections(word), now),
       WEFT_BREAKER_PROBE_LOST);
}

}  // namespace weft::net
