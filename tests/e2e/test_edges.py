#!/usr/bin/python3
"""Sequences of calls that are easy to get wrong: connected UDP sockets that go elsewhere, endpoints that
only drain, sources that are late, sizes that change."""

import ctypes
import os
import socket
import struct

from harness import NodeTest, client, main, manifests, server

DNS = [manifests.service_port(53, 5353, protocol="UDP")]
DNS_SLICE = [manifests.slice_port(5353, protocol="UDP")]


def _connected(address):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(30)  # a hang
    sock.connect((address, 53))
    return sock


def sendto_on_a_connected_socket(address, count):
    with _connected(address) as sock:
        answers = []
        for _ in range(count):
            sock.sendto(b"x", (address, 53))
            answers.append(sock.recvfrom(999))
        return answers


def ask_pods_after_disconnecting(address, pods):
    """connect(AF_UNSPEC), as getaddrinfo does, then pods by their own addresses."""
    with _connected(address) as sock:
        sock.send(b"hello")
        sock.recvfrom(999)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.connect(sock.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16)
        peers = []
        for pod in pods:
            sock.sendto(b"direct", (pod, 5353))
            peers.append(sock.recvfrom(999)[1])
        return peers


def connect_again_refused(address, refused):
    with _connected(address) as sock:
        try:
            sock.connect((refused, 53))
            error = 0
        except OSError as failure:
            error = failure.errno
        sock.send(b"x")
        return error, sock.getpeername(), sock.recvfrom(999)[1]


class ConnectedUdp(NodeTest):
    @classmethod
    def prepare(cls):
        for name in cls.BACKENDS:
            cls.node[name].serve(server.udp, name, 5353)
        cls.write_service("test/all", ["10.96.0.9"], ["a", "b", "c"], ports=DNS, slice_ports=DNS_SLICE)
        cls.write_service("test/none", ["10.96.0.8"], [], ports=DNS, slice_ports=DNS_SLICE)

    def test_sendto_the_service_it_is_connected_to_is_answered(self):
        answers = self.client.run(sendto_on_a_connected_socket, "10.96.0.9", 6)
        self.assertEqual([peer for _, peer in answers], [("10.96.0.9", 53)] * 6)

    def test_a_disconnected_socket_forgets_the_service(self):
        pods = [self.node[name].v4 for name in self.BACKENDS]
        peers = self.client.run(ask_pods_after_disconnecting, "10.96.0.9", pods)
        self.assertEqual(peers, [(pod, 5353) for pod in pods])

    def test_a_refused_second_connect_leaves_the_first_peer(self):
        error, peer, answered = self.client.run(connect_again_refused, "10.96.0.9", "10.96.0.8")
        self.assertEqual((error, peer, answered), (111, ("10.96.0.9", 53), ("10.96.0.9", 53)))


class OnlyDraining(NodeTest):
    @classmethod
    def prepare(cls):
        for name in cls.BACKENDS:
            cls.node[name].serve(server.udp, name, 5353)
        draining = [
            manifests.endpoint(cls.node[name].v4, ready=False, serving=True, terminating=True)
            for name in cls.BACKENDS
        ]
        cls.write_service("test/udp", ["10.96.0.7"], draining, ports=DNS, slice_ports=DNS_SLICE)
        cls.write_service("test/sticky", ["10.96.0.6"], draining, affinity_seconds=600)

    def test_a_udp_conversation_keeps_its_endpoint(self):
        answers = self.client.run(client.udp_ask, [("10.96.0.7", 53)] * 6)
        self.assertEqual(len({text.split(":")[0] for text, _ in answers}), 1, answers)

    def test_session_affinity_holds(self):
        self.assertEqual(len(set(self.names("10.96.0.6", 6))), 1)


class LateSource(NodeTest):
    START = False

    @classmethod
    def prepare(cls):
        cls.late = f"{cls.node.dir}/late"
        os.makedirs(cls.late)
        cls.weftd.sources = [f"dir:{cls.node.manifest_dir}", f"dir:{cls.late}"]
        cls.mesh.write(
            "svc.yaml", manifests.service("test/web", ["10.96.0.10"], [manifests.service_port(80, 8080)])
        )
        endpoints = [manifests.endpoint(cls.node[name].v4) for name in "abc"]
        manifests.Manifests(cls.late).write(
            "slices.yaml", manifests.endpoint_slice("test/web", endpoints, [8080], suffix="v4")
        )
        cls.write_service("test/sticky", ["10.96.0.11"], ["a", "b", "c"], affinity_seconds=600)
        cls.write_ballast(64)

    def test_a_source_that_is_gone_at_a_restart_takes_nobodys_endpoints(self):
        self.weftd.start()
        self.weftd.wait_service("test/web", 3)
        sticky = set(self.names("10.96.0.11", 3))
        for room in (4096, 4097):  # a size migration each
            self.weftd.stop()
            self.weftd.start("--max-endpoints", str(room))
            self.assertEqual(set(self.names("10.96.0.11", 3)), sticky, "affinity survives new sizes")
        self.weftd.stop()
        os.rename(self.late, f"{self.late}.away")
        self.weftd.start("--source-timeout", "30s", wait=False)
        self.weftd.wait_log("late is gone")
        self.weftd.ctl_raw("confirm")
        self.assertEqual(sorted(self.names("10.96.0.10", 3)), ["a", "b", "c"])
        self.weftd.stop()
        self.weftd.start("--source-timeout", "100ms")
        self.assertEqual(sorted(self.names("10.96.0.10", 3)), ["a", "b", "c"])
        os.rename(f"{self.late}.away", self.late)


main()
