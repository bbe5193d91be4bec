/* What a connection costs its endpoint and its service: reserved when connect() is turned to it,
 * released exactly once.
 *
 * A reservation is the `live` word of socket storage, taken down by atomic exchange from three
 * places, whichever comes first: ->CLOSE in sockops, the next connect() of the same socket,
 * sock_release. So failed connects, killed processes and sockets that connect again leak nothing.
 */
#pragma once
#include "lib/pick.bpf.h"

/* Gives the reservation back if it is still held: what was held, else 0. */
static __always_inline __u32 weft_release(struct weft_socket *socket) {
    const __u32 held = __sync_lock_test_and_set(&socket->live, 0);
    if (!held) return 0;
    struct weft_endpoint_state *state = weft_state_of(socket->endpoint, socket->incarnation);
    if (state)
        __sync_fetch_and_add(&state->active, -1);
    else
        weft_count(WEFT_EVENT_RELEASED_STALE);
    weft_release_total(socket->service, socket->service_incarnation);
    return held;
}

static __always_inline void weft_count_failed(const struct weft_socket *socket, __u32 error) {
    struct weft_service_state *total = weft_total_of(socket->service);
    if (total && total->incarnation == socket->service_incarnation)
        __sync_fetch_and_add(&total->failed, 1);
    struct weft_endpoint_state *state = weft_state_of(socket->endpoint, socket->incarnation);
    if (!state) return;
    __sync_fetch_and_add(&state->failed, 1);
    state->last_error = error;
    state->last_failed_ns = bpf_ktime_get_ns();
}

/* The connect failed for a reason that is the endpoint's; counted once a connect. */
static __always_inline void weft_fail(struct weft_socket *socket, __u32 held, __u32 error,
                                      __u32 reason) {
    if (socket->charged) return;
    socket->charged = 1;
    weft_count_failed(socket, error);
    weft_charge(socket->service, socket->endpoint, socket->incarnation, reason,
                held & WEFT_HELD_PROBE);
}

/* Longer than connectTimeout without an answer. */
static __always_inline int weft_is_overdue(const struct weft_socket *socket) {
    const struct weft_policy *policy = weft_policy_of(socket->service);
    return policy && bpf_ktime_get_ns() - socket->started_ns >=
                         (__u64)policy->connect_timeout_ms * WEFT_MS_NS;
}

/* The socket's owner let go of it: close(), exit, or another connect(). Giving up early says
 * nothing of the endpoint; after connectTimeout it does. */
static __always_inline void weft_let_go(struct weft_socket *socket) {
    const __u32 held = weft_release(socket);
    if (!held) return;
    if (socket->phase == WEFT_PHASE_ESTABLISHED) {
        weft_end_of_resets(socket->endpoint, socket->incarnation);
        /* It was not reset for as long as its owner wanted it. */
        if (held & WEFT_HELD_PROBE)
            weft_settle(socket->service, socket->endpoint, socket->incarnation, 0);
        return;
    }
    if (socket->phase == WEFT_PHASE_SYN_SENT && socket->watch & WEFT_POLICY_WATCH_TIMEOUT &&
        weft_is_overdue(socket))
        weft_fail(socket, held, ETIMEDOUT, WEFT_BREAKER_TIMEOUT);
    else if (held & WEFT_HELD_PROBE && !socket->charged)
        weft_settle(socket->service, socket->endpoint, socket->incarnation, 1);
}

/* A socket may connect again, to another service or to none: what it was must not be told any more.
 */
static __always_inline struct weft_socket *weft_forget(struct bpf_sock *sk) {
    struct weft_socket *socket = bpf_sk_storage_get(&weft_sockets, sk, 0, 0);
    if (!socket) return 0;
    weft_let_go(socket);
    socket->frontend_port = 0;
    return socket;
}

static __always_inline void weft_count_opened(__u32 service, __u32 endpoint, __u32 incarnation) {
    struct weft_service_state *total = weft_total_of(service);
    if (total) __sync_fetch_and_add(&total->opened, 1);
    struct weft_endpoint_state *state = weft_state_of(endpoint, incarnation);
    if (state) __sync_fetch_and_add(&state->opened, 1);
}

/* Binds the socket to the answer, whose reservation it takes over. Without memory for storage the
 * connection is served unaccounted: a wrong getpeername is better than no connection. */
static __always_inline void weft_bind(struct bpf_sock *sk, const struct weft_query *query,
                                      const struct weft_answer *answer) {
    struct weft_socket *socket =
        bpf_sk_storage_get(&weft_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!socket) {
        weft_count(WEFT_EVENT_STORAGE_FAILED);
        weft_give_back(answer);
        return;
    }
    const struct weft_policy *policy = weft_policy_of(answer->service);
    socket->frontend = query->key.addr;
    socket->backend = answer->addr;
    socket->backend_port = answer->port;
    socket->service = answer->service;
    socket->endpoint = answer->endpoint;
    socket->incarnation = answer->incarnation;
    socket->service_incarnation = answer->service_incarnation;
    socket->started_ns = bpf_ktime_get_ns();
    socket->phase = WEFT_PHASE_ASKED;
    socket->charged = 0;
    socket->watch = policy ? policy->flags : 0;
    socket->frontend_port = query->key.port;
    socket->live = answer->held;
}
