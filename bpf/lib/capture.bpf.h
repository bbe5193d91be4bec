/* Connections that are the proxy's: whether one is, and how its two ends are brought together.
 *
 * Programs carry this only where a proxy is configured (knob_proxy). */
#pragma once
#include "lib/account.bpf.h"

/* The proxy's own connection to an endpoint: whatever it dials is what it means. */
static __always_inline int weft_is_own(struct bpf_sock *sk) {
    const __u32 *flags = bpf_sk_storage_get(&weft_own_sockets, sk, 0, 0);
    return flags && *flags & WEFT_OWN_UPSTREAM;
}

/* Binds the socket to the proxy's listener; nothing is reserved. 0 without memory: the proxy could
 * not tell where such a connection was meant to go. */
static __always_inline int weft_bind_captured(struct bpf_sock *sk, const struct weft_query *query,
                                              const struct weft_answer *answer) {
    struct weft_socket *socket =
        bpf_sk_storage_get(&weft_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!socket) {
        weft_count(WEFT_EVENT_ORIGIN_LOST);
        return 0;
    }
    socket->frontend = query->key.addr;
    socket->backend = answer->addr;
    socket->backend_port = answer->port;
    socket->service = answer->service;
    socket->cgroup_id = bpf_get_current_cgroup_id();
    socket->phase = WEFT_PHASE_CAPTURED;
    socket->frontend_port = query->key.port;
    return 1;
}

/* ACTIVE_ESTABLISHED of the caller's socket. Before the other end's PASSIVE_ESTABLISHED, since the
 * ACK that brings that about is sent after this. Not snd_nxt: with TCP fast open it counts data of
 * the SYN that the listener did not take. */
static __always_inline void weft_tell_origin(struct bpf_sock_ops *ctx,
                                             const struct weft_socket *socket) {
    const __u64 cookie = bpf_get_netns_cookie(ctx);
    struct weft_origin_key key = {
        .netns_cookie = cookie,
        .client_seq = ctx->snd_una,
        .server_seq = ctx->rcv_nxt,
        .client_port = bpf_htons(ctx->local_port),
    };
    struct weft_original original = {
        .origin = {.addr = socket->frontend,
                   .port = socket->frontend_port,
                   .service = socket->service,
                   .cgroup_id = socket->cgroup_id,
                   .netns_cookie = cookie},
        .at_ns = bpf_ktime_get_ns(),
    };
    struct weft_service_state *total = weft_total_of(socket->service);
    if (total) __sync_fetch_and_add(&total->captured, 1);
    if (bpf_map_update_elem(&weft_originals, &key, &original, BPF_ANY))
        weft_count(WEFT_EVENT_ORIGIN_LOST);
}

/* PASSIVE_ESTABLISHED of the accepted socket: it takes over what its client dialled, if it was
 * captured. */
static __always_inline void weft_take_origin(struct bpf_sock_ops *ctx, struct bpf_sock *sk) {
    struct weft_origin_key key = {
        .netns_cookie = bpf_get_netns_cookie(ctx),
        .client_seq = ctx->rcv_nxt,
        .server_seq = ctx->snd_nxt,
        .client_port = bpf_htons(bpf_ntohl(ctx->remote_port)),
    };
    struct weft_original *original = bpf_map_lookup_elem(&weft_originals, &key);
    if (!original) return;
    /* Read before the erase: the element is another connection's at once. */
    if (!bpf_sk_storage_get(&weft_accepted, sk, &original->origin, BPF_SK_STORAGE_GET_F_CREATE))
        weft_count(WEFT_EVENT_ORIGIN_LOST);
    bpf_map_delete_elem(&weft_originals, &key);
}
