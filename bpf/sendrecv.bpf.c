// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* sendmsg() and recvmsg() of unconnected UDP sockets: out to an endpoint, back under the service's
 * address. A recvmsg program must return 1. */
#include "lib/flow.bpf.h"
#include "lib/refuse.bpf.h"
#include "lib/served.bpf.h"

static __always_inline int weft_sendmsg(struct bpf_sock_addr *ctx, struct weft_query *query,
                                        struct weft_answer *answer) {
    struct bpf_sock *sk = ctx->sk;
    if (!sk || !weft_is_served()) return WEFT_ALLOW;
    query->netns_cookie = bpf_get_netns_cookie(ctx);
    weft_flow_pick(sk, query, answer);
    if (answer->verdict == WEFT_VERDICT_TRANSLATE)
        weft_count(WEFT_EVENT_SEND_TRANSLATED);
    else if (answer->verdict != WEFT_VERDICT_PASS)
        return weft_refuse();
    return WEFT_ALLOW;
}

SEC("cgroup/sendmsg4")
int weft_sendmsg4(struct bpf_sock_addr *ctx) {
    struct weft_query query = {};
    struct weft_answer answer = {};
    weft_addr_from_v4(&query.key.addr, ctx->user_ip4);
    query.key.port = ctx->user_port;
    query.key.proto = IPPROTO_UDP;
    query.reach = WEFT_REACH_V4;
    const int verdict = weft_sendmsg(ctx, &query, &answer);
    if (answer.verdict == WEFT_VERDICT_TRANSLATE) {
        ctx->user_ip4 = weft_addr_v4(&answer.addr);
        ctx->user_port = answer.port;
    }
    return verdict;
}

/* The kernel refuses a datagram that a program turned from IPv6 to IPv4 (ENOTSUPP in
 * udpv6_sendmsg), so here an IPv6 socket reaches IPv6 endpoints only. */
SEC("cgroup/sendmsg6")
int weft_sendmsg6(struct bpf_sock_addr *ctx) {
    struct weft_query query = {};
    struct weft_answer answer = {};
    weft_ctx_read_ip6(ctx, &query.key.addr);
    query.key.port = ctx->user_port;
    query.key.proto = IPPROTO_UDP;
    query.reach = WEFT_REACH_V6;
    const int verdict = weft_sendmsg(ctx, &query, &answer);
    if (answer.verdict == WEFT_VERDICT_TRANSLATE) {
        weft_ctx_write_ip6(ctx, &answer.addr);
        ctx->user_port = answer.port;
    }
    return verdict;
}

/* The service address that a datagram from {addr, port} stands for. A connected socket has one
 * peer, in weft_sockets; any other looks among its conversations. */
static __always_inline int weft_answers_for(struct bpf_sock *sk, const struct weft_addr *addr,
                                            __be16 port, struct weft_frontend_key *frontend) {
    struct weft_socket *socket = bpf_sk_storage_get(&weft_sockets, sk, 0, 0);
    if (socket && sk->state == BPF_TCP_ESTABLISHED && socket->frontend_port &&
        socket->backend_port == port && weft_addr_equal(&socket->backend, addr)) {
        frontend->addr = socket->frontend;
        frontend->port = socket->frontend_port;
        return 1;
    }
    struct weft_flow *flow = weft_flow_find_from(sk, addr, port);
    if (!flow) return 0;
    frontend->addr = flow->frontend;
    frontend->port = flow->frontend_port;
    return 1;
}

SEC("cgroup/recvmsg4")
int weft_recvmsg4(struct bpf_sock_addr *ctx) {
    struct bpf_sock *sk = ctx->sk;
    struct weft_query from = {};
    if (!sk) return WEFT_ALLOW;
    weft_addr_from_v4(&from.key.addr, ctx->user_ip4);
    struct weft_query frontend = {};
    if (weft_answers_for(sk, &from.key.addr, ctx->user_port, &frontend.key)) {
        ctx->user_ip4 = weft_addr_v4(&frontend.key.addr);
        ctx->user_port = frontend.key.port;
    }
    return WEFT_ALLOW;
}

SEC("cgroup/recvmsg6")
int weft_recvmsg6(struct bpf_sock_addr *ctx) {
    struct bpf_sock *sk = ctx->sk;
    struct weft_query from = {};
    if (!sk) return WEFT_ALLOW;
    weft_ctx_read_ip6(ctx, &from.key.addr);
    struct weft_query frontend = {};
    if (weft_answers_for(sk, &from.key.addr, ctx->user_port, &frontend.key)) {
        weft_ctx_write_ip6(ctx, &frontend.key.addr);
        ctx->user_port = frontend.key.port;
    }
    return WEFT_ALLOW;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
