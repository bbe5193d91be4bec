/* The maps of the same-node bypass (abi/bypass.h). They live as long as any socket that joined. */
#pragma once
#include "kernel.bpf.h"
#include "abi/bypass.h"

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct weft_bypass_knobs);
} weft_bypass_knobs __weak SEC(".maps");

/* Deleting an entry loses what is queued in its socket, so nobody ever does: it goes with the
 * socket. */
struct {
    __uint(type, BPF_MAP_TYPE_SOCKHASH);
    __uint(max_entries, 131072);
    __type(key, struct weft_bypass_key);
    __type(value, __u64);
} weft_bypass_sockets __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, __u64);
    __type(value, struct weft_bypass_pair);
} weft_bypass_pairs __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct weft_bypass_side);
} weft_bypass_sides __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
    __type(key, int);
    __type(value, __u32); /* enum weft_bypass_reader */
} weft_bypass_readers __weak SEC(".maps");

/* From the client's ACTIVE_ to the server's PASSIVE_ESTABLISHED, microseconds apart. A table that
 * overwrites, not a hash: most clients' servers are on other nodes and never take theirs. One lost
 * to another's write is a connection that stays with TCP. */
#define WEFT_INTRODUCTIONS 16384 /* a power of two */
struct weft_introduction {
    struct bpf_spin_lock lock;
    __u32 ports; /* client << 16 | server */
    __u32 client_seq;
    __u32 server_seq;
    __u64 id; /* 0: taken, or never written */
    struct weft_bypass_end client;
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, WEFT_INTRODUCTIONS);
    __type(key, __u32);
    __type(value, struct weft_introduction);
} weft_bypass_introductions __weak SEC(".maps");

/* Addresses at which sockets of this node accept: learned from those that do. An LRU, since a
 * forgotten one costs a connection its shortcut and nothing else. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 8192);
    __type(key, struct weft_addr);
    __type(value, __u64); /* 1: a namespace that says "on" is behind it */
} weft_bypass_local __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, struct weft_bypass_target);
    __type(value, __u64); /* enum weft_bypass_word */
} weft_bypass_services __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 4096);
    __type(key, __u64);   /* network namespace cookie */
    __type(value, __u64); /* enum weft_bypass_word */
} weft_bypass_workloads __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, WEFT_BYPASS_PATHS);
    __type(key, __u32);
    __type(value, struct weft_bypass_count);
} weft_bypass_counts __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct weft_bypass_totals);
} weft_bypass_totals __weak SEC(".maps");

/* A CPU's part of the node's sum: flushed by the megabyte, so that messages share no cache line. */
struct weft_bypass_share {
    __s64 charged;
    __u64 next_id;
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct weft_bypass_share);
} weft_bypass_shares __weak SEC(".maps");
