/* The circuit breaker of an endpoint: who may pass, what a failure or a success changes.
 *
 * weft_admit, weft_charge and weft_settle are global functions of scalars: the verifier looks at
 * each of them once, not once per path that leads there (measured: inlined, a search over 16 slots
 * ran into the limit of one million instructions). __weak: every object has them, the linker keeps
 * one.
 *
 * Reserve, then check: the reservation is an atomic add whose answer decides, so N simultaneous
 * connects never exceed a limit, not even by one. */
#pragma once
#include "abi/why.h"
#include "lib/count.bpf.h"

#define WEFT_MS_NS 1000000ull
#define weft_global __weak __attribute__((noinline))

enum weft_admission {
    WEFT_ADMIT_YES = 1,
    WEFT_ADMIT_PROBE = 2,   /* and it is the one that a half-open breaker lets through */
    WEFT_ADMIT_EJECTED = 3, /* its breaker is open */
    WEFT_ADMIT_LIMIT = 4,   /* it has as many connections as it may */
    WEFT_ADMIT_LATER = 5,   /* it is warming up: not this one, unless there is nobody else */
};

/* Beside enum weft_mode, for weft_admit. */
#define WEFT_ADMIT_ANYWAY 4u /* warming up is no reason to say no */

static __always_inline __u64 weft_now_ms(void) { return bpf_ktime_get_ns() / WEFT_MS_NS; }

static __always_inline struct weft_policy *weft_policy_of(__u32 service) {
    return bpf_map_lookup_elem(&weft_policies, &service);
}

static __always_inline struct weft_service_state *weft_total_of(__u32 service) {
    return bpf_map_lookup_elem(&weft_service_states, &service);
}

static __always_inline struct weft_endpoint_state *weft_state_of(__u32 endpoint,
                                                                 __u32 incarnation) {
    struct weft_endpoint_state *state = bpf_map_lookup_elem(&weft_endpoint_states, &endpoint);
    return state && state->incarnation == incarnation ? state : 0;
}

static __always_inline void weft_tell(const struct weft_endpoint_state *state, __u32 service,
                                      __u32 endpoint, __u64 from, __u64 to, __u32 reason) {
    struct weft_transition told = {
        .at_ns = bpf_ktime_get_ns(),
        .from = from,
        .to = to,
        .service = service,
        .endpoint = endpoint,
        .incarnation = state->incarnation,
        .reason = reason,
    };
    if (bpf_ringbuf_output(&weft_transitions, &told, sizeof told, 0))
        weft_count(WEFT_EVENT_TRANSITION_LOST);
}

/* The transition, if the word is still `from`: nonzero for whoever made it. */
static __always_inline int weft_turn(struct weft_endpoint_state *state, __u32 service,
                                     __u32 endpoint, __u64 from, __u64 to, __u32 reason) {
    if (__sync_val_compare_and_swap(&state->breaker, from, to) != from) return 0;
    weft_tell(state, service, endpoint, from, to, reason);
    return 1;
}

/* What a breaker that is not closed says. More endpoints out than may be (others have left the
 * mesh, the policy has changed): the ones out serve again, as if closed. */
static __always_inline int weft_pass_open(struct weft_endpoint_state *state, __u64 word,
                                          const struct weft_policy *policy, __u32 service,
                                          __u32 endpoint, __u32 mode) {
    const struct weft_service_state *total = weft_total_of(service);
    if (weft_breaker_counts(word) && total && total->ejected > policy->max_ejected)
        return WEFT_ADMIT_YES;
    const __u64 now = weft_now_ms();
    if (now < weft_breaker_until_ms(word)) return WEFT_ADMIT_EJECTED;
    if (mode & WEFT_MODE_DRY) return WEFT_ADMIT_PROBE;
    /* Nothing tells what becomes of a datagram, so it is no probe. */
    if (!(mode & WEFT_MODE_HOLD)) return WEFT_ADMIT_EJECTED;
    const __u64 next = weft_breaker_make(WEFT_BREAKER_HALF_OPEN, weft_breaker_reason(word),
                                         weft_breaker_counts(word), weft_breaker_ejections(word),
                                         now + policy->lease_ms);
    return weft_turn(state, service, endpoint, word, next, WEFT_BREAKER_PROBE) ? WEFT_ADMIT_PROBE
                                                                               : WEFT_ADMIT_EJECTED;
}

/* An endpoint that came or recovered lately takes a share that grows with its age. */
static __always_inline int weft_is_warm(__u64 word, const struct weft_policy *policy) {
    const __u64 age = weft_now_ms() - weft_breaker_until_ms(word);
    if (age >= policy->warmup_ms) return 1;
    const __u64 permille = age * 1000 / policy->warmup_ms;
    const __u64 least = policy->warmup_percent * 10;
    return bpf_get_prandom_u32() % 1000 < (permille > least ? permille : least);
}

/* Whether a call may go to the endpoint; with WEFT_MODE_HOLD its reservation is made. */
weft_global int weft_admit(__u32 service, __u32 endpoint, __u32 mode) {
    struct weft_endpoint_state *state = bpf_map_lookup_elem(&weft_endpoint_states, &endpoint);
    const struct weft_policy *policy = weft_policy_of(service);
    if (!state || !policy) return WEFT_ADMIT_EJECTED;
    const __u64 word = *(volatile __u64 *)&state->breaker;
    int admitted = WEFT_ADMIT_YES;
    if (weft_breaker_state(word) != WEFT_BREAKER_CLOSED) {
        admitted = weft_pass_open(state, word, policy, service, endpoint, mode);
        if (admitted == WEFT_ADMIT_EJECTED) return WEFT_ADMIT_EJECTED;
    } else if (word && policy->warmup_ms && !(mode & WEFT_ADMIT_ANYWAY) &&
               !weft_is_warm(word, policy)) {
        return WEFT_ADMIT_LATER;
    }
    const __u32 most = policy->max_per_endpoint;
    if (!(mode & WEFT_MODE_HOLD))
        return most && state->active >= most ? WEFT_ADMIT_LIMIT : admitted;
    if (__sync_fetch_and_add(&state->active, 1) < most || !most) return admitted;
    __sync_fetch_and_add(&state->active, -1);
    if (admitted == WEFT_ADMIT_PROBE) { /* not tried after all: due again at once */
        const __u64 lent = *(volatile __u64 *)&state->breaker;
        if (weft_breaker_state(lent) == WEFT_BREAKER_HALF_OPEN)
            weft_turn(state, service, endpoint, lent, word, WEFT_BREAKER_PROBE_LOST);
    }
    return WEFT_ADMIT_LIMIT;
}

/* Ejections so far, less one for every interval that it has been closed since. */
static __always_inline __u32 weft_ejections(__u64 word, __u64 now,
                                            const struct weft_policy *policy) {
    const __u32 before = weft_breaker_ejections(word);
    const __u64 since = weft_breaker_until_ms(word);
    if (weft_breaker_state(word) != WEFT_BREAKER_CLOSED || !policy->interval_ms || now < since)
        return before;
    const __u64 forgotten = (now - since) / policy->interval_ms;
    return forgotten < before ? before - (__u32)forgotten : 0;
}

static __always_inline __u64 weft_opened_word(__u64 word, __u64 now, __u32 reason, __u32 counts,
                                              const struct weft_policy *policy) {
    __u32 ejections = weft_ejections(word, now, policy);
    if (ejections < 255) ejections++;
    __u64 time = (__u64)policy->base_ejection_ms * ejections;
    if (time > policy->max_ejection_ms) time = policy->max_ejection_ms;
    return weft_breaker_make(WEFT_BREAKER_OPEN, reason, counts, ejections, now + time);
}

/* Closed -> open, where the service can spare one more. */
static __always_inline void weft_eject(struct weft_endpoint_state *state, __u64 word,
                                       const struct weft_policy *policy, __u32 service,
                                       __u32 endpoint, __u32 reason, __u64 now) {
    struct weft_service_state *total = weft_total_of(service);
    if (!total) return;
    if (__sync_fetch_and_add(&total->ejected, 1) < policy->max_ejected &&
        weft_turn(state, service, endpoint, word, weft_opened_word(word, now, reason, 1, policy),
                  reason))
        return;
    __sync_fetch_and_add(&total->ejected, -1);
}

/* A connect or a connection failed. `probe`: it was the half-open breaker's. */
weft_global int weft_charge(__u32 service, __u32 endpoint, __u32 incarnation, __u32 reason,
                            __u32 probe) {
    struct weft_endpoint_state *state = weft_state_of(endpoint, incarnation);
    const struct weft_policy *policy = weft_policy_of(service);
    if (!state || !policy) return 0;
    const __u64 now = weft_now_ms();
    const __u32 count = __sync_fetch_and_add(&state->consecutive, 1) + 1;
    if (count == 1) *(volatile __u64 *)&state->failing_since_ms = now;
    state->last_reason = reason;
    const __u64 word = *(volatile __u64 *)&state->breaker;
    if (probe) {
        if (weft_breaker_state(word) == WEFT_BREAKER_HALF_OPEN)
            weft_turn(state, service, endpoint, word,
                      weft_opened_word(word, now, reason, weft_breaker_counts(word), policy),
                      reason);
        return 0;
    }
    if (weft_breaker_state(word) != WEFT_BREAKER_CLOSED) return 0;
    const __u64 failing = now - *(volatile __u64 *)&state->failing_since_ms;
    if ((policy->threshold && count >= policy->threshold) ||
        (policy->failing_for_ms && count > 1 && failing >= policy->failing_for_ms))
        weft_eject(state, word, policy, service, endpoint, reason, now);
    return 0;
}

/* A probe is over: it was answered, or (lost) ended without an answer either way, and the next
 * connection is the probe. */
weft_global int weft_settle(__u32 service, __u32 endpoint, __u32 incarnation, __u32 lost) {
    struct weft_endpoint_state *state = weft_state_of(endpoint, incarnation);
    if (!state) return 0;
    const __u64 word = *(volatile __u64 *)&state->breaker;
    if (weft_breaker_state(word) != WEFT_BREAKER_HALF_OPEN) return 0;
    const __u32 reason = weft_breaker_reason(word), counts = weft_breaker_counts(word);
    const __u32 ejections = weft_breaker_ejections(word);
    const __u64 now = weft_now_ms();
    if (lost) {
        weft_turn(state, service, endpoint, word,
                  weft_breaker_make(WEFT_BREAKER_OPEN, reason, counts, ejections, now),
                  WEFT_BREAKER_PROBE_LOST);
        return 0;
    }
    if (!weft_turn(state, service, endpoint, word,
                   weft_breaker_make(WEFT_BREAKER_CLOSED, reason, 0, ejections, now),
                   WEFT_BREAKER_PROBE))
        return 0;
    struct weft_service_state *total = weft_total_of(service);
    if (counts && total) __sync_fetch_and_add(&total->ejected, -1);
    return 0;
}
