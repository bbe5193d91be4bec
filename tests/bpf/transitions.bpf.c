// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The functions by which programs move a breaker, one at a time: the packet of a test-run says
 * which. On endpoint 1 of service 1, in maps of its own. */
#include "breaker_step.h"
#include "kernel.bpf.h"
#include "lib/breaker.bpf.h"
#include "maps.bpf.h"

#define ETHERNET_HEADER 14 /* test-run strips nothing, but wants at least this much packet */

SEC("tc")
int breaker_run(struct __sk_buff* ctx) {
  struct breaker_step step = {};
  if (bpf_skb_load_bytes(ctx, ETHERNET_HEADER, &step, sizeof step)) return 1;
  if (step.event == STEP_ADMIT) step.admission = weft_admit(1, 1, WEFT_MODE_HOLD);
  if (step.event == STEP_ADMIT_OVER)
    step.admission = weft_admit(1, 1, WEFT_MODE_HOLD | WEFT_ADMIT_OVER);
  if (step.event == STEP_FAIL) weft_charge(1, 1, 0, WEFT_BREAKER_REFUSED, 0);
  if (step.event == STEP_FAIL_PROBE) weft_charge(1, 1, 0, WEFT_BREAKER_REFUSED, 1);
  if (step.event == STEP_ANSWER) weft_settle(1, 1, 0, 0);
  if (step.event == STEP_LOSE) weft_settle(1, 1, 0, 1);
  return bpf_skb_store_bytes(ctx, ETHERNET_HEADER, &step, sizeof step, 0) ? 1 : 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
