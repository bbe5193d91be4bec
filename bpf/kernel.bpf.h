/* What every BPF file starts from: the UAPI, libbpf's helpers, and the project's own minimal kernel
 * structs. CO-RE relocates these by name against the running kernel's BTF, so that no build depends
 * on the kernel of the machine it was made on. */
#pragma once
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define ENOENT 2
#define EACCES 13
#define EINVAL 22
#define ENOPROTOOPT 92
#define ENETUNREACH 101
#define ECONNRESET 104
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EHOSTUNREACH 113
/* One more than the UAPI 6.1 of Debian 12 may know; stable numbers. */
#define SS_CLOSE BPF_TCP_CLOSE

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct sock_common {
    __be32 skc_daddr;
    __be16 skc_dport;
    unsigned short skc_family;
    volatile unsigned char skc_state;
    unsigned char skc_ipv6only : 1;
    struct {
        unsigned char byte[16];
    } skc_v6_daddr;
};
struct sock {
    struct sock_common __sk_common;
    unsigned char sk_kern_sock : 1;
    int sk_err;
    void *sk_user_data;
    int sk_write_pending; /* calls that wait for room */
};
struct inet_sock {
    struct sock sk;
};
struct inet_connection_sock {
    struct inet_sock icsk_inet;
    const void *icsk_ulp_ops;
};
struct tcp_sock {
    struct inet_connection_sock inet_conn;
    __u32 copied_seq; /* the reader's next */
    __u32 write_seq;  /* one past what was given to TCP to send */
    __u32 snd_una;    /* one past what was acknowledged */
};
struct list_head {
    void *next, *prev;
};
typedef struct {
    int counter;
} atomic_t;
typedef struct refcount_struct {
    atomic_t refs;
} refcount_t;
struct sk_psock {
    struct list_head ingress_msg; /* redirected here and not yet read */
    refcount_t refcnt;            /* the map's, and one a call of sendmsg() or recvmsg() inside */
};
struct tcp6_sock {
    struct tcp_sock tcp;
};
struct udp_sock {
    struct inet_sock inet;
};
struct udp6_sock {
    struct udp_sock udp;
};
#pragma clang attribute pop
