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
#include "abi/ewma.h"
#include "abi/why.h"
#include "config.bpf.h"
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
#define WEFT_ADMIT_OVER 8u   /* nobody else is left: see weft_pass_open */

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

/* The smoothed RTT as old as it is; 0: not known. */
static __always_inline __u64 weft_rtt_now(const struct weft_endpoint_state *state) {
    const __u32 at_ms = *(volatile __u32 *)&state->rtt_at_ms;
    return weft_ewma_now(*(volatile __u32 *)&state->rtt_us, (__u32)weft_now_ms() - at_ms);
}

/* The transition, if the word is still `from`: nonzero for whoever made it. */
static __always_inline int weft_turn(struct weft_endpoint_state *state, __u32 service,
                                     __u32 endpoint, __u64 from, __u64 to, __u32 reason) {
    if (__sync_val_compare_and_swap(&state->breaker, from, to) != from) return 0;
    weft_tell(state, service, endpoint, from, to, reason);
    return 1;
}

/* One ejected endpoint less. Below zero it goes only where a recount took it away first, and then
 * for a moment: as the largest number it lets nobody be ejected. */
static __always_inline void weft_one_ejected_less(__u32 service) {
    struct weft_service_state *total = weft_total_of(service);
    if (total && !__sync_fetch_and_add(&total->ejected, -1))
        __sync_fetch_and_add(&total->ejected, 1);
}

static __always_inline void weft_close(struct weft_endpoint_state *state, __u64 word, __u32 service,
                                       __u32 endpoint, __u32 reason) {
    const __u64 closed = weft_breaker_make(WEFT_BREAKER_CLOSED, weft_breaker_reason(word), 0,
                                           weft_breaker_ejections(word), weft_now_ms());
    if (weft_turn(state, service, endpoint, word, closed, reason) && weft_breaker_counts(word))
        weft_one_ejected_less(service);
}

/* What a breaker that is not closed says. `over`: nobody else admits the call, and more endpoints
 * are out than may be (others have left the mesh, the policy has changed): then those that are out
 * serve as if closed, and so they do where outlier detection was turned off. Probed they are all
 * the same. */
static __always_inline int weft_pass_open(struct weft_endpoint_state *state, __u64 word,
                                          const struct weft_policy *policy, __u32 service,
                                          __u32 endpoint, __u32 mode) {
    const struct weft_service_state *total = weft_total_of(service);
    const int over = mode & WEFT_ADMIT_OVER && total && total->ejected > policy->max_ejected;
    const int serves = weft_breaker_counts(word) && (over || !weft_policy_ejects(policy));
    const int otherwise = serves ? WEFT_ADMIT_YES : WEFT_ADMIT_EJECTED;
    const __u64 now = weft_now_ms();
    if (now < weft_breaker_until_ms(word)) return otherwise;
    if (mode & WEFT_MODE_DRY) return WEFT_ADMIT_PROBE;
    if (!(mode & WEFT_MODE_HOLD)) {
        /* A datagram: nothing tells what becomes of it, so the time alone decides. */
        weft_close(state, word, service, endpoint, WEFT_BREAKER_PROBE);
        return WEFT_ADMIT_YES;
    }
    const __u64 next = weft_breaker_make(WEFT_BREAKER_HALF_OPEN, weft_breaker_reason(word),
                                         weft_breaker_counts(word), weft_breaker_ejections(word),
                                         now + policy->lease_ms);
    return weft_turn(state, service, endpoint, word, next, WEFT_BREAKER_PROBE) ? WEFT_ADMIT_PROBE
                                                                               : otherwise;
}

/* Its breaker is open and its time is not over: no place for a conversation to go on. */
static __always_inline int weft_is_cut_off(__u32 endpoint) {
    const struct weft_endpoint_state *state = bpf_map_lookup_elem(&weft_endpoint_states, &endpoint);
    if (!state) return 1;
    const __u64 word = *(volatile __u64 *)&state->breaker;
    return weft_breaker_state(word) != WEFT_BREAKER_CLOSED &&
           weft_now_ms() < weft_breaker_until_ms(word);
}

/* An endpoint that came or recovered lately takes a share that grows with its age. */
static __always_inline int weft_is_warm(__u64 word, const struct weft_policy *policy) {
    const __u64 age = weft_now_ms() - weft_breaker_until_ms(word);
    if (age >= policy->warmup_ms) return 1;
    const __u64 permille = age * 1000 / policy->warmup_ms;
    const __u64 least = policy->warmup_percent * 10;
    return bpf_get_prandom_u32() % 1000 < (permille > least ? permille : least);
}

/* The proxy's connections, which count beside those of sockets. */
static __always_inline __u32 weft_beside(const __u32 *connections) {
    return knob_proxy ? weft_proxy_connections(connections) : 0;
}

/* Whether a call may go to the endpoint; with WEFT_MODE_HOLD its reservation is made. */
weft_global int weft_admit(__u32 service, __u32 endpoint, __u32 mode) {
    struct weft_endpoint_state *state = bpf_map_lookup_elem(&weft_endpoint_states, &endpoint);
    const struct weft_policy *policy = weft_policy_of(service);
    if (!state || !policy) return WEFT_ADMIT_EJECTED;
    const __u64 word = *(volatile __u64 *)&state->breaker;
    const __u32 most = policy->max_per_endpoint;
    int admitted = WEFT_ADMIT_YES;
    /* Before a probe is lent: one that has no place would be lent and taken back at every call. */
    if (most && state->active + weft_beside(state->connections) >= most) return WEFT_ADMIT_LIMIT;
    if (weft_breaker_state(word) != WEFT_BREAKER_CLOSED) {
        admitted = weft_pass_open(state, word, policy, service, endpoint, mode);
        if (admitted == WEFT_ADMIT_EJECTED) return WEFT_ADMIT_EJECTED;
    } else if (word && policy->warmup_ms && !(mode & WEFT_ADMIT_ANYWAY) &&
               !weft_is_warm(word, policy)) {
        return WEFT_ADMIT_LATER;
    }
    if (!(mode & WEFT_MODE_HOLD)) return admitted;
    const __u32 before = __sync_fetch_and_add(&state->active, 1);
    if (!most || before + weft_beside(state->connections) < most) return admitted;
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

/* A place among the service's ejected, where it can spare one more. */
static __always_inline int weft_take_ejection(const struct weft_policy *policy, __u32 service) {
    struct weft_service_state *total = weft_total_of(service);
    if (!total) return 0;
    if (__sync_fetch_and_add(&total->ejected, 1) < policy->max_ejected) return 1;
    weft_one_ejected_less(service);
    return 0;
}

/* Closed -> open. One that takes no new connections needs no cutting off, and must not use up what
 * the others may need. */
static __always_inline void weft_eject(struct weft_endpoint_state *state, __u64 word,
                                       const struct weft_policy *policy, __u32 service,
                                       __u32 endpoint, __u32 reason, __u64 now) {
    const struct weft_endpoint *e = bpf_map_lookup_elem(&weft_endpoints, &endpoint);
    if (!e || !e->weight ||
        !(weft_endpoint_flags(*(volatile __u64 *)&e->word) & WEFT_ENDPOINT_READY))
        return;
    if (!weft_take_ejection(policy, service)) return;
    const __u64 next = weft_opened_word(word, now, reason, 1, policy);
    if (!weft_turn(state, service, endpoint, word, next, reason)) weft_one_ejected_less(service);
}

/* Half-open -> open for longer. An endpoint that a person had opened is out by its own failure from
 * now on, so under the floor like any other; where that has no room it serves. */
static __always_inline void weft_reopen(struct weft_endpoint_state *state, __u64 word,
                                        const struct weft_policy *policy, __u32 service,
                                        __u32 endpoint, __u32 reason, __u64 now) {
    const __u32 counted = weft_breaker_counts(word);
    if (!counted && !weft_take_ejection(policy, service)) {
        weft_close(state, word, service, endpoint, reason);
        return;
    }
    const __u64 next = weft_opened_word(word, now, reason, 1, policy);
    if (!weft_turn(state, service, endpoint, word, next, reason) && !counted)
        weft_one_ejected_less(service);
}

/* When the failures in a row began; the first to fail says so. */
static __always_inline __u64 weft_failing_since(struct weft_endpoint_state *state, __u64 now) {
    const __u64 since = *(volatile __u64 *)&state->failing_since_ms;
    if (since) return since;
    const __u64 raced = __sync_val_compare_and_swap(&state->failing_since_ms, 0, now);
    return raced ? raced : now;
}

/* A run of failures is over. */
static __always_inline void weft_end_of_failures(struct weft_endpoint_state *state) {
    state->consecutive = 0;
    *(volatile __u64 *)&state->failing_since_ms = 0;
}

/* A connect or a connection failed. `probe`: it was the half-open breaker's. */
weft_global int weft_charge(__u32 service, __u32 endpoint, __u32 incarnation, __u32 reason,
                            __u32 probe) {
    struct weft_endpoint_state *state = weft_state_of(endpoint, incarnation);
    const struct weft_policy *policy = weft_policy_of(service);
    if (!state || !policy) return 0;
    const __u64 now = weft_now_ms();
    const __u32 count = __sync_fetch_and_add(&state->consecutive, 1) + 1;
    const __u64 failing = now - weft_failing_since(state, now);
    state->last_reason = reason;
    const __u64 word = *(volatile __u64 *)&state->breaker;
    if (probe) {
        if (weft_breaker_state(word) == WEFT_BREAKER_HALF_OPEN)
            weft_reopen(state, word, policy, service, endpoint, reason, now);
        return 0;
    }
    if (weft_breaker_state(word) != WEFT_BREAKER_CLOSED) return 0;
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
    if (lost)
        weft_turn(state, service, endpoint, word,
                  weft_breaker_make(WEFT_BREAKER_OPEN, weft_breaker_reason(word),
                                    weft_breaker_counts(word), weft_breaker_ejections(word),
                                    weft_now_ms()),
                  WEFT_BREAKER_PROBE_LOST);
    else
        weft_close(state, word, service, endpoint, WEFT_BREAKER_PROBE);
    return 0;
}
