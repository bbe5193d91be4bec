/* Kernel/user ABI: endpoints, indexed by endpoint id. Compiled as C11 and as C++20.
 *
 * An id belongs to one {service, address, port} for as long as that is in the model, across
 * restarts of weftd, and is given away again only after an RCU grace period and under a new
 * incarnation. */
#pragma once
#include "abi/service.h"

enum weft_endpoint_flag {
    WEFT_ENDPOINT_USED = 1,     /* the id is taken */
    WEFT_ENDPOINT_READY = 2,    /* wanted by the model for new connections */
    WEFT_ENDPOINT_DRAINING = 4, /* terminating but still serving */
};

/* The word's fields, from the low bits up: service:32, port:16 (network order), flags:8,
 * priority:8. */
struct weft_endpoint {
    struct weft_addr addr; /* never changes while the id is used */
    __u64 word;            /* one atomic store; 0: the id is free */
    __u16 weight;
    __u16 zone; /* key into weft_labels; 0: none */
    __u32 node; /* key into weft_labels; 0: none */
};
ABI_ASSERT(sizeof(struct weft_endpoint) == 32, "abi");

static inline __u64 weft_endpoint_make(__u32 service, __be16 port, __u32 flags, __u32 priority) {
    return (__u64)service | (__u64)port << 32 | (__u64)(flags & 255u) << 48 |
           (__u64)(priority & 255u) << 56;
}
static inline __u32 weft_endpoint_service(__u64 word) { return (__u32)word; }
static inline __be16 weft_endpoint_port(__u64 word) { return (__be16)(word >> 32); }
static inline __u32 weft_endpoint_flags(__u64 word) { return (__u32)(word >> 48) & 255u; }
static inline __u32 weft_endpoint_priority(__u64 word) { return (__u32)(word >> 56); }

/* What sockets and the proxy saw of the endpoint, and its circuit breaker (abi/breaker.h). Programs
 * write; user space before an id is given away, and the breaker's word by compare-and-exchange. The
 * first cache line is what connect() touches. */
struct weft_endpoint_state {
    __u32 incarnation; /* of the id: a socket that outlived its endpoint charges nobody */
    __u32 active;      /* connections whose reservation is held */
    __u64 breaker;     /* weft_breaker_make(); 0: closed, never opened */
    __u64 opened;
    __u64 failed;
    __u32 rtt_us;           /* smoothed, 7/8 old + 1/8 new, a larger one at once where the balancer
                             * is peak-EWMA; 0: not known */
    __u32 consecutive;      /* failures since the last success of their kind */
    __u64 failing_since_ms; /* CLOCK_MONOTONIC of the first of them */
    __u64 last_failed_ns;   /* CLOCK_MONOTONIC */
    __u32 last_error;       /* errno of the newest failure */
    __u32 last_reason;      /* enum weft_breaker_reason of it */

    __u32 requests[WEFT_PROXY_GENERATIONS]; /* in flight in each generation of the proxy */
    __u32 consecutive_5xx;                  /* the proxy's counts, for the same breaker */
    __u32 consecutive_gateway;
    __u32 verdict_epoch; /* of the newest verdict from above; an older one is ignored */
    __u32 rtt_at_ms;     /* CLOCK_MONOTONIC of the newest sample of rtt_us, modulo 2^32 */
    /* Upstream connections of the proxy that hold a place beside `active`; see weft_connections. */
    __u32 connections[WEFT_PROXY_GENERATIONS];
    __u64 pad[2];
};
ABI_ASSERT(sizeof(struct weft_endpoint_state) == 128, "abi");

/* Zone and node names, interned: weft_labels[id]. Node names are DNS subdomains, at most 253 bytes.
 */
struct weft_label {
    char text[256];
};
