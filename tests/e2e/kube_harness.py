"""What the tests of `--source kubernetes:` stand on: a node whose weftd follows a KubeApi.

The server listens inside the node's network namespace.
"""

import json

from harness import PORT, NodeTest, wait_until
from weftlab.kube_api import (
    KubeApi,
    endpoint_slice,
    namespace,
    node,
    pod,
    service,
    service_port,
)
from weftlab.waiting import Hang

WEB = "10.96.0.10"
KINDS = ["services", "endpointslices", "pods", "nodes", "namespaces"]
GUARD = 90  # reconnecting may wait for seconds; many times that


class KubernetesTest(NodeTest):
    """weftd follows `api`; the service test/web has the endpoints a, b and c."""

    FLAGS = ["--enrol", "all"]
    API = {"tls": True}
    AUTH = None

    @classmethod
    def prepare(cls):
        cls.api = KubeApi(
            netns=f"/run/netns/{cls.node.netns}", folder=f"{cls.node.dir}/kube", **cls.API
        ).start()
        cls.addClassCleanup(cls.api.close)
        cls.config = cls.kubeconfig()
        cls.weftd.sources = [f"kubernetes:{cls.config}"]
        cls.markers = 0
        cls.populate()

    @classmethod
    def kubeconfig(cls):
        return cls.api.kubeconfig(f"{cls.node.dir}/kubeconfig", auth=cls.AUTH)

    @classmethod
    def populate(cls):
        cls.api.put(node(cls.node.name, zone="z1"), namespace("test"), namespace("kube-system"))
        cls.api.put(
            *(pod(f"test/{name}", [cls.node[name].v4], cls.node.name) for name in cls.BACKENDS)
        )
        # So many that no change of a test is a mass removal.
        cls.put_service(
            "test/ballast", "10.96.255.254", [f"10.99.{i // 200}.{i % 200 + 1}" for i in range(64)]
        )
        cls.put_service("test/web", WEB, "abc")

    @classmethod
    def put_service(cls, where, address, pods):
        """Of pods' names, endpoint values or addresses; the slice's revision."""
        endpoints = [
            cls.node[p].v4 if isinstance(p, str) and p in cls.node.pods else p for p in pods
        ]
        cls.api.put(service(where, [address], [service_port(80, PORT)]))
        return cls.api.put(endpoint_slice(where, endpoints, [PORT]))

    def setUp(self):
        self.weftd.wait_service("test/web", 3)
        self.api.wait_watchers(len(KINDS), guard_seconds=GUARD)

    def tearDown(self):
        api = self.api
        api.clear_failures()
        api.drip()
        api.resume()
        api.chunk_bytes, api.gone, api.on_request = 0, "status", None
        for kind in KINDS:
            api.allow(kind)

    def status(self):
        return self.weftd.ctl("status")

    def source_error(self):
        return self.status()["sources"][0]["error"]

    def notices(self):
        return json.dumps(self.status()["notices"])

    def wait_error(self, *words):
        def named():
            error = self.source_error()
            return error if all(word in error for word in words) else None

        try:
            return wait_until(named, GUARD)
        except Hang:
            self.fail(f"status names no error with {words} but {self.source_error()!r}")

    def wait_no_error(self):
        wait_until(lambda: not self.source_error(), GUARD, "the source is in order again")

    def assert_serves(self):
        self.assert_in_turn(self.names(WEB, 6), ["a", "b", "c"])

    def marker(self):
        """A new service; when it is in force so is what the streams brought before."""
        type(self).markers += 1
        where = f"test/marker-{self.markers}"
        # One after the other: what is written must not depend on which stream is faster.
        self.api.put(service(where, [f"10.96.200.{self.markers}"], [service_port(80, PORT)]))
        self.weftd.wait_service(where, 0, GUARD)
        self.api.put(endpoint_slice(where, ["10.98.0.1"], [PORT]))
        self.weftd.wait_service(where, 1, GUARD)

    def writes(self):
        """Map entries written so far. Metrics tell of a plan a moment after it is in force."""

        def told():
            samples = self.weftd.metrics()
            return samples.sum("weft_config_generation") == self.status()["generation"] and samples

        samples = wait_until(told, GUARD, "metrics have the generation in force")
        return samples.sum("weft_map_writes_total")

    def writes_of(self, step):
        """Map entries written for a step and a marker after it."""
        before = self.writes()
        step()
        self.marker()
        return self.writes() - before

    def assert_writes_nothing(self, step):
        self.marker()
        marker_alone = self.writes_of(lambda: None)
        self.assertGreater(marker_alone, 0)
        self.assertEqual(self.writes_of(step), marker_alone)

    def wait_streams_again(self, count=len(KINDS)):
        self.api.wait_watchers(count, guard_seconds=GUARD)

    def served(self):
        """{(service, port): ready endpoints} and {service: addresses} in the kernel's maps."""
        endpoints = {}
        for e in self.weftd.ctl("endpoint", "list"):
            if e["state"] == "ready":
                key = (e["service"], e["port"])
                endpoints.setdefault(key, set()).add((e["address"], e["target_port"]))
        services = {
            f"{s['namespace']}/{s['name']}": frozenset(s["addresses"])
            for s in self.weftd.ctl("service", "list")
        }
        return endpoints, services

    def truth(self):
        """The same of the server's objects, by the rules of the API."""
        services, ports, endpoints = {}, {}, {}
        for (space, name), value in self.api.objects("Service").items():
            where = f"{space}/{name}"
            services[where] = frozenset(value["spec"]["clusterIPs"])
            ports[where] = [p["port"] for p in value["spec"]["ports"]]
        for (space, _), value in self.api.objects("EndpointSlice").items():
            where = f"{space}/{value['metadata']['labels']['kubernetes.io/service-name']}"
            for port in ports.get(where, ()):
                for one in value["endpoints"]:
                    if one["conditions"].get("ready") is not False:
                        endpoints.setdefault((where, port), set()).add(
                            (one["addresses"][0], value["ports"][0]["port"])
                        )
        return endpoints, services

    def assert_truth(self):
        try:
            wait_until(lambda: self.served() == self.truth(), GUARD, pause=0.05)
        except Hang:
            for has, wants in zip(self.served(), self.truth()):
                self.assertEqual(has, wants, self.weftd.log_tail())
        self.weftd.ctl("audit")
