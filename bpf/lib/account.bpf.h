/* What a connection costs its endpoint: reserved when connect() is turned to it, released exactly
 * once.
 *
 * A reservation is the `live` word of socket storage, taken down by atomic exchange from three
 * places, whichever comes first: ->CLOSE in sockops, the next connect() of the same socket,
 * sock_release. So failed connects, killed processes and sockets that connect again leak nothing.
 */
#pragma once
#include "lib/pick.bpf.h"

static __always_inline struct weft_endpoint_state *weft_state_of(__u32 endpoint,
                                                                 __u32 incarnation) {
    struct weft_endpoint_state *state = bpf_map_lookup_elem(&weft_endpoint_states, &endpoint);
    return state && state->incarnation == incarnation ? state : 0;
}

/* Gives the reservation back if it is still held; nonzero where it was. */
static __always_inline __u32 weft_release(struct weft_socket *socket) {
    if (!__sync_lock_test_and_set(&socket->live, 0)) return 0;
    struct weft_endpoint_state *state = weft_state_of(socket->endpoint, socket->incarnation);
    if (state)
        __sync_fetch_and_add(&state->active, -1);
    else
        weft_count(WEFT_EVENT_RELEASED_STALE);
    return 1;
}

/* A socket may connect again, to another service or to none: what it was must not be told any more.
 */
static __always_inline struct weft_socket *weft_forget(struct bpf_sock *sk) {
    struct weft_socket *socket = bpf_sk_storage_get(&weft_sockets, sk, 0, 0);
    if (!socket) return 0;
    weft_release(socket);
    socket->frontend_port = 0;
    return socket;
}

static __always_inline void weft_count_opened(__u32 service, __u32 endpoint, __u32 incarnation) {
    struct weft_service_state *total = bpf_map_lookup_elem(&weft_service_states, &service);
    if (total) __sync_fetch_and_add(&total->opened, 1);
    struct weft_endpoint_state *state = weft_state_of(endpoint, incarnation);
    if (state) __sync_fetch_and_add(&state->opened, 1);
}

static __always_inline void weft_count_failed(const struct weft_socket *socket, __u32 error) {
    __u32 service = socket->service;
    struct weft_service_state *total = bpf_map_lookup_elem(&weft_service_states, &service);
    if (total) __sync_fetch_and_add(&total->failed, 1);
    struct weft_endpoint_state *state = weft_state_of(socket->endpoint, socket->incarnation);
    if (!state) return;
    __sync_fetch_and_add(&state->failed, 1);
    state->last_error = error;
    state->last_failed_ns = bpf_ktime_get_ns();
}

/* Binds the socket to the answer. Without memory for storage the connection is served unaccounted:
 * a wrong getpeername is better than no connection. */
static __always_inline void weft_reserve(struct bpf_sock *sk, const struct weft_query *query,
                                         const struct weft_answer *answer) {
    struct weft_socket *socket =
        bpf_sk_storage_get(&weft_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!socket) {
        weft_count(WEFT_EVENT_STORAGE_FAILED);
        return;
    }
    socket->frontend = query->key.addr;
    socket->backend = answer->addr;
    socket->backend_port = answer->port;
    socket->service = answer->service;
    socket->endpoint = answer->endpoint;
    socket->incarnation = answer->incarnation;
    socket->frontend_port = query->key.port;
    struct weft_endpoint_state *state = weft_state_of(answer->endpoint, answer->incarnation);
    if (!state) return;
    __sync_fetch_and_add(&state->active, 1);
    socket->live = 1;
}
