/* Kernel/user ABI: connections of this node whose bytes go from socket to socket. Compiled as C11
 * and as C++20.
 *
 *   ACTIVE_ESTABLISHED   of the client: where its peer may be of this node it joins
 *                        weft_bypass_sockets as {id, 0} and leaves an introduction
 *   PASSIVE_ESTABLISHED  of the server: finds the introduction by ports and both initial sequence
 *                        numbers, makes weft_bypass_pairs[id], joins as {id, 1}
 *   sendmsg()            of either end: redirected into the other's queue, or left to TCP
 *   ->CLOSE              of both: the pair is removed
 *
 * Sockets keep the programs they joined with for life, and those keep these maps: so the maps have
 * a layout number of their own (WEFT_BYPASS_LAYOUT, part of the name of their pins), and are never
 * rebuilt beside the data path's. In every layout `mode` and `joining` are the first two words of
 * weft_bypass_knobs[0], which is mmap-ed, and weft_bypass_pairs is empty once the last socket that
 * joined is closed: all that a weftd of another layout knows. */
#pragma once
#include "abi/service.h"

#define WEFT_BYPASS_LAYOUT 1

enum weft_bypass_mode {
    WEFT_BYPASS_OFF = 0,  /* every message by TCP; nobody joins, and who can leaves */
    WEFT_BYPASS_AUTO = 1, /* where both ends are weft-proxy or declared "on" */
    WEFT_BYPASS_ON = 2,   /* everywhere but where "off" was declared */
};

/* weft_bypass_knobs[0]. Written by weftd a word at a time, read by every message. */
struct weft_bypass_knobs {
    __u64 mode;    /* enum weft_bypass_mode */
    __u64 joining; /* 0: nobody new joins (a weftd of another layout serves new connections) */
    __u64 epoch; /* counts changes of the words below; a pair judged under another is judged anew */
    __u64 declared;   /* 1: there are words in weft_bypass_services or weft_bypass_workloads */
    __u64 credit;     /* bytes that one direction may have redirected and not yet proven read */
    __u64 node_limit; /* the same over all directions of the node */
    __u64 reserved[2];
};
ABI_ASSERT(sizeof(struct weft_bypass_knobs) == 64, "abi");

/* Beyond its bytes a queued message costs the kernel a sk_msg: 1,022 bytes of slab were measured
 * for one of one byte, which tcp_mem does not see. */
#define WEFT_BYPASS_MESSAGE_COST 1024

/* What an owner declared: of an endpoint's address for its service, of a network namespace. */
enum weft_bypass_word {
    WEFT_BYPASS_SAYS_NOTHING = 0,
    WEFT_BYPASS_SAYS_ON = 1,
    WEFT_BYPASS_SAYS_OFF = 2,
};

/* weft_bypass_services: the words of services, by the addresses of their endpoints. */
struct weft_bypass_target {
    struct weft_addr addr;
    __be16 port;
    __u16 pad;
};
ABI_ASSERT(sizeof(struct weft_bypass_target) == 20, "abi");

/* weft_bypass_readers, set through a socket's descriptor (a listener's is inherited by what it
 * accepts): a program sees it and no pod can set it. */
enum weft_bypass_reader {
    WEFT_BYPASS_READER_UNKNOWN = 0,
    WEFT_BYPASS_READER_PROXY = 1, /* weft-proxy: reads with recv() alone, whole or in part */
};

/* Why a message took TCP; 0: it did not. */
enum weft_bypass_path {
    WEFT_BYPASS_REDIRECTED = 0,
    WEFT_BYPASS_TURNED_OFF, /* the mode is off */
    WEFT_BYPASS_READER,     /* nobody said that its reader bears it */
    WEFT_BYPASS_UNPAIRED,   /* the other end is not known (yet) */
    WEFT_BYPASS_ORDER,      /* not everything sent by TCP is proven read */
    WEFT_BYPASS_CREDIT,     /* the direction has too much unread */
    WEFT_BYPASS_NODE_LIMIT, /* the node has */
    WEFT_BYPASS_CLOSING,    /* the writer has shut down, or was reset */
    WEFT_BYPASS_ULP,        /* the socket has an upper protocol (kTLS, MPTCP) */
    WEFT_BYPASS_PEER_GONE,  /* the other end closed, or left the map */
    WEFT_BYPASS_STREAM,     /* a long stream: both ends leave the map for plain TCP */
    WEFT_BYPASS_UNREADABLE, /* the kernel does not show what proof needs */
    WEFT_BYPASS_PATHS,
};

/* Threads of one direction whose last message was redirected. More that write at once, without a
 * mutex of their own, are not kept in order where a direction turns to TCP. */
#define WEFT_BYPASS_WRITERS 4

/* One direction. The writer's words are written under its socket's lock, `proof` under the
 * reader's. */
struct weft_bypass_way {
    __u64 proof;   /* 1 << 32 | the reader's copied_seq, when its queue was empty; 0: none */
    __s64 charged; /* redirected and not proven read; taken down by atomic exchange. Below 0 for a
                    * moment where a charge was taken back after that */
    __u64 bytes;   /* redirected */
    __u64 tcp_bytes;
    __u32 writer[WEFT_BYPASS_WRITERS]; /* thread ids; 0: free */
    __u32 may;       /* enum weft_bypass_mode from which on the reader is redirected to; 0: never */
    __u32 last_path; /* enum weft_bypass_path of the last message by TCP; 0: there was none */
    __u32 messages;  /* redirected; wraps */
    __u32 run;       /* messages since the reader last sent anything */
    __u32 tcp_run;   /* bytes by TCP since a message was last redirected */
    __u32 next_writer; /* which of them is overwritten next */
    __u32 redirecting; /* 1: what was sent last was redirected */
    __u32 pad;
};
ABI_ASSERT(sizeof(struct weft_bypass_way) == 80, "abi");

struct weft_bypass_end {
    struct weft_addr addr;
    __u64 netns_cookie;
    __u64 cookie; /* of the socket, as ss -e prints it */
    __u64 sock;   /* where the kernel keeps it; valid while `closed` does not say otherwise */
    __be16 port;
    __u16 reader; /* enum weft_bypass_reader */
    __u32 pad;
};
ABI_ASSERT(sizeof(struct weft_bypass_end) == 48, "abi");

/* weft_bypass_pairs[id] */
struct weft_bypass_pair {
    struct weft_bypass_way way[2]; /* 0: what the client writes, 1: what the server writes */
    struct weft_bypass_end end[2]; /* 0: the client */
    __u64 since_ns;                /* CLOCK_MONOTONIC */
    __u64 epoch;                   /* of the knobs when `may` was judged */
    __u32 closed;                  /* bit 0: the client, bit 1: the server */
    __u32 stream;                  /* 1: never redirected again; never taken back */
    __u32 left;                    /* the map: bit 0: the client, bit 1: the server */
    __u32 pad;
};
ABI_ASSERT(sizeof(struct weft_bypass_pair) == 288, "abi");

/* A long stream gains nothing from redirects (each message wakes its reader, TCP's are merged) and
 * costs nearly twice as much by TCP as long as its socket is in the map. It is one when so many
 * messages went one way without an answer, or so many bytes by TCP without a chance of redirect. */
#define WEFT_BYPASS_STREAM_MESSAGES 1024
#define WEFT_BYPASS_STREAM_BYTES (1024 * 1024)

/* Socket storage: which pair, which end. */
struct weft_bypass_side {
    __u64 id;     /* 0: none, or its connection is closed */
    __u64 joined; /* as which it joined; 0: it did not, or has left since */
    __u32 side;
    __u32 rtt_asked; /* 1: the data path had asked for RTT_CB when it joined */
};
struct weft_bypass_key {
    __u64 id;
    __u32 side;
    __u32 pad;
};
ABI_ASSERT(sizeof(struct weft_bypass_key) == 16, "abi");

/* weft_bypass_counts, per CPU, by enum weft_bypass_path. */
struct weft_bypass_count {
    __u64 bytes;
    __u64 messages;
};

/* weft_bypass_totals[0]. */
struct weft_bypass_totals {
    __s64 charged; /* sum of `charged` over all directions, but for what lies in the CPUs' shares */
    __u64 pairs;   /* made */
    __u64 join_failed;
    __u64 reserved[5];
};
ABI_ASSERT(sizeof(struct weft_bypass_totals) == 64, "abi");

/* Answer of the program weft_bypass_look (BPF_PROG_TEST_RUN), whose packet begins with a struct
 * weft_bypass_key. */
enum weft_bypass_look {
    WEFT_BYPASS_LOOK_GONE = 0,  /* no such socket: nothing can be queued for it */
    WEFT_BYPASS_LOOK_EMPTY = 1, /* its queue is empty */
    WEFT_BYPASS_LOOK_QUEUED = 2,
};
