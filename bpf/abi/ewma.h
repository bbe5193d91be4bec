/* Kernel/user: what peak-EWMA makes of samples, the same in connect() (round-trip times) and in
 * the proxy (times to an answer). Compiled as C11 and as C++20; pure. All values in microseconds,
 * ages in milliseconds; 0 us is "never answered". */
#pragma once
#include "abi/types.h"

/* A sample counts for less as it ages, else an endpoint that was slow once, and so is not chosen
 * any more, would never be asked again (Finagle's peak EWMA decays likewise). Halved every 7 s,
 * which is its 10 s of exp(-t/tau); in between a straight line. */
#define WEFT_EWMA_HALF_MS 7000u
static inline __u64 weft_ewma_now(__u32 us, __u32 age_ms) {
    const __u32 halvings = age_ms / WEFT_EWMA_HALF_MS;
    if (!us || halvings >= 32) return us ? 1 : 0; /* a known one never becomes unknown */
    const __u64 halved = us >> halvings;
    const __u64 now = halved - halved * (age_ms % WEFT_EWMA_HALF_MS) / (2 * WEFT_EWMA_HALF_MS);
    return now ? now : 1;
}

/* After one more sample; `now_us` is weft_ewma_now(). A slower one counts at once, the way back is
 * smooth: 7/8 old, 1/8 new. */
static inline __u32 weft_ewma_after(__u64 now_us, __u32 sample_us) {
    if (!now_us || sample_us > now_us) return sample_us;
    return (__u32)(now_us - now_us / 8 + sample_us / 8);
}

/* What one more would weigh where `under_way` are already. An endpoint that never answered is
 * tried, but not by a second before it has answered the first. Faster than the floor are all alike:
 * such differences are the scheduling of whoever measured, and they would send one more to an
 * endpoint that has a queue (docs/benchmarks.md, balance). */
#define WEFT_EWMA_FLOOR_US 250u
#define WEFT_EWMA_UNKNOWN (1ull << 48)
static inline __u64 weft_ewma_load(__u64 under_way, __u64 now_us) {
    if (!now_us) return under_way ? WEFT_EWMA_UNKNOWN + under_way : 0;
    return (under_way + 1) * (now_us < WEFT_EWMA_FLOOR_US ? WEFT_EWMA_FLOOR_US : now_us);
}
