/* Kernel/user ABI: what weft remembers of a socket, in socket storage, so that it dies with the
 * socket. Compiled as C11 and as C++20. */
#pragma once
#include "abi/endpoint.h"

/* A TCP socket or a connected UDP socket. `frontend_port` 0: the socket talks to no service now. */
struct weft_socket {
    struct weft_addr frontend;
    struct weft_addr backend;
    __be16 frontend_port;
    __be16 backend_port;
    __u32 service;
    __u32 endpoint;
    __u32 incarnation; /* of the endpoint id when it was charged */
    __u32 live; /* 1: a reservation is held. Taken down by atomic exchange, hence exactly once */
    __u32 pad;
};
ABI_ASSERT(sizeof(struct weft_socket) == 56, "abi");

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
