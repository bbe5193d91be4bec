/* Kernel/user ABI: what weftd must know of the pinned state before it touches anything else.
 * Compiled as C11 and as C++20. Its own layout never changes; fields are only added in `reserved`.
 */
#pragma once
#include "abi/types.h"

struct weft_meta {
    __u32 magic;           /* WEFT_ABI_MAGIC once the maps have been filled for the first time */
    __u32 layout;          /* WEFT_ABI_LAYOUT of the programs that use the maps */
    __u64 generation;      /* newest mesh generation that is whole in the maps */
    __u64 next_generation; /* being written; equal to `generation` when nothing is */
    __u64 applied_at_ns;   /* CLOCK_REALTIME of `generation` */
    __u64 agent_tgid;      /* the weftd that runs, as the kernel counts processes; 0: none */
    __u64 successor_tgid;  /* one that reads its sources before it takes over; 0: none */
    __u64 labelled_only;   /* 1: programs in force serve enrolled pods only; for readers */
    __u64 reserved[1];
};
ABI_ASSERT(sizeof(struct weft_meta) == 64, "abi");
