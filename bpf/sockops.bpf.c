// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What became of each connect(): established, refused, timed out, unreachable, reset.
 *
 * An application that gives up reaches sock_release first, which takes the reservation down; so a
 * SYN_SENT->CLOSE that still finds it up is the network's or the backend's failure, never the
 * caller's (measured, docs/kernel.md). Synchronous failures (no route) never come here. */
#include "lib/account.bpf.h"
#include "lib/capture.bpf.h"
#include "config.bpf.h"

static __always_inline __u32 weft_error_of(struct bpf_sock *sk) {
    if (!knob_sock_error) return ECONNREFUSED;
    struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
    return tcp ? tcp->inet_conn.icsk_inet.sk.sk_err : 0;
}

/* As the kernel smooths within a connection; where peak-EWMA balances, as that does. Two CPUs may
 * lose one sample. */
static __always_inline void weft_note_rtt(const struct weft_socket *socket, __u32 sample) {
    struct weft_endpoint_state *state = weft_state_of(socket->endpoint, socket->incarnation);
    if (!state || !sample) return;
    const __u32 old = state->rtt_us;
    if (socket->watch & WEFT_POLICY_WATCH_RTT)
        state->rtt_us = weft_ewma_after(weft_rtt_now(state), sample);
    else
        state->rtt_us = old ? old - old / 8 + sample / 8 : sample;
    state->rtt_at_ms = weft_now_ms();
}

/* The probe is answered; what becomes of its connection afterwards is not its business. */
static __always_inline void weft_probe_is_over(struct weft_socket *socket) {
    if (!(socket->live & WEFT_HELD_PROBE)) return;
    __sync_fetch_and_and(&socket->live, ~(__u32)WEFT_HELD_PROBE);
    weft_settle(socket->service, socket->endpoint, socket->incarnation, 0);
}

static __always_inline void weft_on_established(struct weft_socket *socket) {
    const __u32 endpoint = socket->endpoint, incarnation = socket->incarnation;
    socket->phase = WEFT_PHASE_ESTABLISHED;
    weft_count_opened(socket->service, endpoint, incarnation);
    struct weft_endpoint_state *state = weft_state_of(endpoint, incarnation);
    if (state && state->consecutive && state->last_reason != WEFT_BREAKER_RESET)
        weft_end_of_failures(state);
    if (!(socket->watch & WEFT_WATCH_FIRST_BYTE)) weft_probe_is_over(socket);
}

static __always_inline void weft_on_first_byte(struct bpf_sock_ops *ctx,
                                               struct weft_socket *socket) {
    socket->watch &= ~WEFT_WATCH_FIRST_BYTE;
    bpf_sock_ops_cb_flags_set(ctx,
                              ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
    weft_end_of_resets(socket->endpoint, socket->incarnation);
    weft_probe_is_over(socket);
}

/* Of a connect that ended before it was answered: whose fault, or NONE for nobody's that we know.
 */
static __always_inline __u32 weft_reason_of(__u32 error) {
    switch (error) {
        case ECONNREFUSED:
            return WEFT_BREAKER_REFUSED;
        case ETIMEDOUT:
            return WEFT_BREAKER_TIMEOUT;
        case EHOSTUNREACH:
        case ENETUNREACH:
        case ENOPROTOOPT: /* ICMP protocol unreachable */
        case EACCES:      /* ICMPv6 administratively prohibited, policy, reject route */
            return WEFT_BREAKER_UNREACHABLE;
        case ECONNRESET:
            return WEFT_BREAKER_RESET;
        default:
            return WEFT_BREAKER_NONE;
    }
}

/* The caller may still hear from its endpoint; it has not let go (that is sock_release's), but may
 * have said that it will say no more. */
static __always_inline int weft_is_open(__u32 state) {
    return state == BPF_TCP_ESTABLISHED || state == BPF_TCP_FIN_WAIT1 || state == BPF_TCP_FIN_WAIT2;
}

static __always_inline void weft_on_close(struct bpf_sock *sk, struct weft_socket *socket,
                                          __u32 from, __u64 bytes_received) {
    const __u32 held = weft_release(socket);
    if (!held) return;
    if (from == BPF_TCP_SYN_SENT) {
        /* Without a SYN of this connect the error may be an older one's (AF_UNSPEC leaves 104). */
        const __u32 error = socket->phase == WEFT_PHASE_SYN_SENT ? weft_error_of(sk) : 0;
        const __u32 reason = weft_reason_of(error);
        if (reason)
            weft_fail(socket, held, error, reason);
        else if (held & WEFT_HELD_PROBE && !socket->charged)
            weft_settle(socket->service, socket->endpoint, socket->incarnation, 1);
    } else if (weft_is_open(from) && !bytes_received && knob_sock_error &&
               weft_error_of(sk) == ECONNRESET) {
        weft_fail(socket, held, ECONNRESET, WEFT_BREAKER_RESET);
    } else {
        weft_end_of_resets(socket->endpoint, socket->incarnation);
        if (held & WEFT_HELD_PROBE)
            weft_settle(socket->service, socket->endpoint, socket->incarnation, 0);
    }
}

/* Whether the endpoint has reset connections of late, or is cut off for that: then it answers when
 * a byte of its comes. */
static __always_inline int weft_resets(const struct weft_socket *socket) {
    const struct weft_endpoint_state *state = weft_state_of(socket->endpoint, socket->incarnation);
    if (!knob_sock_error || !state || state->last_reason != WEFT_BREAKER_RESET) return 0;
    return state->consecutive ||
           weft_breaker_reason(*(volatile __u64 *)&state->breaker) == WEFT_BREAKER_RESET;
}

/* What sockops is to be told of this socket: every callback costs 0.09 us. */
static __always_inline void weft_watch(struct bpf_sock_ops *ctx, struct weft_socket *socket) {
    __u32 flags = ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG;
    if (socket->watch & WEFT_POLICY_WATCH_TIMEOUT) flags |= BPF_SOCK_OPS_RTO_CB_FLAG;
    if (socket->watch & WEFT_POLICY_WATCH_RTT) flags |= BPF_SOCK_OPS_RTT_CB_FLAG;
    if (weft_resets(socket)) {
        /* Nothing tells of bytes that come; but they are acknowledged, and every segment that goes
         * out is told of. */
        socket->watch |= WEFT_WATCH_FIRST_BYTE;
        flags |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
    }
    bpf_sock_ops_cb_flags_set(ctx, flags);
    socket->phase = WEFT_PHASE_SYN_SENT;
    /* With TCP_FASTOPEN_CONNECT the SYN goes with the first write, whenever that is. */
    socket->started_ns = bpf_ktime_get_ns();
}

/* Most calls are for sockets or moments that are not ours: they leave before the storage is looked
 * up. */
static __always_inline int weft_is_interesting(const struct bpf_sock_ops *ctx) {
    const __u32 op = ctx->op;
    if (op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
        return knob_proxy && ctx->local_port == WEFT_CAPTURE_PORT;
    if (op == BPF_SOCK_OPS_STATE_CB) return ctx->args[1] == BPF_TCP_CLOSE;
    return op == BPF_SOCK_OPS_TCP_CONNECT_CB || op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ||
           op == BPF_SOCK_OPS_RTO_CB || op == BPF_SOCK_OPS_RTT_CB ||
           op == BPF_SOCK_OPS_HDR_OPT_LEN_CB;
}

SEC("sockops")
int weft_sockops(struct bpf_sock_ops *ctx) {
    if (!weft_is_interesting(ctx)) return 1;
    struct bpf_sock *sk = ctx->sk; /* once: the verifier loses track of a second load */
    if (!sk) return 1;
    const __u32 op = ctx->op;
    if (knob_proxy && op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
        weft_take_origin(ctx, sk);
        return 1;
    }
    struct weft_socket *socket = bpf_sk_storage_get(&weft_sockets, sk, 0, 0);
    if (!socket) return 1;
    if (knob_proxy && op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
        socket->phase == WEFT_PHASE_CAPTURED && socket->frontend_port)
        weft_tell_origin(ctx, socket);
    if (!socket->live) return 1;
    if (socket->watch & WEFT_WATCH_FIRST_BYTE && socket->phase == WEFT_PHASE_ESTABLISHED &&
        ctx->bytes_received)
        weft_on_first_byte(ctx, socket);
    if (op == BPF_SOCK_OPS_TCP_CONNECT_CB) {
        weft_watch(ctx, socket);
    } else if (op == BPF_SOCK_OPS_HDR_OPT_LEN_CB) {
        return 1;
    } else if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
        weft_on_established(socket);
        weft_note_rtt(socket, ctx->srtt_us >> 3);
    } else if (op == BPF_SOCK_OPS_RTT_CB) {
        if (socket->phase == WEFT_PHASE_ESTABLISHED) weft_note_rtt(socket, ctx->srtt_us >> 3);
    } else if (op == BPF_SOCK_OPS_RTO_CB) {
        if (socket->phase == WEFT_PHASE_SYN_SENT && weft_is_overdue(socket))
            weft_fail(socket, socket->live, ETIMEDOUT, WEFT_BREAKER_TIMEOUT);
    } else {
        weft_on_close(sk, socket, ctx->args[0], ctx->bytes_received);
    }
    return 1;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
