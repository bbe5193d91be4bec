/* Addresses between contexts and keys. */
#pragma once
#include "kernel.bpf.h"
#include "abi/service.h"

static __always_inline void weft_addr_from_v4(struct weft_addr *addr, __be32 v4) {
    __u32 *word = (__u32 *)addr;
    word[0] = 0;
    word[1] = 0;
    word[2] = bpf_htonl(0xffff);
    word[3] = v4;
}

static __always_inline int weft_addr_is_v4(const struct weft_addr *addr) {
    const __u32 *word = (const __u32 *)addr;
    return word[0] == 0 && word[1] == 0 && word[2] == bpf_htonl(0xffff);
}

static __always_inline __be32 weft_addr_v4(const struct weft_addr *addr) {
    return ((const __u32 *)addr)[3];
}

static __always_inline int weft_addr_equal(const struct weft_addr *a, const struct weft_addr *b) {
    const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;
    return x[0] == y[0] && x[1] == y[1];
}

/* Context fields are read and written a word at a time and at constant offsets. clang 14 merges
 * plain stores to user_ip6[] into one the verifier refuses (measured, docs/kernel.md), hence the
 * asm. */
static __always_inline void weft_ctx_read_ip6(const struct bpf_sock_addr *ctx,
                                              struct weft_addr *addr) {
    volatile __u32 *word = (volatile __u32 *)addr;
    word[0] = ctx->user_ip6[0];
    word[1] = ctx->user_ip6[1];
    word[2] = ctx->user_ip6[2];
    word[3] = ctx->user_ip6[3];
}

#define WEFT_STORE_IP6(ctx, i, value)                                                           \
    asm volatile("*(u32 *)(%0 + %1) = %2"                                                       \
                 :                                                                              \
                 : "r"(ctx), "i"(__builtin_offsetof(struct bpf_sock_addr, user_ip6) + 4 * (i)), \
                   "r"(value)                                                                   \
                 : "memory")

static __always_inline void weft_ctx_write_ip6(struct bpf_sock_addr *ctx,
                                               const struct weft_addr *addr) {
    const __u32 *word = (const __u32 *)addr;
    WEFT_STORE_IP6(ctx, 0, word[0]);
    WEFT_STORE_IP6(ctx, 1, word[1]);
    WEFT_STORE_IP6(ctx, 2, word[2]);
    WEFT_STORE_IP6(ctx, 3, word[3]);
}
