#!/usr/bin/python3
"""The same-node bypass as its users meet it: modes, words of services and pods, weft-proxy, ends."""

import os
import socket
import time

from harness import ALT_PORT, PORT, NodeTest, client, main, manifests, server, wait_until
from test_proxy_processes import routes

WEB, PLAIN, HTTP = "10.96.0.10", "10.96.0.11", "10.96.0.12"


def asker(channel, address, port, pause):
    """A job: one connection that asks until it is stopped; how many answers, and what went wrong."""
    sock = socket.create_connection((address, port))
    answers = 0
    try:
        while not channel.stopping():
            client._request(sock, address)
            answers += 1
            if answers == 1:
                channel.send("first")
            time.sleep(pause)
    except OSError as error:
        return answers, str(error)
    finally:
        sock.close()
    return answers, None


def lazy_reader(channel, address, port):
    """A job: asks, leaves the answer unread until it is stopped, and reads it then."""
    sock = socket.create_connection((address, port))
    with sock:
        for _ in range(3):  # redirected in both directions from here on
            client._request(sock, address)
            time.sleep(0.25)  # of what went by TCP the acknowledgement may be this late
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        channel.send("asked")
        channel.wait_for_stop()
        data = sock.recv(65536)
        return data.partition(b"\r\n\r\n")[2].decode().strip()


class BypassTest(NodeTest):
    PODS = ["client", "a", "b"]
    BACKENDS = ["a", "b"]

    def setUp(self):
        if not self.weftd.running():
            self.weftd.start()
        self.wait_mode(self.MODE)

    def wait_mode(self, mode):
        wait_until(
            lambda: self.weftd.ctl("status")["bypass"]["mode"] == mode, 60, f"the bypass is {mode}"
        )

    def connections(self, service):
        return [c for c in self.weftd.ctl("conn", "list") if c["service"] == service]

    def ways(self, service):
        return [d["way"] for c in self.connections(service) for d in c["directions"]]

    def bypassed(self, service):
        """The one connection of the service that is left, once both its directions skip TCP: each
        may begin with it, and of one that was closed before its server may not know yet."""

        def found():
            connections = self.connections(service)
            ways = [d["way"] for c in connections for d in c["directions"]]
            return ways == ["bypass", "bypass"] and connections

        return wait_until(found, 30, "one connection, redirected")[0]

    def hold(self, address, pause=0.01, port=80):
        """A connection that asks all the time, not the first to its address."""
        self.ask(address, port)
        job = self.client.start(asker, address, port, pause)
        self.assertEqual(job.receive(), "first")
        self.addCleanup(lambda: job.finished() or job.stop())
        return job

    def assert_well(self, job):
        answers, error = job.stop()
        self.assertIsNone(error)
        self.assertGreater(answers, 0)


class On(BypassTest):
    MODE = "on"
    FLAGS = ["--bypass", "on", "--proxy", "off"]

    @classmethod
    def prepare(cls):
        cls.write_service("test/web", [WEB, "fd00:96::10"], ["a"])
        cls.write_service("test/plain", [PLAIN], ["b"], annotations={"weft.mesh/bypass": "off"})

    def setUp(self):
        super().setUp()
        self.weftd.wait_service("test/web", 2)
        self.weftd.wait_service("test/plain", 1)

    def said(self):
        """Addresses of endpoints of which a service said a word."""
        return {row["address"] for row in self.weftd.ctl("map", "dump", "bypass_services")}

    def test_bytes_between_pods_take_the_bypass_in_both_directions(self):
        for address in (WEB, "fd00:96::10"):
            with self.subTest(address):
                job = self.hold(address)
                connection = self.bypassed("test/web")
                for direction in connection["directions"]:
                    self.assertGreater(direction["bypass_bytes"], 0)
                self.assert_well(job)
                wait_until(lambda: not self.connections("test/web"), 30, "the pair is gone")

    def test_a_service_that_says_off_stays_with_tcp(self):
        job = self.hold(PLAIN)
        self.assertEqual(self.connections("test/plain"), [])
        self.assert_well(job)

    def test_saying_off_moves_live_connections_to_tcp(self):
        job = self.hold(WEB)
        wait_until(lambda: "bypass" in self.ways("test/web"), 30, "redirected")
        self.write_service(
            "test/web", [WEB, "fd00:96::10"], ["a"], annotations={"weft.mesh/bypass": "off"}
        )
        wait_until(lambda: "bypass" not in self.ways("test/web"), 30, "by TCP")
        self.assert_well(job)
        self.write_service("test/web", [WEB, "fd00:96::10"], ["a"])
        wait_until(lambda: self.said() == {self.node["b"].v4}, 30, "nobody says it of web any more")

    def test_metrics_count_both_ways(self):
        job = self.hold(WEB)
        before = self.weftd.metrics().sum("weft_bypass_bytes_total")
        wait_until(
            lambda: self.weftd.metrics().sum("weft_bypass_bytes_total") > before, 30, "it counts"
        )
        samples = self.weftd.metrics()
        self.assertEqual(samples.sum("weft_bypass_enabled", reason="on"), 1)
        self.assertGreater(samples.sum("weft_bypass_connections_total"), 0)
        self.assert_well(job)

    def test_status_and_audit_know_the_bypass_hook(self):
        (hook,) = [h for h in self.weftd.ctl("status")["hooks"] if h["name"] == "bypass_join"]
        self.assertTrue(hook["attached"])
        self.assertEqual(hook["cgroup"], self.node.cgroup)
        self.assertGreater(hook["link_id"], 0)
        self.assertIn("bypass_join", {p["hook"] for p in self.weftd.ctl("prog", "list")})
        self.weftd.ctl("audit")
        elsewhere = self.weftd.ctl_raw("audit", "--cgroup", os.path.dirname(self.node.cgroup))
        self.assertIn("hook bypass_join hangs on another cgroup", elsewhere.stdout)
        self.weftd.kill9()
        os.unlink(next(path for path in self.node.pinned() if path.endswith("/join")))
        done = self.weftd.ctl_raw("audit")
        self.assertEqual(done.returncode, 1)
        self.assertIn("hook bypass_join is not attached", done.stdout)
        self.weftd.start()
        self.wait_mode("on")
        self.weftd.ctl("audit")

    def test_its_maps_are_listed_dumped_and_measured(self):
        def maps():
            return {row["name"]: row for row in self.weftd.ctl("status")["maps"]}

        def entries():
            rows = maps()
            return [rows[f"weft_bypass_{name}"]["entries"] for name in ("pairs", "sockets")]

        job = self.hold(WEB)
        self.bypassed("test/web")
        wait_until(lambda: entries() == [1, 2], 30, "a pair and its two sockets, and no others")
        self.assertGreater(maps()["weft_bypass_pairs"]["pressure"], 0)
        self.assertIn("weft_bypass_knobs", {row["name"] for row in self.weftd.ctl("map", "list")})
        (pair,) = self.weftd.ctl("map", "dump", "bypass_pairs")
        sockets = self.weftd.ctl("map", "dump", "weft_bypass_sockets")
        self.assertEqual(
            {(s["id"], s["cookie"]) for s in sockets},
            {(pair["id"], pair["client_cookie"]), (pair["id"], pair["server_cookie"])},
        )
        (knobs,) = self.weftd.ctl("map", "dump", "bypass_knobs")
        self.assertEqual((knobs["mode"], knobs["joining"]), ("on", True))
        (said,) = self.weftd.ctl("map", "dump", "bypass_services")
        self.assertEqual((said["address"], said["says"]), (self.node["b"].v4, "off"))
        for name in ("counts", "local", "totals", "workloads"):
            self.weftd.ctl("map", "dump", f"bypass_{name}")
        self.assertGreater(
            self.weftd.metrics().sum("weft_map_capacity", map="weft_bypass_pairs"), 0
        )
        self.assert_well(job)

    def test_the_agents_death_and_return_change_nothing(self):
        job = self.hold(WEB, 0.001)
        self.bypassed("test/web")
        self.weftd.kill9()
        before = self.connections("test/web")[0]["directions"][0]["bypass_bytes"]
        wait_until(
            lambda: self.connections("test/web")[0]["directions"][0]["bypass_bytes"] > before,
            30,
            "bytes go on from socket to socket without an agent",
        )
        self.weftd.start()
        self.wait_mode("on")
        self.assertIn("bypass", self.ways("test/web"))
        self.assert_well(job)

    def test_off_and_on_by_restart_leave_live_connections_alone(self):
        job = self.hold(WEB, 0.001)
        self.weftd.flags = ["--bypass", "off", "--proxy", "off"]
        self.weftd.restart()
        self.addCleanup(setattr, self.weftd, "flags", self.FLAGS)
        self.wait_mode("off")
        self.assertEqual(self.weftd.metrics().sum("weft_bypass_enabled", reason="off"), 0)
        wait_until(lambda: "bypass" not in self.ways("test/web"), 30, "by TCP")
        self.weftd.flags = self.FLAGS
        self.weftd.restart()
        self.wait_mode("on")
        self.assert_well(job)
        self.assert_well(self.hold(WEB))

    def test_off_lets_go_of_its_program_with_the_last_connection(self):
        def join_pins():
            return [path for path in self.node.pinned() if path.endswith("/join")]

        def reason():
            return self.weftd.ctl("status")["bypass"]["reason"]

        job = self.hold(WEB)
        wait_until(lambda: "bypass" in self.ways("test/web"), 30, "redirected")
        self.weftd.flags = ["--bypass", "off", "--proxy", "off"]
        self.weftd.restart()
        self.addCleanup(self.weftd.start)
        self.addCleanup(self.weftd.stop)
        self.addCleanup(setattr, self.weftd, "flags", self.FLAGS)
        self.wait_mode("off")
        wait_until(lambda: "until the connections" in reason(), 30, "it says why it stays")
        self.assertTrue(join_pins())
        hooks = {hook["name"] for hook in self.weftd.ctl("status")["hooks"]}
        self.assertNotIn("bypass_join", hooks, "it is off")
        self.assert_well(job)
        wait_until(lambda: not join_pins() and not reason(), 30, "the program is detached")
        self.weftd.ctl("audit")
        self.assert_well(self.hold(WEB))

    def test_uninstall_waits_for_a_reader_and_names_its_connection(self):
        self.ask(WEB)
        job = self.client.start(lazy_reader, WEB, 80)
        job.receive()
        wait_until(
            lambda: any(
                d["charged_bytes"]
                for c in self.connections("test/web")
                for d in c["directions"]
                if d["from"] == "server"
            ),
            30,
            "the answer is queued",
        )
        self.weftd.stop()
        ended = self.weftd.start_uninstall()
        self.assertIn("waiting until it is read", ended.stderr.readline())
        self.assertEqual(job.stop(), "a")
        self.assertEqual(ended.wait(60), 0)
        ended.stderr.close()


class Auto(BypassTest):
    MODE = "auto"
    PODS = ["client", "a", "b", "c"]
    BACKENDS = ["a", "b", "c"]

    @classmethod
    def prepare(cls):
        cls.node["b"].serve(server.http, "b2", ALT_PORT)
        cls.write_service("test/web", [WEB], ["a"], annotations={"weft.mesh/bypass": "on"})
        cls.write_service("test/plain", [PLAIN], ["b"])
        cls.write_service("test/http", [HTTP], ["b"], slice_ports=[ALT_PORT])
        cls.mesh.write("routes.yaml", routes("test/http", "http"))

    def setUp(self):
        super().setUp()
        for service in ("test/web", "test/plain", "test/http"):
            self.weftd.wait_service(service, 1)

    def test_only_a_service_that_says_on_is_bypassed(self):
        said, unsaid = self.hold(WEB), self.hold(PLAIN)
        self.bypassed("test/web")
        self.assertEqual(self.connections("test/plain"), [])
        self.assert_well(said)
        self.assert_well(unsaid)

    def declare(self, name, word):
        """The pod's owner says so, until the test ends; returns its address."""
        address = self.node[name].v4
        pod = manifests.pod(f"test/{name}", {"app": name}, [address])
        pod["metadata"]["annotations"] = {"weft.mesh/bypass": word}
        self.mesh.write(f"pod-{name}.yaml", pod)
        self.addCleanup(self.mesh.remove, f"pod-{name}.yaml")
        return address

    def pairs_with(self, server):
        return [c for c in self.weftd.ctl("conn", "list") if c["server"].endswith(server)]

    def assert_bypassed(self, address, port, server):
        """Connections are made until one pairs up with that server; both directions of that skip
        TCP, with which each may begin."""

        def skips():
            return any(
                all(d["way"] == "bypass" and d["bypass_bytes"] for d in pair["directions"])
                for pair in self.pairs_with(server)
            )

        def try_one():
            job = self.client.start(asker, address, port, 0.001)
            job.receive()
            paired = bool(self.pairs_with(server))
            if paired:
                wait_until(skips, 30, f"what goes to {server} and back skips TCP")
            self.assertIsNone(job.stop()[1])
            return paired

        wait_until(try_one, 60, f"connections to {server} pair up")

    def test_weft_proxy_and_an_application_are_bypassed_where_that_says_on(self):
        wait_until(
            lambda: self.weftd.ctl("status")["proxy"]["captured"] >= 3, 60, "pods are captured"
        )

        def unpaired():
            job = self.hold(HTTP)
            pairs = self.pairs_with(":15001") + self.pairs_with(f":{ALT_PORT}")
            self.assert_well(job)
            return not pairs

        # An earlier test's word goes with the next beat.
        wait_until(unpaired, 30, "nobody said anything, nothing is paired")
        self.declare("client", "on")
        self.assert_bypassed(HTTP, 80, ":15001")
        self.assertEqual(self.pairs_with(f":{ALT_PORT}"), [], "the endpoint said nothing yet")

    def test_two_pods_that_say_on_are_bypassed_and_one_is_not_enough(self):
        address = self.declare("c", "on")
        server = f"{address}:{PORT}"
        for _ in range(3):
            self.assert_well(self.hold(address, port=PORT))
            self.assertEqual(self.pairs_with(server), [])
        self.declare("client", "on")
        self.assert_bypassed(address, PORT, server)

    def test_status_tells_what_readers_see_otherwise(self):
        bypass = self.weftd.ctl("status")["bypass"]
        self.assertEqual(bypass["reason"], "")
        self.assertTrue(any("splice" in line for line in bypass["differences"]), bypass)


if __name__ == "__main__":
    main()
