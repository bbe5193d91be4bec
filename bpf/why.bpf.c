// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The decision of connect() on the live maps, for `weftctl why` and the tests: question in, answer
 * out, both in the packet of a BPF_PROG_TEST_RUN. A tc program, since those can be test-run on
 * every kernel weft supports; it is never attached to a device. */
#include "lib/pick.bpf.h"
#include "lib/refuse.bpf.h"

#define WEFT_ETHERNET_HEADER 14 /* test-run strips nothing, but wants at least this much packet */

SEC("tc")
int weft_why(struct __sk_buff *ctx) {
    struct weft_query query = {};
    struct weft_answer answer = {};
    if (bpf_skb_load_bytes(ctx, WEFT_ETHERNET_HEADER, &query, sizeof query)) return 1;
    weft_pick(&query, &answer);
    return bpf_skb_store_bytes(ctx, WEFT_ETHERNET_HEADER + sizeof query, &answer, sizeof answer, 0)
               ? 1
               : 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
