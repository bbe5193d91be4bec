#!/usr/bin/python3
"""connect(): a service address becomes a backend, and the application does not notice."""

import time

from harness import ALT_PORT, PORT, NodeTest, client, main, manifests, server


class Connect(NodeTest):
    PODS = ["client", "client2", "a", "b", "c"]

    @classmethod
    def prepare(cls):
        for name in cls.BACKENDS:
            cls.node[name].serve(server.http, f"{name}:{ALT_PORT}", ALT_PORT)
        cls.host = cls.node.host_network_pod("host")
        cls.host.serve(server.http, "host", PORT)
        cls.write_service("test/web", ["10.96.0.10", "fd00:96::10"], ["a", "b", "c"])
        cls.write_service("test/empty", ["10.96.0.11", "fd00:96::11"], [])
        cls.write_service(
            "test/unready",
            ["10.96.0.12"],
            [manifests.endpoint(cls.node["a"].v4, ready=False, serving=False)],
        )
        cls.write_service("test/hairpin", ["10.96.0.13", "fd00:96::13"], ["a"])
        cls.write_service("test/host", ["10.96.0.14", "fd00:96::14"], ["host"])
        cls.write_service("test/v4-backends", ["fd00:96::15"], ["a"], family="v4")
        cls.write_service(
            "test/ports",
            ["10.96.0.16"],
            ["a"],
            external=["192.0.2.16"],
            ports=[
                manifests.service_port(80, PORT, name="http"),
                manifests.service_port(81, "admin", name="admin"),
            ],
            slice_ports=[
                manifests.slice_port(PORT, "http"),
                manifests.slice_port(ALT_PORT, "admin"),
            ],
        )

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.weftd.wait_service("test/web", 6)
        cls.weftd.wait_service("test/ports", 2)

    def test_an_ipv4_service_visits_its_endpoints_in_exact_turn(self):
        self.assert_in_turn(self.names("10.96.0.10", 30), ["a", "b", "c"])

    def test_an_ipv6_service_visits_its_endpoints_in_exact_turn(self):
        self.assert_in_turn(self.names("fd00:96::10", 30), ["a", "b", "c"])

    def test_an_ipv6_socket_reaches_an_ipv4_service_by_its_mapped_address(self):
        self.assert_in_turn(self.names("::ffff:10.96.0.10", 9), ["a", "b", "c"])

    def test_getpeername_shows_the_service_address(self):
        for address in ("10.96.0.10", "fd00:96::10", "::ffff:10.96.0.10"):
            with self.subTest(address):
                self.assertEqual(self.ask(address)["peer"], (address, 80))

    def test_one_connection_stays_with_one_endpoint(self):
        names = self.client.run(client.ask, "10.96.0.10", 80, None, 20)["names"]
        self.assertEqual(len(set(names)), 1, names)

    def test_an_address_that_is_no_service_is_untouched(self):
        answer = self.ask(self.node["b"].v4, PORT)
        self.assertEqual((answer["name"], answer["peer"]), ("b", (self.node["b"].v4, PORT)))
        self.assertEqual(
            self.client.run(client.connect_error, self.node["b"].v4, 9), "ECONNREFUSED"
        )
        self.assertIn(
            self.client.run(client.connect_error, "10.96.7.7", 80), ("EHOSTUNREACH", "ENETUNREACH")
        )

    def test_a_port_that_the_service_does_not_have_is_untouched(self):
        self.node.local_address("10.96.0.10")
        self.assertEqual(self.ask("10.96.0.10", PORT)["name"], "host")

    def test_no_ready_endpoint_is_refused_at_once(self):
        for address in ("10.96.0.11", "fd00:96::11", "10.96.0.12", "::ffff:10.96.0.11"):
            for blocking in (True, False):
                with self.subTest(address, blocking=blocking):
                    self.assertEqual(
                        self.client.run(client.connect_error, address, 80, blocking), "ECONNREFUSED"
                    )

    def test_a_socket_may_connect_again_after_a_refusal(self):
        outcomes, peer = self.client.run(client.reconnect, ("10.96.0.11", 80), ("10.96.0.10", 80))
        self.assertEqual((outcomes, peer), (["ECONNREFUSED", None], ("10.96.0.10", 80)))

    def test_a_backend_reaches_its_own_service(self):
        for address in ("10.96.0.13", "fd00:96::13"):
            answer = self.ask(address, pod=self.node["a"])
            self.assertEqual((answer["name"], answer["peer"]), ("a", (address, 80)))

    def test_a_host_network_endpoint_is_reached(self):
        for address in ("10.96.0.14", "fd00:96::14"):
            self.assertEqual(self.ask(address)["name"], "host")

    def test_a_host_network_client_is_served(self):
        self.assert_in_turn(self.names("10.96.0.10", 6, pod=self.host), ["a", "b", "c"])

    def test_a_process_outside_the_agents_cgroup_is_untouched(self):
        outsider = self.node.outsider(self.client)
        self.assertIn(
            outsider.run(client.connect_error, "10.96.0.14", 80), ("EHOSTUNREACH", "ENETUNREACH")
        )
        self.assertEqual(outsider.run(client.ask, self.node["a"].v4, PORT)["name"], "a")

    def test_an_ipv6_address_with_only_ipv4_endpoints_serves_ordinary_ipv6_sockets(self):
        answer = self.ask("fd00:96::15")
        self.assertEqual((answer["name"], answer["peer"]), ("a", ("fd00:96::15", 80)))

    def test_a_v6only_socket_on_ipv4_endpoints_is_refused_and_counted(self):
        count = lambda: self.weftd.metrics().sum(
            "weft_connect_refused_total", reason="family"
        )  # noqa: E731
        before = count()
        self.assertEqual(
            self.client.run(client.connect_error, "fd00:96::15", 80, True, True), "ECONNREFUSED"
        )
        self.assertEqual(count(), before + 1)
        self.assertEqual(
            self.client.run(client.ask, "fd00:96::10", 80, True)["peer"], ("fd00:96::10", 80)
        )

    def test_several_ports_and_a_named_target_port_lead_each_to_its_own(self):
        self.assertEqual(self.ask("10.96.0.16", 80)["name"], "a")
        self.assertEqual(self.ask("10.96.0.16", 81)["name"], f"a:{ALT_PORT}")

    def test_an_external_ip_is_served_like_the_cluster_ip(self):
        answer = self.ask("192.0.2.16")
        self.assertEqual((answer["name"], answer["peer"]), ("a", ("192.0.2.16", 80)))

    def test_a_second_client_is_served_too(self):
        self.assertEqual(
            set(self.names("10.96.0.10", 6, pod=self.node["client2"])), {"a", "b", "c"}
        )


class Balancers(NodeTest):
    PODS = ["client", "client2", "a", "b", "c"]
    MAGLEV = 16

    @classmethod
    def prepare(cls):
        cls.write_service("test/sticky", ["10.96.1.1"], ["a", "b", "c"], affinity_seconds=3600)
        cls.write_service("test/brief", ["10.96.1.2"], ["a", "b", "c"], affinity_seconds=1)
        cls.write_service("test/random", ["10.96.1.3"], ["a", "b", "c"])
        cls.mesh.write(
            "rules.yaml",
            manifests.destination_rule("test/random", "random.test.svc.cluster.local", "RANDOM"),
            *[
                manifests.destination_rule(
                    f"test/m{i}", f"m{i}", consistent_hash={"useSourceIp": True}
                )
                for i in range(cls.MAGLEV)
            ],
        )
        for i in range(cls.MAGLEV):
            cls.write_service(f"test/m{i}", [f"10.96.2.{i + 1}"], ["a", "b", "c"])

    def test_session_affinity_keeps_every_namespace_at_its_endpoint(self):
        first = self.names("10.96.1.1", 6)
        second = self.names("10.96.1.1", 6, pod=self.node["client2"])
        self.assertEqual(len(set(first)), 1, first)
        self.assertEqual(len(set(second)), 1, second)
        self.assertNotEqual(
            first[0], second[0], "in turn: the second client takes the next endpoint"
        )
        self.assertEqual(self.ask("10.96.1.1")["name"], first[0])

    def test_session_affinity_ends_when_its_endpoint_is_not_ready(self):
        self.serve_service("test/leaving", ["10.96.1.4"], ["a", "b", "c"], affinity_seconds=3600)
        kept = self.ask("10.96.1.4")["name"]
        endpoints = [manifests.endpoint(self.node[n].v4, ready=n != kept) for n in self.BACKENDS]
        self.serve_service("test/leaving", ["10.96.1.4"], endpoints, affinity_seconds=3600)
        names = self.names("10.96.1.4", 4)
        self.assertEqual(len(set(names)), 1, names)
        self.assertNotEqual(names[0], kept)

    def test_session_affinity_expires_after_its_timeout(self):
        first = self.ask("10.96.1.2")["name"]
        time.sleep(1.2)  # the timeout itself is what is tested: its second must pass unused
        self.assertNotEqual(self.ask("10.96.1.2")["name"], first)

    def test_random_reaches_every_endpoint_in_no_order(self):
        names = self.names("10.96.1.3", 90)
        self.assertEqual(set(names), {"a", "b", "c"})
        self.assertTrue(any(names[i] != names[i + 3] for i in range(87)), "that is rotation")

    def test_maglev_keeps_a_client_at_one_endpoint_and_spreads_services(self):
        chosen = []
        for i in range(self.MAGLEV):
            names = self.names(f"10.96.2.{i + 1}", 4)
            self.assertEqual(len(set(names)), 1, names)
            chosen.append(names[0])
        self.assertGreater(len(set(chosen)), 1, chosen)  # all alike by chance: 3^-15


if __name__ == "__main__":
    main()
