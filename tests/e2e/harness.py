"""What every end-to-end test file stands on: one virtual node with weftd for a test class.

Each file runs alone: `tests/e2e/test_connect.py [Class.test]`. WEFT_BUILD names the build
directory.
"""

import json
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.abspath(f"{os.path.dirname(__file__)}/../../scripts/lib"))

import weftlab  # noqa: E402
from weftlab import (
    Manifests,
    VirtualNode,
    Weftd,
    client,
    manifests,
    server,  # noqa: E402
    wait_until,
)

LONG = os.environ.get("WEFT_LONG") == "1"
PORT = 8080  # backends listen here and at ALT_PORT, where they answer "name:port"
ALT_PORT = 8081


def tool_path(name):
    """A program built for tests and benchmarks."""
    return weftlab.binary(name, "tests")


class NodeTest(unittest.TestCase):
    """PODS are made, BACKENDS among them serve HTTP on PORT; weftd runs with FLAGS."""

    PODS = ["client", "a", "b", "c"]
    BACKENDS = ["a", "b", "c"]
    FLAGS = []
    NODE = {}
    START = True

    @classmethod
    def setUpClass(cls):
        cls.node = VirtualNode(pods=cls.PODS, **cls.NODE)
        cls.addClassCleanup(cls.node.close)
        for name in cls.BACKENDS:
            cls.node[name].serve(server.http, name, PORT)
        cls.client = cls.node.pods.get("client")
        cls.mesh = Manifests(cls.node.manifest_dir)
        cls.weftd = Weftd(cls.node, *cls.FLAGS)
        cls.prepare()
        if cls.START:
            cls.weftd.start()

    @classmethod
    def prepare(cls):
        """More servers and manifests, before weftd starts."""

    @classmethod
    def write_service(
        cls, where, addresses, pods, *, ports=None, slice_ports=None, family=None, **more
    ):
        """A service and a slice for each family of its addresses; `pods` are names, endpoint values
        or bare addresses. Returns how many ready endpoints that makes, over all ports and
        families."""
        ports = ports or [manifests.service_port(80, PORT)]
        slice_ports = slice_ports or [PORT]
        families = {family} if family else {"v6" if ":" in a else "v4" for a in addresses}
        slices = [
            manifests.endpoint_slice(
                where, [cls._endpoint(p, f) for p in pods], slice_ports, suffix=f, family=f"IP{f}"
            )
            for f in sorted(families)
        ]
        cls.mesh.write(
            f"{where.replace('/', '-')}.yaml",
            manifests.service(where, addresses, ports, **more),
            *slices,
        )
        ready = sum(e["conditions"]["ready"] is not False for s in slices for e in s["endpoints"])
        return ready * len(ports)

    @classmethod
    def _endpoint(cls, pod, family):
        if isinstance(pod, dict):
            return pod
        return manifests.endpoint(getattr(cls.node[pod], family) if pod in cls.node.pods else pod)

    @classmethod
    def serve_service(cls, where, addresses, pods, **more):
        """write_service(), then waits until the kernel has it."""
        ready = cls.write_service(where, addresses, pods, **more)
        cls.weftd.wait_service(where, ready)

    @classmethod
    def write_ballast(cls, endpoints=64):
        """So many other endpoints that no change of a test is a mass removal."""
        cls.write_service(
            "test/ballast",
            ["10.96.255.254"],
            [f"10.99.{i // 200}.{i % 200 + 1}" for i in range(endpoints)],
        )

    def ask(self, address, port=80, pod=None):
        return (pod or self.client).run(client.ask, address, port)

    def names(self, address, count, port=80, pod=None):
        return (pod or self.client).run(client.ask_many, address, port, count)

    def wait_status(self, *words):
        """Until `weftctl status` has them all. What weftd says of a change is there a moment after
        the change is in the maps."""

        def told():
            status = json.dumps(self.weftd.ctl("status"))
            return all(word in status for word in words)

        wait_until(told, what=f"status has {', '.join(words)}")

    def ejection_ends(self, weftd, where, endpoint):
        """Between which two moments of the monotonic clock: it is read while it passes."""
        before = time.monotonic()
        rows = weftd.ctl("breaker", "list", "--service", where)
        after = time.monotonic()
        row = next(r for r in rows if r["endpoint"] == endpoint)
        self.assertEqual(row["state"], "open", row)
        return before + row["ejected_for_seconds"], after + row["ejected_for_seconds"]

    def assert_same_moment(self, one, other):
        """Of two such intervals: they overlap, but for the milliseconds that are cut off."""
        self.assertLess(max(one[0], other[0]), min(one[1], other[1]) + 0.005, (one, other))

    def assert_in_turn(self, names, expected):
        """`names` visits every one of `expected`, always in the same cyclic order."""
        period = len(expected)
        self.assertEqual(sorted(names[:period]), sorted(expected), names)
        for i, name in enumerate(names[period:]):
            self.assertEqual(name, names[i], f"not in turn at {i + period}: {names}")


__all__ = [
    "ALT_PORT",
    "LONG",
    "PORT",
    "NodeTest",
    "client",
    "main",
    "manifests",
    "server",
    "tool_path",
    "wait_until",
    "weftlab",
]


def main():
    try:
        weftlab.require_root(os.path.basename(sys.argv[0]))
        weftlab.binary("weftd")
        weftlab.binary("weftctl")
        weftlab.cgroup2_root()
    except weftlab.LabError as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    result = unittest.main(module="__main__", verbosity=2, exit=False).result
    left = weftlab.leftovers(os.getpid())
    for line in left:
        print(f"left behind: {line}", file=sys.stderr)
    sys.exit(0 if result.wasSuccessful() and not left and not result.skipped else 1)
