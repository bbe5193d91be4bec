// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* getpeername() tells the service address that was dialled: applications that check their peer
 * (rook and libceph, for one) see what they asked for. The programs must return 1. */
#include "lib/address.bpf.h"
#include "lib/refuse.bpf.h"
#include "maps.bpf.h"

/* The socket's storage, where the peer the kernel reports is the endpoint weft chose. */
static __always_inline struct weft_socket *weft_dialled(struct bpf_sock *sk,
                                                        const struct weft_addr *addr, __be16 port) {
    struct weft_socket *socket = sk ? bpf_sk_storage_get(&weft_sockets, sk, 0, 0) : 0;
    if (!socket || !socket->frontend_port || socket->backend_port != port ||
        !weft_addr_equal(&socket->backend, addr))
        return 0;
    return socket;
}

SEC("cgroup/getpeername4")
int weft_getpeername4(struct bpf_sock_addr *ctx) {
    struct weft_addr addr __attribute__((aligned(8)));
    weft_addr_from_v4(&addr, ctx->user_ip4);
    struct weft_socket *socket = weft_dialled(ctx->sk, &addr, ctx->user_port);
    if (socket) {
        ctx->user_ip4 = weft_addr_v4(&socket->frontend);
        ctx->user_port = socket->frontend_port;
    }
    return WEFT_ALLOW;
}

SEC("cgroup/getpeername6")
int weft_getpeername6(struct bpf_sock_addr *ctx) {
    struct weft_addr addr __attribute__((aligned(8)));
    weft_ctx_read_ip6(ctx, &addr);
    struct weft_socket *socket = weft_dialled(ctx->sk, &addr, ctx->user_port);
    if (socket) {
        struct weft_addr frontend __attribute__((aligned(8))) = socket->frontend;
        weft_ctx_write_ip6(ctx, &frontend);
        ctx->user_port = socket->frontend_port;
    }
    return WEFT_ALLOW;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
