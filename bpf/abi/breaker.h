/* Kernel/user ABI: the circuit breaker of an endpoint, and what its service asks of it.
 * Compiled as C11 and as C++20.
 *
 *   closed --failures reach the threshold--> open --its time is over, one connect()--> half-open
 *      ^                                       ^                                          |
 *      '------------- the probe succeeds ------+--------- the probe fails: longer --------'
 *
 * One word, changed by compare-and-exchange only, by programs and by user space alike: whoever
 * loses the race did not make the transition. Times are CLOCK_MONOTONIC, so steps of the wall clock
 * change nothing; maps do not outlive a boot, so neither do the times in them. */
#pragma once
#include "abi/types.h"

enum weft_breaker_state {
    WEFT_BREAKER_CLOSED = 0,    /* `until` is when it closed last, or the endpoint came: warm-up */
    WEFT_BREAKER_OPEN = 1,      /* nobody passes before `until`, then one probe */
    WEFT_BREAKER_HALF_OPEN = 2, /* a probe is under way; `until` is when its lease ends */
};

/* X(enumerator, label): why a breaker left `closed`, or came back. */
#define WEFT_BREAKER_REASONS(X)                                                  \
    X(NONE, none)               /* never opened */                               \
    X(REFUSED, refused)         /* connection refused */                         \
    X(TIMEOUT, timeout)         /* no answer within connectTimeout */            \
    X(UNREACHABLE, unreachable) /* ICMP, or no neighbour */                      \
    X(RESET, reset)             /* reset before the first byte */                \
    X(HTTP_5XX, 5xx)            /* the proxy's count */                          \
    X(GATEWAY, gateway)         /* the proxy's count of 502, 503, 504 */         \
    X(OPERATOR, operator)       /* weftctl breaker open */                       \
    X(CLUSTER, cluster)         /* the control plane's verdict */                \
    X(PROBE, probe)             /* a probe was let through, or succeeded */      \
    X(PROBE_LOST, probe_lost)   /* a probe ended without an answer either way */ \
    X(REMOVED, removed)         /* the endpoint left the mesh */                 \
    X(READY, ready)             /* its source, or its health check, says so again */

enum weft_breaker_reason {
#define WEFT_BREAKER_ENUMERATOR(name, label) WEFT_BREAKER_##name,
    WEFT_BREAKER_REASONS(WEFT_BREAKER_ENUMERATOR)
#undef WEFT_BREAKER_ENUMERATOR
        WEFT_BREAKER_REASON_COUNT
};

/* The word: state:2 reason:5 counts:1 ejections:8 until_ms:48, from the low bits up. `counts`: it
 * is one of the service's `ejected`, so under the floor of policy.max_ejected; what a person or the
 * control plane opened is not. */
static inline __u64 weft_breaker_make(__u32 state, __u32 reason, __u32 counts, __u32 ejections,
                                      __u64 until_ms) {
    return (__u64)(state & 3u) | (__u64)(reason & 31u) << 2 | (__u64)(counts & 1u) << 7 |
           (__u64)(ejections & 255u) << 8 | until_ms << 16;
}
static inline __u32 weft_breaker_state(__u64 word) { return (__u32)word & 3u; }
static inline __u32 weft_breaker_reason(__u64 word) { return (__u32)word >> 2 & 31u; }
static inline __u32 weft_breaker_counts(__u64 word) { return (__u32)word >> 7 & 1u; }
static inline __u32 weft_breaker_ejections(__u64 word) { return (__u32)word >> 8 & 255u; }
static inline __u64 weft_breaker_until_ms(__u64 word) { return word >> 16; }

enum weft_policy_flag {
    WEFT_POLICY_WATCH_TIMEOUT = 1, /* sockops is told of retransmission timeouts: connectTimeout */
    WEFT_POLICY_WATCH_RTT = 2,     /* ... of every RTT sample: peak-EWMA */
    WEFT_POLICY_PROXY = 4,         /* TCP connections go to the proxy (abi/capture.h) */
    WEFT_POLICY_PROXY_DIRECT = 8,  /* ... and where none serves, to an endpoint; else refused */
    WEFT_POLICY_SPLIT_LOCAL = 16,  /* a request that timed out counts towards `threshold`; else as
                                    * a 504 (splitExternalLocalOriginErrors) */
};

/* What a service asks for; weft_policies[service index], written before the service's record and
 * whenever it changes. Fields are independent, so a reader may see some of them old and some new.
 */
struct weft_policy {
    __u32 max_connections;  /* of the service; 0: no limit */
    __u32 max_per_endpoint; /* 0: no limit */
    __u32 threshold;        /* consecutive failures that sockets see; 0: they eject nobody */
    __u32 failing_for_ms;   /* ... or failures without a success for so long; 0: off */
    __u32 base_ejection_ms; /* times the ejection count */
    __u32 max_ejection_ms;
    __u32 interval_ms; /* an ejection is forgotten for every one of these without another */
    __u32 max_ejected; /* endpoints that may be out at once; user space does the rounding */
    __u32 connect_timeout_ms;
    __u32 lease_ms;          /* a probe's: longer than its connect may take */
    __u32 warmup_ms;         /* 0: none */
    __u32 warmup_percent;    /* of its share at the beginning of the warm-up */
    __u32 threshold_5xx;     /* for the proxy; 0: off */
    __u32 threshold_gateway; /* for the proxy; 0: off */
    __u32 flags;             /* enum weft_policy_flag */
    __u32 pad;
};
ABI_ASSERT(sizeof(struct weft_policy) == 64, "abi");

/* Whether failures open breakers; where they do not any more, those that they opened are closed. */
static inline int weft_policy_ejects(const struct weft_policy *policy) {
    return policy->threshold || policy->failing_for_ms || policy->threshold_5xx ||
           policy->threshold_gateway;
}

/* One transition, in the ring buffer weft_transitions. weftd reads it; what no longer fits while no
 * agent runs is counted (WEFT_EVENT_TRANSITION_LOST). */
struct weft_transition {
    __u64 at_ns; /* CLOCK_MONOTONIC */
    __u64 from;  /* breaker words */
    __u64 to;
    __u32 service;
    __u32 endpoint;
    __u32 incarnation;
    __u32 reason; /* enum weft_breaker_reason */
};
ABI_ASSERT(sizeof(struct weft_transition) == 40, "abi");
