// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What became of each connect(): established, refused, timed out, unreachable, reset.
 *
 * An application that gives up reaches sock_release first, which takes the reservation down; so a
 * SYN_SENT->CLOSE that still finds it up is the network's or the backend's failure, never the
 * caller's (measured, docs/kernel.md). Synchronous failures (no route) never come here. */
#include "lib/account.bpf.h"
#include "config.bpf.h"

static __always_inline __u32 weft_error_of(struct bpf_sock *sk) {
    if (!knob_sock_error) return ECONNREFUSED;
    struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
    return tcp ? tcp->inet_conn.icsk_inet.sk.sk_err : 0;
}

/* 7/8 old, 1/8 new, as the kernel smooths within a connection. Two CPUs may lose one sample. */
static __always_inline void weft_note_rtt(const struct weft_socket *socket, __u32 srtt_us_x8) {
    struct weft_endpoint_state *state = weft_state_of(socket->endpoint, socket->incarnation);
    const __u32 sample = srtt_us_x8 >> 3;
    if (!state || !sample) return;
    const __u32 old = state->rtt_us;
    state->rtt_us = old ? old - old / 8 + sample / 8 : sample;
}

static __always_inline void weft_on_close(struct bpf_sock *sk, struct weft_socket *socket,
                                          __u32 from) {
    const __u32 error = from == BPF_TCP_SYN_SENT ? weft_error_of(sk) : 0;
    if (weft_release(socket) && error) weft_count_failed(socket, error);
}

/* Most calls are for sockets or moments that are not ours: they leave before the storage is looked
 * up. */
static __always_inline int weft_is_interesting(const struct bpf_sock_ops *ctx) {
    const __u32 op = ctx->op;
    if (op == BPF_SOCK_OPS_STATE_CB) return ctx->args[1] == BPF_TCP_CLOSE;
    return op == BPF_SOCK_OPS_TCP_CONNECT_CB || op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB;
}

SEC("sockops")
int weft_sockops(struct bpf_sock_ops *ctx) {
    if (!weft_is_interesting(ctx)) return 1;
    struct bpf_sock *sk = ctx->sk; /* once: the verifier loses track of a second load */
    if (!sk) return 1;
    struct weft_socket *socket = bpf_sk_storage_get(&weft_sockets, sk, 0, 0);
    if (!socket || !socket->live) return 1;
    const __u32 op = ctx->op;
    if (op == BPF_SOCK_OPS_TCP_CONNECT_CB) {
        bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
    } else if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
        weft_count_opened(socket->service, socket->endpoint, socket->incarnation);
        weft_note_rtt(socket, ctx->srtt_us);
    } else {
        weft_on_close(sk, socket, ctx->args[0]);
    }
    return 1;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
