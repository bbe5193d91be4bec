"""The breaker: what it costs connect(), how fast it refuses, how many connects fail before it does."""

import json
import random

from weftlab import Manifests, Weftd, manifests, node, tool
from weftlab import weftd as lab
from weftlab.node import VirtualNode

from . import common

PORT = 8080
PLAIN, GUARDED, OPEN, EMPTY, TEN = (f"10.96.0.{i}" for i in (1, 2, 3, 4, 5))
OUTLIER = {"consecutiveLocalOriginFailures": 1}


def storm(pod, *words, guard_seconds=300):
    """weft_storm in the pod, on the server's CPU as in the other benches: its JSON."""
    command = ["taskset", "-c", "0", lab.binary("weft_storm", "tests"), *map(str, words)]
    status, out, err = pod.run(tool.run, command, guard_seconds, guard_seconds=guard_seconds + 30)
    if status:
        raise RuntimeError(f"weft_storm {' '.join(map(str, words))}: {err.strip()}")
    return json.loads(out)


def _write(mesh, name, address, endpoints, **traffic):
    objects = [
        manifests.service(f"bench/{name}", [address], [manifests.service_port(80, PORT)]),
        manifests.endpoint_slice(f"bench/{name}", endpoints, [PORT]),
    ]
    if traffic:
        objects.append(manifests.destination_rule(f"bench/{name}", name, **traffic))
    mesh.write(f"{name}.yaml", *objects)


def _setup(vnode):
    server = vnode["server"]
    addresses = [str(vnode.v4_net[100 + i]) for i in range(11)]
    node.ip([f"addr add {a}/{vnode.v4_net.prefixlen} dev eth0" for a in addresses], server.netns)
    server.serve(common.serve, [f"{a}:{PORT}" for a in addresses[:10]])
    mesh = Manifests(vnode.manifest_dir)
    _write(mesh, "plain", PLAIN, addresses[:10])
    _write(
        mesh, "guarded", GUARDED, addresses[:10], simple="LEAST_REQUEST", outlierDetection=OUTLIER,
        connectionPool={"tcp": {"maxConnections": 100000}},
    )
    _write(mesh, "open", OPEN, addresses[:1])
    _write(mesh, "empty", EMPTY, [])
    # Nobody listens on the last.
    _write(mesh, "ten", TEN, addresses[1:], outlierDetection=OUTLIER)
    agent = Weftd(vnode)
    agent.start()
    agent.wait_service("bench/ten", 10)
    agent.wait_service("bench/open", 1)
    agent.ctl("breaker", "open", f"{addresses[0]}:{PORT}", "--service", "bench/open", "--for", "24h")
    return agent


def _rounds(client, options):
    rounds, order = [], random.Random(7)
    targets = {"round robin": PLAIN, "breaker, limit, least request": GUARDED}
    for number in range(options.rounds + 1):
        common.progress(f"breaker: round {number} of {options.rounds}")
        names = list(targets)
        order.shuffle(names)
        measured = {
            name: client.run(
                common.tool, "crr", options.seconds, f"{targets[name]}:80", guard_seconds=120
            )
            for name in names
        }
        measured["refused"] = storm(client, "refused", 2000, f"{OPEN}:80")
        measured["no endpoint"] = storm(client, "refused", 2000, f"{EMPTY}:80")
        if number:  # the first warms caches
            rounds.append(measured)
    return rounds


def _first_failure(client, agent, times):
    """Connects that fail from the first on, over fresh breakers; 1 is the least there can be."""
    worst = 0
    for _ in range(times):
        for row in agent.ctl("breaker", "list", "--service", "bench/ten"):
            agent.ctl("breaker", "reset", str(row["id"]))
        result = storm(client, "closed", 1, 0.02, f"{TEN}:80")
        worst = max(worst, result["failed"])
    return worst


def run(options):
    minute = 5 if options.seconds < 1 else 60
    with VirtualNode(pods=["server", "client"]) as vnode:
        agent = _setup(vnode)
        client = vnode["client"]
        rounds = _rounds(client, options)
        worst = _first_failure(client, agent, 5 if options.seconds < 1 else 50)
        common.progress(f"one of ten endpoints refuses, 1,000 connects/s for {minute} s")
        for row in agent.ctl("breaker", "list", "--service", "bench/ten"):
            agent.ctl("breaker", "reset", str(row["id"]))
        open_loop = storm(client, "open", 1000, minute, f"{TEN}:80")
    rows = _report(rounds, worst, open_loop, minute)
    common.save(
        "breaker", {"rounds": rounds, "first_failure": worst, "open_loop": open_loop, "figures": rows}
    )


def _report(rounds, worst, open_loop, minute):
    plain, guarded = "round robin", "breaker, limit, least request"
    common.table(
        "connect() (medians over rounds)",
        ["path", "cycles/s", "connect() p50 ns", "p99 ns"],
        [
            [name, f"{common.median([r[name]['ops'] / r[name]['seconds'] for r in rounds]):,.0f}",
             f"{common.median([r[name]['connect_ns']['p50'] for r in rounds]):,.0f}",
             f"{common.median([r[name]['connect_ns']['p99'] for r in rounds]):,.0f}"]
            for name in (plain, guarded)
        ],
    )
    added = [r[guarded]["connect_ns"]["p50"] - r[plain]["connect_ns"]["p50"] for r in rounds]
    low, high = common.interval(added)
    refused = [r["refused"]["p50_ns"] for r in rounds]
    refused_low, refused_high = common.interval(refused)
    p99 = common.median([r["refused"]["p99_ns"] for r in rounds])
    empty = common.median([r["no endpoint"]["p50_ns"] for r in rounds])
    total = open_loop["ops"] + open_loop["failed"]
    share = open_loop["failed"] / total * 100
    rows = [
        ["refused by an open breaker: connect() returns, p50", f"{common.median(refused):,.0f} ns",
         f"{refused_low:,.0f}..{refused_high:,.0f}", "<= 20,000 ns", common.verdict(refused_high <= 20000)],
        ["  the same, p99 (no endpoint at all: p50)", f"{p99:,.0f} ns ({empty:,.0f})", "", "", ""],
        ["connect() with breaker, limit and p2c, against round robin", f"{common.median(added):,.0f} ns",
         f"{low:,.0f}..{high:,.0f}", "<= 500 ns", common.verdict(high <= 500)],
        ["failed connects from the first failure on", f"{worst}", "", "1", common.verdict(worst <= 1)],
        [f"one of ten refuses, 1,000 connects/s, {minute} s: failed", f"{open_loop['failed']} of {total}",
         f"{share:.4f} %", "<= 0.1 %", common.verdict(share <= 0.1)],
    ]
    common.table("against the figures to reach", ["what", "measured", "95 % interval", "reach", ""], rows)
    return rows
