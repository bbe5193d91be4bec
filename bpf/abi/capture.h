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
#include "abi/endpoint.h"
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

/* weft_proxy_state[0]: whether a proxy accepts on the listeners. `up` is weftd's, one atomic store:
 * that a proxy has died it knows at once. For the time in which there is no weftd, a weft-proxy
 * tells that it lives, every 250 ms in the word of its generation. */
enum weft_proxy_up {
    WEFT_PROXY_DOWN,
    WEFT_PROXY_UP,     /* it serves and has no beat: a third party's */
    WEFT_PROXY_COLUMN, /* + the column of the generation that serves */
};
struct weft_proxy_state {
    __u64 up;
    __u64 beat_ns[WEFT_PROXY_GENERATIONS]; /* CLOCK_MONOTONIC; 0: none yet, so nobody asks for it */
};
ABI_ASSERT(sizeof(struct weft_proxy_state) == 40, "abi");

/* Eight beats: a machine that is too busy to run the proxy once in that time serves nobody. */
#define WEFT_PROXY_BEAT_LIFE_NS 2000000000ull

static inline int weft_proxy_serves(const volatile struct weft_proxy_state *state, __u64 now_ns) {
    const __u64 up = state->up;
    if (up < WEFT_PROXY_COLUMN) return up == WEFT_PROXY_UP;
    const __u64 beat = state->beat_ns[(up - WEFT_PROXY_COLUMN) & (WEFT_PROXY_GENERATIONS - 1)];
    /* A beat may be later than `now`, which was read before it. */
    return !beat || (__s64)(now_ns - beat) < (__s64)WEFT_PROXY_BEAT_LIFE_NS;
}
