/* Kernel/user ABI: from a dialled address to a slot. Compiled as C11 and as C++20.
 *
 *   frontends  {addr, port, proto} -> {service index, check}     hash, written once per key
 *   services   [service index]     -> one 64-bit record          mmap-ed array, one atomic store
 *   slots      [base ..]           -> header, then endpoint ids  mmap-ed array, immutable once
 * published endpoints  [endpoint id]       -> address, port, state       mmap-ed array
 *
 * A "service" down here is one port of a Kubernetes Service in one address family: that is the unit
 * with an endpoint list of its own. Why one word and not a struct: larger values are seen torn, and
 * a hash element is re-used for another key while a reader still holds it (measured,
 * docs/kernel.md). */
#pragma once
#include "abi/types.h"

/* IPv4 is kept v4-mapped (RFC 4291 2.5.5.2): one map and one code path, not a v4/v6 pair. */
struct weft_addr {
    __u8 byte[16];
};

struct weft_frontend_key {
    struct weft_addr addr;
    __be16 port; /* network order, as bpf_sock_addr.user_port delivers it */
    __u8 proto;  /* IPPROTO_TCP or IPPROTO_UDP */
    __u8 pad;    /* 0: the kernel compares keys byte for byte */
};
ABI_ASSERT(sizeof(struct weft_frontend_key) == 20, "abi");

/* Read in one 8-byte load. `check` is weft_frontend_check() of the key it was stored under: a
 * reader that was overtaken by an erase and a re-use of the element sees a foreign check and looks
 * again. */
struct weft_frontend {
    __u32 service;
    __u32 check;
};
ABI_ASSERT(sizeof(struct weft_frontend) == 8, "abi");

static inline __u32 weft_frontend_check(const struct weft_frontend_key *key) {
    const __u32 *word = (const __u32 *)key;
    __u32 sum = 0x9e3779b9u;
    sum = (sum ^ word[0]) * 0x85ebca6bu;
    sum = (sum ^ word[1]) * 0xc2b2ae35u;
    sum = (sum ^ word[2]) * 0x27d4eb2fu;
    sum = (sum ^ word[3]) * 0x165667b1u;
    sum = (sum ^ word[4]) * 0x9e3779b1u;
    return sum ^ (sum >> 15);
}

/* How connect() becomes a slot number. Policies are not listed: a policy is a way to fill slots. */
enum weft_selector {
    WEFT_SELECT_ROTATE = 0,
    WEFT_SELECT_RANDOM = 1,
    WEFT_SELECT_HASH = 2,  /* of the caller's network namespace cookie */
    WEFT_SELECT_LEAST = 3, /* of two drawn at random the one with fewer connections in flight */
    WEFT_SELECT_EWMA = 4,  /* ... with less in flight x smoothed RTT */
    WEFT_SELECT_MASK = 7,
    WEFT_SELECT_AFFINITY = 8, /* flag beside the selector: the header holds an affinity timeout */
};

/* The record word: base:28 count:16 selector:4 generation:16, from the low bits up.
 * count 0: a known service with nobody ready -> refused, not passed on. generation counts this
 * record's publications modulo 2^16, so that a reader can tell "changed" from "the same". */
#define WEFT_RECORD_BASE_BITS 28
#define WEFT_RECORD_COUNT_BITS 16
#define WEFT_MAX_SLOTS (1u << WEFT_RECORD_BASE_BITS)
#define WEFT_MAX_COUNT ((1u << WEFT_RECORD_COUNT_BITS) - 1)

static inline __u64 weft_record_make(__u32 base, __u32 count, __u32 selector, __u32 generation) {
    return (__u64)(base & (WEFT_MAX_SLOTS - 1)) | (__u64)(count & WEFT_MAX_COUNT) << 28 |
           (__u64)(selector & 15u) << 44 | (__u64)(generation & 0xffffu) << 48;
}
static inline __u32 weft_record_base(__u64 word) { return (__u32)word & (WEFT_MAX_SLOTS - 1); }
static inline __u32 weft_record_count(__u64 word) { return (__u32)(word >> 28) & WEFT_MAX_COUNT; }
static inline __u32 weft_record_selector(__u64 word) { return (__u32)(word >> 44) & 15u; }
static inline __u32 weft_record_generation(__u64 word) { return (__u32)(word >> 48); }

/* A slot range is WEFT_SLOT_HEADER header words, then `count` slot words, then those of the spares:
 * endpoints of later priorities, tried in their order when no slot before them is admitted. */
#define WEFT_SLOT_HEADER 3
/* header word 0: owning service:32 | affinity timeout in seconds:32
 * header word 1: mesh generation that published the range:64
 * header word 2: owning service:32 | weft_spares_make(): spares:16 priority:8
 * slot word:     owning service:32 | endpoint id:32
 * Every word a program selects by names its owner, so one load both selects and checks. */
static inline __u64 weft_slot_make(__u32 service, __u32 low) { return (__u64)service << 32 | low; }
static inline __u32 weft_slot_owner(__u64 word) { return (__u32)(word >> 32); }
static inline __u32 weft_slot_low(__u64 word) { return (__u32)word; }
/* `priority`: the last one in rotation. Endpoints of later ones stand by. */
static inline __u32 weft_spares_make(__u32 count, __u32 priority) {
    return (count & 0xffffu) | (priority & 255u) << 16;
}
static inline __u32 weft_spares_count(__u64 word) { return (__u32)word & 0xffffu; }
static inline __u32 weft_spares_priority(__u64 word) { return (__u32)word >> 16 & 255u; }

/* What people call the service; written before its first frontend. Names are NUL-padded. */
#define WEFT_NAME_MAX 64 /* a DNS label is at most 63 bytes (RFC 1035 2.3.4) */
struct weft_service_info {
    char namespace_name[WEFT_NAME_MAX];
    char name[WEFT_NAME_MAX];
    char port_name[WEFT_NAME_MAX];
    __be16 port; /* of the Service */
    __u8 proto;
    __u8 family; /* 4 or 6: of the frontends */
    __u32 pad;
};
ABI_ASSERT(sizeof(struct weft_service_info) == 200, "abi");

#define WEFT_PROXY_GENERATIONS \
    4 /* that may live at once: an old proxy drains beside its successor */

/* Connections that hold a place: `active` of sockets, and a column for each generation of the
 * proxy, so that what a proxy held that died is given back by zeroing one word. Whoever reserves
 * adds to a word of its own first and compares the sum then: limits are never exceeded; two that
 * race for the last place may both be refused it. */
static inline __u32 weft_proxy_connections(const volatile __u32 *column) {
    return column[0] + column[1] + column[2] + column[3];
}
ABI_ASSERT(WEFT_PROXY_GENERATIONS == 4, "abi");
static inline __u32 weft_connections(const volatile __u32 *active, const volatile __u32 *column) {
    return *active + weft_proxy_connections(column);
}

/* Counters of one service; only programs write, but for the proxy's columns, and for user space
 * zeroing it before an index is given to another service. Two hot services never share a cache
 * line. */
struct weft_service_state {
    __u64 cursor;      /* of WEFT_SELECT_ROTATE */
    __u64 opened;      /* connections that were established, UDP flows begun */
    __u32 active;      /* connections whose reservation is held, of all endpoints */
    __u32 ejected;     /* endpoints whose breaker is open or half-open and counts (abi/breaker.h) */
    __u32 incarnation; /* of the index: a socket that outlived its service releases nobody */
    __u32 pad0;
    __u64 failed; /* connects that the network or the backend failed */
    __u64 refused_no_endpoint;
    __u64 refused_family;
    __u64 refused_stale;

    __u64 affinity_full;
    __u64 refused_ejected; /* every endpoint that was tried is cut off by its breaker */
    __u64 refused_limit;   /* maxConnections, of the service or of every endpoint tried */
    __u64 refused_proxy_down;
    __u64 captured;                            /* connections that reached the proxy's listener */
    __u32 connections[WEFT_PROXY_GENERATIONS]; /* of all endpoints; see weft_connections */
    __u64 pad;
};
ABI_ASSERT(sizeof(struct weft_service_state) == 128, "abi");
