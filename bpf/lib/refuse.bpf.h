/* How a program says no. */
#pragma once
#include "kernel.bpf.h"
#include "config.bpf.h"

#define WEFT_ALLOW 1

static __always_inline int weft_refuse(void) {
    if (knob_set_retval) bpf_set_retval(-ECONNREFUSED);
    return 0;
}
