// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* connect(): a service address becomes an endpoint, or the proxy's listener, before the kernel
 * routes or sends anything. TCP, and UDP sockets that connect. */
#include "lib/account.bpf.h"
#include "lib/capture.bpf.h"
#include "lib/reach.bpf.h"
#include "lib/refuse.bpf.h"
#include "lib/served.bpf.h"

/* ALLOW or the refusal; `answer` is set and the socket bound to it where the call must be
 * rewritten. */
static __always_inline int weft_connect(struct bpf_sock_addr *ctx, struct weft_query *query,
                                        struct weft_answer *answer) {
    struct bpf_sock *sk = ctx->sk;
    answer->verdict = WEFT_VERDICT_PASS;
    if (!sk) return WEFT_ALLOW;
    if (!weft_is_served()) {
        weft_forget(sk);
        return WEFT_ALLOW;
    }
    if (knob_proxy) {
        if (weft_is_own(sk)) return WEFT_ALLOW;
        query->reach |= weft_reach_of_device(sk);
    }
    query->netns_cookie = bpf_get_netns_cookie(ctx);
    query->mode = weft_end_is_told(sk) ? WEFT_MODE_HOLD : WEFT_MODE_SEND;
    /* A TCP socket that connects is connected to nobody: what it held goes before a limit is asked.
     */
    if (query->key.proto == IPPROTO_TCP) weft_forget(sk);
    weft_pick(query, answer);
    if (knob_proxy && answer->verdict == WEFT_VERDICT_CAPTURE)
        return weft_bind_captured(sk, query, answer) ? WEFT_ALLOW : weft_refuse();
    /* A UDP socket that is refused keeps the peer it had. */
    if (answer->verdict != WEFT_VERDICT_PASS && answer->verdict != WEFT_VERDICT_TRANSLATE)
        return weft_refuse();
    if (query->key.proto == IPPROTO_UDP) weft_forget(sk);
    if (answer->verdict == WEFT_VERDICT_PASS) return WEFT_ALLOW;
    weft_bind(sk, query, answer);
    /* There is no handshake to wait for: the flow begins here, and a probe is one by its time. */
    if (query->key.proto == IPPROTO_UDP) {
        weft_count_opened(answer->service, answer->endpoint, answer->incarnation);
        if (answer->held & WEFT_HELD_PROBE)
            weft_settle(answer->service, answer->endpoint, answer->incarnation, 0);
    }
    return WEFT_ALLOW;
}

static __always_inline int weft_is_turned(const struct weft_answer *answer) {
    return answer->verdict == WEFT_VERDICT_TRANSLATE || answer->verdict == WEFT_VERDICT_CAPTURE;
}

static __always_inline int weft_served_protocol(__u32 protocol) {
    return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

SEC("cgroup/connect4")
int weft_connect4(struct bpf_sock_addr *ctx) {
    struct weft_query query = {};
    struct weft_answer answer = {};
    if (!weft_served_protocol(ctx->protocol)) return WEFT_ALLOW;
    weft_addr_from_v4(&query.key.addr, ctx->user_ip4);
    query.key.port = ctx->user_port;
    query.key.proto = ctx->protocol;
    query.reach = WEFT_REACH_V4;
    const int verdict = weft_connect(ctx, &query, &answer);
    if (weft_is_turned(&answer)) {
        ctx->user_ip4 = weft_addr_v4(&answer.addr);
        ctx->user_port = answer.port;
    }
    return verdict;
}

SEC("cgroup/connect6")
int weft_connect6(struct bpf_sock_addr *ctx) {
    struct weft_query query = {};
    struct weft_answer answer = {};
    if (!weft_served_protocol(ctx->protocol)) return WEFT_ALLOW;
    weft_ctx_read_ip6(ctx, &query.key.addr);
    query.key.port = ctx->user_port;
    query.key.proto = ctx->protocol;
    query.reach = weft_reach_of_v6_socket(ctx->sk, ctx->protocol);
    const int verdict = weft_connect(ctx, &query, &answer);
    if (weft_is_turned(&answer)) {
        weft_ctx_write_ip6(ctx, &answer.addr);
        ctx->user_port = answer.port;
    }
    return verdict;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
