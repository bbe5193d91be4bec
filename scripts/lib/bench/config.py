"""Configuration: how fast a large mesh, and one change in it, is in the kernel."""

import json
import os
import re
import subprocess

from weftlab import node
from weftlab.node import VirtualNode

from . import common, mesh
from .connect import Weft


def _log_field(weft, event, field):
    """Of the newest such line since the newest start."""
    with open(weft.log, encoding="utf-8") as log:
        lines = log.read().rsplit(" info start ", 1)[-1]
    found = re.findall(rf" info {event} .*?\b{field}=(\d+)", lines)
    return int(found[-1]) if found else 0


def _resident_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:"))


def _map_bytes(bpffs):
    total = 0
    for name in os.listdir(f"{bpffs}/maps"):
        shown = subprocess.run(
            ["/usr/sbin/bpftool", "-j", "map", "show", "pinned", f"{bpffs}/maps/{name}"],
            stdout=subprocess.PIPE, check=True,
        )
        total += int(json.loads(shown.stdout)["bytes_memlock"])
    return total


def _cold_loads(weft, times):
    loads = []
    for number in range(times):
        common.progress(f"config: cold load {number + 1} of {times}")
        weft.stop()
        subprocess.run([weft.command[0], "--uninstall", "--bpffs", weft.bpffs, "--run-dir", f"{weft.dir}/none"],
                       stdout=subprocess.DEVNULL, check=True)
        weft.start()
        loads.append({
            "read_ms": _log_field(weft, "source", "read_ms"),
            "apply_ms": _log_field(weft, "ready", "since_sources_us") / 1000,
            "writes_ms": _log_field(weft, "plan", "map_writes_us") / 1000,
            "writes": _log_field(weft, "ready", "writes"),
        })
    return loads


def _restarts(weft, times):
    restarts = []
    for number in range(times):
        common.progress(f"config: restart {number + 1} of {times}")
        weft.stop()
        weft.start()
        restarts.append({
            "writes": _log_field(weft, "ready", "writes"),
            "ready_ms": _log_field(weft, "ready", "since_sources_us") / 1000,
        })
    return restarts


def run(options):
    count = 200 if options.quick else 10_000
    changes = 50 if options.quick else 1000
    times = 2 if options.quick else 5
    with VirtualNode(pods=["server", "client"]) as vnode:
        server, client = vnode["server"], vnode["client"]
        real = [str(vnode.v4_net[100 + i]) for i in range(mesh.ENDPOINTS)]
        node.ip([f"addr add {a}/{vnode.v4_net.prefixlen} dev eth0" for a in real], server.netns)
        server.serve(common.serve, [f"{a}:{mesh.TARGET}" for a in real])
        dialled = count // 2
        common.progress(f"config: writing {count:,} files")
        weft = Weft(vnode, client, count, dialled, real)
        loads = _cold_loads(weft, times)
        memory = {"resident_bytes": _resident_bytes(weft.process.pid), "map_bytes": _map_bytes(weft.bpffs)}

        common.progress(f"config: {changes} changes of one endpoint")
        path = f"{weft.dir}/mesh/svc-{dialled:05}.yaml"
        for name, ready in (("a", real[:1]), ("b", real[1:2])):
            with open(f"{weft.dir}/{name}", "w", encoding="ascii") as file:
                file.write(mesh.yaml_text(dialled, real, ready))
        client.run(common.tool, "propagate", 2, f"{mesh.service_address(dialled)}:{mesh.PORT}", path,
                   f"{weft.dir}/b", f"{weft.dir}/a")
        change = client.run(common.tool, "propagate", changes, f"{mesh.service_address(dialled)}:{mesh.PORT}", path,
                            f"{weft.dir}/b", f"{weft.dir}/a", guard_seconds=300)["propagation_ns"]
        memory["resident_bytes_after_changes"] = _resident_bytes(weft.process.pid)
        restarts = _restarts(weft, times)

    def worst(entries, key):
        return max(entry[key] for entry in entries)

    def middle(entries, key):
        return common.median([entry[key] for entry in entries])

    resident = max(memory["resident_bytes"], memory["resident_bytes_after_changes"]) / 1e6
    rows = [
        ["cold load, model to live in the kernel", f"{middle(loads, 'apply_ms'):.0f} ms", f"worst {worst(loads, 'apply_ms'):.0f}",
         "<= 2,000 ms", common.verdict(worst(loads, "apply_ms") <= 2000)],
        ["  of it map writes", f"{middle(loads, 'writes_ms'):.0f} ms", f"worst {worst(loads, 'writes_ms'):.0f}", "<= 300 ms",
         common.verdict(worst(loads, "writes_ms") <= 300)],
        ["  before it, start and reading the files", f"{middle(loads, 'read_ms'):.0f} ms", f"worst {worst(loads, 'read_ms'):.0f}", "-", ""],
        ["one change, rename to next connect(), p50", f"{change['p50'] / 1e6:.2f} ms", "", "<= 2 ms",
         common.verdict(change["p50"] <= 2e6)],
        ["one change, p99", f"{change['p99'] / 1e6:.2f} ms", f"max {change['max'] / 1e6:.2f}", "<= 10 ms",
         common.verdict(change["p99"] <= 10e6)],
        ["restart, map writes", f"{middle(restarts, 'writes'):.0f}", f"worst {worst(restarts, 'writes')}", "0",
         common.verdict(worst(restarts, "writes") == 0)],
        ["restart, ready after the sources are", f"{middle(restarts, 'ready_ms'):.0f} ms", f"worst {worst(restarts, 'ready_ms'):.0f}",
         "<= 300 ms", common.verdict(worst(restarts, "ready_ms") <= 300)],
        ["weftd resident", f"{resident:.0f} MB", "", "<= 150 MB", common.verdict(resident <= 150)],
        ["BPF maps", f"{memory['map_bytes'] / 1e6:.1f} MB", "", "<= 48 MB", common.verdict(memory["map_bytes"] <= 48e6)],
    ]
    common.table(f"{count:,} services of {mesh.ENDPOINTS} endpoints, one file each",
                 ["what", "median", "", "reach", ""], rows)
    common.save("config", {"loads": loads, "change_ns": change, "restarts": restarts, "memory": memory, "figures": rows})
