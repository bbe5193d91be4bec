#!/usr/bin/python3
"""A thousand endpoint changes a second while clients connect, checked against the recorded history.

Every service always has a ready endpoint in the manifests, so no connect may fail. And the endpoint
that answers must have been the service's at that time: in a version that was written before the
connect ended, and not replaced by one that was known to be in force before it began. "Known to be
in force" is told by a marker service: it is changed through the same directory, so when connect()
sees the marker's change, everything written before it is in force too.
"""

import bisect
import os
import random
import time
from collections import Counter

from harness import LONG, NodeTest, main, manifests, weftlab

SECONDS = 60 if LONG else 5
RATE = 1000
SERVICES = 8
PODS = ["a", "b", "c"]
PORTS_A_POD = 16
MARKER = "test/marker"
FIRST_PORT = 9000


def address_of(service):
    return f"10.96.0.{service + 1}"


class History:
    """Of every service: when each version was written, and was known to be in force."""

    def __init__(self):
        self.versions = [[] for _ in range(SERVICES)]  # (written_ns, frozenset of "pod:port")
        self.written = [[] for _ in range(SERVICES)]  # the times alone, to search in
        self.barriers = []  # (seen in force at ns, everything written before this ns is in force)

    def write(self, service, endpoints, now):
        self.versions[service].append((now, frozenset(endpoints)))
        self.written[service].append(now)

    def legal(self, service, start_ns, end_ns):
        """Every endpoint that a connect between those times may have met."""
        at = bisect.bisect_left(self.barriers, (start_ns, 0)) - 1
        in_force_before = self.barriers[at][1] if at >= 0 else 0
        times = self.written[service]
        first = max(bisect.bisect_left(times, in_force_before) - 1, 0)
        last = bisect.bisect_right(times, end_ns)
        return frozenset().union(*(names for _, names in self.versions[service][first:last]))


class Churn(NodeTest):
    PODS = ["client", "client2", *PODS]
    BACKENDS = []
    FLAGS = ["--allow-empty"]  # services shrink by half at every change: here that is wanted

    @classmethod
    def prepare(cls):
        tool = weftlab.binary("weft_load", "tests")
        for name in PODS:
            command = [tool, "serve", "--name", name]
            for port in range(FIRST_PORT, FIRST_PORT + PORTS_A_POD):
                command += ["--port", str(port)]
            cls.node[name].serve(weftlab.tool.job, command)
        cls.dice = random.Random(1000)
        cls.history = History()
        cls.pool = [
            (pod, port) for pod in PODS for port in range(FIRST_PORT, FIRST_PORT + PORTS_A_POD)
        ]
        for service in range(SERVICES):
            cls.change(service)
        cls.mark(0)

    @classmethod
    def change(cls, service):
        """One to four endpoints of the pool, of whatever service they were before. One file a
        service: every port a slice of its own."""
        chosen = cls.dice.sample(cls.pool, cls.dice.randrange(1, 5))
        text = [_SERVICE % (service, address_of(service), address_of(service))]
        by_port = {}
        for pod, port in chosen:
            by_port.setdefault(port, []).append(cls.node[pod].v4)
        for port, addresses in by_port.items():
            rows = "".join(
                f"  - addresses: [{a}]\n    conditions: {{ready: true}}\n" for a in addresses
            )
            text.append(_SLICE % (service, port, service, port, rows))
        # Before the rename: from then on it may be in force.
        cls.history.write(service, [f"{pod}:{port}" for pod, port in chosen], time.monotonic_ns())
        cls.mesh.write_text(f"s{service}.yaml", "---\n".join(text))
        return len(chosen)

    @classmethod
    def mark(cls, number):
        """The marker's number of ready endpoints tells which marker it is."""
        cls.marker_ready = 1 + number % 2
        cls.mesh.write(
            "marker.yaml",
            manifests.service(MARKER, ["10.96.255.1"], [manifests.service_port(80, 8080)]),
            manifests.endpoint_slice(
                MARKER, [f"10.99.0.{i + 1}" for i in range(cls.marker_ready)], [8080]
            ),
        )

    def churn(self):
        """Changes at RATE for SECONDS, and for longer on a machine that does something else: until
        as many are made and three markers are seen. How many, and how long it took."""
        changes, markers, marked_ns, settled_ns, job = 0, 0, 0, 0, None
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < SECONDS or (
            now < 10 * SECONDS
            and (changes < RATE * SECONDS * 0.95 or len(self.history.barriers) <= 2)
        ):
            while changes < RATE * min(now, SECONDS):
                self.change(changes % SERVICES)
                changes += 1
            if job is None:
                markers += 1
                # One plan writes several services: this marker may show before its neighbours do.
                # But plans come one after the other: the one with the marker before is done then.
                settled_ns, marked_ns = marked_ns, time.monotonic_ns()
                self.mark(markers)
                words = weftlab.weftd.wait_words(MARKER, self.marker_ready)
                job = self.node.outside.start(_wait_marker, self.weftd.ctl_command(*words))
            elif job.finished():
                self.history.barriers.append((job.result(), settled_ns))
                job = None
            time.sleep(0.0005)
        if job:
            job.result()
        self.mark(markers + 1)  # the last change is in force, too, before anybody looks
        self.weftd.wait_service(MARKER, self.marker_ready)
        return changes, now

    def test_no_connect_fails_and_none_meets_an_endpoint_that_was_not_the_services(self):
        self.weftd.wait_service(MARKER, 1)
        memory_before = self.resident_kb()
        loads = [self.start_load(name) for name in ("client", "client2")]
        changes, took = self.churn()
        attempts = [row for load in loads for row in self.finish_load(load)]
        self.assertGreater(changes, RATE * SECONDS * 0.9)
        self.assertGreater(len(self.history.barriers), 2, "no marker was ever seen")
        self.assertGreater(len(attempts), 1000)
        failed = [row for row in attempts if row[3]]
        self.assertEqual(failed[:5], [], f"{len(failed)} of {len(attempts)} connects failed")
        wrong = [
            row for row in attempts if row[4] not in self.history.legal(row[2], row[0], row[1])
        ]
        self.assertEqual(wrong[:5], [], f"{len(wrong)} of {len(attempts)} met a foreign endpoint")
        self.assertGreater(len(Counter(row[4] for row in attempts)), 10)
        self.weftd.ctl("audit")
        self.assertLess(self.resident_kb(), memory_before + 32 * 1024, "memory grows under churn")
        print(
            f"churn: {changes} changes in {took:.0f} s, {len(self.history.barriers)} seen in force,"
            f" {len(attempts)} connects checked",
            flush=True,
        )

    def start_load(self, name):
        output = f"{self.node.dir}/{name}.txt"
        command = [weftlab.binary("weft_load", "tests"), "connect", "--output", output]
        for service in range(SERVICES):
            command += ["--to", f"{address_of(service)}:80"]
        job = self.node[name].start(weftlab.tool.job, command)
        job.receive()
        return job, output

    def finish_load(self, load):
        job, output = load
        self.assertEqual(job.stop(), 0)
        with open(output, encoding="ascii") as file:
            for line in file:
                start, end, service, error, answer = line.split()
                yield int(start), int(end), int(service), (
                    os.strerror(int(error)) if int(error) else None
                ), answer

    def resident_kb(self):
        with open(f"/proc/{self.weftd.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def _wait_marker(_channel, command):
    """When the marker was seen in force: taken after weftctl answered, so never too early."""
    status, _, error = weftlab.tool.run(command)
    if status:
        raise RuntimeError(error)
    return time.monotonic_ns()


_SERVICE = """apiVersion: v1
kind: Service
metadata: {namespace: test, name: s%d}
spec:
  clusterIP: %s
  clusterIPs: [%s]
  ports: [{port: 80, targetPort: 8080}]
"""

_SLICE = """apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: test, name: s%d-%d, labels: {kubernetes.io/service-name: s%d}}
addressType: IPv4
ports: [{name: "", port: %d}]
endpoints:
%s"""


if __name__ == "__main__":
    main()
