"""How long faults last at the proxy: rows 3, 4, 19 to 22, 24 and 27 of the fault matrix. What comes of
them is tests/e2e's; here is when. Times and counts, no ratios.

A caller opens a connection a request, one a millisecond, and writes down when each began and ended and
how; faults are made from outside, and both sides read the same clock (CLOCK_MONOTONIC)."""

import collections
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import time

from weftlab import Manifests, Weftd, client, kernel, manifests, server, wait_until
from weftlab import weftd as lab
from weftlab.node import VirtualNode

from . import common

PORT, SOLO_PORT = 8080, 18080
WEB, STALLED, GONE = "10.96.0.1", "10.96.0.2", "10.96.0.3"
BACKENDS = "abc"
PER_TRY_MS = 100
SETTLED_SECONDS = 11  # a proxy that lived so long is replaced without a pause (agent/proxy)
REQUEST = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"

Asked = collections.namedtuple("Asked", "began ended how")


def _ask(where):
    """The status, or the error's name."""
    with socket.socket() as sock:
        sock.settimeout(20)
        try:
            sock.connect(where)
            sock.sendall(REQUEST)
            answer = sock.recv(4096)
            return answer[9:12].decode() if answer else "closed"
        except OSError as error:
            return client.error_name(error)


def _timeline(channel, address):
    """A job: [Asked], until it is stopped."""
    asked = []
    while not channel.stopping():
        began = time.monotonic()
        how = _ask((address, 80))
        asked.append(Asked(began, time.monotonic(), how))
        if len(asked) == 100:
            channel.send("under way")
        time.sleep(0.001)
    return [tuple(one) for one in asked]


def _rules(name, **rule):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"namespace": "bench", "name": name},
        "spec": {"hosts": [name], "http": [{"route": [{"destination": {"host": name}}], **rule}]},
    }


class Bench:
    def __init__(self, vnode, options):
        self.vnode, self.rounds = vnode, options.rounds
        self.caller = vnode["client"]
        self.jobs = {name: vnode[name].serve(server.http, name, PORT) for name in BACKENDS}
        mesh = Manifests(vnode.manifest_dir)
        outlier = {"consecutiveLocalOriginFailures": 1, "baseEjectionTime": "1s"}
        again = {"attempts": 2, "perTryTimeout": f"{PER_TRY_MS}ms", "retryOn": "gateway-error,reset"}
        for name, address, rule in (
            ("web", WEB, {}), ("stalled", STALLED, {"retries": again}), ("gone", GONE, {}),
        ):
            endpoints = [vnode[b].v4 for b in BACKENDS]
            mesh.write(
                f"{name}.yaml",
                manifests.service(f"bench/{name}", [address], [manifests.service_port(80, PORT)]),
                # Nobody listens on the other port.
                manifests.endpoint_slice(f"bench/{name}", endpoints, [PORT + (name == "gone")]),
                manifests.destination_rule(f"bench/{name}", name, outlierDetection=outlier),
                _rules(name, **rule),
            )
        self.agent = Weftd(vnode)
        self.agent.start()
        for name in ("web", "stalled", "gone"):
            self.agent.wait_service(f"bench/{name}", 3)
        wait_until(lambda: self.proxy()["captured"] >= 4, 30, "pods are captured")
        self.wait_serving()

    def proxy(self):
        return self.agent.ctl("status")["proxy"]

    def wait_serving(self, but_not=0):
        def serves():
            now = self.proxy()
            return now["state"] == "serving" and now["pid"] != but_not

        wait_until(serves, 30, "a proxy serves")
        wait_until(lambda: self.caller.run(_ask, (WEB, 80)) == "200", 30, "a request is answered")

    def during(self, address, fault):
        """(when it began, [Asked]) of a caller around fault()."""
        job = self.caller.start(_timeline, address)
        job.receive()
        began = time.monotonic()
        fault()
        time.sleep(0.2)  # what comes after it is looked at, too
        return began, [Asked(*one) for one in job.stop()]

    def repeat(self, what, measure):
        rounds = []
        for number in range(self.rounds):
            common.progress(f"faults: {what}: round {number + 1} of {self.rounds}")
            rounds.append(measure())
        return rounds


def _outage(began, asked):
    """ms from the fault to the end of the first request that came after the last one that failed,
    and failures by name."""
    bad = [one for one in asked if one.ended >= began and one.how != "200"]
    last = max((one.ended for one in bad), default=began)
    back = min(one.ended for one in asked if one.began >= last and one.how == "200")
    counts = collections.Counter(one.how for one in bad)
    return {"ms": (back - began) * 1e3, "failed": sum(counts.values()), "how": dict(counts)}


def _signalled(bench, number):
    """The proxy dies, or stands still."""
    time.sleep(SETTLED_SECONDS)
    pid = bench.proxy()["pid"]

    def fault():
        os.kill(pid, number)
        bench.wait_serving(but_not=pid)

    return _outage(*bench.during(WEB, fault))


def _reloaded(bench):
    """From the order to the new one's serving; what callers saw meanwhile."""
    pid, took = bench.proxy()["pid"], []

    def fault():
        began = time.monotonic()
        bench.agent.ctl("proxy", "reload")
        wait_until(lambda: bench.proxy()["pid"] != pid, 30, "the new one serves", 0.001)
        took.append(time.monotonic() - began)

    began, asked = bench.during(WEB, fault)
    slow = [(one.ended - one.began) * 1e3 for one in asked if began <= one.began <= began + took[0]]
    failed = sum(one.how != "200" for one in asked)
    wait_until(lambda: not bench.proxy()["draining"], 60, "the old one has gone")
    return {"ms": took[0] * 1e3, "slowest_ms": max(slow, default=0), "failed": failed}


def _refusing(bench):
    """One of three stops to listen under load, and comes back: errors that callers saw, and when its
    breaker was seen open (weftctl's own time included)."""
    address, opened = f"{bench.vnode['a'].v4}:{PORT}", []

    def is_open():
        rows = bench.agent.ctl("breaker", "list", "--service", "bench/web")
        return any(row["endpoint"] == address and row["state"] != "closed" for row in rows)

    def fault():
        began = time.monotonic()
        bench.jobs["a"].stop()
        wait_until(is_open, 30, "its breaker is open", 0.001)
        opened.append(time.monotonic() - began)

    began, asked = bench.during(WEB, fault)
    bench.jobs["a"] = bench.vnode["a"].serve(server.http, "a", PORT)
    # Who is out is tried by a request.
    wait_until(lambda: bench.caller.run(_ask, (WEB, 80)) and not is_open(), 30, "it is let in again")
    after = [one for one in asked if one.ended >= began]
    return {"ms": opened[0] * 1e3, "requests": len(after), "failed": sum(x.how != "200" for x in after)}


def _stopped(bench):
    """One of three stands still under load: the kernel still takes connections for it."""
    pid = bench.jobs["b"].pid

    def fault():
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(pid, signal.SIGCONT)

    began, asked = bench.during(STALLED, fault)
    after = [one for one in asked if one.ended >= began]
    return {
        "ms": max(one.ended - one.began for one in after) * 1e3,
        "requests": len(after),
        "failed": sum(one.how != "200" for one in after),
    }


def _nobody(bench):
    began = time.monotonic()
    how = bench.caller.run(_ask, (GONE, 80))
    return {"ms": (time.monotonic() - began) * 1e3, "requests": 1, "failed": how == "503"}


def _new_namespace(cgroup, where):
    """In a process of its own: a network namespace with a loopback, a cgroup, and connects until one is
    captured: (connects before, ms from the cgroup's making)."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket() as sock:  # lo: IFF_UP
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", 1))
    began = time.monotonic()
    os.makedirs(cgroup)
    kernel.enter_cgroup(cgroup)
    for tries in range(1_000_000):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.connect(where)
            return tries, (time.monotonic() - began) * 1e3
    raise RuntimeError("never captured")


def _captured(bench):
    number = time.monotonic_ns()
    pod = bench.vnode.outsider(bench.caller)
    tries, ms = pod.run(_new_namespace, f"{bench.vnode.cgroup}/new-{number}", (WEB, 80))
    pod.close()
    return {"ms": ms, "failed": tries}


# --- weft-proxy alone: shortages ---


@contextlib.contextmanager
def _alone(endpoint, descriptors=1024):
    command = ["prlimit", f"--nofile={descriptors}:{descriptors}", lab.proxy_binary(), "--workers", "1"]
    command += ["--listen", f"127.0.0.1:{SOLO_PORT}", "--to", endpoint]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        where = ("127.0.0.1", SOLO_PORT)
        try:
            wait_until(lambda: client.connect_error(*where) is None, 10, "weft-proxy listens", 0.005)
            yield where
        finally:
            process.kill()


def _without_descriptors(endpoint):
    """64 of them and 150 connections: from their closing to the first answer."""
    with _alone(endpoint, descriptors=64) as where:
        held = []
        for _ in range(150):
            held.append(socket.socket())
            held[-1].setblocking(False)
            held[-1].connect_ex(where)
        time.sleep(0.5)
        began = time.monotonic()
        for sock in held:
            sock.close()
        wait_until(lambda: _ask(where) == "200", 20, "it answers again", 0.001)
        return {"ms": (time.monotonic() - began) * 1e3}


def _without_ports(endpoint):
    """No port is left for a connection to the endpoint: from the request to its 503."""
    path = "/proc/sys/net/ipv4/ip_local_port_range"
    with open(path, encoding="ascii") as file:
        usual = file.read()
    with _alone(endpoint) as where, contextlib.ExitStack() as stack:
        callers = [stack.enter_context(socket.create_connection(where)) for _ in range(20)]
        for caller in callers:  # for one that says nothing an endpoint is connected: it may speak first
            caller.sendall(REQUEST[:3])
        with open(path, "w", encoding="ascii") as file:
            file.write("40000 40000")
        try:
            stack.enter_context(socket.socket()).bind(("0.0.0.0", 40000))
            slowest, refused = 0.0, 0
            for caller in callers:
                began = time.monotonic()
                caller.sendall(REQUEST[3:])
                refused += caller.recv(4096).startswith(b"HTTP/1.1 503")
                slowest = max(slowest, time.monotonic() - began)
        finally:
            with open(path, "w", encoding="ascii") as file:
                file.write(usual)
    return {"ms": slowest * 1e3, "requests": len(callers), "failed": refused}


def _measure(bench):
    endpoint = f"{bench.vnode['a'].v4}:{PORT}"
    return {
        "3: killed, to the next answer": bench.repeat("killed", lambda: _signalled(bench, signal.SIGKILL)),
        "3: stopped, to the next answer": bench.repeat("stopped", lambda: _signalled(bench, signal.SIGSTOP)),
        "4: reload, order to serving": bench.repeat("reload", lambda: _reloaded(bench)),
        "19: one of 3 refuses, to its breaker": bench.repeat("refusing", lambda: _refusing(bench)),
        f"20, 21: one of 3 stopped, slowest answer ({PER_TRY_MS} ms a try)": bench.repeat(
            "stopped endpoint", lambda: _stopped(bench)
        ),
        "22: all refuse, to the 503": bench.repeat("nobody", lambda: _nobody(bench)),
        "24: descriptors are back, to the next answer": bench.repeat(
            "descriptors", lambda: bench.caller.run(_without_descriptors, endpoint)
        ),
        "27: no port is left, slowest 503": bench.repeat(
            "ports", lambda: bench.caller.run(_without_ports, endpoint)
        ),
        "a new pod, cgroup to captured": bench.repeat("capture", lambda: _captured(bench)),
    }


def run(options):
    with VirtualNode(pods=["client", *BACKENDS]) as vnode:
        measured = _measure(Bench(vnode, options))

    def row(what, rounds):
        times = [one["ms"] for one in rounds]
        failed = [one["failed"] for one in rounds if "failed" in one]
        of = sum(one.get("requests", 0) for one in rounds)
        return [
            what, f"{common.median(times):.1f}", f"{max(times):.1f}",
            (f"{sum(failed)}" + (f" of {of:,}" if of else "")) if failed else "-",
        ]

    common.table(
        f"faults at the proxy ({options.rounds} rounds; one request a millisecond)",
        ["what", "median ms", "most ms", "failed in all"],
        [row(what, rounds) for what, rounds in measured.items()],
    )
    common.save("faults", measured)
