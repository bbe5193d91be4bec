/* Conversations of an unconnected UDP socket: which endpoint it has of each service, and which
 * service address an answer stands for. In socket storage: it dies with the socket, and nobody else
 * evicts it. */
#pragma once
#include "lib/account.bpf.h"

/* The conversation with that frontend, or 0. One way out, by an index from memory: a return from
 * within the loop would be a path of its own for the verifier, through all that follows. */
static __always_inline struct weft_flow *weft_flow_to(struct weft_flow *flow, __u32 count,
                                                      const struct weft_frontend_key *key) {
    __u64 found = 0;
    __u32 hits = 0;
    for (__u32 i = 0; i < count; i++)
        if (flow[i].frontend_port == key->port && weft_addr_equal(&flow[i].frontend, &key->addr)) {
            found = flow[i].self;
            hits = flow[i].frontend_port;
        }
    return hits ? &flow[found & (count - 1)] : 0;
}

/* The conversation that a datagram from there belongs to, the newest one where several share an
 * endpoint; 0: none that is newer than `*newest_ns`, which is raised. */
static __always_inline struct weft_flow *weft_flow_from(struct weft_flow *flow, __u32 count,
                                                        const struct weft_addr *addr, __be16 port,
                                                        __u64 *newest_ns) {
    __u64 newest = 0;
    const __u64 before = *newest_ns;
    for (__u32 i = 0; i < count; i++)
        if (flow[i].frontend_port && flow[i].backend_port == port &&
            weft_addr_equal(&flow[i].backend, addr) && flow[i].used_ns > *newest_ns) {
            newest = flow[i].self;
            *newest_ns = flow[i].used_ns;
        }
    return *newest_ns > before ? &flow[newest & (count - 1)] : 0;
}

/* A free entry, else the one used longest ago. */
static __always_inline struct weft_flow *weft_flow_oldest(struct weft_flow *flow, __u32 count) {
    __u64 oldest = 0;
    __u64 oldest_ns = ~0ull;
    for (__u32 i = 0; i < count; i++) {
        if (!flow[i].frontend_port) {
            flow[i].self = i;
            return &flow[i];
        }
        if (flow[i].used_ns < oldest_ns) {
            oldest = flow[i].self;
            oldest_ns = flow[i].used_ns;
        }
    }
    return &flow[oldest & (count - 1)];
}

static __noinline struct weft_flow *weft_flow_find_to(struct bpf_sock *sk,
                                                      const struct weft_frontend_key *key) {
    struct weft_flows_few *few = bpf_sk_storage_get(&weft_flows, sk, 0, 0);
    if (!few) return 0;
    struct weft_flow *flow = weft_flow_to(few->flow, WEFT_FLOWS_FEW, key);
    if (flow) return flow;
    struct weft_flows_more *more = bpf_sk_storage_get(&weft_flows_more, sk, 0, 0);
    return more ? weft_flow_to(more->flow, WEFT_FLOWS_MORE, key) : 0;
}

static __noinline struct weft_flow *weft_flow_find_from(struct bpf_sock *sk,
                                                        const struct weft_addr *addr, __be16 port) {
    struct weft_flows_few *few = bpf_sk_storage_get(&weft_flows, sk, 0, 0);
    if (!few) return 0;
    __u64 newest_ns = 0;
    struct weft_flow *newest = weft_flow_from(few->flow, WEFT_FLOWS_FEW, addr, port, &newest_ns);
    struct weft_flows_more *more = bpf_sk_storage_get(&weft_flows_more, sk, 0, 0);
    if (!more) return newest;
    struct weft_flow *newer = weft_flow_from(more->flow, WEFT_FLOWS_MORE, addr, port, &newest_ns);
    return newer ? newer : newest;
}

/* An entry for a new conversation; 0 without memory. */
static __noinline struct weft_flow *weft_flow_take(struct bpf_sock *sk) {
    struct weft_flows_few *few =
        bpf_sk_storage_get(&weft_flows, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!few) return 0;
    struct weft_flow *flow = weft_flow_oldest(few->flow, WEFT_FLOWS_FEW);
    if (!flow->frontend_port) return flow;
    struct weft_flows_more *more =
        bpf_sk_storage_get(&weft_flows_more, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!more) return 0;
    flow = weft_flow_oldest(more->flow, WEFT_FLOWS_MORE);
    if (flow->frontend_port) weft_count(WEFT_EVENT_FLOW_EVICTED);
    return flow;
}

/* A connected socket that names its own service in sendto(): the peer it is connected to, since the
 * kernel drops answers from anybody else. A socket that is not connected any more (AF_UNSPEC, which
 * no hook sees) forgets what it was connected to. Nonzero where `answer` is set. */
static __always_inline int weft_connected_pick(struct bpf_sock *sk, const struct weft_query *query,
                                               struct weft_answer *answer) {
    struct weft_socket *socket = bpf_sk_storage_get(&weft_sockets, sk, 0, 0);
    if (!socket || !socket->frontend_port) return 0;
    if (sk->state != BPF_TCP_ESTABLISHED) {
        weft_release(socket);
        socket->frontend_port = 0;
        return 0;
    }
    if (socket->frontend_port != query->key.port ||
        !weft_addr_equal(&socket->frontend, &query->key.addr))
        return 0;
    answer->verdict = WEFT_VERDICT_TRANSLATE;
    answer->addr = socket->backend;
    answer->port = socket->backend_port;
    return 1;
}

/* Turns a datagram to an endpoint: the one this socket has of the service while that is ready, as a
 * conntrack entry would keep it, else a fresh pick. The verdict is in `answer`. */
static __always_inline void weft_flow_pick(struct bpf_sock *sk, const struct weft_query *query,
                                           struct weft_answer *answer) {
    if (weft_connected_pick(sk, query, answer)) return;
    struct weft_flow *flow = weft_flow_find_to(sk, &query->key);
    const __u64 now = bpf_ktime_get_ns();
    if (flow && weft_frontend_find(&query->key) == flow->service &&
        weft_choice_valid(flow->service, flow->endpoint, flow->incarnation) &&
        !weft_is_cut_off(flow->endpoint)) {
        answer->verdict = WEFT_VERDICT_TRANSLATE;
        answer->addr = flow->backend;
        answer->port = flow->backend_port;
        flow->used_ns = now;
        return;
    }
    weft_pick(query, answer);
    if (answer->verdict != WEFT_VERDICT_TRANSLATE) return;
    weft_count_opened(answer->service, answer->endpoint, answer->incarnation);
    if (!flow) flow = weft_flow_take(sk);
    if (!flow) {
        weft_count(WEFT_EVENT_STORAGE_FAILED);
        return;
    }
    flow->frontend = query->key.addr;
    flow->backend = answer->addr;
    flow->backend_port = answer->port;
    flow->service = answer->service;
    flow->endpoint = answer->endpoint;
    flow->incarnation = answer->incarnation;
    flow->used_ns = now;
    flow->frontend_port = query->key.port;
}
