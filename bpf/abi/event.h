/* Kernel/user ABI: counted events, one per-CPU array slot each. The one macro list of the project:
 * enum, metric label and `weftctl map dump weft_events` come from it.
 * Compiled as C11 and as C++20. */
#pragma once
#include "abi/types.h"

/* X(enumerator, label, "help") */
#define WEFT_EVENTS(X)                                                                            \
    X(SEND_TRANSLATED, send_translated, "datagrams of unconnected sockets turned to an endpoint") \
    X(REFUSED_NO_ENDPOINT, refused_no_endpoint, "refused: no endpoint of the service is ready")   \
    X(REFUSED_FAMILY, refused_family, "refused: the socket cannot reach the endpoint's family")   \
    X(REFUSED_STALE, refused_stale, "refused: the slot range was not the service's, even again")  \
    X(REFUSED_EJECTED, refused_ejected, "refused: the breakers of all endpoints tried are open")  \
    X(REFUSED_LIMIT, refused_limit, "refused: maxConnections is reached")                         \
    X(REFUSED_PROXY_DOWN, refused_proxy_down,                                                     \
      "refused: no proxy serves, or not in this namespace")                                       \
    X(ORIGIN_LOST, origin_lost,                                                                   \
      "captured without a destination: weft_originals is full, no memory")                        \
    X(TRANSITION_LOST, transition_lost, "breaker transitions that no agent read in time")         \
    X(RETRIED_STALE, retried_stale, "looked up again: the first look met a range being replaced") \
    X(STORAGE_FAILED, storage_failed, "served without accounting: no memory for socket storage")  \
    X(AFFINITY_FULL, affinity_full, "served without affinity: the affinity map is full")          \
    X(FLOW_EVICTED, flow_evicted, "UDP conversations forgotten: a socket had too many")           \
    X(RELEASED_STALE, released_stale, "closed after the endpoint's id was given away: not charged")

enum weft_event {
#define WEFT_EVENT_ENUMERATOR(name, label, help) WEFT_EVENT_##name,
    WEFT_EVENTS(WEFT_EVENT_ENUMERATOR)
#undef WEFT_EVENT_ENUMERATOR
        WEFT_EVENT_COUNT
};
