#!/usr/bin/python3
"""Living beside others: what weft does not take keeps working, and weft never depends on itself."""

import functools
import os

from enrolment_harness import DNS, WEB6, EnrolmentTest, within
from harness import PORT, client, main, manifests, server, weftlab
from kube_harness import GUARD, WEB, KubernetesTest
from weftlab import cleanup, kernel, kube_proxy
from weftlab.kube_api import endpoint_slice, service, service_port

API_SERVER = "10.96.0.1"
OTHER = "10.96.0.2"


class BesideIptables(EnrolmentTest):
    """kube-proxy's rules are in the node's namespace and lead to k, where weft's endpoints are a, b
    and c: the answer tells whose way a connection took."""

    PODS = ["client", "a", "b", "c", "k"]
    BACKENDS = PODS[1:]
    MODE = "iptables"
    UNKNOWN = "10.96.0.77"  # to kube-proxy a service, to weft nothing

    @classmethod
    def populate(cls):
        super().populate()
        k = cls.node["k"]
        k.serve(server.udp, "k", 5353)
        rows = [
            (WEB, "tcp", 80, k.v4, PORT),
            (WEB6, "tcp", 80, k.v6, PORT),
            (cls.UNKNOWN, "tcp", 80, k.v4, PORT),
            (DNS, "udp", 53, k.v4, 5353),
        ]
        kube_proxy.install(cls.node, cls.MODE, rows)

    def name_in(self, cgroup, address=WEB, **more):
        return self.ask_in(cgroup, address, **more)["name"]

    def udp_in(self, cgroup):
        target = [(DNS, 53)]
        (answer,) = self.caller.run(within, cgroup, self.home, client.udp_ask, target)
        return answer

    def test_who_is_not_enrolled_takes_the_way_of_kube_proxy(self):
        ours, ours_cgroup = self.pod("shop")
        other, other_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(other, False)
        for address in (WEB, WEB6):
            with self.subTest(address=address):
                for _ in range(3):
                    self.assertIn(self.name_in(ours_cgroup, address), ("a", "b", "c"))
                    answer = self.ask_in(other_cgroup, address)
                    self.assertEqual((answer["name"], answer["peer"]), ("k", (address, 80)))
        self.assertEqual(self.udp_in(ours_cgroup), ("a:5353 hello", (DNS, 53)))
        self.assertEqual(self.udp_in(other_cgroup), ("k:5353 hello", (DNS, 53)))

    def test_the_node_itself_takes_the_way_of_kube_proxy(self):
        uid, cgroup = self.pod("shop", "true", host_network=True)
        self.wait_enrolled(uid, False)
        for address in (WEB, WEB6):
            self.assertEqual(self.name_in(cgroup, address, caller=self.node.outside), "k")
            self.assertEqual(self.ask(address, pod=self.node.outside)["name"], "k")

    def test_what_weft_does_not_know_is_left_to_kube_proxy(self):
        uid, cgroup = self.pod("shop")
        self.wait_enrolled(uid)
        self.assertEqual(self.name_in(cgroup, self.UNKNOWN), "k")
        self.assertIn(self.name_in(cgroup), ("a", "b", "c"))

    def test_before_the_pod_is_known_its_connections_take_the_way_of_kube_proxy(self):
        made = self.node.kubelet_pod("early", self.new_uid())
        self.addCleanup(self.node.remove_pod, "early")
        self.wait_workload(made.uid, known=False)
        self.assertEqual(made.run(client.ask, WEB, 80)["name"], "k")
        connection = made.start(client.keep_open, WEB, 80)
        self.assertEqual(connection.receive(), "k")
        self.put_pod("shop/early", made.uid)
        self.wait_enrolled(made.uid)
        self.assertIn(made.run(client.ask, WEB, 80)["name"], ("a", "b", "c"))
        # And what was open stays where it was.
        self.assertEqual(connection.stop(), "k")

    def test_weft_goes_and_comes_without_a_failed_connection(self):
        pods = []
        for name, space in (("in", "shop"), ("out", "plain")):
            made = self.node.kubelet_pod(name, self.new_uid())
            self.addCleanup(self.node.remove_pod, name)
            self.put_pod(f"{space}/{name}", made.uid)
            self.wait_enrolled(made.uid, space == "shop")
            pods.append(made)
        ours, other = pods
        jobs = [made.start(client.traffic, WEB, 80, 0.001) for made in pods]
        for job in jobs:
            job.receive()
        self.weftd.kill9()
        self.assertIn(ours.run(client.ask, WEB, 80)["name"], ("a", "b", "c"))
        done = self.weftd.uninstall()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(ours.run(client.ask, WEB, 80)["name"], "k")
        self.weftd.start()
        self.wait_enrolled(ours.uid)
        self.assertIn(ours.run(client.ask, WEB, 80)["name"], ("a", "b", "c"))
        done = [job.stop() for job in jobs]
        self.assertEqual([d["failures"] for d in done], [[], []])
        self.assertEqual(set(done[0]["by_name"]), {"a", "b", "c", "k"})
        self.assertEqual(set(done[1]["by_name"]), {"k"})
        self.assertEqual(other.run(client.ask, WEB, 80)["name"], "k")


class BesideNftables(BesideIptables):
    MODE = "nftables"


class BesideOthers(EnrolmentTest):
    """NodeLocal DNS and other programs."""

    CACHE = "169.254.20.10"

    def test_a_dns_cache_of_the_node_is_asked_by_its_own_address(self):
        self.node.local_address(self.CACHE)
        cache = self.node.outside.serve(
            functools.partial(server.udp, address=self.CACHE), "cache", 53
        )
        self.addCleanup(cache.stop)
        ours, ours_cgroup = self.pod("shop")
        other, other_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(other, False)
        for cgroup in (ours_cgroup, other_cgroup):
            targets = [(self.CACHE, 53)]
            answers = self.caller.run(within, cgroup, self.home, client.udp_ask, targets)
            self.assertEqual(answers, [("cache:53 hello", (self.CACHE, 53))])

    def test_where_the_cache_has_the_clusters_dns_address_enrolled_pods_ask_the_endpoints(self):
        self.node.local_address(DNS)
        cache = self.node.outside.serve(functools.partial(server.udp, address=DNS), "cache", 53)
        self.addCleanup(weftlab.node.ip, [f"addr del {DNS}/32 dev lo"], self.node.netns)
        self.addCleanup(cache.stop)
        ours, ours_cgroup = self.pod("shop")
        other, other_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(other, False)
        for cgroup, name in ((ours_cgroup, "a:5353"), (other_cgroup, "cache:53")):
            answers = self.caller.run(within, cgroup, self.home, client.udp_ask, [(DNS, 53)])
            self.assertEqual(answers, [(f"{name} hello", (DNS, 53))])

    def test_another_program_on_the_same_cgroup_serves_beside(self):
        """A weftd with pins of its own, which the first one knows nothing of, serves a service of
        its own to everybody."""
        other = OtherWeftd(self.node)
        self.addCleanup(other.remove)
        other.mesh.write(
            "other.yaml",
            manifests.service("test/other", [OTHER], [manifests.service_port(80, PORT)]),
            manifests.endpoint_slice("test/other", [self.node["b"].v4], [PORT]),
        )
        other.start()
        ours, ours_cgroup = self.pod("shop")
        strange, strange_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(strange, False)
        self.assert_served(ours_cgroup)
        self.assert_untouched(strange_cgroup)
        for cgroup in (ours_cgroup, strange_cgroup):
            self.assertEqual(self.ask_in(cgroup, OTHER)["name"], "b")


class OtherWeftd(weftlab.Weftd):
    PORT = 15021

    def __init__(self, node):
        folder = f"{node.dir}/other"
        self.own = {
            "--bpffs": f"{node.bpffs}-other",
            "--run-dir": f"{folder}/run",
            "--metrics": f"127.0.0.1:{self.PORT}",
        }
        os.makedirs(self.own["--bpffs"])
        os.makedirs(self.own["--run-dir"])
        self.mesh = weftlab.Manifests(f"{folder}/mesh")
        super().__init__(node, sources=[f"dir:{self.mesh.path}"])
        self.log_path = f"{folder}/weftd.log"

    def command(self, *more):
        command = super().command(*more)
        for flag, value in self.own.items():
            command[command.index(flag) + 1] = value
        return command

    def page(self, path):
        return self.node.outside.run(client.http_get, "127.0.0.1", self.PORT, path)

    def remove(self):
        if self.running():
            self.stop()
        bpffs = self.own["--bpffs"]
        words = ["--uninstall", "--bpffs", bpffs, "--cgroup", self.node.cgroup]
        self.run_to_end(replace=[weftlab.binary("weftd"), *words])
        cleanup.remove_tree(bpffs)


class Itself(KubernetesTest):
    """weftd runs among those it serves, and the API server's own address is a service of the mesh
    with nobody ready."""

    FLAGS = ["--enrol", "all"]

    @classmethod
    def prepare(cls):
        beside = cls.node.agent_cgroup
        cls.node.on_close(lambda: cleanup.kill_cgroup(beside))
        cls.node.agent_cgroup = f"{cls.node.cgroup}/agent"
        os.makedirs(cls.node.agent_cgroup)
        cls.API = {"tls": True, "host": cls.node.v4, "names": [f"IP:{cls.node.v4}"]}
        super().prepare()

    @classmethod
    def populate(cls):
        super().populate()
        cls.neighbour = cls.node.outsider(cls.node["client"])
        cls.neighbour.run(kernel.enter_cgroup, cls.node.agent_cgroup)

    def setUp(self):
        if not self.weftd.running():
            self.weftd.start()
        super().setUp()

    def take_the_address(self):
        self.api.put(
            service("test/api", [self.node.v4], [service_port(self.api.port, 6443)]),
            endpoint_slice("test/api", [], [6443]),
        )
        self.weftd.wait_service("test/api", 0)
        self.assert_others_are_refused()

    def assert_others_are_refused(self):
        for _ in range(3):
            self.assertEqual(
                self.neighbour.run(client.connect_error, self.node.v4, self.api.port),
                "ECONNREFUSED",
            )

    def assert_follows(self):
        """Over new connections: lists and watches go on, and what they bring is served."""
        accepted, watches = self.api.accepted, dict(self.api.watches)
        self.api.compact()
        self.api.drop_connections()
        self.api.wait(
            lambda: all(self.api.watches[kind] > watches[kind] for kind in watches),
            "every kind is watched anew",
            GUARD,
        )
        self.assertGreater(self.api.accepted, accepted)
        self.marker()
        self.assert_others_are_refused()

    def test_it_reaches_the_api_server_where_others_are_refused(self):
        self.assertIsNone(self.neighbour.run(client.connect_error, self.node.v4, self.api.port))
        self.take_the_address()
        self.assert_follows()
        # Also the one that is started onto such a data path, whichever way the last one ended.
        for end in (self.weftd.kill9, self.weftd.stop):
            end()
            self.assert_others_are_refused()
            self.weftd.start()
            self.assert_follows()
        self.assert_serves()

    def test_so_does_one_that_needs_larger_maps(self):
        """Its predecessor's programs are in force, on maps that it does not use, until it has read
        its sources."""
        self.take_the_address()
        for flags in (["--max-endpoints", "300000"], []):
            # Not until its patience with the source is at an end.
            self.weftd.restart("--source-timeout", "3600s", *flags)
            self.assert_follows()

    def test_so_does_a_successor_while_the_one_it_takes_over_from_lives(self):
        self.take_the_address()
        heir = weftlab.Weftd(self.node, *self.FLAGS, sources=self.weftd.sources)
        self.addCleanup(lambda: heir.running() and heir.stop())
        heir.log_path = f"{self.node.dir}/heir.log"
        watches = self.api.watches["services"]
        heir.start("--take-over", wait=False)
        self.api.wait(
            lambda: self.api.watches["services"] > watches, "the successor follows", GUARD
        )
        heir.wait_log("ready writes=", GUARD)
        self.assertEqual(self.weftd.process.wait(GUARD), 0)
        self.assert_follows()
        heir.stop()


class LastEndpoint(EnrolmentTest):
    """default/kubernetes keeps its last endpoint: without it nobody could be told of another."""

    FLAGS = ["--hold-empty", "1s"]

    def put_both(self, pods):
        for where, address in (("default/kubernetes", API_SERVER), ("test/other", OTHER)):
            self.put_service(where, address, pods)

    def setUp(self):
        super().setUp()
        self.put_both("a")
        for where in ("default/kubernetes", "test/other"):
            self.weftd.wait_service(where, 1)
        self.uid, self.pod_cgroup = self.pod("shop")
        self.wait_enrolled(self.uid)

    def assert_kept(self, name):
        self.assertEqual(self.ask_in(self.pod_cgroup, API_SERVER)["name"], name)
        self.assertEqual(self.ask_in(self.pod_cgroup, OTHER)["error"], "ECONNREFUSED")

    def test_where_its_slice_becomes_empty(self):
        self.put_both("")
        self.weftd.wait_service("test/other", 0)
        self.marker()
        self.assert_kept("a")
        self.weftd.restart()
        self.marker()
        self.assert_kept("a")
        self.put_service("default/kubernetes", API_SERVER, "bc")
        self.weftd.wait_service("default/kubernetes", 2)
        self.assertIn(self.ask_in(self.pod_cgroup, API_SERVER)["name"], ("b", "c"))

    def test_where_its_slice_and_the_service_itself_are_deleted(self):
        for space, name in (("default", "kubernetes"), ("test", "other")):
            self.api.delete("EndpointSlice", space, f"{name}-ipv4")
        self.weftd.wait_service("test/other", 0)
        self.marker()
        self.assert_kept("a")
        for space, name in (("default", "kubernetes"), ("test", "other")):
            self.api.delete("Service", space, name)
        self.marker()
        self.assertEqual(self.ask_in(self.pod_cgroup, API_SERVER)["name"], "a")
        self.assert_untouched(self.pod_cgroup, address=OTHER)

    def test_also_when_a_removal_of_many_endpoints_is_held_back_no_longer(self):
        ballast = self.api.objects("EndpointSlice")[("test", "ballast-ipv4")]
        self.addCleanup(self.weftd.wait_service, "test/ballast", len(ballast["endpoints"]))
        self.addCleanup(self.api.put, ballast)
        self.put_both("")
        self.weftd.wait_service("test/other", 0)
        self.api.put({**ballast, "endpoints": []})
        self.weftd.wait_service("test/ballast", 0)
        self.assert_kept("a")


if __name__ == "__main__":
    main()
