/* From a dialled address to an endpoint: the decision itself. Takes no context, so that the same
 * code runs in connect(), in sendmsg() and under BPF_PROG_TEST_RUN (weft_why).
 *
 * One RCU section spans a program run and a slot range is re-used only after a grace period, so
 * what a record names is whole. The owner in every slot word is checked all the same: it costs a
 * compare, and turns a bug above into a counted refusal instead of somebody else's traffic. */
#pragma once
#include "abi/why.h"
#include "lib/address.bpf.h"
#include "lib/affinity.bpf.h"
#include "lib/breaker.bpf.h"
#include "lib/count.bpf.h"
#include "config.bpf.h"

/* Of a search for an endpoint that admits the call: first as the selector would go on, which keeps
 * the shares of the others equal, then along the slots. */
#define WEFT_TRIES_SELECTED 8
#define WEFT_TRIES 256

static __always_inline __u64 weft_mix(__u64 value) {
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdull;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ull;
    return value ^ (value >> 33);
}

/* The service index behind the key, or 0: no service of ours. A preallocated hash re-uses an erased
 * element at once, so the value may be another key's by the time it is read: its check says so, and
 * the second look finds the truth. */
static __always_inline __u32 weft_frontend_find(const struct weft_frontend_key *key) {
    const __u32 check = weft_frontend_check(key);
    for (int look = 0; look < 2; look++) {
        struct weft_frontend *value = bpf_map_lookup_elem(&weft_frontends, key);
        if (!value) return 0;
        const __u64 word = *(volatile __u64 *)value;
        if ((__u32)(word >> 32) == check) return (__u32)word;
        weft_count(WEFT_EVENT_RETRIED_STALE);
    }
    return 0;
}

/* A slot number; `again` counts the tries of one search. */
static __always_inline __u32 weft_slot_number(__u64 cookie, __u32 service, __u64 record,
                                              __u32 again, __u32 mode) {
    const __u32 count = weft_record_count(record);
    const __u32 selector = weft_record_selector(record) & WEFT_SELECT_MASK;
    if (!count) return 0;
    if (selector == WEFT_SELECT_HASH)
        return weft_mix((cookie ^ (__u64)service << 40) + again * 0x9e3779b97f4a7c15ull) % count;
    if (selector != WEFT_SELECT_ROTATE) return ((__u64)bpf_get_prandom_u32() * count) >> 32;
    struct weft_service_state *state = weft_total_of(service);
    if (!state) return 0;
    const __u64 turn =
        mode & WEFT_MODE_DRY ? state->cursor + again : __sync_fetch_and_add(&state->cursor, 1);
    return turn % count;
}

/* One slot word of the service, or 0 where it is not the service's. */
static __always_inline __u64 weft_slot_read(__u32 service, __u32 at) {
    __u64 *slot = bpf_map_lookup_elem(&weft_slots, &at);
    if (!slot) return 0;
    const __u64 word = *(volatile __u64 *)slot;
    return weft_slot_owner(word) == service ? word : 0;
}

static __always_inline __u32 weft_endpoint_at(__u32 service, __u64 record, __u32 number) {
    return weft_slot_low(
        weft_slot_read(service, weft_record_base(record) + WEFT_SLOT_HEADER + number));
}

/* What a connection more would weigh. An endpoint that is cut off weighs most, so that the draw
 * finds the other one; but nothing once its probe is due, else nobody would ever be the probe. */
static __always_inline __u64 weft_load_of(__u32 endpoint, __u32 ewma) {
    const struct weft_endpoint_state *state = bpf_map_lookup_elem(&weft_endpoint_states, &endpoint);
    if (!state) return ~0ull;
    const __u64 word = *(volatile __u64 *)&state->breaker;
    if (weft_breaker_state(word) != WEFT_BREAKER_CLOSED)
        return weft_now_ms() >= weft_breaker_until_ms(word) ? 0 : ~0ull;
    const __u32 connections = state->active + weft_beside(state->connections);
    return ewma ? weft_ewma_load(connections, weft_rtt_now(state)) : connections;
}

/* The lighter of two that were drawn at random (Mitzenmacher 2001): nearly as even as the lightest
 * of all, and two nodes that know the same do not all choose the same. */
weft_global __u32 weft_lighter(__u32 service, __u64 record, __u32 number) {
    const __u32 count = weft_record_count(record);
    const __u32 one = weft_endpoint_at(service, record, number);
    if (count < 2) return one;
    __u32 other_number = number + 1 + (__u32)(((__u64)bpf_get_prandom_u32() * (count - 1)) >> 32);
    if (other_number >= count) other_number -= count;
    const __u32 other = weft_endpoint_at(service, record, other_number);
    const __u32 ewma = (weft_record_selector(record) & WEFT_SELECT_MASK) == WEFT_SELECT_EWMA;
    return weft_load_of(other, ewma) < weft_load_of(one, ewma) ? other : one;
}

/* endpoint:32 | enum weft_admission:32, as one scalar. */
static __always_inline __u64 weft_found(__u32 endpoint, __u32 admission) {
    return (__u64)admission << 32 | endpoint;
}

/* The first of the spares, and of those before them that are listed there, that admits the call. */
static __always_inline __u64 weft_among_spares(__u32 service, __u64 record, __u32 mode) {
    const __u32 spares =
        weft_spares_count(weft_slot_read(service, weft_record_base(record) + WEFT_SLOT_HEADER - 1));
    __u32 why = WEFT_ADMIT_EJECTED;
    for (__u32 i = 0; i < WEFT_TRIES; i++) {
        if (i >= spares) break;
        const __u32 endpoint = weft_endpoint_at(service, record, weft_record_count(record) + i);
        if (!endpoint) continue;
        const __u32 admission = weft_admit(service, endpoint, mode | WEFT_ADMIT_ANYWAY);
        if (admission <= WEFT_ADMIT_PROBE) return weft_found(endpoint, admission);
        if (admission == WEFT_ADMIT_LIMIT) why = WEFT_ADMIT_LIMIT;
    }
    return weft_found(0, why);
}

/* Another endpoint, where the selected one did not admit the call. The range is the caller's RCU
 * section's, so it cannot change under us. */
weft_global __u64 weft_another(__u32 service, __u64 record, __u64 cookie, __u32 mode) {
    const __u32 count = weft_record_count(record);
    __u32 why = WEFT_ADMIT_EJECTED;
    if (!count) return weft_found(0, why);
    const __u32 spread = WEFT_TRIES - WEFT_TRIES_SELECTED;
    const __u32 stride = count > spread ? count / spread : 1;
    const __u32 first = (__u32)(((__u64)bpf_get_prandom_u32() * count) >> 32);
    for (__u32 i = 1; i < WEFT_TRIES; i++) {
        if (i >= count + WEFT_TRIES_SELECTED) break;
        __u32 number, how = mode;
        if (i < WEFT_TRIES_SELECTED) {
            number = weft_slot_number(cookie, service, record, i, mode);
        } else {
            number = (first + (i - WEFT_TRIES_SELECTED) * stride) % count;
            how |= WEFT_ADMIT_ANYWAY;
        }
        const __u32 endpoint = weft_endpoint_at(service, record, number);
        if (!endpoint) continue;
        const __u32 admission = weft_admit(service, endpoint, how);
        if (admission <= WEFT_ADMIT_PROBE) return weft_found(endpoint, admission);
        if (admission == WEFT_ADMIT_LIMIT) why = WEFT_ADMIT_LIMIT;
    }
    const __u64 spare = weft_among_spares(service, record, mode);
    return spare >> 32 <= WEFT_ADMIT_PROBE || why != WEFT_ADMIT_LIMIT ? spare : weft_found(0, why);
}

/* More endpoints of the service are out than may be. */
static __always_inline int weft_is_over(__u32 service) {
    const struct weft_service_state *total = weft_total_of(service);
    const struct weft_policy *policy = weft_policy_of(service);
    return total && policy && total->ejected > policy->max_ejected;
}

/* What session affinity has to say of a call; all zero where it has no part in it. */
struct weft_sticky {
    struct weft_affinity_key key;
    __u64 now;
    __u32 timeout;
    __u32 kept; /* endpoint id */
};

static __always_inline void weft_ask_affinity(const struct weft_query *query,
                                              const struct weft_answer *answer,
                                              struct weft_sticky *sticky) {
    if (!(weft_record_selector(answer->record) & WEFT_SELECT_AFFINITY)) return;
    sticky->key.netns_cookie = query->netns_cookie;
    sticky->key.service = answer->service;
    sticky->timeout =
        weft_slot_low(weft_slot_read(answer->service, weft_record_base(answer->record)));
    sticky->now = bpf_ktime_get_ns();
    sticky->kept = weft_affinity_find(&sticky->key, sticky->now, sticky->timeout,
                                      query->mode == WEFT_MODE_DRY);
}

/* The endpoint that the record and the selector lead to, or 0 where the range was not the
 * service's. */
static __always_inline __u32 weft_select(const struct weft_query *query,
                                         const struct weft_answer *answer) {
    const __u32 service = answer->service;
    const __u32 selector = weft_record_selector(answer->record) & WEFT_SELECT_MASK;
    const __u32 number =
        weft_slot_number(query->netns_cookie, service, answer->record, 0, query->mode);
    return selector >= WEFT_SELECT_LEAST ? weft_lighter(service, answer->record, number)
                                         : weft_endpoint_at(service, answer->record, number);
}

static __always_inline void weft_release_total(__u32 service, __u32 incarnation) {
    struct weft_service_state *total = weft_total_of(service);
    if (total && total->incarnation == incarnation) __sync_fetch_and_add(&total->active, -1);
}

/* Undoes what weft_pick reserved. */
static __noinline int weft_give_back(const struct weft_answer *answer) {
    if (!answer->held) return 0;
    struct weft_endpoint_state *state = weft_state_of(answer->endpoint, answer->incarnation);
    if (state) __sync_fetch_and_add(&state->active, -1);
    weft_release_total(answer->service, answer->service_incarnation);
    if (answer->held & WEFT_HELD_PROBE)
        weft_settle(answer->service, answer->endpoint, answer->incarnation, 1);
    return 0;
}

/* A connection that was not reset ends a run of resets; what ends a run of failed connects is a
 * connect that is answered. */
static __always_inline void weft_end_of_resets(__u32 endpoint, __u32 incarnation) {
    struct weft_endpoint_state *state = weft_state_of(endpoint, incarnation);
    if (state && state->consecutive && state->last_reason == WEFT_BREAKER_RESET)
        weft_end_of_failures(state);
}

/* The service's own limit: a reservation for as long as the connection is one. */
static __always_inline int weft_enter(struct weft_answer *answer) {
    struct weft_service_state *total = weft_total_of(answer->service);
    const struct weft_policy *policy = weft_policy_of(answer->service);
    if (!total || !policy) return 0;
    answer->service_incarnation = total->incarnation;
    const __u32 most = policy->max_connections;
    const __u32 before = __sync_fetch_and_add(&total->active, 1);
    if (!most || before + weft_beside(total->connections) < most) return 1;
    __sync_fetch_and_add(&total->active, -1);
    return 0;
}

/* The same for whoever reserves nothing. */
static __always_inline int weft_is_full(__u32 service) {
    const struct weft_service_state *total = weft_total_of(service);
    const struct weft_policy *policy = weft_policy_of(service);
    return total && policy && policy->max_connections &&
           total->active + weft_beside(total->connections) >= policy->max_connections;
}

/* Takes the endpoint over that a concurrent connect of the same client was first to remember. */
static __always_inline __u32 weft_remember(const struct weft_query *query,
                                           const struct weft_answer *answer,
                                           const struct weft_sticky *sticky, __u32 *admission) {
    const __u32 service = answer->service, mine = answer->endpoint;
    const __u32 first =
        weft_affinity_keep(&sticky->key, sticky->now, sticky->timeout, mine, service);
    if (first == mine || !first) return mine;
    const __u32 admitted = weft_admit(service, first, query->mode | WEFT_ADMIT_ANYWAY);
    if (admitted > WEFT_ADMIT_PROBE)
        return mine; /* it is cut off: a detour, it is kept for later */
    if (query->mode == WEFT_MODE_HOLD) {
        const __u32 incarnation = weft_incarnation(mine);
        struct weft_endpoint_state *state = weft_state_of(mine, incarnation);
        if (state) __sync_fetch_and_add(&state->active, -1);
        if (*admission == WEFT_ADMIT_PROBE) weft_settle(service, mine, incarnation, 1);
    }
    *admission = admitted;
    return first;
}

/* Selected and admitted, with its reservation where the mode wants one. */
static __always_inline __u32 weft_select_admitted(const struct weft_query *query,
                                                  struct weft_answer *answer) {
    struct weft_sticky sticky = {};
    weft_ask_affinity(query, answer, &sticky);
    answer->affinity = sticky.kept != 0;
    answer->endpoint = sticky.kept ? sticky.kept : weft_select(query, answer);
    if (!answer->endpoint) return WEFT_VERDICT_REFUSE_STALE;
    const __u32 how = sticky.kept ? query->mode | WEFT_ADMIT_ANYWAY : query->mode;
    __u32 admission = weft_admit(answer->service, answer->endpoint, how);
    if (admission > WEFT_ADMIT_PROBE) {
        __u64 found =
            weft_another(answer->service, answer->record, query->netns_cookie, query->mode);
        if (found >> 32 == WEFT_ADMIT_EJECTED && weft_is_over(answer->service))
            found = weft_another(answer->service, answer->record, query->netns_cookie,
                                 query->mode | WEFT_ADMIT_OVER);
        answer->endpoint = (__u32)found;
        answer->affinity = 0;
        admission = found >> 32;
    }
    if (admission == WEFT_ADMIT_LIMIT) return WEFT_VERDICT_REFUSE_LIMIT;
    if (admission > WEFT_ADMIT_PROBE) return WEFT_VERDICT_REFUSE_EJECTED;
    if (sticky.timeout && !sticky.kept && query->mode != WEFT_MODE_DRY)
        answer->endpoint = weft_remember(query, answer, &sticky, &admission);
    answer->incarnation = weft_incarnation(answer->endpoint);
    if (query->mode == WEFT_MODE_HOLD)
        answer->held = WEFT_HELD | (admission == WEFT_ADMIT_PROBE ? WEFT_HELD_PROBE : 0);
    return WEFT_VERDICT_TRANSLATE;
}

/* CAPTURE or REFUSE_PROXY_DOWN where connections to the service are the proxy's, else PASS. Of
 * scalars, so that the verifier looks at it once. */
weft_global int weft_proxy_verdict(__u32 service, __u64 cookie, __u32 listening) {
    const struct weft_policy *policy = weft_policy_of(service);
    if (!policy || !(policy->flags & WEFT_POLICY_PROXY)) return WEFT_VERDICT_PASS;
    const __u32 zero = 0;
    const struct weft_proxy_state *state = bpf_map_lookup_elem(&weft_proxy_state, &zero);
    const __u64 *capture = bpf_map_lookup_elem(&weft_captures, &cookie);
    if (state && capture && weft_proxy_serves(state, bpf_ktime_get_ns()) &&
        weft_capture_listening(*(volatile __u64 *)capture, cookie) & listening)
        return WEFT_VERDICT_CAPTURE;
    return policy->flags & WEFT_POLICY_PROXY_DIRECT ? WEFT_VERDICT_PASS
                                                    : WEFT_VERDICT_REFUSE_PROXY_DOWN;
}

/* The same for a query, and the listener's address where it is captured. Before anything is asked
 * of endpoints: the rules may lead to another service's. */
static __always_inline __u32 weft_divert(const struct weft_query *query,
                                         struct weft_answer *answer) {
    if (!knob_proxy || query->key.proto != IPPROTO_TCP) return WEFT_VERDICT_PASS;
    const int v4 = weft_addr_is_v4(&query->key.addr);
    const __u32 family = v4 ? WEFT_LISTENING_V4 : WEFT_LISTENING_V6;
    const __u32 verdict = weft_proxy_verdict(answer->service, query->netns_cookie,
                                             query->reach & WEFT_REACH_NO_LOOPBACK ? 0 : family);
    if (verdict != WEFT_VERDICT_CAPTURE) return verdict;
    __u32 *word = (__u32 *)&answer->addr;
    word[0] = 0;
    word[1] = 0;
    word[2] = v4 ? bpf_htonl(0xffff) : 0;
    word[3] = v4 ? bpf_htonl(0x7f000001) : bpf_htonl(1);
    answer->port = bpf_htons(WEFT_CAPTURE_PORT);
    return verdict;
}

/* A function of its own, not inlined: it stands in every hook twice, and the verifier's time at
 * each start of weftd follows the size of the programs (measured: half of it). */
static __noinline __u32 weft_resolve(const struct weft_query *query, struct weft_answer *answer) {
    __u64 *record = bpf_map_lookup_elem(&weft_services, &answer->service);
    if (!record) return WEFT_VERDICT_REFUSE_STALE;
    answer->record = *(volatile __u64 *)record;
    const __u32 diverted = weft_divert(query, answer);
    if (diverted != WEFT_VERDICT_PASS) return diverted;
    if (weft_record_count(answer->record) == 0) return WEFT_VERDICT_REFUSE_NO_ENDPOINT;
    if (query->mode == WEFT_MODE_HOLD ? !weft_enter(answer) : weft_is_full(answer->service))
        return WEFT_VERDICT_REFUSE_LIMIT;
    __u32 verdict = weft_select_admitted(query, answer);
    if (verdict != WEFT_VERDICT_TRANSLATE) {
        if (query->mode == WEFT_MODE_HOLD)
            weft_release_total(answer->service, answer->service_incarnation);
        return verdict;
    }
    struct weft_endpoint *endpoint = weft_endpoint_get(answer->endpoint);
    if (!endpoint) return WEFT_VERDICT_REFUSE_STALE;
    const __u64 word = *(volatile __u64 *)&endpoint->word;
    answer->addr = endpoint->addr;
    answer->port = weft_endpoint_port(word);
    const __u32 needs = weft_addr_is_v4(&answer->addr) ? WEFT_REACH_V4 : WEFT_REACH_V6;
    if (weft_endpoint_service(word) != answer->service)
        verdict = WEFT_VERDICT_REFUSE_STALE;
    else if (!(query->reach & needs))
        verdict = WEFT_VERDICT_REFUSE_FAMILY;
    if (verdict != WEFT_VERDICT_TRANSLATE) {
        weft_give_back(answer);
        answer->held = 0;
    }
    return verdict;
}

static __noinline int weft_count_refusal(const struct weft_answer *answer) {
    struct weft_service_state *state = bpf_map_lookup_elem(&weft_service_states, &answer->service);
    if (!state) return 0;
    if (answer->verdict == WEFT_VERDICT_REFUSE_NO_ENDPOINT) {
        __sync_fetch_and_add(&state->refused_no_endpoint, 1);
        weft_count(WEFT_EVENT_REFUSED_NO_ENDPOINT);
    } else if (answer->verdict == WEFT_VERDICT_REFUSE_FAMILY) {
        __sync_fetch_and_add(&state->refused_family, 1);
        weft_count(WEFT_EVENT_REFUSED_FAMILY);
    } else if (answer->verdict == WEFT_VERDICT_REFUSE_EJECTED) {
        __sync_fetch_and_add(&state->refused_ejected, 1);
        weft_count(WEFT_EVENT_REFUSED_EJECTED);
    } else if (answer->verdict == WEFT_VERDICT_REFUSE_LIMIT) {
        __sync_fetch_and_add(&state->refused_limit, 1);
        weft_count(WEFT_EVENT_REFUSED_LIMIT);
    } else if (answer->verdict == WEFT_VERDICT_REFUSE_PROXY_DOWN) {
        __sync_fetch_and_add(&state->refused_proxy_down, 1);
        weft_count(WEFT_EVENT_REFUSED_PROXY_DOWN);
    } else {
        __sync_fetch_and_add(&state->refused_stale, 1);
        weft_count(WEFT_EVENT_REFUSED_STALE);
    }
    return 0;
}

/* Fills `answer`. A stale range is looked at a second time: only a bug above fails that too. */
static __always_inline void weft_pick(const struct weft_query *query, struct weft_answer *answer) {
    answer->verdict = WEFT_VERDICT_PASS;
    answer->service = weft_frontend_find(&query->key);
    if (!answer->service) return;
    answer->verdict = weft_resolve(query, answer);
    if (answer->verdict == WEFT_VERDICT_REFUSE_STALE) {
        weft_count(WEFT_EVENT_RETRIED_STALE);
        answer->verdict = weft_resolve(query, answer);
    }
    if (answer->verdict != WEFT_VERDICT_TRANSLATE && answer->verdict != WEFT_VERDICT_CAPTURE &&
        query->mode != WEFT_MODE_DRY)
        weft_count_refusal(answer);
}
