"""One of four endpoints is ten times slower: what it gets and what clients feel, by balancer."""

import random

from weftlab import Manifests, Weftd, manifests, node, tool
from weftlab import weftd as lab
from weftlab.node import VirtualNode

from . import common
from .breaker import storm

PORT, FAST_US, SLOW_US, CLIENTS = 8080, 2000, 20000, 32
BALANCERS = {"round-robin": "10.96.0.1", "least-request": "10.96.0.2", "peak-ewma": "10.96.0.3"}


def _setup(vnode):
    server = vnode["server"]
    addresses = [str(vnode.v4_net[100 + i]) for i in range(4)]
    node.ip([f"addr add {a}/{vnode.v4_net.prefixlen} dev eth0" for a in addresses], server.netns)
    # One request at a time each: slowness then is a queue, as with a busy server.
    listen = [f"{a}:{PORT}#{SLOW_US if a == addresses[3] else FAST_US}" for a in addresses]
    job = server.start(tool.job, [lab.binary("weft_storm", "tests"), "serve", *listen])
    job.receive()
    mesh = Manifests(vnode.manifest_dir)
    for name, address in BALANCERS.items():
        mesh.write(
            f"{name}.yaml",
            manifests.service(
                f"bench/{name}", [address], [manifests.service_port(80, PORT)],
                annotations={"weft.mesh/balancer": name},
            ),
            manifests.endpoint_slice(f"bench/{name}", addresses, [PORT]),
        )
    agent = Weftd(vnode)
    agent.start()
    for name in BALANCERS:
        agent.wait_service(f"bench/{name}", 4)
    return addresses[3].rsplit(".", 1)[1]


def run(options):
    rounds, order = [], random.Random(7)
    seconds = max(options.seconds, 0.5) * 2
    with VirtualNode(pods=["server", "client"]) as vnode:
        slow = _setup(vnode)
        for number in range(options.rounds):
            common.progress(f"balance: round {number + 1} of {options.rounds}")
            names = list(BALANCERS)
            order.shuffle(names)
            rounds.append(
                {n: storm(vnode["client"], "closed", CLIENTS, seconds, f"{BALANCERS[n]}:80") for n in names}
            )
    rows = _report(rounds, slow)
    common.save("balance", {"rounds": rounds, "figures": rows})


def _report(rounds, slow):
    def share(result):
        return result["by_backend"].get(slow, 0) / max(1, result["ops"]) * 100

    common.table(
        f"{CLIENTS} clients, three endpoints of {FAST_US // 1000} ms and one of {SLOW_US // 1000} ms, one request "
        "at a time each (medians over rounds)",
        ["balancer", "requests/s", "p50 ms", "p99 ms", "slow one's share"],
        [
            [name, f"{common.median([r[name]['ops'] / r[name]['seconds'] for r in rounds]):,.0f}",
             f"{common.median([r[name]['p50_ns'] for r in rounds]) / 1e6:.1f}",
             f"{common.median([r[name]['p99_ns'] for r in rounds]) / 1e6:.1f}",
             f"{common.median([share(r[name]) for r in rounds]):.1f} %"]
            for name in BALANCERS
        ],
    )
    rows = []
    for name in ("least-request", "peak-ewma"):
        shares = [share(r[name]) for r in rounds]
        better = [r["round-robin"]["p99_ns"] / r[name]["p99_ns"] for r in rounds]
        for what, values, want, unit, ok in (
            ("slow one's share", shares, "< 10 %", " %", lambda low, high: high < 10),
            ("p99 against round robin's", better, ">= 3x better", "x", lambda low, high: low >= 3),
        ):
            low, high = common.interval(values)
            rows.append([f"{name}: {what}", f"{common.median(values):.2f}{unit}", f"{low:.2f}..{high:.2f}", want,
                         common.verdict(ok(low, high))])
    common.table("against the figures to reach", ["what", "median", "95 % interval", "reach", ""], rows)
    return rows
