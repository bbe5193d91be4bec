// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Which sockets of this node belong together: see abi/bypass.h. A sockops program of its own, not a
 * part of the data path's, so that where the bypass is off nobody pays for it. */
#include "lib/bypass.bpf.h"

static __always_inline int weft_is_loopback(const struct weft_addr *addr) {
    const __u32 *word = (const __u32 *)addr;
    if (weft_addr_is_v4(addr)) return addr->byte[12] == 127;
    return !word[0] && !word[1] && !word[2] && word[3] == bpf_htonl(1);
}

/* Field by field and at constant offsets, as the verifier wants context reads. */
static __always_inline void weft_remote_of(struct bpf_sock_ops *ctx, struct weft_addr *addr) {
    volatile __u32 *word = (volatile __u32 *)addr;
    if (ctx->family == AF_INET) {
        weft_addr_from_v4(addr, ctx->remote_ip4);
        return;
    }
    word[0] = ctx->remote_ip6[0];
    word[1] = ctx->remote_ip6[1];
    word[2] = ctx->remote_ip6[2];
    word[3] = ctx->remote_ip6[3];
}

static __always_inline void weft_local_of(struct bpf_sock_ops *ctx, struct weft_addr *addr) {
    volatile __u32 *word = (volatile __u32 *)addr;
    if (ctx->family == AF_INET) {
        weft_addr_from_v4(addr, ctx->local_ip4);
        return;
    }
    word[0] = ctx->local_ip6[0];
    word[1] = ctx->local_ip6[1];
    word[2] = ctx->local_ip6[2];
    word[3] = ctx->local_ip6[3];
}

static __always_inline __u32 weft_reader_of(struct bpf_sock *sk) {
    const __u32 *reader = bpf_sk_storage_get(&weft_bypass_readers, sk, 0, 0);
    return reader ? *reader : WEFT_BYPASS_READER_UNKNOWN;
}

/* The kernel's own sockets and those with an upper protocol (MPTCP's subflows have theirs by now)
 * read and write in ways of their own. */
static __always_inline int weft_is_plain(struct bpf_sock *sk) {
    struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
    return tcp && !tcp->inet_conn.icsk_ulp_ops && !tcp->inet_conn.icsk_inet.sk.sk_kern_sock;
}

static __always_inline struct weft_introduction *weft_introduction_at(__u32 ports, __u32 client_seq,
                                                                      __u32 server_seq) {
    __u32 index = (ports ^ client_seq * 0x9e3779b1u ^ server_seq * 0x85ebca6bu);
    index = (index ^ index >> 16) & (WEFT_INTRODUCTIONS - 1);
    return bpf_map_lookup_elem(&weft_bypass_introductions, &index);
}

/* Unique on this node: a socket's cookie would not do, since a socket may connect again. */
static __always_inline __u64 weft_next_id(void) {
    struct weft_bypass_share *share = weft_bypass_share_here();
    if (!share) return 0;
    const __u64 count = __sync_fetch_and_add(&share->next_id, 1) + 1;
    return (__u64)bpf_get_smp_processor_id() << 48 | count;
}

/* Called with packets that still come by TCP, so that the socket can leave the map: with every
 * acknowledgement of its own data, and with what the kernel does not take by its fast path. Under
 * redirect there are none. */
#define WEFT_PACKET_FLAGS (BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG)

static __always_inline int weft_join(struct bpf_sock_ops *ctx, struct bpf_sock *sk, __u64 id,
                                     __u32 side) {
    struct weft_bypass_totals *totals = weft_bypass_totals_now();
    struct weft_bypass_side *mine =
        bpf_sk_storage_get(&weft_bypass_sides, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    struct weft_bypass_key key = {.id = id, .side = side};
    if (!mine) return 0;
    mine->id = id;
    mine->joined = id;
    mine->side = side;
    mine->rtt_asked = !!(ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_RTT_CB_FLAG);
    if (bpf_sock_hash_update(ctx, &weft_bypass_sockets, &key, BPF_NOEXIST)) {
        mine->id = 0;
        mine->joined = 0;
        if (totals) __sync_fetch_and_add(&totals->join_failed, 1);
        return 0;
    }
    bpf_sock_ops_cb_flags_set(
        ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG | WEFT_PACKET_FLAGS);
    return 1;
}

/* Whether both ends may bear it, as far as this one knows. The server's namespace is not known on
 * this side, but whether one that says "on" was met behind the address is. */
static __always_inline int weft_is_candidate(const struct weft_bypass_knobs *knobs,
                                             const struct weft_bypass_end *client,
                                             const struct weft_bypass_end *server) {
    const __u64 *local = 0;
    const int loopback = weft_is_loopback(&server->addr);
    if (!loopback) {
        local = bpf_map_lookup_elem(&weft_bypass_local, &server->addr);
        if (!local) return 0;
    }
    if (knobs->mode == WEFT_BYPASS_ON) return 1;
    if (!knobs->declared) return 0; /* of two ends one is an application */
    const __u64 service = weft_bypass_service_word(server);
    if (client->reader != WEFT_BYPASS_READER_PROXY && service != WEFT_BYPASS_SAYS_ON &&
        weft_bypass_workload_word(client->netns_cookie) != WEFT_BYPASS_SAYS_ON)
        return 0;
    return service == WEFT_BYPASS_SAYS_ON || loopback || (local && *local);
}

static __always_inline void weft_introduce(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
                                           const struct weft_bypass_knobs *knobs) {
    struct weft_bypass_end server = {.port = bpf_htons(bpf_ntohl(ctx->remote_port))};
    struct weft_bypass_end client = {.port = bpf_htons(ctx->local_port)};
    weft_remote_of(ctx, &server.addr);
    client.netns_cookie = bpf_get_netns_cookie(ctx);
    client.reader = weft_reader_of(sk);
    if (!weft_is_candidate(knobs, &client, &server) || !weft_is_plain(sk)) return;
    weft_local_of(ctx, &client.addr);
    client.cookie = bpf_get_socket_cookie(ctx);
    client.sock = (__u64)bpf_skc_to_tcp_sock(sk);
    /* snd_una, not snd_nxt: with TCP fast open that counts what the SYN carried. */
    const __u32 client_seq = ctx->snd_una, server_seq = ctx->rcv_nxt;
    const __u32 ports = ctx->local_port << 16 | bpf_ntohl(ctx->remote_port);
    struct weft_introduction *slot = weft_introduction_at(ports, client_seq, server_seq);
    const __u64 id = weft_next_id();
    if (!slot || !id || !weft_join(ctx, sk, id, 0)) return;
    bpf_spin_lock(&slot->lock);
    slot->ports = ports;
    slot->client_seq = client_seq;
    slot->server_seq = server_seq;
    slot->client = client;
    slot->id = id;
    bpf_spin_unlock(&slot->lock);
}

/* 0: this connection's client is of another node, or stayed out. */
static __always_inline __u64 weft_take_introduction(struct bpf_sock_ops *ctx,
                                                    struct weft_bypass_end *client) {
    const __u32 client_seq = ctx->rcv_nxt, server_seq = ctx->snd_nxt;
    const __u32 ports = bpf_ntohl(ctx->remote_port) << 16 | ctx->local_port;
    struct weft_introduction *slot = weft_introduction_at(ports, client_seq, server_seq);
    if (!slot) return 0;
    __u64 id = 0;
    bpf_spin_lock(&slot->lock);
    if (slot->ports == ports && slot->client_seq == client_seq && slot->server_seq == server_seq) {
        id = slot->id;
        slot->id = 0;
        *client = slot->client;
    }
    bpf_spin_unlock(&slot->lock);
    return id;
}

/* An address is local from the first connection it accepts on; that one is not bypassed. */
static __always_inline void weft_learn(const struct weft_bypass_knobs *knobs,
                                       const struct weft_bypass_end *server) {
    const __u64 says_on =
        knobs->declared && weft_bypass_workload_word(server->netns_cookie) == WEFT_BYPASS_SAYS_ON;
    const __u64 *known = bpf_map_lookup_elem(&weft_bypass_local, &server->addr);
    if (known && (*known || !says_on)) return;
    bpf_map_update_elem(&weft_bypass_local, &server->addr, &says_on, BPF_ANY);
}

/* Both ends noted: until the server's own first run its queue is empty, and it has read all there
 * is. The client has received nothing either, but it may be inside recv() since before it was
 * connected, as one without a queue, which does not wake for what is redirected: its own first
 * message is the proof that it is not. */
static __always_inline void weft_pair_up(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
                                         const struct weft_bypass_knobs *knobs) {
    struct weft_bypass_pair pair = {};
    pair.end[1].port = bpf_htons(ctx->local_port);
    pair.end[1].netns_cookie = bpf_get_netns_cookie(ctx);
    weft_local_of(ctx, &pair.end[1].addr);
    const __u64 id = weft_take_introduction(ctx, &pair.end[0]);
    if (!id) {
        weft_learn(knobs, &pair.end[1]);
        return;
    }
    pair.end[1].reader = weft_reader_of(sk);
    pair.end[1].cookie = bpf_get_socket_cookie(ctx);
    pair.end[1].sock = (__u64)bpf_skc_to_tcp_sock(sk);
    pair.since_ns = bpf_ktime_get_ns();
    pair.epoch = knobs->epoch;
    weft_bypass_judge(knobs, &pair);
    if (weft_bypass_is_over(knobs, &pair) || !weft_is_plain(sk)) return;
    pair.way[0].proof = 1ull << 32 | ctx->rcv_nxt;
    struct weft_bypass_totals *totals = weft_bypass_totals_now();
    if (bpf_map_update_elem(&weft_bypass_pairs, &id, &pair, BPF_NOEXIST)) {
        if (totals) __sync_fetch_and_add(&totals->join_failed, 1);
        return;
    }
    if (!weft_join(ctx, sk, id, 1)) {
        bpf_map_delete_elem(&weft_bypass_pairs, &id);
        return;
    }
    if (totals) __sync_fetch_and_add(&totals->pairs, 1);
}

/* A socket that leaves the map loses what is queued for it, and a message on its way to it is an
 * error to its sender. So: nothing may be queued, and the other end may not be inside a sendmsg()
 * that has seen the pair as one to redirect for. Those hold a reference to their socket's psock,
 * and look once more whether it is over after a full barrier; so whoever sees that it is, and after
 * a full barrier no reference but the map's, knows that there is none. Once the other end has left,
 * the last reference is that of a call which began before. A reader inside recvmsg() has one as
 * well: then another packet will do. */
static __always_inline int weft_may_leave(struct weft_bypass_pair *pair, __u32 side,
                                          struct bpf_sock *sk) {
    struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
    __u64 user_data = 0;
    int references = 0, known = 0;
    if (!tcp) return 0;
    const __u32 closed = __sync_fetch_and_or(&pair->closed, 0);
    if (!closed) {
        if (!weft_user_data_of(pair->end[side ^ 1].sock, &user_data)) return 0;
        const __u64 psock = user_data & ~7ull;
        const __u64 field = psock + bpf_core_field_offset(struct sk_psock, refcnt);
        if (psock && (bpf_probe_read_kernel(&references, sizeof references, (const void *)field) ||
                      references != 1 || __sync_fetch_and_or(&pair->left, 0) & (side ? 1 : 2)))
            return 0;
        if (psock && !weft_queue_is_empty(user_data, &known)) return 0; /* weft_must_follow() */
        if (__sync_fetch_and_or(&pair->closed, 0)) return 0; /* what was read was another's */
    }
    return weft_queue_is_empty((__u64)tcp->inet_conn.icsk_inet.sk.sk_user_data, &known);
}

/* By a packet: a client whose server did not pair up (it would have, before it sent anything), and
 * both ends of a pair that is over, go back to plain TCP. */
static __always_inline void weft_on_packet(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
                                           const struct weft_bypass_knobs *knobs) {
    const struct weft_bypass_side *mine = bpf_sk_storage_get(&weft_bypass_sides, sk, 0, 0);
    if (!mine || !mine->id) return;
    const __u64 id = mine->id;
    struct weft_bypass_key key = {.id = id, .side = mine->side & 1};
    struct weft_bypass_pair *pair = bpf_map_lookup_elem(&weft_bypass_pairs, &id);
    if (pair) {
        if (!weft_bypass_is_over(knobs, pair) || !weft_may_leave(pair, key.side, sk)) return;
        if (!pair->stream) {
            /* For good: it might be turned on again between looking and leaving. */
            __sync_fetch_and_or(&pair->stream, 1);
            if (!weft_may_leave(pair, key.side, sk)) return;
        }
        __sync_fetch_and_or(&pair->left, key.side ? 2 : 1);
    }
    bpf_map_delete_elem(&weft_bypass_sockets, &key);
    const __u32 unwanted =
        mine->rtt_asked ? BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG : WEFT_PACKET_FLAGS;
    bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~unwanted);
}

/* The pair goes with the second of its ends, never before: an element is another key's at once, and
 * the other end's program may hold it. */
static __always_inline void weft_leave(struct bpf_sock *sk) {
    struct weft_bypass_side *mine = bpf_sk_storage_get(&weft_bypass_sides, sk, 0, 0);
    if (!mine || !mine->id) return;
    const __u64 id = mine->id;
    const __u32 own = mine->side ? 2 : 1;
    mine->id = 0; /* a socket may connect again */
    struct weft_bypass_pair *pair = bpf_map_lookup_elem(&weft_bypass_pairs, &id);
    if (!pair) return;
    if ((__sync_fetch_and_or(&pair->closed, own) | own) != 3) return;
    weft_bypass_discharge(&pair->way[0]);
    weft_bypass_discharge(&pair->way[1]);
    bpf_map_delete_elem(&weft_bypass_pairs, &id);
}

/* A socket that was disconnected is to connect again, or to listen: what is queued in it was for
 * its first connection. */
static __always_inline void weft_begin_anew(struct bpf_sock *sk) {
    struct weft_bypass_side *mine = bpf_sk_storage_get(&weft_bypass_sides, sk, 0, 0);
    if (!mine || !mine->joined) return;
    struct weft_bypass_key key = {.id = mine->joined, .side = mine->side & 1};
    mine->joined = 0;
    bpf_map_delete_elem(&weft_bypass_sockets, &key);
}

SEC("sockops")
int weft_bypass_join(struct bpf_sock_ops *ctx) {
    const __u32 op = ctx->op;
    if (op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB &&
        op != BPF_SOCK_OPS_PARSE_HDR_OPT_CB && op != BPF_SOCK_OPS_RTT_CB &&
        op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_TCP_LISTEN_CB &&
        (op != BPF_SOCK_OPS_STATE_CB || ctx->args[1] != BPF_TCP_CLOSE))
        return 1;
    struct bpf_sock *sk = ctx->sk; /* once: the verifier loses track of a second load */
    if (!sk) return 1;
    if (op == BPF_SOCK_OPS_STATE_CB) {
        weft_leave(sk);
        return 1;
    }
    if (op == BPF_SOCK_OPS_TCP_CONNECT_CB || op == BPF_SOCK_OPS_TCP_LISTEN_CB) {
        weft_begin_anew(sk);
        return 1;
    }
    const struct weft_bypass_knobs *knobs = weft_bypass_knobs_now();
    if (!knobs) return 1;
    if (op == BPF_SOCK_OPS_PARSE_HDR_OPT_CB || op == BPF_SOCK_OPS_RTT_CB) {
        weft_on_packet(ctx, sk, knobs);
        return 1;
    }
    if (!knobs->mode || !knobs->joining) return 1;
    if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
        weft_introduce(ctx, sk, knobs);
    else
        weft_pair_up(ctx, sk, knobs);
    return 1;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
