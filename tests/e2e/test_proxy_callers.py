#!/usr/bin/python3
"""Who is asking: consumer routes by the caller's namespace, callers of the node's own network
namespace, and, where pods are enrolled by label, those that are not."""

import os

from enrolment_harness import EnrolmentTest, labelled
from harness import client, main, manifests, wait_until
from kube_harness import GUARD, WEB
from routes_harness import (
    BACKEND_PORT,
    RoutesTest,
    everything_to,
    http_route,
    virtual_service,
)
from weftlab import kube_api

PORTS = [manifests.service_port(80, BACKEND_PORT)]
PROXY_PORT = 15001


def rule(prefix, backend):
    """Of an HTTPRoute, to a service of the namespace test."""
    return {
        "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
        "backendRefs": [{"name": backend, "namespace": "test", "port": 80}],
    }


class ConsumerRoutes(RoutesTest):
    """`client` is of the namespace shop, everybody else of test."""

    NAMESPACES = {"client": "shop"}
    WEB, SAID = "10.96.0.10", "10.96.0.14"

    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.mesh.write(
            "services.yaml",
            *(
                manifests.service(f"test/{name}", [address], PORTS, selector={"app": app})
                for name, address, app in (
                    ("web", cls.WEB, "a"),
                    ("b", "10.96.0.12", "b"),
                    ("c", "10.96.0.13", "c"),
                    ("said", cls.SAID, "a"),
                )
            ),
        )
        cls.mesh.write(
            "producer.yaml",
            http_route("test/web", "web", rule("/", "web"), rule("/c", "c")),
            virtual_service("test/said", "said", {"directResponse": {"status": 418}}),
        )
        cls.write_consumer()

    @classmethod
    def write_consumer(cls):
        cls.mesh.write(
            "consumer.yaml",
            http_route("shop/ours", "web", rule("/b", "b"), namespace="test"),
            http_route("shop/said", "said", rule("/b", "b"), namespace="test"),
        )

    def setUp(self):
        super().setUp()
        for name in ("web", "b", "c", "said"):
            self.weftd.wait_service(f"test/{name}", 1)

    def at(self, pod, address, path):
        """Who answered, or the status."""
        answer = self.get(address, path, pod=pod)
        return answer["body"]["name"] if answer["status"] == 200 else answer["status"]

    def seen(self, pod):
        paths = ("/", "/b", "/c")
        return [self.at(pod, self.WEB, path) for path in paths], self.at(pod, self.SAID, "/b")

    def test_they_replace_the_services_own_for_callers_of_their_namespace_alone(self):
        self.assertEqual(self.seen(self.client), ([404, "b", 404], "b"))
        self.assertEqual(self.seen(self.other), (["a", "a", "c"], 418))

    def test_where_they_go_their_callers_have_the_services_own(self):
        consumers = self.seen(self.client)

        def restore():
            self.write_consumer()
            wait_until(lambda: self.seen(self.client) == consumers, what="the consumer's rules")

        self.mesh.remove("consumer.yaml")
        self.addCleanup(restore)
        own = (["a", "a", "c"], 418)
        wait_until(lambda: self.seen(self.client) == own, what="the producer's rules")

    def test_why_says_it_for_each_caller(self):
        said = []
        for pod in (self.client, self.other):
            words = ["--from", str(pod.worker.pid), "--to", f"{self.WEB}:80", "--path", "/b"]
            routing = self.weftd.ctl("why", *words)["routing"]
            said.append(routing["rules"][routing["rule"]]["object"])
        self.assertEqual(said, ["HTTPRoute shop/ours", "HTTPRoute test/web"])


class HostNetwork(RoutesTest):
    """Two callers in the node's own namespace, each in a cgroup of its own."""

    WEB, BY_NODE = "10.96.0.10", "10.96.0.11"
    PODS = ["client", "other", "a"]
    MOST_WORKERS = min(4, os.cpu_count())

    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.callers = [cls.node.host_network_pod(name) for name in ("one", "two")]
        cls.write_service("test/web", [cls.WEB], ["a"])
        by_node = {"weft.mesh/source-address": "node"}
        cls.write_service("test/node", [cls.BY_NODE], ["a"], annotations=by_node)
        cls.mesh.write("rules.yaml", everything_to("test/web"), everything_to("test/node"))

    def setUp(self):
        self.weftd.wait_service("test/web", 1)
        self.weftd.wait_service("test/node", 1)
        super().setUp()
        for caller in self.callers:
            for address in (self.WEB, self.BY_NODE):
                wait_until(
                    lambda a=address, c=caller: self.is_captured(self.get(a, pod=c)), what="captured"
                )

    def ports(self, address, caller):
        """Where the endpoint saw 20 requests come from, a connection each."""
        answers = [self.get(address, pod=caller)["body"] for _ in range(20)]
        self.assertEqual({answer["peer"][0] for answer in answers}, {self.node.v4})
        return {answer["peer"][1] for answer in answers}

    def test_connections_to_endpoints_are_shared_within_a_cgroup_and_with_no_other(self):
        one, two = (self.ports(self.WEB, caller) for caller in self.callers)
        for ports in (one, two):
            self.assertLessEqual(len(ports), self.MOST_WORKERS)
        self.assertEqual(one & two, set())

    def test_where_the_source_is_the_node_they_are_shared_by_all(self):
        ports = set().union(*(self.ports(self.BY_NODE, caller) for caller in self.callers))
        self.assertLessEqual(len(ports), self.MOST_WORKERS)


class Enrolled(EnrolmentTest):
    """`--enrol labelled`: pods with network namespaces of their own, in kubelet's cgroups."""

    API = {"tls": True, "istio": True}

    @classmethod
    def populate(cls):
        super().populate()
        cls.api.put(everything_to("test/web"))

    def new_pod(self, name, space):
        uid = self.new_uid()
        made = self.node.kubelet_pod(name, uid)
        self.addCleanup(self.node.remove_pod, name)
        self.api.put(kube_api.pod(f"{space}/{name}", [made.v4], self.node.name, uid=uid))
        self.addCleanup(self.api_delete, uid)
        return made

    def setUp(self):
        super().setUp()
        wait_until(lambda: self.proxy()["state"] == "serving", GUARD, "a proxy serves")

    def proxy(self):
        return self.weftd.ctl("status")["proxy"]

    def listens(self, pod):
        """Whether the proxy has a listener in the pod's network namespace."""
        return pod.run(client.connect_error, "127.0.0.1", PROXY_PORT) is None

    def served_by_proxy(self, **labels):
        return self.weftd.metrics().sum("istio_requests_total", **labels)

    def test_only_enrolled_pods_are_captured(self):
        ours, theirs = self.new_pod("ours", "shop"), self.new_pod("theirs", "plain")
        self.wait_enrolled(ours.uid)
        self.wait_enrolled(theirs.uid, False)
        wait_until(lambda: self.listens(ours), GUARD, "the enrolled pod has a listener")
        wait_until(lambda: self.proxy()["captured"] == 1, GUARD, "it alone is captured")
        before = self.served_by_proxy()
        for _ in range(10):
            self.assertIn(ours.run(client.ask, WEB, 80)["name"], ("a", "b", "c"))
            self.assertIn(theirs.run(client.ask, WEB, 80)["error"], ("EHOSTUNREACH", "ENETUNREACH"))
        self.assertFalse(self.listens(theirs))
        labels = {"source_workload_namespace": "shop", "source_workload": "ours"}
        wait_until(lambda: self.served_by_proxy(**labels) == 10, GUARD, "10 are its own")
        self.assertEqual(self.served_by_proxy(), before + 10)

    def test_a_label_is_followed_both_ways(self):
        pod = self.new_pod("late", "plain")
        self.wait_enrolled(pod.uid, False)
        self.assertFalse(self.listens(pod))
        self.addCleanup(self.api.put, kube_api.namespace("plain"))
        self.api.put(kube_api.namespace("plain", labelled("true")))
        wait_until(lambda: self.listens(pod), GUARD, "it is captured")
        self.assertIn(pod.run(client.ask, WEB, 80)["name"], ("a", "b", "c"))
        self.api.put(kube_api.namespace("plain"))
        wait_until(lambda: not self.listens(pod), GUARD, "it is let go")
        self.assertIn(pod.run(client.ask, WEB, 80)["error"], ("EHOSTUNREACH", "ENETUNREACH"))


if __name__ == "__main__":
    main()
