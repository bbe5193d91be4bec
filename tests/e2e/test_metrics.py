#!/usr/bin/python3
"""/metrics, /healthz, /readyz: names promtool likes, counters that move by what happened."""

import subprocess

from harness import NodeTest, client, main, manifests, wait_until, weftlab


class Metrics(NodeTest):
    @classmethod
    def prepare(cls):
        cls.write_service("test/web", ["10.96.0.10"], ["a", "b", "c"])
        cls.write_service("test/empty", ["10.96.0.11"], [])
        cls.write_service(
            "test/dead",
            ["10.96.0.12"],
            ["a"],
            ports=[manifests.service_port(80, 9)],
            slice_ports=[9],
        )
        cls.write_service("test/v4-backends", ["fd00:96::13"], ["a"], family="v4")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.weftd.wait_service("test/web", 3)
        cls.weftd.wait_service("test/dead", 1)

    def deltas(self, action, *wanted):
        """How far each (name, labels) moved while action() ran."""
        before = self.weftd.metrics()
        action()
        after = self.weftd.metrics()
        return [after.sum(name, **labels) - before.sum(name, **labels) for name, labels in wanted]

    def test_promtool_finds_nothing_to_say(self):
        self.names("10.96.0.10", 3)
        self.ask("10.96.0.11")
        self.ask("10.96.0.12")
        status, text = self.weftd.page("/metrics")
        self.assertEqual(status, 200)
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            text=True,
            capture_output=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_opened_connections_move_by_exactly_the_connects_made(self):
        self.assertEqual(
            self.deltas(
                lambda: self.names("10.96.0.10", 12),
                ("istio_tcp_connections_opened_total", {"destination_service_name": "web"}),
                ("weft_endpoint_connections_opened_total", {"namespace": "test", "service": "web"}),
                ("weft_endpoint_connections_failed_total", {"namespace": "test", "service": "web"}),
                ("weft_connect_refused_total", {}),
            ),
            [12, 12, 0, 0],
        )

    def test_each_endpoint_counts_its_own(self):
        a = f"{self.node['a'].v4}:8080"
        self.assertEqual(
            self.deltas(
                lambda: self.names("10.96.0.10", 12),
                (
                    "weft_endpoint_connections_opened_total",
                    {"namespace": "test", "service": "web", "endpoint": a},
                ),
            ),
            [4],
        )

    def test_refusals_are_counted_by_reason(self):
        def refuse():
            for _ in range(5):
                self.client.run(client.connect_error, "10.96.0.11", 80)
            for _ in range(2):
                self.client.run(client.connect_error, "fd00:96::13", 80, True, True)

        self.assertEqual(
            self.deltas(
                refuse,
                ("weft_connect_refused_total", {"reason": "no_endpoint"}),
                ("weft_connect_refused_total", {"reason": "family"}),
                ("weft_connect_refused_total", {}),
            ),
            [5, 2, 7],
        )

    def test_failed_connects_are_counted_for_the_endpoint_that_failed(self):
        def fail():
            for _ in range(4):
                self.assertEqual(
                    self.client.run(client.connect_error, "10.96.0.12", 80), "ECONNREFUSED"
                )

        self.assertEqual(
            self.deltas(
                fail,
                (
                    "weft_endpoint_connections_failed_total",
                    {"namespace": "test", "service": "dead"},
                ),
                (
                    "weft_endpoint_connections_opened_total",
                    {"namespace": "test", "service": "dead"},
                ),
                ("weft_connect_refused_total", {}),
            ),
            [4, 0, 0],
        )

    def test_connections_that_are_no_services_are_not_counted(self):
        self.assertEqual(
            self.deltas(
                lambda: self.client.run(client.ask_many, self.node["a"].v4, 8080, 5),
                ("istio_tcp_connections_opened_total", {}),
                ("weft_endpoint_connections_opened_total", {}),
            ),
            [0, 0],
        )

    def test_active_connections_rise_and_fall(self):
        active = ("weft_endpoint_connections_active", {"namespace": "test", "service": "web"})
        jobs = []

        def open_three():
            for _ in range(3):
                jobs.append(self.client.start(client.keep_open, "10.96.0.10", 80))
                jobs[-1].receive()

        self.assertEqual(self.deltas(open_three, active), [3])
        for job in jobs:
            job.stop()
        wait_until(
            lambda: self.weftd.metrics().sum(active[0], **active[1]) == 0, what="no active one left"
        )

    def test_the_mesh_and_the_maps_are_described(self):
        names = self.weftd.metrics().names()
        for name in (
            "weft_config_generation",
            "weft_map_entries",
            "weft_map_capacity",
            "weft_map_writes_total",
            "weft_config_apply_duration_seconds_count",
            "weft_propagation_duration_seconds_count",
        ):
            self.assertIn(name, names)
        wait_until(
            lambda: self.weftd.metrics().sum("weft_config_generation")
            == self.weftd.ctl("status")["generation"],
            what="the generation of the maps is the one that metrics tell",
        )

    def test_health_and_readiness_answer(self):
        self.assertEqual(self.weftd.page("/healthz")[0], 200)
        self.assertEqual(self.weftd.page("/readyz")[0], 200)
        self.assertEqual(self.weftd.page("/nobody")[0], 404)

    def test_a_change_moves_generation_and_writes(self):
        before = self.weftd.metrics()
        self.serve_service("test/fresh", ["10.96.0.14"], ["a"])

        def moved(name):
            return self.weftd.metrics().sum(name) > before.sum(name)

        # It is in force before it is told.
        for name in ("weft_config_generation", "weft_map_writes_total"):
            wait_until(lambda name=name: moved(name), what=f"{name} moves")


class NotReady(NodeTest):
    START = False

    def test_readyz_is_503_until_the_sources_are_ready(self):
        missing = f"{self.node.dir}/later"
        weftd = weftlab.Weftd(self.node, sources=[f"dir:{missing}"])
        weftd.start("--source-timeout", "3600s", wait=False)
        wait_until(lambda: weftd.page("/healthz")[0] == 200, what="weftd lives")
        self.assertEqual(weftd.page("/readyz")[0], 503)
        weftd.stop()


if __name__ == "__main__":
    main()
