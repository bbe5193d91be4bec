// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* sendmsg() of a socket that joined: straight into the other end's queue, or by TCP.
 *
 * The kernel's redirect has no backpressure, no order against what TCP still carries, and no way to
 * ask the reader. So each direction begins with TCP; it is redirected from the moment when all that
 * went by TCP is acknowledged and was read, as the reader noted in its own last run; and it may
 * have `credit` bytes that are not proven read. A message that is not redirected, whatever the
 * reason, puts the direction back to TCP and takes the proof away. Measured losses behind each
 * rule: docs/bypass.md. */
#include "lib/bypass.bpf.h"

/* As a reader: what it has read of the other direction. It holds its own lock while its program
 * runs, so that what it sees empty it has read; and it is not inside recv(), where a call that
 * waits for more by TCP would not see what is redirected. */
static __always_inline int weft_prove(struct weft_bypass_way *in, struct tcp_sock *tcp) {
    int known = 0;
    const __u64 user_data = (__u64)tcp->inet_conn.icsk_inet.sk.sk_user_data;
    if (in->run) in->run = 0;
    if (!weft_queue_is_empty(user_data, &known)) return known;
    const __u64 proof = 1ull << 32 | tcp->copied_seq;
    if (in->proof != proof) in->proof = proof;
    weft_bypass_discharge(in);
    return 1;
}

/* Whether the reader has read all that is queued for it, as the writer sees it: no proof for what
 * is on its way. The other end's socket is there as long as it is not marked closed (sk_msg
 * programs cannot hold a reference to it), so the mark is read afterwards. */
static __always_inline int weft_reader_is_done(struct weft_bypass_pair *pair, __u32 side) {
    __u64 user_data = 0;
    int known = 0;
    if (!weft_user_data_of(pair->end[side ^ 1].sock, &user_data)) return 0;
    return weft_queue_is_empty(user_data, &known) && !__sync_fetch_and_or(&pair->closed, 0);
}

static __always_inline void weft_uncharge(struct weft_bypass_way *out, __u64 cost) {
    __sync_fetch_and_add(&out->charged, -cost);
    weft_bypass_sum(-(__s64)cost);
}

/* Reserve, then check: several directions may come at once. A reader that sends nothing proves
 * nothing; so that a stream goes on whose reader keeps up, the writer looks once in a while. */
static __always_inline __u32 weft_charge(const struct weft_bypass_knobs *knobs,
                                         struct weft_bypass_pair *pair, __u32 side, __u64 cost) {
    struct weft_bypass_way *out = &pair->way[side];
    if (out->charged + (__s64)cost > (__s64)(knobs->credit / 4) && weft_reader_is_done(pair, side))
        weft_bypass_discharge(out);
    if (out->charged + (__s64)cost > (__s64)knobs->credit) return WEFT_BYPASS_CREDIT;
    const struct weft_bypass_totals *totals = weft_bypass_totals_now();
    if (!totals || totals->charged + (__s64)cost > (__s64)knobs->node_limit)
        return WEFT_BYPASS_NODE_LIMIT;
    __sync_fetch_and_add(&out->charged, cost);
    weft_bypass_sum(cost);
    /* After that full barrier, see weft_may_leave(). */
    if (!weft_bypass_is_over(knobs, pair)) return WEFT_BYPASS_REDIRECTED;
    weft_uncharge(out, cost);
    return WEFT_BYPASS_STREAM;
}

static __always_inline void weft_note_writer(struct weft_bypass_way *out) {
    const __u32 thread = bpf_get_current_pid_tgid();
    if (out->writer[0] == thread || out->writer[1] == thread || out->writer[2] == thread ||
        out->writer[3] == thread)
        return;
    const __u32 next = out->next_writer++ & (WEFT_BYPASS_WRITERS - 1);
    out->writer[next] = thread;
}

enum { WEFT_WRITES_NOT, WEFT_WRITES_ALONE, WEFT_WRITES_TOO, WEFT_OTHERS_WRITE };

/* Whose last message was redirected: nobody's, this thread's, its and another's, another's. */
static __always_inline int weft_writers(struct weft_bypass_way *out, int forget) {
    const __u32 thread = bpf_get_current_pid_tgid();
    int own = 0, others = 0;
    for (int i = 0; i < WEFT_BYPASS_WRITERS; i++) {
        if (out->writer[i] && out->writer[i] != thread) others = 1;
        if (out->writer[i] != thread) continue;
        if (forget) out->writer[i] = 0;
        own = 1;
    }
    if (own) return others ? WEFT_WRITES_TOO : WEFT_WRITES_ALONE;
    return others ? WEFT_OTHERS_WRITE : WEFT_WRITES_NOT;
}

/* A reader decides without its lock whether to read what TCP brought. With one writer, or several
 * in turn, TCP brings nothing before all that was redirected is queued; another thread's message by
 * TCP may, between this thread's verdict and its queueing, and then the reader that has decided
 * would read this thread's next by TCP first. So a thread whose message was redirected goes on with
 * it, whatever the words say, until its reader has read all; against a reader that does not read,
 * four times the credit is enough. Whoever sees something queued here came before weft_may_leave()
 * could see nothing, and has its reference.
 *
 * It is not asked for a message that comes while another thread waits inside sendmsg() by TCP: the
 * kernel takes that one's verdict. So threads that write to one socket at once, without a mutex,
 * into a full buffer, may lose the order of their own messages where a direction turns to TCP. */
static __always_inline int weft_must_follow(const struct weft_bypass_knobs *knobs,
                                            struct weft_bypass_pair *pair, __u32 side, __u64 cost) {
    struct weft_bypass_way *out = &pair->way[side];
    if (out->charged + (__s64)cost > 4 * (__s64)knobs->credit || weft_reader_is_done(pair, side))
        return 0;
    __sync_fetch_and_add(&out->charged, cost);
    weft_bypass_sum(cost);
    return 1;
}

static __always_inline __u32 weft_choose(const struct weft_bypass_knobs *knobs,
                                         struct weft_bypass_pair *pair, __u32 side,
                                         struct tcp_sock *tcp, __u32 state, __u64 cost) {
    struct weft_bypass_way *out = &pair->way[side];
    if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE_WAIT) return WEFT_BYPASS_CLOSING;
    if (tcp->inet_conn.icsk_ulp_ops) return WEFT_BYPASS_ULP;
    /* Of every message, not of the first alone: a sendmsg() that waits for room by TCP goes on
     * unseen, and its writer's next message may not overtake it. */
    const __u32 sent = tcp->write_seq;
    const int in_order = out->proof == (1ull << 32 | sent) && tcp->snd_una == sent;
    const int writers = weft_writers(out, 0);
    if (!in_order && (writers == WEFT_WRITES_ALONE || writers == WEFT_WRITES_TOO) &&
        weft_must_follow(knobs, pair, side, cost))
        return WEFT_BYPASS_REDIRECTED;
    if (!knobs->mode) return WEFT_BYPASS_TURNED_OFF;
    /* Threads that send at once, one of them waiting: the kernel sends by TCP for both, and does
     * not ask for the second. */
    if (tcp->inet_conn.icsk_inet.sk.sk_write_pending) pair->stream = 1;
    if (pair->stream) return WEFT_BYPASS_STREAM;
    if (!weft_bypass_open_to(out, knobs->mode)) return WEFT_BYPASS_READER;
    if (!in_order) return WEFT_BYPASS_ORDER;
    const __u32 path = weft_charge(knobs, pair, side, cost);
    if (path == WEFT_BYPASS_CREDIT &&
        (writers == WEFT_WRITES_TOO || writers == WEFT_OTHERS_WRITE) &&
        weft_must_follow(knobs, pair, side, cost))
        return WEFT_BYPASS_REDIRECTED;
    return path;
}

static __always_inline void weft_by_tcp(struct weft_bypass_pair *pair, struct weft_bypass_way *out,
                                        __u32 path, __u32 size) {
    weft_writers(out, 1);
    out->redirecting = 0;
    if (path == WEFT_BYPASS_ORDER || path == WEFT_BYPASS_CREDIT) out->tcp_run += size;
    if (out->tcp_run > WEFT_BYPASS_STREAM_BYTES && !pair->stream) pair->stream = 1;
    if (out->proof) out->proof = 0;
    out->last_path = path;
    out->tcp_bytes += size;
    weft_bypass_count(path, size);
}

SEC("sk_msg")
int weft_bypass_send(struct sk_msg_md *msg) {
    struct bpf_sock *sk = msg->sk;
    if (!sk) return SK_PASS;
    const __u32 size = msg->size;
    const struct weft_bypass_side *mine = bpf_sk_storage_get(&weft_bypass_sides, sk, 0, 0);
    const struct weft_bypass_knobs *knobs = weft_bypass_knobs_now();
    if (!mine || !knobs) return SK_PASS;
    const __u64 id = mine->id;
    const __u32 side = mine->side & 1;
    struct weft_bypass_pair *pair = bpf_map_lookup_elem(&weft_bypass_pairs, &id);
    struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
    if (!pair || !tcp) {
        weft_bypass_count(WEFT_BYPASS_UNPAIRED, size);
        return SK_PASS;
    }
    if (pair->epoch != knobs->epoch) {
        pair->epoch = knobs->epoch;
        weft_bypass_judge(knobs, pair);
    }
    struct weft_bypass_way *out = &pair->way[side], *in = &pair->way[side ^ 1];
    const int provable = weft_prove(in, tcp);
    const __u64 cost = (__u64)size + WEFT_BYPASS_MESSAGE_COST;
    if (++out->run > WEFT_BYPASS_STREAM_MESSAGES && !pair->stream) pair->stream = 1;
    __u32 path =
        provable ? weft_choose(knobs, pair, side, tcp, sk->state, cost) : WEFT_BYPASS_UNREADABLE;
    if (path == WEFT_BYPASS_REDIRECTED) {
        struct weft_bypass_key key = {.id = id, .side = side ^ 1};
        if (bpf_msg_redirect_hash(msg, &weft_bypass_sockets, &key, BPF_F_INGRESS) == SK_PASS) {
            weft_note_writer(out);
            out->redirecting = 1;
            out->tcp_run = 0;
            out->bytes += size;
            out->messages++;
            weft_bypass_count(WEFT_BYPASS_REDIRECTED, size);
            return SK_PASS;
        }
        weft_uncharge(out, cost);
        path = WEFT_BYPASS_PEER_GONE;
    }
    weft_by_tcp(pair, out, path, size);
    return SK_PASS;
}

/* Looks at one socket from outside: whether it has read what was redirected to it. Not a proof
 * (nobody holds its lock), but once redirect is off a queue that was seen empty stays so. */
SEC("tc")
int weft_bypass_look(struct __sk_buff *skb) {
    struct weft_bypass_key key = {};
    if (bpf_skb_load_bytes(skb, 0, &key, sizeof key)) return WEFT_BYPASS_LOOK_GONE;
    struct bpf_sock *sk = bpf_map_lookup_elem(&weft_bypass_sockets, &key);
    if (!sk) return WEFT_BYPASS_LOOK_GONE;
    int answer = WEFT_BYPASS_LOOK_QUEUED, known = 0;
    struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
    if (tcp && weft_queue_is_empty((__u64)tcp->inet_conn.icsk_inet.sk.sk_user_data, &known))
        answer = WEFT_BYPASS_LOOK_EMPTY;
    bpf_sk_release(sk);
    return answer;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
