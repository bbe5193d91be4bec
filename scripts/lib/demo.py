#!/usr/bin/python3
"""The demo itself; scripts/demo sets up and builds before. Its texts say what it shows."""

import sys
import time
from collections import Counter

from weftlab import (
    CommandFailed,
    Hang,
    LabError,
    Manifests,
    RemoteError,
    VirtualNode,
    Weftd,
    client,
    manifests,
    server,
    wait_until,
)

SERVICE = "shop/web"
V4, V6, EMPTY, DOCS = "10.96.0.10", "fd00:96::10", "10.96.0.11", "10.96.0.12"
BACKENDS = ["backend-1", "backend-2", "backend-3"]


class Report:
    """Rows are printed when they are known; the table at the end is what was asserted."""

    def __init__(self):
        self.rows = []

    def step(self, text):
        print(f"\n{text}", flush=True)

    def check(self, claim, so, seen):
        self.rows.append((claim, bool(so), str(seen)))
        print(f"  {'ok  ' if so else 'FAIL'} {claim}: {seen}", flush=True)

    def passed(self):
        return bool(self.rows) and all(so for _, so, _ in self.rows)

    def table(self):
        width = max(len(claim) for claim, _, _ in self.rows)
        print(f"\n{'asserted':<{width}}  result  seen")
        print(f"{'-' * width}  ------  ----")
        for claim, so, seen in self.rows:
            print(f"{claim:<{width}}  {'ok' if so else 'FAIL':<6}  {seen}")
        good = sum(so for _, so, _ in self.rows)
        print(
            f"\n{good} of {len(self.rows)} as asserted: {'PASSED' if self.passed() else 'FAILED'}"
        )


def counted(answers):
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(answers).items()))


def write_mesh(mesh, node, ready, annotations=None):
    mesh.write(
        "web.yaml",
        manifests.service(
            SERVICE, [V4, V6], [manifests.service_port(80, 8080)], annotations=annotations
        ),
        *[
            manifests.endpoint_slice(
                SERVICE,
                [manifests.endpoint(getattr(node[b], family), ready=b in ready) for b in BACKENDS],
                [8080],
            )
            for family in ("v4", "v6")
        ],
    )


def show_balancing(report, node):
    report.step(f"Balancing: 30 connections from the client pod to {SERVICE}, over each IP version")
    for name, address in (("IPv4", V4), ("IPv6", V6)):
        answers = node["client"].run(client.ask_many, address, 80, 30)
        report.check(
            f"{name} {address}: every backend gets its turn",
            Counter(answers) == {backend: 10 for backend in BACKENDS},
            counted(answers),
        )
    one = node["client"].run(client.ask, V4, 80)
    report.check(
        "the application sees the service address as its peer",
        one["peer"] == (V4, 80),
        "%s:%d" % one["peer"] if one["peer"] else one["error"],
    )
    direct = node["client"].run(client.ask, node["backend-1"].v4, 8080)
    report.check(
        "an address that is no service is left alone",
        direct["name"] == "backend-1",
        f"{node['backend-1'].v4} answered by {direct['name']}",
    )


def show_health(report, node, weftd, mesh):
    report.step("Health: backend-2 is marked not ready in its EndpointSlice, then ready again")
    write_mesh(mesh, node, ready=["backend-1", "backend-3"])
    weftd.wait_service(SERVICE, 4)  # two backends, two IP versions
    answers = node["client"].run(client.ask_many, V4, 80, 20)
    report.check(
        "not ready: it leaves the rotation",
        Counter(answers) == {"backend-1": 10, "backend-3": 10},
        counted(answers),
    )
    write_mesh(mesh, node, ready=BACKENDS)
    weftd.wait_service(SERVICE, 6)
    answers = node["client"].run(client.ask_many, V4, 80, 30)
    report.check(
        "ready again: it comes back", Counter(answers)["backend-2"] == 10, counted(answers)
    )


def show_refusal(report, node):
    report.step("No endpoint: a service without a ready backend must refuse, not hang")
    start = time.monotonic()
    error = node["client"].run(client.connect_error, EMPTY, 80)
    took = (time.monotonic() - start) * 1e3
    report.check("refused at once", error == "ECONNREFUSED", f"{error} after {took:.1f} ms")


def show_breaker(report, node, weftd, mesh, servers):
    report.step(
        "Breaker: outlier detection is turned on, then backend-3's server ends and refuses connections"
    )
    mesh.write(
        "rule.yaml",
        manifests.destination_rule(
            "shop/web",
            "web",
            outlierDetection={"consecutiveLocalOriginFailures": 1, "baseEjectionTime": "1s"},
        ),
    )
    weftd.ctl("wait", "--service", SERVICE, "--ready", "6")
    wait_until(lambda: weftd.ctl("breaker", "list"), what="weftctl breaker list shows the breakers")
    servers["backend-3"].stop()
    answers = node["client"].run(client.ask_many, V4, 80, 60)
    report.check(
        "one connect fails, the very next goes elsewhere",
        Counter(answers)["ECONNREFUSED"] == 1,
        counted(answers),
    )
    broken = [b for b in weftd.ctl("breaker", "list") if b["state"] != "closed"]
    report.check(
        "weftctl breaker list says which and why",
        [b["reason"] for b in broken] == ["refused"],
        ", ".join(f"{b['endpoint']} {b['state']}, {b['reason']}" for b in broken),
    )
    servers["backend-3"] = node["backend-3"].serve(server.http, "backend-3", 8080)
    wait_until(
        lambda: "backend-3" in node["client"].run(client.ask_many, V4, 80, 3),
        what="a probe finds it well",
    )
    answers = node["client"].run(client.ask_many, V4, 80, 30)
    report.check(
        "well again: a probe closes the breaker",
        Counter(answers)["backend-3"] == 10,
        counted(answers),
    )


def http_routes():
    """Path /docs leads to another service, /old is moved, everything else to the one dialled."""

    def rule(prefix, **action):
        return {"match": [{"uri": {"prefix": prefix}}], **action}

    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "hosts": ["web"],
            "http": [
                rule("/docs", route=[{"destination": {"host": "docs"}}]),
                rule("/old", redirect={"uri": "/new"}),
                {"route": [{"destination": {"host": "web"}}], "retries": {"attempts": 2}},
            ],
        },
    }


def show_routes(report, node, weftd, mesh):
    report.step(
        "HTTP routes: a VirtualService sends /docs of shop/web to another service; only such ports go "
        "through\nthe node's shared proxy"
    )
    mesh.write(
        "docs.yaml",
        manifests.service("shop/docs", [DOCS], [manifests.service_port(80, 8080)]),
        manifests.endpoint_slice("shop/docs", [manifests.endpoint(node["caller"].v4)], [8080]),
    )
    mesh.write("routes.yaml", http_routes())
    caller = node["caller"].serve(server.http, "docs", 8080)

    def ask(path):
        return node["client"].run(client.http_get, V4, 80, path)

    def served():
        status = weftd.ctl("status")["proxy"]
        return status["state"] == "serving" and "docs" in str(ask("/docs/start"))

    wait_until(served, 30, "the proxy serves the client's namespace")
    answers = [str(ask(path)) for path in ("/docs", "/", "/other")]
    report.check(
        "/docs is answered by the other service, the rest by the one dialled",
        "docs" in answers[0] and all("backend-" in answer for answer in answers[1:]),
        "docs, backend, backend" if "docs" in answers[0] else answers,
    )
    moved = ask("/old")
    report.check("/old is redirected by the proxy itself", moved[0] == 301, f"status {moved[0]}")
    status = weftd.ctl("status")["proxy"]
    report.check(
        "one unprivileged process serves the whole node",
        status["state"] == "serving",
        f"pid {status['pid']}, {status['captured']} namespaces captured",
    )
    mesh.remove("routes.yaml")
    wait_until(
        lambda: weftd.ctl("service", "list")
        and all(p["path"] == "kernel" for s in weftd.ctl("service", "list") for p in s["ports"]),
        30,
        "the rules are gone",
    )
    answers = node["client"].run(client.ask_many, V4, 80, 30)
    report.check(
        "without its rules the service is the kernel's again",
        Counter(answers) == {backend: 10 for backend in BACKENDS},
        counted(answers),
    )
    caller.stop()


def show_bypass(report, node, weftd, mesh):
    report.step('Bypass: the service says weft.mesh/bypass: "on", and bytes skip TCP/IP on this node')
    wait_until(lambda: weftd.ctl("status")["bypass"]["mode"] == "auto", 30, "the self-test passes")
    write_mesh(mesh, node, BACKENDS, annotations={"weft.mesh/bypass": "on"})

    def bypassed():
        job = node["client"].start(client.keep_open, V4, 80)
        job.receive()
        pairs = weftd.ctl("conn", "list")
        answer = job.stop()
        return (answer, pairs[0]) if pairs else None

    answer, pair = wait_until(bypassed, 30, "a connection is brought together")
    moved = sum(d["bypass_bytes"] for d in pair["directions"])
    report.check(
        "weftctl conn list: a request and its answer went from socket to socket",
        answer in BACKENDS and moved > 0 and not any(d["tcp_bytes"] for d in pair["directions"]),
        f"{pair['client']} and {pair['server']}: {moved} bytes, none by TCP",
    )
    write_mesh(mesh, node, BACKENDS)


def links(weftd):
    return {hook["name"]: hook["link_id"] for hook in weftd.ctl("status")["hooks"]}


def show_crash(report, node, weftd):
    report.step("Crash: weftd is killed with -9 while traffic runs, then started again")
    before = links(weftd)
    job = node["client"].start(client.traffic, V4, 80)
    job.receive()
    weftd.kill9()
    answers = node["caller"].run(client.ask_many, V4, 80, 150)
    report.check(
        "weftd dead: the kernel goes on balancing", set(answers) == set(BACKENDS), counted(answers)
    )
    weftd.start()
    answers = node["caller"].run(client.ask_many, V4, 80, 150)
    traffic = job.stop()
    report.check(
        "no request was lost",
        not traffic["failures"] and set(answers) == set(BACKENDS),
        f"{traffic['requests'] + 300} requests, {len(traffic['failures'])} failures",
    )
    samples = weftd.metrics()
    writes = samples.sum("weft_map_writes_total")
    report.check(
        "the restart rewrote nothing",
        "weft_map_writes_total" in samples.names() and writes == 0,
        f"{writes:.0f} map writes",
    )
    report.check(
        "the programs stayed attached",
        before and links(weftd) == before,
        f"{len(before)} links, same ids",
    )
    audit = weftd.ctl_raw("audit")
    report.check(
        "weftctl audit: model, maps and links agree",
        audit.returncode == 0,
        f"exit status {audit.returncode}",
    )


def show_uninstall(report, weftd):
    report.step("Uninstall: weftd stops, and is removed from the kernel")
    weftd.stop()
    done = weftd.uninstall()
    left = weftd.node.pinned()
    report.check(
        "nothing stays behind",
        done.returncode == 0 and not left,
        f"exit status {done.returncode}, {len(left)} pins left",
    )


def run(report):
    report.step(
        "Virtual node: pods client, caller, backend-1..3, each in a network namespace of its own"
    )
    with VirtualNode(pods=["client", "caller", *BACKENDS]) as node:
        servers = {}
        for backend in BACKENDS:
            servers[backend] = node[backend].serve(server.http, backend, 8080)
            print(f"  {backend}: HTTP on {node[backend].v4}:8080 and [{node[backend].v6}]:8080")
        mesh = Manifests(node.manifest_dir)
        write_mesh(mesh, node, ready=BACKENDS)
        mesh.write("empty.yaml", manifests.service("shop/empty", [EMPTY], [80]))
        weftd = Weftd(node).start()
        weftd.wait_service(SERVICE, 6)
        report.check(
            "weftd reads the manifests and is ready",
            True,
            f"{SERVICE} at {V4} and {V6} has 6 ready endpoints",
        )
        show_balancing(report, node)
        show_health(report, node, weftd, mesh)
        show_refusal(report, node)
        show_breaker(report, node, weftd, mesh, servers)
        show_routes(report, node, weftd, mesh)
        show_bypass(report, node, weftd, mesh)
        show_crash(report, node, weftd)
        show_uninstall(report, weftd)


def main():
    print(
        "weft turns a service address into a healthy backend inside connect(): no sidecar, no\n"
        "NAT, nothing on the path of the bytes. This demo runs on a virtual node: network\n"
        "namespaces, a cgroup and a directory of pinned BPF objects, all its own; your machine's\n"
        "own network is not touched."
    )
    report = Report()
    start = time.monotonic()
    try:
        run(report)
    except (LabError, CommandFailed, Hang, RemoteError) as error:
        report.check("the demo runs to its end", False, error)
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything it made is removed", file=sys.stderr)
        return 130
    report.table()
    print(f"The virtual node is gone; it took {time.monotonic() - start:.1f} s.")
    return 0 if report.passed() else 1


if __name__ == "__main__":
    sys.exit(main())
