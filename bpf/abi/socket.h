/* Kernel/user ABI: what weft remembers of a socket, in socket storage, so that it dies with the
 * socket. Compiled as C11 and as C++20. */
#pragma once
#include "abi/endpoint.h"

/* `live` of a socket; taken down by atomic exchange, so each reservation is released exactly once.
 */
enum weft_hold {
    WEFT_HELD = 1,
    WEFT_HELD_PROBE = 2, /* ... as the one connection that a half-open breaker lets through */
};

/* How far a TCP connect has come: what a release or a close means depends on it. */
enum weft_phase {
    WEFT_PHASE_ASKED = 0, /* nothing was sent yet; a failure now is local, nobody is charged */
    WEFT_PHASE_SYN_SENT = 1,
    WEFT_PHASE_ESTABLISHED = 2,
    WEFT_PHASE_CAPTURED = 3, /* goes to the proxy; nothing is reserved */
};

/* Beside enum weft_policy_flag in `watch`: what an answer is, is still to be seen. The endpoint has
 * reset connections of late, so that it accepts one says nothing. */
#define WEFT_WATCH_FIRST_BYTE 0x10000u

/* A TCP socket or a connected UDP socket. `frontend_port` 0: the socket talks to no service now. */
struct weft_socket {
    struct weft_addr frontend;
    struct weft_addr backend;
    __be16 frontend_port;
    __be16 backend_port;
    __u32 service;
    __u32 endpoint;
    __u32 incarnation; /* of the endpoint id when it was charged */
    __u32 live;        /* enum weft_hold */
    __u32 service_incarnation;
    __u64 started_ns; /* CLOCK_MONOTONIC of connect() */
    __u16 phase;      /* enum weft_phase */
    __u16 charged;    /* 1: this connect was counted as failed already */
    __u32 watch;      /* enum weft_policy_flag of the service when it connected */
    __u64 cgroup_id;  /* of the caller when it connected; captured sockets only */
};
ABI_ASSERT(sizeof(struct weft_socket) == 80, "abi");

/* One conversation of an unconnected UDP socket with one service. It keeps its endpoint while that
 * is ready, as a conntrack entry would, and tells recvmsg which service address an answer stands
 * for. */
struct weft_flow {
    struct weft_addr frontend;
    struct weft_addr backend;
    __be16 frontend_port; /* 0: the entry is free */
    __be16 backend_port;
    __u32 service;
    __u32 endpoint;
    __u32 incarnation;
    __u64 used_ns; /* CLOCK_MONOTONIC of the last send */
    __u32 self;    /* its own index: read from memory it is no constant to the verifier, which would
                    * else    follow every "best so far" of a search on its own */
    __u32 pad;
};
ABI_ASSERT(sizeof(struct weft_flow) == 64, "abi");

/* Most sockets talk to one or two services; a busy resolver gets the second, larger block. A socket
 * with more conversations than both hold forgets the one it used longest ago, and that is counted
 * (WEFT_EVENT_FLOW_EVICTED). */
/* Powers of two: an index is masked, which is how the verifier sees its bound. */
#define WEFT_FLOWS_FEW 4
#define WEFT_FLOWS_MORE 32
struct weft_flows_few {
    struct weft_flow flow[WEFT_FLOWS_FEW];
};
struct weft_flows_more {
    struct weft_flow flow[WEFT_FLOWS_MORE];
};

/* Session affinity: who keeps which endpoint. The client is its network namespace: socket programs
 * see no client address before the kernel has chosen one. */
struct weft_affinity_key {
    __u64 netns_cookie;
    __u32 service;
    __u32 pad;
};
struct weft_affinity {
    __u64 choice;     /* incarnation:32 | endpoint id:32, replaced by compare-and-exchange */
    __u64 expires_ns; /* CLOCK_MONOTONIC */
};
ABI_ASSERT(sizeof(struct weft_affinity_key) == 16 && sizeof(struct weft_affinity) == 16, "abi");
