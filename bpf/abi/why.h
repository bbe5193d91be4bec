/* Kernel/user ABI: a question to the data path and its answer. `weftctl why` and the tests put the
 * question in the packet of a BPF_PROG_TEST_RUN of weft_why, which runs the very pick() of
 * connect() on the live maps (sock_addr programs themselves cannot be test-run). Compiled as C11
 * and as C++20. */
#pragma once
#include "abi/service.h"

enum weft_verdict {
    WEFT_VERDICT_PASS = 0, /* no service of ours: untouched */
    WEFT_VERDICT_TRANSLATE = 1,
    WEFT_VERDICT_REFUSE_NO_ENDPOINT = 2,
    WEFT_VERDICT_REFUSE_FAMILY = 3,
    WEFT_VERDICT_REFUSE_STALE = 4,
    WEFT_VERDICT_REFUSE_EJECTED = 5, /* breakers of all endpoints tried are open */
    WEFT_VERDICT_REFUSE_LIMIT = 6,   /* maxConnections */
    WEFT_VERDICT_CAPTURE = 7,        /* to the proxy's listener in the caller's namespace */
    WEFT_VERDICT_REFUSE_PROXY_DOWN = 8,
};

enum weft_reach {
    WEFT_REACH_V4 = 1, /* the socket can be sent to an IPv4 endpoint */
    WEFT_REACH_V6 = 2,
    WEFT_REACH_NO_LOOPBACK = 4, /* bound to a device: cannot be sent to the proxy's listener */
};

enum weft_mode {
    WEFT_MODE_SEND = 0, /* a datagram, or a socket whose end nobody tells: nothing can be counted */
    WEFT_MODE_HOLD = 1, /* a connection: reserve it, become the probe where one is due */
    WEFT_MODE_DRY = 2,  /* a question: leave everything as it is */
};

struct weft_query {
    __u64 netns_cookie; /* 0: not known */
    struct weft_frontend_key key;
    __u16 reach; /* enum weft_reach, or-ed */
    __u16 mode;  /* enum weft_mode */
};
ABI_ASSERT(sizeof(struct weft_query) == 32, "abi");

struct weft_answer {
    struct weft_addr addr;
    __be16 port;
    __u16 verdict; /* enum weft_verdict */
    __u32 service;
    __u32 endpoint;
    __u32 incarnation;
    __u64 record;   /* the word that was used */
    __u16 affinity; /* 1: an affinity entry chose */
    __u16 held;     /* enum weft_hold: what was reserved */
    __u32 service_incarnation;
};
ABI_ASSERT(sizeof(struct weft_answer) == 48, "abi");

struct weft_why {
    struct weft_query query;
    struct weft_answer answer;
};
