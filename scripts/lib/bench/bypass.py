"""The same-node bypass against plain TCP without a mesh, in one run: the plain ends are processes in the
same network namespaces but outside the node's cgroup, where no program of weft sees them.

Clients and backends share CPU 0, so that a rate is what both cost; a proxy has CPU 1 to itself."""

import json
import os
import random
import subprocess

from weftlab import Manifests, Weftd, kernel, manifests
from weftlab import weftd as lab
from weftlab.node import VirtualNode
from weftlab.waiting import wait_until

from . import common, l7, l7_peers

CONNECTIONS = 64
SERVICE, ROUTED, SAID = "10.96.0.10", "10.96.0.11", "10.96.0.12"
BACKEND_PORT, PLAIN_PORT, PROXY_PORT, SAID_PORT = 8000, 8001, 8002, 8003
PIPES = {
    # what: (mode, bytes, where)
    "rr 1 KB, two pods": ("rr", 1024, "veth"),
    "rr 1 KB, loopback": ("rr", 1024, "lo"),
    "stream of 64 KB writes, two pods": ("stream", 65536, "veth"),
    "stream of 64 KB writes, loopback": ("stream", 65536, "lo"),
    "stream of 1 KB writes, two pods": ("stream", 1024, "veth"),
    "stream of 1 KB writes, loopback": ("stream", 1024, "lo"),
}


def _pipe(words):
    """In the pod: weft_pipe to its end."""
    command = [lab.binary("weft_pipe", "tests"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"weft_pipe {words}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def _pin(pid, cpu):
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {cpu})


def _routes(host):
    """One rule that makes the port HTTP's."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": host, "namespace": "test"},
        "spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]},
    }


class _Process:
    """What drive() asks of a proxy or a backend."""

    def __init__(self, pid, at):
        self.pid, self.at = pid, at

    cpu_ns = l7_peers.Running.cpu_ns


class Node:
    """A virtual node with two pods, weftd in one mode, and a plain process in each namespace."""

    def __init__(self, mode, options, proxy):
        self.mode = mode
        self.node = VirtualNode(pods=["client", "declared", "backend"])
        self.client, self.backend = self.node["client"], self.node["backend"]
        self.declared = self.node["declared"]  # its Pod says that it bears the bypass
        self.plain_client = self.node.outsider(self.client)
        self.plain_backend = self.node.outsider(self.backend)
        l7_peers.write_bodies(self.node.dir)
        self._write_mesh()
        self.weftd = Weftd(self.node, "--bypass", mode, *([] if proxy else ["--proxy", "off"]))
        self.weftd.start()
        if mode != "off":
            wait_until(lambda: self.weftd.ctl("status")["bypass"]["mode"] == mode, 60, f"bypass {mode}")
        self.options = options
        self._port = 9000

    def _write_mesh(self):
        mesh = Manifests(self.node.manifest_dir)
        on = {"weft.mesh/bypass": "on"}
        for name, address, port, said in (
            ("web", SERVICE, BACKEND_PORT, None), ("routed", ROUTED, BACKEND_PORT, None), ("said", SAID, SAID_PORT, on)
        ):
            mesh.write(
                f"{name}.yaml",
                manifests.service(f"test/{name}", [address], [manifests.service_port(80, port)], annotations=said),
                manifests.endpoint_slice(f"test/{name}", [manifests.endpoint(self.backend.v4)], [port]),
            )
        mesh.write("routes.yaml", _routes("routed"), _routes("said"))
        pod = manifests.pod("test/declared", {"app": "declared"}, [self.declared.v4])
        pod["metadata"]["annotations"] = on
        mesh.write("pod.yaml", pod)

    def nginx(self, pod, name, at, text, cpu, **more):
        path = l7_peers.written(self.node.dir, f"{name}.conf", text, at=at, **more)
        return l7_peers.Running(pod, name, ["nginx", "-c", path], at, cpu, self.node.dir)

    def said_backend(self):
        at = f"{self.backend.v4}:{SAID_PORT}"
        return self.nginx(self.backend, "said", at, l7_peers.BACKEND_CONF.replace("backend.", "said."), 0)

    def backends(self):
        """In the cgroup and outside it, both on CPU 0 and both reached over veth."""
        inside = self.nginx(self.backend, "backend", f"{self.backend.v4}:{BACKEND_PORT}", l7_peers.BACKEND_CONF, 0)
        outside = self.nginx(self.plain_backend, "plain", f"{self.backend.v4}:{PLAIN_PORT}", l7_peers.BACKEND_CONF, 0)
        return inside, outside

    def proxy(self):
        """weft-proxy, on CPU 1 from here on."""
        status = lambda: self.weftd.ctl("status")["proxy"]  # noqa: E731
        wait_until(lambda: status()["state"] == "serving" and status()["captured"] >= 2, 60, "the proxy serves")
        pid = status()["pid"]
        _pin(pid, 1)
        return _Process(pid, f"{ROUTED}:80")

    def pipe(self, what, plain):
        mode, size, where = PIPES[what]
        self._port += 1
        words = [mode, size, self.options.seconds]
        if where == "lo":
            words += [f"127.0.0.1:{self._port}"]
        else:
            words += [f"{self.backend.v4}:{self._port}", f"{kernel.NETNS_DIR}/{self.backend.netns}"]
        result = (self.plain_client if plain else self.client).run(_pipe, words, guard_seconds=120)
        result["rate"] = result["ops"] / result["seconds"]
        result["cpu_ns_per_op"] = (result["client_cpu"] + result["server_cpu"]) * 1e9 / result["ops"]
        return result

    def close(self):
        self.node.close()


class Lab:
    def __init__(self, options):
        self.seconds = max(1, round(options.seconds * 2))
        self.rounds = options.rounds
        self.order = random.Random(7)

    def drive(self, pod, url, of, header=None):
        cpu, busy = of.cpu_ns(), common.busy_ns()
        result = pod.run(l7.wrk, self.seconds, CONNECTIONS, url, header, guard_seconds=300)
        result["cpu_ns_per_op"] = (of.cpu_ns() - cpu) / max(1, result["ops"])
        result["busy_ns_per_op"] = (common.busy_ns() - busy) / max(1, result["ops"])
        return result

    def interleave(self, what, variants):
        """variants: name -> function."""
        for measure in variants.values():  # first touches are not counted
            measure()
        rounds = []
        for number in range(self.rounds):
            common.progress(f"bypass: {what}: round {number + 1} of {self.rounds}")
            shuffled = list(variants)
            self.order.shuffle(shuffled)
            measured = {name: variants[name]() for name in shuffled}
            rounds.append({name: measured[name] for name in variants})
        return rounds


def _http(bench, on, auto):
    """HTTP to a backend: through a service address with the bypass, and without a mesh."""
    inside, outside = on.backends()
    auto_inside, _ = auto.backends()
    rounds = bench.interleave("HTTP to a backend", {
        "on": lambda: bench.drive(on.client, f"http://{SERVICE}/1k", inside),
        "plain": lambda: bench.drive(on.plain_client, f"http://{outside.at}/1k", outside),
        "auto": lambda: bench.drive(auto.client, f"http://{SERVICE}/1k", auto_inside),
    })
    nginx = on.nginx(on.plain_client, "nginx", f"127.0.0.1:{PROXY_PORT}", l7_peers.NGINX_CONF, 1, to=outside.at)
    proxies = {"on": on.proxy(), "auto": auto.proxy()}
    auto.said_backend()
    routed = bench.interleave("HTTP through a proxy", {
        "weft on": lambda: bench.drive(on.client, f"http://{ROUTED}/1k", proxies["on"]),
        "weft auto": lambda: bench.drive(auto.client, f"http://{ROUTED}/1k", proxies["auto"]),
        "weft auto, declared": lambda: bench.drive(auto.declared, f"http://{SAID}/1k", proxies["auto"]),
        "nginx": lambda: bench.drive(on.plain_client, f"http://{nginx.at}/1k", nginx),
        "no mesh": lambda: bench.drive(on.plain_client, f"http://{outside.at}/1k", outside),
    })
    return rounds, routed


def _others(bench, auto, off):
    """Connections that nobody bypasses: with the bypass loaded, and without."""
    def measure(node):
        result = node.pipe("rr 1 KB, two pods", plain=False)
        cycles = node.client.run(common.tool, "crr", bench.seconds, f"{node.backend.v4}:7000")
        return {"rate": result["rate"], "cpu_ns_per_op": result["cpu_ns_per_op"], 
                "cycles": cycles["ops"] / cycles["seconds"]}

    for node in (auto, off):
        node.backend.serve(common.serve, [f"{node.backend.v4}:7000"])
    return bench.interleave("connections that are not bypassed", {
        "loaded": lambda: measure(auto), "off": lambda: measure(off),
    })


def _report(measured):
    common.table(
        "HTTP, 1 KB, 64 connections, closed loop (medians over rounds)",
        ["path", "requests/s", "CPU us/request of the backend or proxy", "machine us/request", "failed"],
        [
            [name, *(f"{common.median([r[name][key] for r in rounds]) / scale:,.{digits}f}"
                     for key, scale, digits in (("rate", 1, 0), ("cpu_ns_per_op", 1e3, 2), ("busy_ns_per_op", 1e3, 2))),
             sum(r[name]["bad"] for r in rounds)]
            for rounds in (measured["http"], measured["routed"]) for name in rounds[0]
        ],
    )
    figures = common.Figures()
    ratio = common.ratios
    http, routed = measured["http"], measured["routed"]
    figures.add("HTTP to a backend, on: rate against no mesh", ratio(http, "on", "plain", "rate"), "x", least=1.5)
    figures.add("... the backend's CPU a request", ratio(http, "on", "plain", "cpu_ns_per_op"), "x", most=0.65)
    for mode, cpu, rate in (("auto", 0.7, 0.7), ("auto, declared", 0.7, 0.7), ("on", 0.6, 0.8)):
        figures.add(f"through weft-proxy, {mode}: its CPU against nginx",
                    ratio(routed, f"weft {mode}", "nginx", "cpu_ns_per_op"), "x", most=cpu)
        figures.add("... rate against no mesh at all", ratio(routed, f"weft {mode}", "no mesh", "rate"), "x", least=rate)
    for what, rounds in measured["pipes"].items():
        figures.add(f"{what}: rate", ratio(rounds, "bypass", "plain", "rate"), "x", least=1)
        figures.add("... CPU of both ends", ratio(rounds, "bypass", "plain", "cpu_ns_per_op"), "x",
                    most=0.85 if what == "rr 1 KB, two pods" else None)
    others = measured["others"]
    figures.add("not bypassed, request-response: rate, loaded against off", ratio(others, "loaded", "off", "rate"), "x",
                least=0.99)
    figures.add("... CPU", ratio(others, "loaded", "off", "cpu_ns_per_op"), "x", most=1.01)
    figures.add("... connect, ask, close: rate", ratio(others, "loaded", "off", "cycles"), "x", least=0.99)
    common.table("against the figures to reach", ["what", "median", "95 % interval", "reach", ""], figures.rows)
    return figures.rows


def run(options):
    bench = Lab(options)
    nodes = []
    try:
        for mode, proxy in (("on", True), ("auto", True), ("off", False)):
            nodes.append(Node(mode, options, proxy))
        on, auto, off = nodes
        measured = {"pipes": {}}
        measured["http"], measured["routed"] = _http(bench, on, auto)
        for what in PIPES:
            measured["pipes"][what] = bench.interleave(what, {
                "bypass": lambda what=what: on.pipe(what, plain=False),
                "plain": lambda what=what: on.pipe(what, plain=True),
            })
        measured["others"] = _others(bench, auto, off)
    finally:
        for node in nodes:
            node.close()
    measured["figures"] = _report(measured)
    common.save("bypass", measured)
