/* Session affinity: a client (a network namespace) keeps its endpoint of a service while it comes
 * back within the timeout and the endpoint is ready.
 *
 * Two first connects of one client may race: both insert with BPF_NOEXIST, the loser takes the
 * winner's choice. An entry is changed in place, one atomic word at a time, never by map update: an
 * update re-uses the old element at once, also for another key (measured, docs/kernel.md). */
#pragma once
#include "lib/count.bpf.h"

#define WEFT_SECOND_NS 1000000000ull

static __always_inline __u64 weft_choice_make(__u32 endpoint, __u32 incarnation) {
    return (__u64)incarnation << 32 | endpoint;
}

static __always_inline struct weft_endpoint *weft_endpoint_get(__u32 id) {
    return bpf_map_lookup_elem(&weft_endpoints, &id);
}

static __always_inline __u32 weft_incarnation(__u32 endpoint) {
    struct weft_endpoint_state *state = bpf_map_lookup_elem(&weft_endpoint_states, &endpoint);
    return state ? state->incarnation : 0;
}

/* A word of the service's range, by its distance from the base; 0: there is none. */
static __always_inline __u64 weft_range_word(__u64 record, __u32 offset) {
    __u32 at = weft_record_base(record) + offset;
    __u64 *word = weft_record_count(record) ? bpf_map_lookup_elem(&weft_slots, &at) : 0;
    return word ? *(volatile __u64 *)word : 0;
}

/* Whether the service serves from draining endpoints now, having no ready one: then its first slot
 * is one. */
static __always_inline int weft_serves_draining(__u64 record) {
    struct weft_endpoint *first =
        weft_endpoint_get(weft_slot_low(weft_range_word(record, WEFT_SLOT_HEADER)));
    return first && (weft_endpoint_flags(*(volatile __u64 *)&first->word) & WEFT_ENDPOINT_DRAINING);
}

/* Whether a remembered choice may still be served: the id is still that service's, in that life of
 * the id, and is in rotation: not one that stands by again, or whose weight is 0 by now. */
static __noinline int weft_choice_valid(__u32 service, __u32 endpoint, __u32 incarnation) {
    struct weft_endpoint *e = weft_endpoint_get(endpoint);
    __u64 *record = bpf_map_lookup_elem(&weft_services, &service);
    if (!e || !record) return 0;
    const __u64 word = *(volatile __u64 *)&e->word;
    const __u64 published = *(volatile __u64 *)record;
    if (weft_endpoint_service(word) != service || weft_incarnation(endpoint) != incarnation)
        return 0;
    const __u64 tail = weft_range_word(published, WEFT_SLOT_HEADER - 1);
    if (!e->weight || weft_endpoint_priority(word) > weft_spares_priority(tail)) return 0;
    const __u32 flags = weft_endpoint_flags(word);
    if (flags & WEFT_ENDPOINT_READY) return 1;
    return (flags & WEFT_ENDPOINT_DRAINING) && weft_serves_draining(published);
}

/* The endpoint this client should keep, or 0. */
static __noinline __u32 weft_affinity_find(const struct weft_affinity_key *key, __u64 now,
                                           __u32 timeout_seconds, int dry) {
    struct weft_affinity *entry = bpf_map_lookup_elem(&weft_affinities, key);
    if (!entry || entry->expires_ns <= now) return 0;
    const __u64 choice = *(volatile __u64 *)&entry->choice;
    if (!weft_choice_valid(key->service, (__u32)choice, choice >> 32)) return 0;
    if (!dry) entry->expires_ns = now + timeout_seconds * WEFT_SECOND_NS;
    return (__u32)choice;
}

/* Remembers `endpoint`, unless a concurrent connect was first: the endpoint to use is returned. */
static __noinline __u32 weft_affinity_keep(const struct weft_affinity_key *key, __u64 now,
                                           __u32 timeout_seconds, __u32 endpoint,
                                           __u32 service_index) {
    struct weft_affinity fresh = {
        .choice = weft_choice_make(endpoint, weft_incarnation(endpoint)),
        .expires_ns = now + timeout_seconds * WEFT_SECOND_NS,
    };
    struct weft_affinity *entry = bpf_map_lookup_elem(&weft_affinities, key);
    if (!entry) {
        if (bpf_map_update_elem(&weft_affinities, key, &fresh, BPF_NOEXIST) == 0) return endpoint;
        entry = bpf_map_lookup_elem(&weft_affinities, key);
        if (!entry) {
            struct weft_service_state *state =
                bpf_map_lookup_elem(&weft_service_states, &service_index);
            if (state) __sync_fetch_and_add(&state->affinity_full, 1);
            weft_count(WEFT_EVENT_AFFINITY_FULL);
            return endpoint;
        }
    }
    const __u64 seen = *(volatile __u64 *)&entry->choice;
    const int live = entry->expires_ns > now;
    if (live && weft_choice_valid(key->service, (__u32)seen, seen >> 32)) return (__u32)seen;
    const __u64 before = __sync_val_compare_and_swap(&entry->choice, seen, fresh.choice);
    entry->expires_ns = fresh.expires_ns;
    if (before == seen || !weft_choice_valid(key->service, (__u32)before, before >> 32))
        return endpoint;
    return (__u32)before;
}
