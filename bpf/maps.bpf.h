/* Every map of the data path. __weak: each object that includes this declares them, the linker
 * keeps one. Sizes here are placeholders; weftd sets max_entries from its flags before loading. */
#pragma once
#include "kernel.bpf.h"
#include "abi/breaker.h"
#include "abi/capture.h"
#include "abi/endpoint.h"
#include "abi/event.h"
#include "abi/meta.h"
#include "abi/service.h"
#include "abi/socket.h"
#include "abi/workload.h"

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct weft_meta);
} weft_meta __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, struct weft_frontend_key);
    __type(value, struct weft_frontend);
} weft_frontends __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 32768);
    __type(key, __u32);
    __type(value, __u64); /* weft_record_make() */
} weft_services __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 32768);
    __type(key, __u32);
    __type(value, struct weft_service_state);
} weft_service_states __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 524288);
    __type(key, __u32);
    __type(value, __u64); /* weft_slot_make() */
} weft_slots __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 131072);
    __type(key, __u32);
    __type(value, struct weft_endpoint);
} weft_endpoints __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 131072);
    __type(key, __u32);
    __type(value, struct weft_endpoint_state);
} weft_endpoint_states __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 32768);
    __type(key, __u32);
    __type(value, struct weft_policy);
} weft_policies __weak SEC(".maps");

/* A breaker opens once in a while, so 4,000 transitions wait for an agent that is being replaced.
 */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} weft_transitions __weak SEC(".maps");

/* Names, for people: read by weftctl and at restart, never by programs. Not preallocated: most of
 * the capacity is never used, and nobody waits for a write. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 32768);
    __type(key, __u32);
    __type(value, struct weft_service_info);
} weft_names __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 16384);
    __type(key, __u32);
    __type(value, struct weft_label);
} weft_labels __weak SEC(".maps");

/* A sized hash, not an LRU: an LRU may evict a client that is still talking. weftd removes what has
 * expired; full is counted (WEFT_EVENT_AFFINITY_FULL) and means a balanced answer instead. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, struct weft_affinity_key);
    __type(value, struct weft_affinity);
} weft_affinities __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, WEFT_MAX_WORKLOADS);
    __type(key, __u64); /* cgroup id */
    __type(value, __u64);
} weft_workloads __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct weft_socket);
} weft_sockets __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct weft_flows_few);
} weft_flows __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct weft_flows_more);
} weft_flows_more __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, WEFT_MAX_CAPTURES);
    __type(key, __u64);   /* netns cookie */
    __type(value, __u64); /* weft_capture_make() */
} weft_captures __weak SEC(".maps");

/* An entry lives from ACTIVE_ to PASSIVE_ESTABLISHED, microseconds apart on the loopback; one whose
 * connection was never accepted is removed by weftd. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, struct weft_origin_key);
    __type(value, struct weft_original);
} weft_originals __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct weft_origin);
} weft_accepted __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, __u32); /* enum weft_own_flag */
} weft_own_sockets __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct weft_proxy_state);
} weft_proxy_state __weak SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, WEFT_EVENT_COUNT);
    __type(key, __u32);
    __type(value, __u64);
} weft_events __weak SEC(".maps");
