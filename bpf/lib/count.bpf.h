/* Counted events. Per CPU: no atomics. */
#pragma once
#include "maps.bpf.h"

static __always_inline void weft_count(enum weft_event event) {
    __u32 key = event;
    __u64 *value = bpf_map_lookup_elem(&weft_events, &key);
    if (value) (*value)++;
}
