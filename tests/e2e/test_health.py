#!/usr/bin/python3
"""Active health checks: an endpoint that nobody watches is taken out before a client meets it."""

from harness import PORT, NodeTest, client, main, manifests, server, wait_until

SERVICE, ADDRESS = "test/web", "10.96.0.10"


class Health(NodeTest):
    BACKENDS = []

    @classmethod
    def prepare(cls):
        cls.servers = {}
        for name in ("a", "b", "c"):
            cls.up(name)
        cls.write_ballast()

    @classmethod
    def up(cls, name):
        cls.servers[name] = cls.node[name].serve(server.http, name, PORT)

    def write(self, check):
        self.serve_service(
            SERVICE, [ADDRESS], ["a", "b", "c"], annotations={"weft.mesh/health-check": check}
        )

    def states(self):
        rows = self.weftd.endpoints(SERVICE)
        return "".join(rows[f"{self.node[n].v4}:{PORT}"]["state"][0] for n in ("a", "b", "c"))

    def health(self):
        """(health, reason) of a, b and c as weftctl tells it; None where it does not."""
        rows = self.weftd.endpoints(SERVICE)
        found = (rows[f"{self.node[n].v4}:{PORT}"] for n in ("a", "b", "c"))
        return [(row.get("health"), row.get("health_reason")) for row in found]

    def health_series(self):
        return {
            labels["endpoint"]: value
            for name, labels, value in self.weftd.metrics()
            if name == "weft_endpoint_health"
        }

    def test_verdicts_are_shown_with_their_reason_and_as_metrics(self):
        # A probe that its node is too busy to look after is not counted as asked: time enough.
        self.write("http /any interval=50ms unhealthy=2 timeout=20s")
        healthy = ("healthy", "HTTP 200")
        wait_until(lambda: self.health() == [healthy] * 3, what="all pass")
        self.servers.pop("c").stop()
        failed = ("unhealthy", "connection refused")
        wait_until(lambda: self.health() == [healthy, healthy, failed], what="c fails")
        text = self.weftd.ctl_raw("endpoint", "list", "--service", SERVICE).stdout
        self.assertIn("unhealthy: connection refused\n", text)
        where = [f"{self.node[n].v4}:{PORT}" for n in ("a", "b", "c")]
        wait_until(lambda: self.health_series() == dict(zip(where, (1, 1, 0))), what="series")
        probes = self.weftd.metrics()
        for outcome in ("ok", "failed"):
            self.assertGreater(probes.sum("weft_health_probes_total", outcome=outcome), 0)
        self.assertEqual(probes.sum("weft_health_probes_total", outcome="not_asked"), 0)
        self.up("c")
        wait_until(lambda: self.health() == [healthy] * 3, what="c is back")
        # They go with the endpoint, and with the checks.
        self.serve_service(
            SERVICE,
            [ADDRESS],
            ["a", "b"],
            annotations={"weft.mesh/health-check": "http /any interval=50ms"},
        )
        wait_until(lambda: self.health_series() == dict(zip(where, (1, 1))), what="c goes")
        self.serve_service(SERVICE, [ADDRESS], ["a", "b", "c"])
        wait_until(lambda: not self.health_series(), what="nobody is checked")
        self.assertEqual(self.health(), [(None, None)] * 3)

    def test_before_the_first_verdict_and_without_an_agent_nobody_claims_to_know(self):
        # HTTP servers are no gRPC servers, but it takes many failures to say so.
        self.write("grpc interval=500ms unhealthy=100")
        wait_until(lambda: all(h == "unknown" and r for h, r in self.health()), what="asked")
        self.assertEqual(self.health_series(), {})
        self.weftd.stop()
        self.assertEqual(self.health(), [(None, None)] * 3)
        self.weftd.start()

    def test_what_was_unhealthy_stays_so_through_a_restart(self):
        self.write("tcp interval=50ms unhealthy=2")
        self.servers.pop("c").stop()
        self.weftd.wait_service(SERVICE, 2)
        wait_until(lambda: self.states() == "rrn", what="c is out")
        # The next agent asks once and then not for an hour.
        self.write_service(
            SERVICE,
            [ADDRESS],
            ["a", "b", "c"],
            annotations={"weft.mesh/health-check": "tcp interval=1h unhealthy=2"},
        )
        self.weftd.kill9()
        self.assertEqual(self.names(ADDRESS, 9).count("ECONNREFUSED"), 0)
        self.weftd.start()
        self.weftd.wait_service(SERVICE, 2)
        self.assertEqual(self.names(ADDRESS, 9).count("ECONNREFUSED"), 0)
        self.assertEqual(self.states(), "rrn")
        wait_until(
            lambda: self.health()[2] == ("unhealthy", "connection refused"), what="c is asked"
        )
        self.up("c")
        self.write("tcp interval=50ms")
        self.weftd.wait_service(SERVICE, 3)

    def test_one_that_dies_is_not_ready_and_back_when_it_answers(self):
        for check in ("http /any", "tcp"):
            with self.subTest(check):
                self.write(f"{check} interval=50ms unhealthy=2")
                self.servers.pop("c").stop()
                self.weftd.wait_service(SERVICE, 2)
                self.assertEqual(self.states(), "rrn")
                self.assertEqual(set(self.names(ADDRESS, 12)), {"a", "b"})
                self.weftd.wait_log("state=unhealthy reason=")
                self.up("c")
                self.weftd.wait_service(SERVICE, 3)
                self.assert_in_turn(self.names(ADDRESS, 12), ["a", "b", "c"])

    def test_checks_that_all_fail_refuse_at_once(self):
        # HTTP servers are no gRPC servers. Not waited for: they may be unhealthy before that is seen.
        self.write_service(
            SERVICE,
            [ADDRESS],
            ["a", "b", "c"],
            annotations={"weft.mesh/health-check": "grpc interval=50ms unhealthy=1 timeout=500ms"},
        )
        wait_until(lambda: self.states() == "nnn", what="nobody passes")
        self.assertEqual(self.client.run(client.connect_error, ADDRESS, 80), "ECONNREFUSED")
        # Without the annotation they are what their source says.
        self.write("tcp interval=50ms")
        self.weftd.wait_service(SERVICE, 3)
        self.assertEqual(self.states(), "rrr")

    def test_a_check_that_cannot_be_read_is_named_and_the_service_served(self):
        self.write("smtp interval=soon")

        def named():
            notices = self.weftd.ctl("status")["notices"]
            return [n for n in notices if "health-check" in n["message"]]

        notices = wait_until(named, what="status names the check")
        self.assertEqual(self.states(), "rrr")
        self.assertEqual({n["severity"] for n in notices}, {"not_enforced"}, notices)

    def test_endpoints_of_a_service_entry_are_balanced_and_checked(self):
        entry, address = "test/db.example.com", "10.97.0.1"
        where = {name: f"{self.node[name].v4}:{PORT}" for name in ("a", "b", "c")}

        def write(annotations):
            endpoints = [
                {"address": self.node[n].v4, "ports": {"web": PORT}, "labels": {"n": n}}
                for n in where
            ]
            self.mesh.write(
                "entry.yaml",
                manifests.service_entry(
                    "test/db", "db.example.com", [address], {"web": 80}, endpoints, annotations
                ),
            )

        self.addCleanup(self.mesh.remove, "entry.yaml")
        write(None)
        self.weftd.wait_service(entry, 3)
        self.assert_in_turn(self.names(address, 12), ["a", "b", "c"])
        write({"weft.mesh/health-check": "tcp interval=50ms unhealthy=2"})

        def health():
            rows = self.weftd.endpoints(entry)
            return [rows[at].get("health") for at in where.values()]

        wait_until(lambda: health() == ["healthy"] * 3, what="all pass")
        self.servers.pop("c").stop()
        self.weftd.wait_service(entry, 2)
        wait_until(lambda: health() == ["healthy"] * 2 + ["unhealthy"], what="c is said to fail")
        self.assertEqual(set(self.names(address, 12)), {"a", "b"})
        self.up("c")
        self.weftd.wait_service(entry, 3)
        self.assert_in_turn(self.names(address, 12), ["a", "b", "c"])
        shown = self.weftd.ctl("service", "show", entry)
        self.assertIn(address, str(shown))


if __name__ == "__main__":
    main()
