"""The Kubernetes API as a source: how fast a large cluster, one event in it, a storm of events and
a new pod are in the kernel, and what a restart of the API server does to connections."""

import itertools
import os
import time

from weftlab import Weftd, kernel, tool, weftd as lab
from weftlab.node import VirtualNode
from weftlab.waiting import wait_until

from . import common, kube_cluster, map_probe
from .config import _map_bytes, _resident_bytes

_TICKS = os.sysconf("SC_CLK_TCK")


class _Sizes:
    def __init__(self, quick):
        self.services = 200 if quick else 10_000
        self.starts = 2 if quick else 5
        self.events = 50 if quick else 1000
        self.storm_seconds = 5 if quick else 60
        self.restarts = 1 if quick else 3
        self.pods = 30 if quick else 300


class _Bench:
    def __init__(self, vnode, sizes):
        self.node = vnode
        self.sizes = sizes
        self.probe = vnode["probe"]
        os.mkdir(f"{vnode.cgroup}/kubepods-besteffort.slice")
        client = kube_cluster.pod_folder(vnode.cgroup, kube_cluster.CLIENT)
        os.mkdir(client)
        vnode["client"].run(kernel.enter_cgroup, client)
        self.names = ["a", "b"]
        for name in self.names:
            vnode[name].serve(tool.job, [*_pinned("serve"), "--name", name, "--port", str(kube_cluster.TARGET)])
        common.progress(f"kubernetes: an API server with {sizes.services:,} services")
        self.cluster = kube_cluster.Cluster(vnode, sizes.services, [vnode[n].v4 for n in self.names])
        self.api = self.cluster.run
        self.weftd = Weftd(vnode, "--source-timeout", "60s", "--allow-empty",
                           sources=[f"kubernetes:{self.cluster.kubeconfig}"])

    # --- the client that connects all the time ---

    def connect_while(self, step):
        """step()'s value, and (start ns, errno, who answered) of every connection meanwhile."""
        record = f"{self.node.dir}/connections"
        target = f"{kube_cluster.PROBED_ADDRESS}:{kube_cluster.PORT}"
        job = self.node["client"].serve(tool.job, [*_pinned("connect"), "--to", target, "--output", record])
        value = step()
        job.stop()
        with open(record, encoding="ascii") as file:
            rows = [line.split() for line in file]
        return value, [(int(row[0]), int(row[3]), row[4].partition(":")[0]) for row in rows]

    # --- what is measured ---

    def cold_starts(self):
        starts = []
        folder = f"{self.node.dir}/kube"
        for number in range(self.sizes.starts):
            common.progress(f"kubernetes: cold start {number + 1} of {self.sizes.starts}")
            if self.weftd.running():
                self.weftd.stop()
            self.weftd.run_to_end(replace=[lab.binary("weftd"), "--uninstall", "--bpffs", self.node.bpffs,
                                           "--run-dir", f"{self.node.dir}/none", "--cgroup", self.node.cgroup])
            port = self.api(kube_cluster.port)
            # The same work for the server right before: it is the larger part, and not weft's.
            listed, size = self.node.outside.run(kube_cluster.list_everything, folder, port, self.node.name)
            begin = time.monotonic()
            self.weftd.start()
            ready = time.monotonic() - begin
            starts.append({"ready_s": ready, "server_s": listed, "beyond_s": ready - listed, "bytes": size,
                           "weftd_cpu_s": _cpu_seconds(self.weftd.process.pid)})
        return starts

    def events(self):
        common.progress(f"kubernetes: {self.sizes.events} events, one at a time")
        pause = 0.015
        events, connections = self.connect_while(
            lambda: self.api(kube_cluster.turn, self.sizes.events, pause, guard_seconds=300)
        )
        took, at = [], 0
        for sent, which in events:
            while at < len(connections) and connections[at][0] < sent:
                at += 1
            seen = at
            while seen < len(connections) and connections[seen][2] != self.names[which]:
                seen += 1
            if seen < len(connections):
                took.append(connections[seen][0] - sent)
        return {"ns": _quantiles(took), "events": len(events), "seen": len(took), "connections": len(connections),
                "failed": _failed(connections)}

    def storm(self, rate=1000, every=50):
        seconds, pid = self.sizes.storm_seconds, self.weftd.process.pid
        common.progress(f"kubernetes: {rate:,} events a second for {seconds} s")
        self.api(kube_cluster.storm_begin, self.sizes.services, rate, every)
        time.sleep(seconds / 12)  # buffers reach their size
        job = self.probe.serve(map_probe.follow_service, self.node.bpffs, kube_cluster.PROBED_ADDRESS, kube_cluster.PORT)
        before = self.weftd.metrics()
        cpu, begin, resident = _cpu_ticks(pid), time.monotonic(), [_resident_bytes(pid)]
        for _ in range(6):
            time.sleep(seconds / 6)
            resident.append(_resident_bytes(pid))
        cpu = [(now - then) / _TICKS for now, then in zip(_cpu_ticks(pid), cpu)]
        took_seconds = time.monotonic() - begin
        after = self.weftd.metrics()
        made = self.api(kube_cluster.storm_end, guard_seconds=120)
        self.weftd.wait_service(kube_cluster.PROBED, made["probed"][-1][1])
        seen = job.stop()
        took = _delays(made["probed"], seen)
        delta = {name: after.sum(name) - before.sum(name) for name in
                 ("weft_propagation_duration_seconds_count", "weft_map_writes_total")}
        return {"events_per_second": made["events"] / made["seconds"], "ns": _quantiles(took), "probed": len(took),
                "cpu_user": cpu[0] / took_seconds, "cpu_system": cpu[1] / took_seconds, "resident_bytes": resident,
                "own_p99_bound_s": _histogram_bound(before, after, "weft_propagation_duration_seconds", 0.99),
                "plans_per_second": delta["weft_propagation_duration_seconds_count"] / took_seconds,
                "writes_per_second": delta["weft_map_writes_total"] / took_seconds}

    def api_restarts(self):
        restarts = []
        for number in range(self.sizes.restarts):
            common.progress(f"kubernetes: restart of the API server {number + 1} of {self.sizes.restarts}")
            self._writes_of_resize(1)
            alone = self._writes_of_resize(5)
            self._writes_of_resize(1)
            before = self.weftd.metrics().sum("weft_map_writes_total")
            listed, connections = self.connect_while(
                lambda: self.api(kube_cluster.restart, 1.0, guard_seconds=300)
            )
            writes = self._writes_of_resize(5, before) - alone
            restarts.append({"writes": writes, "listed_again_s": listed, "connections": len(connections),
                             "failed": _failed(connections)})
        return restarts

    def _writes_of_resize(self, ready, before=None):
        """Map entries written since `before` (now), to the end of a change of ours: what the streams
        brought earlier is then in force too."""
        if before is None:
            before = self.weftd.metrics().sum("weft_map_writes_total")
        self.api(kube_cluster.resize, ready)
        self.weftd.wait_service(kube_cluster.PROBED, ready)
        return self.weftd.metrics().sum("weft_map_writes_total") - before

    def enrolments(self):
        count = self.sizes.pods
        common.progress(f"kubernetes: {count} pods, API first; {count} pods, cgroup first")
        first = range(1, count + 1)
        folders = [kube_cluster.pod_folder(self.node.cgroup, number) for number in first]
        self.api(kube_cluster.put_pods, self.node.name, first)
        self._wait_workloads(lambda pods: sum(p["known"] for p in pods) == count + 1)
        by_cgroup = self.probe.run(map_probe.enrol_new_cgroups, self.node.bpffs, folders, 0.003, guard_seconds=300)
        for folder in folders:
            os.rmdir(folder)
        self.api(kube_cluster.delete_pods, first)

        second = range(count + 1, 2 * count + 1)
        folders = [kube_cluster.pod_folder(self.node.cgroup, number) for number in second]
        for folder in folders:
            os.mkdir(folder)
        self._wait_workloads(lambda pods: sum(bool(p["cgroup"]) for p in pods) == count + 1)
        job = self.probe.start(map_probe.enrolments, self.node.bpffs, folders)
        by_api = []
        for number in second:
            job.receive()
            sent = self.api(kube_cluster.put_pods, self.node.name, [number])
            by_api.append(job.receive() - sent)
        for folder in folders:
            os.rmdir(folder)
        self.api(kube_cluster.delete_pods, second)
        return {"cgroup_ns": _quantiles(by_cgroup), "event_ns": _quantiles(by_api)}

    def _wait_workloads(self, predicate):
        wait_until(lambda: predicate(self.weftd.ctl("workload", "list")), 60, "the agent knows the pods")


def _pinned(mode):
    """Client and server on one CPU, as in the other benchmarks."""
    return ["taskset", "-c", "0", lab.binary("weft_load", "tests"), mode]


def _cpu_ticks(pid):
    """(user, system) of all its threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]), int(fields[12])


def _cpu_seconds(pid):
    return sum(_cpu_ticks(pid)) / _TICKS


def _quantiles(values):
    values = sorted(values)
    if not values:
        raise RuntimeError("nothing was measured")

    def at(share):
        return values[min(len(values) - 1, int(share * len(values)))]

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": values[-1], "count": len(values)}


def _failed(connections):
    return sum(error != 0 for _, error, _ in connections)


def _delays(events, seen):
    """From each event to the first look that found its endpoint count, or a later event's: events
    that come together are in force together. Those before the first look are not counted."""
    took, at = [], 0
    events = [event for event in events if event[0] > seen[0][0]]
    for number, (sent, _) in enumerate(events):
        while at < len(seen) and seen[at][0] < sent:
            at += 1
        later = {ready for _, ready in events[number : number + 4]}
        found = next((when for when, ready in itertools.islice(seen, at, None) if ready in later), None)
        if found is None:
            raise RuntimeError("an event of the storm was never in force")
        took.append(found - sent)
    return took


def _histogram_bound(before, after, name, share):
    """The upper bound of the bucket that holds the quantile, of what came between two scrapes."""
    def buckets(samples):
        return {labels["le"]: value for found, labels, value in samples if found == f"{name}_bucket"}

    old, new = buckets(before), buckets(after)
    total = new["+Inf"] - old["+Inf"]
    for bound in sorted(new, key=float):
        if new[bound] - old[bound] >= share * total:
            return float(bound)
    return float("inf")


def _report(measured, services):
    starts, events, storm = measured["starts"], measured["events"], measured["storm"]
    restarts, pods, memory = measured["restarts"], measured["enrolments"], measured["memory"]

    def ms(ns):
        return f"{ns / 1e6:.2f} ms"

    def worst(entries, key):
        return max(entry[key] for entry in entries)

    def seconds(key):
        return f"{common.median([s[key] for s in starts]):.2f} s", f"worst {worst(starts, key):.2f}"

    share = storm["cpu_user"] + storm["cpu_system"]
    resident = storm["resident_bytes"]
    growth = resident[-1] / resident[0] - 1
    tried = sum(r["connections"] for r in restarts)
    rows = [
        ["event on the stream to next connect(), p50", ms(events["ns"]["p50"]), "", "<= 2 ms",
         common.verdict(events["ns"]["p50"] <= 2e6)],
        ["the same, p99", ms(events["ns"]["p99"]), f"max {ms(events['ns']['max'])}, {events['seen']} events", "<= 10 ms",
         common.verdict(events["ns"]["p99"] <= 10e6 and events["seen"] == events["events"])],
        ["cold start to ready", *seconds("ready_s"), "-", ""],
        ["  of it the server's own time (a plain client)", *seconds("server_s"), "-", ""],
        ["  beyond it", *seconds("beyond_s"), "<= 3 s", common.verdict(worst(starts, "beyond_s") <= 3)],
        [f"{storm['events_per_second']:,.0f} events/s: event to kernel, p99", ms(storm["ns"]["p99"]),
         f"p50 {ms(storm['ns']['p50'])}, max {ms(storm['ns']['max'])}", "<= 50 ms", common.verdict(storm["ns"]["p99"] <= 50e6)],
        ["  weft_propagation_duration_seconds, p99", f"<= {storm['own_p99_bound_s'] * 1e3:g} ms",
         f"{storm['plans_per_second']:.0f} plans/s", "<= 50 ms", common.verdict(storm["own_p99_bound_s"] <= 0.05)],
        ["  weftd, of one core", f"{share:.1%}", f"user {storm['cpu_user']:.1%}, system {storm['cpu_system']:.1%}", "<= 15 %",
         common.verdict(share <= 0.15)],
        ["  weftd resident, growth", f"{growth:+.1%}", f"{resident[0] / 1e6:.1f} to {resident[-1] / 1e6:.1f} MB", "flat (<= 2 %)",
         common.verdict(growth <= 0.02)],
        ["API server restarted, all listed again: map writes", f"{worst(restarts, 'writes'):.0f}",
         f"worst of {len(restarts)}", "0", common.verdict(worst(restarts, "writes") == 0)],
        ["  failed connections meanwhile", f"{sum(r['failed'] for r in restarts)}", f"of {tried:,}", "0",
         common.verdict(tried > 0 and not any(r["failed"] for r in restarts))],
        ["pod start to enrolled, cgroup last, p99", ms(pods["cgroup_ns"]["p99"]),
         f"p50 {ms(pods['cgroup_ns']['p50'])}, max {ms(pods['cgroup_ns']['max'])}", "<= 50 ms",
         common.verdict(pods["cgroup_ns"]["p99"] <= 50e6)],
        ["pod start to enrolled, API event last, p99", ms(pods["event_ns"]["p99"]),
         f"p50 {ms(pods['event_ns']['p50'])}, max {ms(pods['event_ns']['max'])}", "<= 50 ms",
         common.verdict(pods["event_ns"]["p99"] <= 50e6)],
        ["weftd resident", f"{max(resident) / 1e6:.0f} MB", f"{memory['resident_bytes'] / 1e6:.0f} after the start", "<= 150 MB",
         common.verdict(max(resident) <= 150e6)],
        ["BPF maps", f"{memory['map_bytes'] / 1e6:.1f} MB", "", "<= 48 MB", common.verdict(memory["map_bytes"] <= 48e6)],
    ]
    common.table(f"scripts/bench kubernetes: {services:,} services of {kube_cluster.ENDPOINTS} endpoints, TLS",
                 ["what", "measured", "", "reach", ""], rows)
    return rows


def run(options):
    sizes = _Sizes(options.quick)
    with VirtualNode(pods=["client", "a", "b", "probe"]) as vnode:
        bench = _Bench(vnode, sizes)
        measured = {"starts": bench.cold_starts()}
        measured["memory"] = {"resident_bytes": _resident_bytes(bench.weftd.process.pid), "map_bytes": _map_bytes(vnode.bpffs)}
        measured["events"] = bench.events()
        measured["enrolments"] = bench.enrolments()
        measured["storm"] = bench.storm()
        measured["restarts"] = bench.api_restarts()
    measured["figures"] = _report(measured, sizes.services)
    common.save("kubernetes", measured)
