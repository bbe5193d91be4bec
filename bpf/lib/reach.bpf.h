/* What kind of socket asks: which families it can be sent to, and whether its end will be told. */
#pragma once
#include "abi/why.h"
#include "kernel.bpf.h"
#include "config.bpf.h"

#define WEFT_LOOPBACK_IFINDEX 1 /* of every network namespace */

/* sock_release is not run for sockets of the kernel, the subflows of MPTCP among them
 * (inet_release): a reservation whose connect fails before anything was sent would never come back.
 */
static __always_inline int weft_end_is_told(struct bpf_sock *sk) {
    if (!knob_v6only) return 1; /* no casts on this kernel */
    struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
    return !tcp || !BPF_CORE_READ_BITFIELD((struct sock *)tcp, sk_kern_sock);
}

/* SO_BINDTODEVICE: a SYN to the loopback's address would leave by that device and never be
 * answered.
 */
static __always_inline __u32 weft_reach_of_device(struct bpf_sock *sk) {
    return sk->bound_dev_if > WEFT_LOOPBACK_IFINDEX ? WEFT_REACH_NO_LOOPBACK : 0;
}

/* An AF_INET6 socket reaches IPv4 too, unless it is V6ONLY (RFC 3493 5.3). */
static __always_inline __u32 weft_reach_of_v6_socket(struct bpf_sock *sk, __u32 protocol) {
    const __u32 both = WEFT_REACH_V4 | WEFT_REACH_V6;
    if (!knob_v6only || !sk) return both;
    struct sock *kernel_sock = 0;
    if (protocol == IPPROTO_TCP) {
        struct tcp6_sock *tcp = bpf_skc_to_tcp6_sock(sk);
        if (tcp) kernel_sock = (struct sock *)tcp;
    } else {
        struct udp6_sock *udp = bpf_skc_to_udp6_sock(sk);
        if (udp) kernel_sock = (struct sock *)udp;
    }
    if (!kernel_sock) return both;
    return BPF_CORE_READ_BITFIELD(kernel_sock, __sk_common.skc_ipv6only) ? WEFT_REACH_V6 : both;
}
