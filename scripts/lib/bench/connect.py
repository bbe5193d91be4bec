"""connect(): what it costs through weft, straight, and through kube-proxy-shaped rules."""

import os
import random
import subprocess

from weftlab import kernel, node, weftd as lab
from weftlab.node import VirtualNode
from weftlab.waiting import wait_until

from . import common, mesh

_SYSCTLS = [
    ("ipv4/ip_local_port_range", "1024 65000"),
    ("ipv4/tcp_tw_reuse", "1"),
    ("ipv4/tcp_max_tw_buckets", "4096"),
]


def _tune():
    for key, value in _SYSCTLS:
        with open(f"/proc/sys/net/{key}", "w", encoding="ascii") as file:
            file.write(value)


def _short_conntrack():
    """Every cycle leaves a conntrack entry; at the default of 120 s the table fills within a minute."""
    for name in ("time_wait", "close", "close_wait", "last_ack", "fin_wait"):
        path = f"/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_{name}"
        if os.path.exists(path):
            with open(path, "w", encoding="ascii") as file:
                file.write("1")


def _restore(command, rules):
    done = subprocess.run(command, input=rules.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.decode()[:300]}")


class Weft:
    """weftd for one pod's cgroup alone, so that several tables stand side by side."""

    def __init__(self, vnode, pod, count, dialled, real):
        self.dir = f"{vnode.dir}/{pod.name}"
        os.makedirs(f"{self.dir}/run", exist_ok=True)
        mesh.write_directory(f"{self.dir}/mesh", count, dialled, real)
        self.bpffs = f"{vnode.bpffs}/{pod.name}"
        self.log = f"{self.dir}/log"
        port = 15100 + len(vnode.pods)
        self.url = ("127.0.0.1", port + hash(pod.name) % 500)
        self.command = [
            lab.binary("weftd"), "--source", f"dir:{self.dir}/mesh", "--cgroup", pod.cgroup, "--bpffs", self.bpffs,
            "--run-dir", f"{self.dir}/run", "--state-dir", f"{self.dir}/state", "--metrics", f"{self.url[0]}:{self.url[1]}",
        ]
        self.node = vnode
        self.process = None
        vnode.on_close(self.stop)

    def start(self, *more):
        def enter():
            kernel.die_with_parent(os.getppid())
            kernel.enter_cgroup(self.node.agent_cgroup)
            kernel.enter_netns(f"{kernel.NETNS_DIR}/{self.node.netns}")

        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.command, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=enter
            )
        wait_until(self._ready, 60, "weftd is ready", 0.002)
        return self

    def _ready(self):
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8") as log:
                raise RuntimeError(f"weftd ended: {log.read()[-500:]}")
        with open(self.log, encoding="utf-8") as log:
            return " info ready " in log.read().rsplit(" info start ", 1)[-1]

    def stop(self, signal="kill"):
        if self.process:
            getattr(self.process, signal)()
            self.process.wait()
            self.process = None


def _measure(variant, seconds):
    pod, targets = variant["pod"], variant["targets"]
    before = common.busy_ns()
    result = pod.run(common.tool, variant["mode"], seconds, *targets, guard_seconds=120)
    result["busy_ns"] = common.busy_ns() - before
    result["rate"] = result["ops"] / result["seconds"]
    result["busy_ns_per_op"] = result["busy_ns"] / max(1, result["ops"])
    return result


def _setup(vnode, large):
    pods = vnode.pods
    server = pods["server"]
    extra = [str(vnode.v4_net[100 + i]) for i in range(mesh.ENDPOINTS)]
    node.ip([f"addr add {a}/{vnode.v4_net.prefixlen} dev eth0" for a in extra], server.netns)
    for pod in pods.values():
        pod.run(_tune)
    server.serve(common.serve, [f"{a}:{mesh.TARGET}" for a in extra])
    middle = large // 2
    vip_small, vip_large = (f"{mesh.service_address(i)}:{mesh.PORT}" for i in (0, middle))

    common.progress(f"weft tables: 1 service, {large:,} services")
    Weft(vnode, pods["weft-1"], 1, 0, extra).start()
    Weft(vnode, pods["weft-many"], large, middle, extra).start()
    common.progress(f"kube-proxy-shaped iptables rules: 1 and {large:,} services (this takes a while)")
    pods["iptables-1"].run(_restore, ["iptables-legacy-restore"], mesh.iptables_rules(1, 0, extra))
    pods["iptables-many"].run(
        _restore, ["iptables-legacy-restore"], mesh.iptables_rules(large, middle, extra), guard_seconds=900
    )
    common.progress(f"kube-proxy-shaped nftables rules: {large:,} services")
    pods["nftables-many"].run(_restore, ["nft", "-f", "-"], mesh.nftables_rules(large, middle, extra), guard_seconds=900)
    for name in ("iptables-1", "iptables-many", "nftables-many"):
        pods[name].run(_short_conntrack)

    direct = [f"{a}:{mesh.TARGET}" for a in extra]
    targets = {"direct": direct, "weft-1": [vip_small], "weft-many": [vip_large], "iptables-1": [vip_small],
               "iptables-many": [vip_large], "nftables-many": [vip_large]}
    variants = {name: {"pod": pods[name], "mode": "crr", "targets": t} for name, t in targets.items()}
    variants["rr direct"] = {"pod": pods["direct"], "mode": "rr", "targets": direct[:1]}
    variants["rr weft-1"] = {"pod": pods["weft-1"], "mode": "rr", "targets": [vip_small]}
    return variants


def _report(rounds, large):
    def ratios(a, b, key="rate"):
        values = [r[a][key] / r[b][key] for r in rounds]
        return common.median(values), common.interval(values)

    def differences(a, b):
        values = [r[a]["connect_ns"]["p50"] - r[b]["connect_ns"]["p50"] for r in rounds]
        return common.median(values), common.interval(values)

    common.table(
        "one connect-request-close cycle (medians over rounds)",
        ["path", "cycles/s", "connect() p50 ns", "p99 ns", "machine ns/cycle"],
        [
            [name, f"{common.median([r[name]['rate'] for r in rounds]):,.0f}",
             f"{common.median([r[name]['connect_ns']['p50'] for r in rounds]):,.0f}",
             f"{common.median([r[name]['connect_ns']['p99'] for r in rounds]):,.0f}",
             f"{common.median([r[name]['busy_ns_per_op'] for r in rounds]):,.0f}"]
            for name in rounds[0] if "connect_ns" in rounds[0][name]
        ],
    )
    added, added_ci = differences("weft-1", "direct")
    slope, slope_ci = differences("weft-many", "weft-1")
    cycle, cycle_ci = ratios("weft-1", "direct")
    busy, busy_ci = ratios("weft-1", "direct", "busy_ns_per_op")
    rows = [
        ["connect() added, 1 service", f"{added:,.0f} ns", f"{added_ci[0]:,.0f}..{added_ci[1]:,.0f}", "<= 1,000 ns",
         common.verdict(added_ci[1] <= 1000)],
        ["cycle through weft against direct, rate", f"{cycle:.3f}x", f"{cycle_ci[0]:.3f}..{cycle_ci[1]:.3f}", ">= 0.95x",
         common.verdict(cycle_ci[0] >= 0.95)],
        ["cycle through weft against direct, CPU", f"{busy:.3f}x", f"{busy_ci[0]:.3f}..{busy_ci[1]:.3f}", "<= 1.05x",
         common.verdict(busy_ci[1] <= 1.05)],
        [f"connect(): {large:,} services against 1", f"{slope:,.0f} ns", f"{slope_ci[0]:,.0f}..{slope_ci[1]:,.0f}", "<= 300 ns",
         common.verdict(slope_ci[1] <= 300)],
    ]
    for title, a, b, want in (
        ("cycle: weft against iptables, 1 service", "weft-1", "iptables-1", 1.0),
        (f"cycle: weft against iptables, {large:,} services", "weft-many", "iptables-many", 1.5),
        (f"cycle: weft against nftables, {large:,} services", "weft-many", "nftables-many", 1.05),
        ("request-response, weft against direct", "rr weft-1", "rr direct", 0.99),
    ):
        value, (low, high) = ratios(a, b)
        rows.append([title, f"{value:.3f}x", f"{low:.3f}..{high:.3f}", f">= {want}x", common.verdict(low >= want)])
    common.table("against the figures to reach", ["what", "median", "95 % interval", "reach", ""], rows)
    return rows


def run(options):
    large = 200 if options.quick else 10_000
    names = ["server", "direct", "weft-1", "weft-many", "iptables-1", "iptables-many", "nftables-many"]
    with VirtualNode(pods=names) as vnode:
        variants = _setup(vnode, large)
        for variant in variants.values():  # first touch of maps, JIT, caches: not measured
            _measure(variant, options.seconds / 2)
        rounds = []
        order = random.Random(7)
        for number in range(options.rounds):
            common.progress(f"connect: round {number + 1} of {options.rounds}")
            shuffled = list(variants)
            order.shuffle(shuffled)
            measured = {name: _measure(variants[name], options.seconds) for name in shuffled}
            rounds.append({name: measured[name] for name in variants})
        rows = _report(rounds, large)
    common.save("connect", {"rounds": rounds, "figures": rows})
