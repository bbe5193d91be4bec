// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Iterators over the sockets of one network namespace that close the connections to endpoints which
 * are on their way out. An object of its own, loaded for a sweep and gone after it: kernels without
 * bpf_sock_destroy (6.5) refuse it, and lose nothing else.
 *
 * Who closes is whoever reads the iterator, in his network namespace. A closed TCP socket sends RST
 * and tells its owner ECONNABORTED; a connected UDP socket tells ECONNABORTED and is connected to
 * nobody. A socket is known by its storage, so one that connected elsewhere since is let be. */
#include "abi/close.h"
#include "abi/socket.h"
#include "lib/address.bpf.h"

#define TCP_LISTEN 10

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, WEFT_MAX_CLOSING);
    __type(key, __u32); /* endpoint id */
    __type(value, struct weft_closing);
} closing_endpoints SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, WEFT_MAX_CLOSING);
    __type(key, struct weft_frontend_key);
    __type(value, __u32); /* sockets closed */
} closing_addresses SEC(".maps");

/* The data path's, by their pins. */
struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct weft_socket);
} weft_sockets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, __u32);
} weft_own_sockets SEC(".maps");

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_iter__tcp {
    struct sock_common *sk_common;
};
struct bpf_iter__udp {
    struct udp_sock *udp_sk;
};
#pragma clang attribute pop

extern int bpf_sock_destroy(struct sock_common *sock) __ksym;

/* The count of the endpoint that the socket's reservation is for; null where it may stay. */
static __always_inline __u32 *weft_count_of(struct sock *sk) {
    const struct weft_socket *socket = bpf_sk_storage_get(&weft_sockets, sk, 0, 0);
    if (!socket || !socket->live) return 0;
    struct weft_closing *closing = bpf_map_lookup_elem(&closing_endpoints, &socket->endpoint);
    return closing && closing->incarnation == socket->incarnation ? &closing->closed : 0;
}

static __always_inline __u32 *weft_count_of_own(struct sock *sk, struct sock_common *common) {
    if (!bpf_sk_storage_get(&weft_own_sockets, sk, 0, 0)) return 0;
    struct weft_frontend_key key = {.port = common->skc_dport, .proto = IPPROTO_TCP};
    if (common->skc_family == AF_INET)
        weft_addr_from_v4(&key.addr, common->skc_daddr);
    else
        BPF_CORE_READ_INTO(&key.addr, common, skc_v6_daddr);
    return bpf_map_lookup_elem(&closing_addresses, &key);
}

static __always_inline void weft_destroy(struct sock_common *common, __u32 *count) {
    if (bpf_sock_destroy(common) == 0) __sync_fetch_and_add(count, 1);
}

SEC("iter/tcp")
int weft_close_tcp(struct bpf_iter__tcp *ctx) {
    struct sock_common *common = ctx->sk_common;
    if (!common || common->skc_state == TCP_LISTEN) return 0;
    /* Of request and time-wait sockets, which are smaller, the helper says there is none. */
    struct sock *sk = (struct sock *)common;
    __u32 *count = weft_count_of(sk);
    if (!count) count = weft_count_of_own(sk, common);
    if (count) weft_destroy(common, count);
    return 0;
}

SEC("iter/udp")
int weft_close_udp(struct bpf_iter__udp *ctx) {
    struct udp_sock *sock = ctx->udp_sk;
    if (!sock) return 0;
    __u32 *count = weft_count_of((struct sock *)sock);
    if (count) weft_destroy((struct sock_common *)sock, count);
    return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
