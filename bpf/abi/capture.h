/* Kernel/user ABI: connections that go to the node's proxy instead of an endpoint, and how the
 * proxy learns where they were meant to go. Compiled as C11 and as C++20.
 *
 *   connect()            the service's policy says "proxy", the caller's network namespace has a
 *                        listener, a proxy serves: turned to WEFT_CAPTURE_PORT of the loopback
 *   ACTIVE_ESTABLISHED   of the caller's socket: weft_originals[key] = what was dialled
 *   PASSIVE_ESTABLISHED  of the accepted socket: taken out of there, into weft_accepted
 *   getsockopt()         of the accepted socket: SO_ORIGINAL_DST, or WEFT_SO_ORIGIN for all of it
 */
#pragma once
#include "abi/service.h"

#define WEFT_CAPTURE_PORT 15001 /* host order; of 127.0.0.1 and [::1] */

/* getsockopt(WEFT_SOL, WEFT_SO_ORIGIN) answers struct weft_origin. No protocol of the kernel has
 * this level. */
#define WEFT_SOL 0x77656674 /* "weft" */
#define WEFT_SO_ORIGIN 1

struct weft_origin {
    struct weft_addr addr; /* what was dialled */
    __be16 port;
    __u16 pad;
    __u32 service;      /* index: which rules */
    __u64 cgroup_id;    /* of the caller when it connected */
    __u64 netns_cookie; /* of the caller, and so of the accepted socket */
};
ABI_ASSERT(sizeof(struct weft_origin) == 40, "abi");

/* What both ends of a connection know when it is established, each from its side. The ports alone
 * would do within a namespace at one time; the sequence numbers tell a connection from the one that
 * had its port before. */
struct weft_origin_key {
    __u64 netns_cookie;
    __u32 client_seq; /* the client's snd_una at ACTIVE_, the server's rcv_nxt at
                       * PASSIVE_ESTABLISHED */
    __u32 server_seq; /* the client's rcv_nxt, the server's snd_nxt */
    __be16 client_port;
    __u16 pad;
    __u32 pad2;
};
ABI_ASSERT(sizeof(struct weft_origin_key) == 24, "abi");

struct weft_original {
    struct weft_origin origin;
    __u64 at_ns; /* CLOCK_MONOTONIC; weftd removes what nobody took */
};
ABI_ASSERT(sizeof(struct weft_original) == 48, "abi");

/* weft_captures[netns cookie]: which listeners the namespace has. The word names its namespace in
 * its upper 56 bits (cookies count up from 1): a hash element may be another key's by the time a
 * program reads it. */
enum weft_listening {
    WEFT_LISTENING_V4 = 1, /* on 127.0.0.1 */
    WEFT_LISTENING_V6 = 2, /* on [::1] */
};
static inline __u64 weft_capture_make(__u64 netns_cookie, __u32 listening) {
    return netns_cookie << 8 | (listening & 255u);
}
static inline __u32 weft_capture_listening(__u64 word, __u64 netns_cookie) {
    return word >> 8 == (netns_cookie & (~0ull >> 8)) ? (__u32)word & 255u : 0;
}
#define WEFT_MAX_CAPTURES 4096 /* namespaces; as many as pods (abi/workload.h) */

/* weft_own_sockets, set through the socket's descriptor by weft-sockets: a flag that a program sees
 * and no pod can set, as SO_MARK could be. */
enum weft_own_flag {
    WEFT_OWN_UPSTREAM = 1, /* connect() neither captures, translates nor refuses */
};

/* weft_proxy_state[0], one atomic store. */
struct weft_proxy_state {
    __u64 up; /* 1: a proxy accepts on the listeners */
};
ABI_ASSERT(sizeof(struct weft_proxy_state) == 8, "abi");
