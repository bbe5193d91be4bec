// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* getsockopt() of connections that the proxy accepted: where they were meant to go. As
 * SO_ORIGINAL_DST, which any transparent proxy asks for, and as WEFT_SO_ORIGIN with the service and
 * the caller. Hangs on the proxy's cgroup and nowhere else; every other option is untouched. */
#include <linux/in6.h>

#include "lib/address.bpf.h"
#include "lib/refuse.bpf.h"
#include "maps.bpf.h"

#define WEFT_SO_ORIGINAL_DST 80 /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST */
#define SOL_IP 0
#define SOL_IPV6 41

static __always_inline int weft_fail_with(int error) {
    if (knob_set_retval) bpf_set_retval(-error);
    return 0; /* without the helper: EPERM */
}

static __always_inline int weft_answered(struct bpf_sockopt *ctx, int bytes) {
    /* volatile: clang 14 merges the two stores into one that the verifier refuses. */
    *(volatile __s32 *)&ctx->optlen = bytes;
    *(volatile __s32 *)&ctx->retval = 0;
    return WEFT_ALLOW;
}

static __always_inline int weft_answer_v4(struct bpf_sockopt *ctx,
                                          const struct weft_origin *origin) {
    struct sockaddr_in *out = ctx->optval;
    if ((void *)(out + 1) > ctx->optval_end) return weft_fail_with(EINVAL);
    if (!weft_addr_is_v4(&origin->addr)) return weft_fail_with(ENOENT);
    __builtin_memset(out, 0, sizeof *out);
    out->sin_family = AF_INET;
    out->sin_port = origin->port;
    out->sin_addr.s_addr = weft_addr_v4(&origin->addr);
    return weft_answered(ctx, sizeof *out);
}

static __always_inline int weft_answer_v6(struct bpf_sockopt *ctx,
                                          const struct weft_origin *origin) {
    struct sockaddr_in6 *out = ctx->optval;
    if ((void *)(out + 1) > ctx->optval_end) return weft_fail_with(EINVAL);
    if (weft_addr_is_v4(&origin->addr)) return weft_fail_with(ENOENT);
    __builtin_memset(out, 0, sizeof *out);
    out->sin6_family = AF_INET6;
    out->sin6_port = origin->port;
    __builtin_memcpy(&out->sin6_addr, &origin->addr, sizeof out->sin6_addr);
    return weft_answered(ctx, sizeof *out);
}

static __always_inline int weft_answer_origin(struct bpf_sockopt *ctx,
                                              const struct weft_origin *origin) {
    struct weft_origin *out = ctx->optval;
    if ((void *)(out + 1) > ctx->optval_end) return weft_fail_with(EINVAL);
    __builtin_memcpy(out, origin, sizeof *out);
    return weft_answered(ctx, sizeof *out);
}

SEC("cgroup/getsockopt")
int weft_getsockopt(struct bpf_sockopt *ctx) {
    const int level = ctx->level, option = ctx->optname;
    const int v4 = level == SOL_IP && option == WEFT_SO_ORIGINAL_DST;
    const int v6 = level == SOL_IPV6 && option == WEFT_SO_ORIGINAL_DST;
    if (!v4 && !v6 && !(level == WEFT_SOL && option == WEFT_SO_ORIGIN)) return WEFT_ALLOW;
    struct bpf_sock *sk = ctx->sk;
    const struct weft_origin *origin = sk ? bpf_sk_storage_get(&weft_accepted, sk, 0, 0) : 0;
    if (!origin) return weft_fail_with(ENOENT);
    if (v4) return weft_answer_v4(ctx, origin);
    if (v6) return weft_answer_v6(ctx, origin);
    return weft_answer_origin(ctx, origin);
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
