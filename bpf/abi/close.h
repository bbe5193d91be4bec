/* Kernel/user ABI: which connections are to be closed (close.bpf.c). Filled by weftd before a sweep
 * over the sockets of a network namespace, read by it afterwards. Compiled as C11 and as C++20. */
#pragma once
#include "abi/service.h"

/* By endpoint id. */
struct weft_closing {
    __u32 incarnation; /* of the id: who holds it now is nobody's business */
    __u32 closed;      /* sockets, counted by the sweep */
};
ABI_ASSERT(sizeof(struct weft_closing) == 8, "abi");

/* Of each kind in one sweep; more take another one. The proxy's own connections know no endpoint
 * id, so there is a set of weft_frontend_key {address, port, TCP} for them. */
#define WEFT_MAX_CLOSING 4096
