/* Every knob. Set through the skeleton before loading; the verifier removes what a knob turns off,
 * so a kernel that lacks a helper loads the programs without it. tests/bpf loads each knob both
 * ways. */
#pragma once
#include <linux/types.h>

/* bpf_set_retval exists (5.18): refusals are ECONNREFUSED. Else the caller sees EPERM. */
const volatile __u32 knob_set_retval __weak = 1;
/* bpf_skc_to_{tcp,udp}6_sock may be called from connect: V6ONLY can be seen. Else an IPv4 endpoint
 * is given to any IPv6 socket, and a V6ONLY one gets the kernel's ENETUNREACH, uncounted. */
const volatile __u32 knob_v6only __weak = 1;
/* bpf_skc_to_tcp_sock may be called from sockops: the errno of a failed connect is known. */
const volatile __u32 knob_sock_error __weak = 1;
/* Only the calls of enrolled pods (weft_workloads) are decided; else everybody's. */
const volatile __u32 knob_enrol __weak = 0;
/* A proxy is configured: services whose policy says so are captured. */
const volatile __u32 knob_proxy __weak = 0;
/* Id of the cgroup that the hooks hang on. */
const volatile __u64 knob_root_cgroup __weak = 0;
