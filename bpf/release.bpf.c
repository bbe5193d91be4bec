// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* close() of the last reference: whatever the socket still holds is given back. It may not read
 * ports or addresses here, nor delete storage (both refused by the verifier); it needs neither. */
#include "lib/account.bpf.h"
#include "lib/refuse.bpf.h"

SEC("cgroup/sock_release")
int weft_sock_release(struct bpf_sock *ctx) {
    struct weft_socket *socket = bpf_sk_storage_get(&weft_sockets, ctx, 0, 0);
    if (socket) weft_let_go(socket);
    return WEFT_ALLOW;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
