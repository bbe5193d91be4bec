/* Whose calls weft decides: everybody's below the hook's cgroup, or those of enrolled pods; never
 * the agent's own, which must reach its API server when the data path is wrong. */
#pragma once
#include "config.bpf.h"
#include "maps.bpf.h"

#define WEFT_DEEPEST_ROOT 12

/* Levels are counted from the hierarchy's root, which the agent may not see (a container's view of
 * the hierarchy begins elsewhere): found by the hook's cgroup id, once. 0: the caller is not below
 * it, though its socket is. */
__u32 weft_pod_level_found __weak;

static __always_inline __u32 weft_pod_level(void) {
    const __u32 found = weft_pod_level_found;
    if (found) return found;
    for (__u32 level = 0; level < WEFT_DEEPEST_ROOT; ++level)
        if (bpf_get_current_ancestor_cgroup_id(level) == knob_root_cgroup)
            return weft_pod_level_found = level + 1;
    return 0;
}

static __always_inline int weft_workload_enrolled(__u64 cgroup) {
    const __u64 *flags = bpf_map_lookup_elem(&weft_workloads, &cgroup);
    return flags && *flags & WEFT_WORKLOAD_ENROLLED;
}

static __always_inline int weft_is_agent(void) {
    const __u32 zero = 0;
    const struct weft_meta *meta = bpf_map_lookup_elem(&weft_meta, &zero);
    const __u64 tgid = bpf_get_current_pid_tgid() >> 32;
    return meta && (meta->agent_tgid == tgid || meta->successor_tgid == tgid);
}

static __always_inline int weft_is_served(void) {
    if (weft_is_agent()) return 0;
    if (!knob_enrol) return 1;
    /* A pod's cgroup lies directly below the root of pods, or in the directory of its class. */
    const __u32 level = weft_pod_level();
    return level && (weft_workload_enrolled(bpf_get_current_ancestor_cgroup_id(level)) ||
                     weft_workload_enrolled(bpf_get_current_ancestor_cgroup_id(level + 1)));
}
