/* Kernel/user ABI: the pods of this node that weft was told about, by the id of their cgroup.
 * Compiled as C11 and as C++20. */
#pragma once
#include "abi/types.h"

/* weft_workloads[cgroup id] is a word of these; a cgroup that is not there is not enrolled. */
enum weft_workload_flag {
    WEFT_WORKLOAD_ENROLLED = 1,
};

#define WEFT_MAX_WORKLOADS 4096 /* kubelet's own limit is 110 pods, raised to 500 at most */
