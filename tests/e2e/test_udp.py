#!/usr/bin/python3
"""UDP: every answer arrives under the address it was asked at."""

from harness import NodeTest, client, main, manifests, server

DNS = [manifests.service_port(53, 5353, protocol="UDP")]
DNS_SLICE = [manifests.slice_port(5353, protocol="UDP")]


class Udp(NodeTest):
    @classmethod
    def prepare(cls):
        for name in cls.BACKENDS:
            cls.node[name].serve(server.udp, name, 5353)
        for i, name in enumerate(cls.BACKENDS):
            cls.write_service(
                f"test/{name}",
                [f"10.96.0.{i + 1}", f"fd00:96::{i + 1}"],
                [name],
                ports=DNS,
                slice_ports=DNS_SLICE,
            )
        cls.write_service(
            "test/all",
            ["10.96.0.9", "fd00:96::9"],
            ["a", "b", "c"],
            ports=DNS,
            slice_ports=DNS_SLICE,
        )
        cls.write_service(
            "test/none", ["10.96.0.8", "fd00:96::8"], [], ports=DNS, slice_ports=DNS_SLICE
        )

    def test_one_socket_talking_to_three_services_gets_each_answer_under_the_right_address(self):
        for addresses in (
            ["10.96.0.1", "10.96.0.2", "10.96.0.3"],
            ["fd00:96::1", "fd00:96::2", "fd00:96::3"],
            ["::ffff:10.96.0.1", "::ffff:10.96.0.2", "::ffff:10.96.0.3"],
        ):
            with self.subTest(addresses[0]):
                targets = [(address, 53) for address in addresses]
                expected = {target: f"{name}:5353 hello" for target, name in zip(targets, "abc")}
                self.assertEqual(self.client.run(client.udp_burst, targets), expected)

    def test_answers_in_turn_come_from_the_service_too(self):
        answers = self.client.run(client.udp_ask, [("10.96.0.1", 53), ("10.96.0.2", 53)] * 3)
        self.assertEqual(
            [sender for _, sender in answers], [("10.96.0.1", 53), ("10.96.0.2", 53)] * 3
        )

    def test_new_sockets_are_balanced(self):
        names = {self.client.run(client.udp_ask, [("10.96.0.9", 53)])[0][0] for _ in range(3)}
        self.assertEqual(names, {f"{name}:5353 hello" for name in "abc"})

    def test_an_unconnected_socket_keeps_its_conversation(self):
        answers = self.client.run(client.udp_ask, [("10.96.0.9", 53)] * 6)
        self.assertEqual(len({answer for answer, _ in answers}), 1, answers)

    def test_a_connected_socket_is_served_and_sees_the_service(self):
        for address in ("10.96.0.1", "fd00:96::1", "::ffff:10.96.0.1"):
            with self.subTest(address):
                got = self.client.run(client.udp_ask_connected, address, 53, 3)
                self.assertIsNone(got["error"])
                self.assertEqual(got["peer"], (address, 53))
                self.assertEqual(got["answers"], [("a:5353 hello", (address, 53))] * 3)

    def test_no_ready_endpoint_is_refused_at_once(self):
        for address in ("10.96.0.8", "fd00:96::8"):
            with self.subTest(address):
                self.assertEqual(self.client.run(client.udp_ask, [(address, 53)]), ["ECONNREFUSED"])
                self.assertEqual(
                    self.client.run(client.udp_ask_connected, address, 53)["error"], "ECONNREFUSED"
                )

    def test_tcp_to_a_udp_service_is_untouched(self):
        self.assertIn(
            self.client.run(client.connect_error, "10.96.0.1", 53), ("EHOSTUNREACH", "ENETUNREACH")
        )

    def test_an_address_that_is_no_service_is_untouched(self):
        address = self.node["b"].v4
        self.assertEqual(
            self.client.run(client.udp_ask, [(address, 5353)]), [("b:5353 hello", (address, 5353))]
        )

    def test_one_socket_may_talk_to_services_and_others(self):
        targets = [("10.96.0.1", 53), (self.node["b"].v4, 5353)]
        self.assertEqual(
            self.client.run(client.udp_burst, targets),
            {targets[0]: "a:5353 hello", targets[1]: "b:5353 hello"},
        )


class ManyConversations(NodeTest):
    """More conversations on one socket than its first storage holds."""

    SERVICES = 40

    @classmethod
    def prepare(cls):
        cls.node["a"].serve(server.udp, "a", *range(6000, 6000 + cls.SERVICES))
        for i in range(cls.SERVICES):
            cls.write_service(
                f"test/s{i}",
                [f"10.96.3.{i + 1}"],
                ["a"],
                ports=[manifests.service_port(53, 6000 + i, protocol="UDP")],
                slice_ports=[manifests.slice_port(6000 + i, protocol="UDP")],
            )

    def test_twelve_services_on_one_socket_are_told_apart(self):
        targets = [(f"10.96.3.{i + 1}", 53) for i in range(12)]
        self.assertEqual(
            self.client.run(client.udp_burst, targets),
            {target: f"a:{6000 + i} hello" for i, target in enumerate(targets)},
        )

    def test_asking_many_services_one_after_the_other_always_answers_under_the_right_address(self):
        targets = [(f"10.96.3.{i + 1}", 53) for i in range(self.SERVICES)] * 2
        answers = self.client.run(client.udp_ask, targets)
        self.assertEqual([sender for _, sender in answers], targets)


if __name__ == "__main__":
    main()
