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
#include "lib/count.bpf.h"

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

static __always_inline __u32 weft_slot_number(const struct weft_query *query, __u32 service,
                                              __u64 record) {
    const __u32 count = weft_record_count(record);
    const __u32 selector = weft_record_selector(record) & WEFT_SELECT_MASK;
    if (selector == WEFT_SELECT_RANDOM) return ((__u64)bpf_get_prandom_u32() * count) >> 32;
    if (selector == WEFT_SELECT_HASH)
        return weft_mix(query->netns_cookie ^ (__u64)service << 40) % count;
    struct weft_service_state *state = bpf_map_lookup_elem(&weft_service_states, &service);
    if (!state) return 0;
    const __u64 turn = query->dry ? state->cursor : __sync_fetch_and_add(&state->cursor, 1);
    return turn % count;
}

/* One slot word of the service, or 0 where it is not the service's. */
static __always_inline __u64 weft_slot_read(__u32 service, __u32 at) {
    __u64 *slot = bpf_map_lookup_elem(&weft_slots, &at);
    if (!slot) return 0;
    const __u64 word = *(volatile __u64 *)slot;
    return weft_slot_owner(word) == service ? word : 0;
}

/* The endpoint id the record leads to, or 0 where the range was not the service's. */
static __always_inline __u32 weft_select(const struct weft_query *query,
                                         struct weft_answer *answer) {
    const __u32 service = answer->service;
    const __u32 base = weft_record_base(answer->record);
    const int sticky = weft_record_selector(answer->record) & WEFT_SELECT_AFFINITY;
    struct weft_affinity_key key = {.netns_cookie = query->netns_cookie, .service = service};
    __u32 timeout = 0;
    __u64 now = 0;
    if (sticky) {
        timeout = weft_slot_low(weft_slot_read(service, base));
        now = bpf_ktime_get_ns();
        const __u32 kept = weft_affinity_find(&key, now, timeout, query->dry);
        if (kept) {
            answer->affinity = 1;
            return kept;
        }
    }
    const __u32 number = weft_slot_number(query, service, answer->record);
    const __u32 endpoint = weft_slot_low(weft_slot_read(service, base + WEFT_SLOT_HEADER + number));
    if (!sticky || !endpoint || !timeout || query->dry) return endpoint;
    return weft_affinity_keep(&key, now, timeout, endpoint, service);
}

/* A function of its own, not inlined: it stands in every hook twice, and the verifier's time at
 * each start of weftd follows the size of the programs (measured: half of it). */
static __noinline __u32 weft_resolve(const struct weft_query *query, struct weft_answer *answer) {
    __u64 *record = bpf_map_lookup_elem(&weft_services, &answer->service);
    if (!record) return WEFT_VERDICT_REFUSE_STALE;
    answer->record = *(volatile __u64 *)record;
    if (weft_record_count(answer->record) == 0) return WEFT_VERDICT_REFUSE_NO_ENDPOINT;
    answer->endpoint = weft_select(query, answer);
    struct weft_endpoint *endpoint = weft_endpoint_get(answer->endpoint);
    if (!endpoint) return WEFT_VERDICT_REFUSE_STALE;
    const __u64 word = *(volatile __u64 *)&endpoint->word;
    if (!answer->endpoint || weft_endpoint_service(word) != answer->service)
        return WEFT_VERDICT_REFUSE_STALE;
    answer->addr = endpoint->addr;
    answer->port = weft_endpoint_port(word);
    const __u32 needs = weft_addr_is_v4(&answer->addr) ? WEFT_REACH_V4 : WEFT_REACH_V6;
    return query->reach & needs ? WEFT_VERDICT_TRANSLATE : WEFT_VERDICT_REFUSE_FAMILY;
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
    if (answer->verdict == WEFT_VERDICT_TRANSLATE)
        answer->incarnation = weft_incarnation(answer->endpoint);
    else if (!query->dry)
        weft_count_refusal(answer);
}
