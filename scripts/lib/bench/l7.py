"""weft-proxy against nginx, HAProxy, Envoy and a relay that parses nothing: CPU a request, added latency,
large bodies, memory, many routes. Each proxy alone on CPU 1, the client and the backend on CPU 0.

CPU a request is the headline: CPU 0 is what limits the rate, so rates say little about the proxy."""

import json
import math
import random
import re
import subprocess

from weftlab import tool
from weftlab import weftd as lab
from weftlab.node import VirtualNode

from . import common, l7_report
from .l7_peers import BACKEND, ROUTES, Peers, Running, write_bodies

CONNECTIONS, LARGE_CONNECTIONS = 64, 8
IDLE_CONNECTIONS = 8_000
# Every process that serves routes is asked the same: the last rule of 1,000 matches, the one of 1 does not.
ROUTE_PATH, ROUTE_HEADER = f"/other-{ROUTES - 1}/items", f"x-tenant: other-{ROUTES - 1}"


def wrk(seconds, connections, url, header):
    """In the pod: a closed loop to its end."""
    words = ["taskset", "-c", "0", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    words += ["-H", header] if header else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", done.stdout)
    if done.returncode or not found:
        raise RuntimeError(f"wrk {url}: {done.stdout} {done.stderr}")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))
    return {
        "ops": int(found.group(1)),
        "rate": rate,
        "bad": (int(bad.group(1)) if bad else 0) + (sum(map(int, errors.groups())) if errors else 0),
    }


def _open_loop(words):
    """In the pod."""
    command = ["taskset", "-c", "0", lab.binary("weft_http_load", "tests"), "open", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"weft_http_load: {done.stderr.strip()}")
    return json.loads(done.stdout)


class Lab:
    """A network namespace with the backend in it; proxies come and go."""

    def __init__(self, vnode, options):
        self.pod = vnode["l7"]
        write_bodies(vnode.dir)
        self.peers = Peers(self.pod, vnode.dir)
        self.backend = self.peers.start_backend()
        self.seconds = max(1, math.ceil(options.seconds * 3))  # wrk knows whole ones
        self.rounds = options.rounds
        self._order = random.Random(7)

    def names(self, *wanted):
        return [name for name in wanted if name in self.peers.commands]

    def drive(self, running, path, connections=CONNECTIONS, header=None, seconds=None):
        busy, cpu = common.busy_ns(), running.cpu_ns()
        url = f"http://{running.at}{path}"
        result = self.pod.run(wrk, seconds or self.seconds, connections, url, header, guard_seconds=300)
        ops = max(1, result["ops"])
        result["cpu_ns_per_op"] = (running.cpu_ns() - cpu) / ops
        result["busy_ns_per_op"] = (common.busy_ns() - busy) / ops
        return result

    def interleave(self, what, names, measure):
        """measure(name) for each in every round, in random order."""
        rounds = []
        for number in range(self.rounds):
            common.progress(f"l7: {what}: round {number + 1} of {self.rounds}")
            shuffled = list(names)
            self._order.shuffle(shuffled)
            measured = {name: measure(name) for name in shuffled}
            rounds.append({name: measured[name] for name in names})
        return rounds

    def compare(self, what, running, path, **how):
        """The same load on each of several proxies, once before anything counts."""
        for each in running.values():
            self.drive(each, path, **{**how, "seconds": 1})
        return self.interleave(what, running, lambda name: self.drive(running[name], path, **how))


def _latency(bench, running, keep_alive):
    """At half of what the slowest one managed in a closed loop."""
    slowest = min(common.median([r[name]["rate"] for r in keep_alive]) for name in keep_alive[0] if name != "relay")
    rate = int(slowest / 2)

    def measure(name):
        at = BACKEND if name == "direct" else running[name].at
        return bench.pod.run(_open_loop, [rate, bench.seconds, CONNECTIONS, at, "/1k"], guard_seconds=300)

    what = f"open loop at {rate:,} requests/s"
    asleep = bench.interleave(what, ["direct", *running], measure)
    with common.awake():
        return rate, asleep, bench.interleave(f"{what}, no CPU halts", ["direct", *running], measure)


def _memory(bench, name):
    """Of a fresh process: idle, and with connections that have each done one request."""
    running = bench.peers.start(name)
    idle = running.memory()
    hold = ["taskset", "-c", "0", lab.binary("weft_http_load", "tests"), "hold", IDLE_CONNECTIONS, running.at, "/1k"]
    job = bench.pod.start(tool.job, [str(word) for word in hold])
    job.receive(guard_seconds=120)
    loaded = running.memory()
    job.stop()
    running.stop()
    per_connection = {kind: (loaded[kind] - idle[kind]) / IDLE_CONNECTIONS for kind in idle}
    return {"idle": idle, "per_connection": per_connection}


def _measure(bench):
    measured = {}
    names = bench.names("weft", "nginx", "haproxy", "envoy", "relay")
    running = {name: bench.peers.start(name) for name in names}
    measured["keep_alive"] = bench.compare("keep-alive, 1 KB", running, "/1k")
    rate, measured["latency"], measured["latency_awake"] = _latency(bench, running, measured["keep_alive"])
    measured["latency_rate"] = rate
    running |= {name: bench.peers.start(name) for name in ("haproxy splice-auto", "haproxy splice")}
    measured["large"] = bench.compare("1 MB", running, "/1m", connections=LARGE_CONNECTIONS)
    _stop(running)
    names = bench.names("weft 1 route", *(f"weft {kind}" for kind in ("exact", "prefix", "header", "regex")))
    running = {name: bench.peers.start(name) for name in names}
    measured["routes"] = bench.compare(f"{ROUTES:,} routes", running, ROUTE_PATH, header=ROUTE_HEADER)
    _stop(running)
    bench.rounds = min(bench.rounds, 3)  # the same to a page each time
    names = bench.names("weft", "nginx", "haproxy", "envoy")
    measured["memory"] = bench.interleave("memory", names, lambda name: _memory(bench, name))
    return measured


def _stop(running: dict[str, Running]):
    for each in running.values():
        each.stop()


def run(options):
    with VirtualNode(pods=["l7"]) as vnode:
        measured = _measure(Lab(vnode, options))
    measured["figures"] = l7_report.report(measured, ROUTES, IDLE_CONNECTIONS)
    common.save("l7", measured)
