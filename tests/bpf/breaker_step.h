/* One step of a breaker, question and answer of transitions.bpf.c. */
#pragma once
#include "abi/types.h"

enum step_event { STEP_ADMIT, STEP_ADMIT_OVER, STEP_FAIL, STEP_FAIL_PROBE, STEP_ANSWER, STEP_LOSE };

struct breaker_step {
  __u32 event; /* enum step_event */
  __u32 admission;
};
