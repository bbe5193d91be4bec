/* What the two programs of the bypass share: the node's sum, words, judging a pair. */
#pragma once
#include "bypass_maps.bpf.h"
#include "lib/address.bpf.h"

#define WEFT_BYPASS_SHARE (256 * 1024)

static __always_inline struct weft_bypass_knobs *weft_bypass_knobs_now(void) {
    const __u32 zero = 0;
    return bpf_map_lookup_elem(&weft_bypass_knobs, &zero);
}

static __always_inline struct weft_bypass_totals *weft_bypass_totals_now(void) {
    const __u32 zero = 0;
    return bpf_map_lookup_elem(&weft_bypass_totals, &zero);
}

static __always_inline struct weft_bypass_share *weft_bypass_share_here(void) {
    const __u32 zero = 0;
    return bpf_map_lookup_elem(&weft_bypass_shares, &zero);
}

/* Atomic although per CPU: a program may be preempted by another's run on its CPU. */
static __always_inline void weft_bypass_sum(__s64 charged) {
    struct weft_bypass_share *share = weft_bypass_share_here();
    struct weft_bypass_totals *totals = weft_bypass_totals_now();
    if (!share || !totals) return;
    const __s64 now = __sync_fetch_and_add(&share->charged, charged) + charged;
    if (now < WEFT_BYPASS_SHARE && now > -WEFT_BYPASS_SHARE) return;
    const __s64 moved = __sync_lock_test_and_set(&share->charged, 0);
    __sync_fetch_and_add(&totals->charged, moved);
}

/* What the reader has proven read, or what dies with the pair, is nobody's charge any more. */
static __always_inline void weft_bypass_discharge(struct weft_bypass_way *way) {
    if (!way->charged) return;
    const __s64 charged = __sync_lock_test_and_set(&way->charged, 0);
    if (charged) weft_bypass_sum(-charged);
}

static __always_inline void weft_bypass_count(__u32 path, __u64 bytes) {
    struct weft_bypass_count *count = bpf_map_lookup_elem(&weft_bypass_counts, &path);
    if (!count) return;
    count->bytes += bytes;
    count->messages++;
}

static __always_inline __u64 weft_bypass_workload_word(__u64 netns_cookie) {
    const __u64 *word = bpf_map_lookup_elem(&weft_bypass_workloads, &netns_cookie);
    return word ? *word : WEFT_BYPASS_SAYS_NOTHING;
}

static __always_inline __u64 weft_bypass_service_word(const struct weft_bypass_end *server) {
    const struct weft_bypass_target target = {.addr = server->addr, .port = server->port};
    const __u64 *word = bpf_map_lookup_elem(&weft_bypass_services, &target);
    return word ? *word : WEFT_BYPASS_SAYS_NOTHING;
}

static __always_inline __u32 weft_bypass_may(__u32 reader, __u64 service, __u64 workload) {
    if (reader == WEFT_BYPASS_READER_PROXY) return WEFT_BYPASS_AUTO;
    if (service == WEFT_BYPASS_SAYS_ON || workload == WEFT_BYPASS_SAYS_ON) return WEFT_BYPASS_AUTO;
    return WEFT_BYPASS_ON;
}

/* From which mode on each direction is redirected; a pair is one only where both are: a socket that
 * joins reads otherwise even what TCP brings (FIONREAD, an interrupted recv()), so that a writer of
 * whose reads nobody said anything cannot join for its writes alone. "off" of either end or of the
 * service keeps both directions with TCP; "on" of a service is said for both, of a workload for
 * what that reads. */
static __always_inline void weft_bypass_judge(const struct weft_bypass_knobs *knobs,
                                              struct weft_bypass_pair *pair) {
    __u64 service = 0, client = 0, server = 0;
    if (knobs->declared) {
        service = weft_bypass_service_word(&pair->end[1]);
        client = weft_bypass_workload_word(pair->end[0].netns_cookie);
        server = weft_bypass_workload_word(pair->end[1].netns_cookie);
    }
    if (service == WEFT_BYPASS_SAYS_OFF || client == WEFT_BYPASS_SAYS_OFF ||
        server == WEFT_BYPASS_SAYS_OFF) {
        pair->way[0].may = 0;
        pair->way[1].may = 0;
        return;
    }
    pair->way[0].may = weft_bypass_may(pair->end[1].reader, service, server);
    pair->way[1].may = weft_bypass_may(pair->end[0].reader, service, client);
}

static __always_inline int weft_bypass_open_to(const struct weft_bypass_way *way, __u64 mode) {
    return mode && way->may && way->may <= mode;
}

/* Nothing of the pair is redirected any more: both ends may leave. */
static __always_inline int weft_bypass_is_over(const struct weft_bypass_knobs *knobs,
                                               const struct weft_bypass_pair *pair) {
    const __u64 mode = *(volatile const __u64 *)&knobs->mode;
    return *(volatile const __u32 *)&pair->stream || !weft_bypass_open_to(&pair->way[0], mode) ||
           !weft_bypass_open_to(&pair->way[1], mode);
}

/* Whether nothing is queued for the socket whose sk_user_data that is. */
static __always_inline int weft_queue_is_empty(__u64 user_data, int *known) {
    const __u64 psock = user_data & ~7ull; /* the low bits are the kernel's flags */
    const __u64 head = psock + bpf_core_field_offset(struct sk_psock, ingress_msg);
    __u64 first = 0;
    *known = psock && !bpf_probe_read_kernel(&first, sizeof first, (const void *)head);
    return first == head;
}

static __always_inline int weft_user_data_of(__u64 sock, __u64 *user_data) {
    const __u64 field = sock + bpf_core_field_offset(struct sock, sk_user_data);
    return !bpf_probe_read_kernel(user_data, sizeof *user_data, (const void *)field);
}
