#!/usr/bin/python3
"""The circuit breaker as its users meet it: manifests in, weftctl, log and metrics out, traffic saved."""

import contextlib
import json
import os
import subprocess
import time

from harness import PORT, NodeTest, client, main, manifests, server, wait_until

SERVICE, ADDRESS = "test/web", "10.96.0.10"
LASTING = "5s"  # an ejection that many connects do not outlast, and that a test can wait for


class BreakerTest(NodeTest):
    """Backends that can be ended and started again."""

    BACKENDS = []
    PODS = ["client", "a", "b", "c"]
    NAMES = ["a", "b", "c"]

    @classmethod
    def prepare(cls):
        cls.servers = {}
        cls.write_ballast()

    def setUp(self):
        if not self.weftd.running():  # a test that failed half way has left it dead
            self.weftd.start()
        for name in self.NAMES:
            self.up(name)

    def tearDown(self):
        with contextlib.suppress(FileNotFoundError):
            self.mesh.remove("test-web.yaml")
        wait_until(
            lambda: not any(s["name"] == "web" for s in self.weftd.ctl("service", "list")),
            what="the service is gone",
        )

    def up(self, name):
        if name not in self.servers:
            self.servers[name] = self.node[name].serve(server.http, name, PORT)

    def down(self, name):
        """Its port refuses from now on."""
        self.servers.pop(name).stop()

    def apply(self, outlier=None, pods=("a", "b", "c"), annotations=None, standby=(), **traffic):
        objects = [
            manifests.service(
                SERVICE, [ADDRESS], [manifests.service_port(80, PORT)], annotations=annotations
            ),
            manifests.endpoint_slice(SERVICE, [self.node[p].v4 for p in pods], [PORT]),
        ]
        if standby:
            objects.append(
                manifests.endpoint_slice(
                    SERVICE,
                    [self.node[p].v4 for p in standby],
                    [PORT],
                    suffix="standby",
                    annotations={"weft.mesh/priority": "1"},
                )
            )
        if outlier is not None:
            traffic["outlierDetection"] = outlier
        if traffic:
            objects.append(manifests.destination_rule(SERVICE, "web", **traffic))
        self.mesh.write("test-web.yaml", *objects)
        self.weftd.wait_service(SERVICE, len(pods) + len(standby))

    def assert_stand_in_and_back(self):
        """c serves while a and b are broken, who are in front of it."""
        self.down("a")
        self.down("b")
        answers = self.names(ADDRESS, 30)
        self.assertLessEqual(answers.count("ECONNREFUSED"), 2, answers)
        self.assertEqual(set(answers) - {"ECONNREFUSED"}, {"c"})
        self.up("a")
        self.up("b")
        wait_until(
            lambda: set(self.names(ADDRESS, 20)) == {"a", "b"}, 60, "the primaries serve again"
        )

    def breaker(self, name):
        rows = self.weftd.ctl("breaker", "list", "--service", SERVICE)
        return next(r for r in rows if r["endpoint"] == f"{self.node[name].v4}:{PORT}")

    def endpoint(self, name):
        return self.weftd.endpoints(SERVICE)[f"{self.node[name].v4}:{PORT}"]


class Passive(BreakerTest):
    def test_the_very_next_connect_after_a_failure_goes_elsewhere(self):
        self.apply({"consecutiveLocalOriginFailures": 1})
        self.down("c")
        answers = self.names(ADDRESS, 30)
        self.assertEqual(answers.count("ECONNREFUSED"), 1, answers)
        shown = self.breaker("c")
        self.assertEqual((shown["state"], shown["reason"]), ("open", "refused"))
        self.assertAlmostEqual(shown["ejected_for_seconds"], 30, delta=25)
        self.assertEqual(self.endpoint("c")["state"], "ejected")
        self.assertEqual(self.weftd.service(SERVICE)["endpoints"]["ejected"], 1)
        why = self.weftd.ctl("why", "--from", "client", "--to", f"{ADDRESS}:80")
        out = next(c for c in why["candidates"] if c["address"] == self.node["c"].v4)
        self.assertIn("its breaker is open (refused)", out["why_out"])

    def test_a_service_without_outlier_detection_ejects_nobody(self):
        self.apply()
        self.down("c")
        self.assertEqual(self.names(ADDRESS, 30).count("ECONNREFUSED"), 10)

    def test_the_default_takes_five_failures_in_a_row(self):
        self.apply({})
        self.down("c")
        self.assertEqual(self.names(ADDRESS, 60).count("ECONNREFUSED"), 5)

    def test_a_probe_brings_it_back_when_its_time_is_over(self):
        self.apply({"consecutiveLocalOriginFailures": 1, "baseEjectionTime": "1s"})
        self.down("c")
        self.names(ADDRESS, 9)
        self.assertEqual(self.breaker("c")["state"], "open")
        self.up("c")
        wait_until(lambda: "c" in self.names(ADDRESS, 3), what="c serves again")
        self.assertEqual(self.breaker("c")["state"], "closed")
        self.assert_in_turn(self.names(ADDRESS, 30), ["a", "b", "c"])

    def test_article_case_3_failing_for_five_seconds_opens_and_ten_later_it_closes(self):
        self.apply(
            annotations={
                "weft.mesh/breaker-failing-for": "5s",
                "weft.mesh/breaker-base-ejection": "10s",
            }
        )
        self.down("c")
        began = time.monotonic()
        self.names(ADDRESS, 6)
        self.assertEqual(self.breaker("c")["state"], "closed")
        tries = []

        def is_open():
            tries.append(time.monotonic())  # what opens it comes after this
            self.names(ADDRESS, 3)
            return self.breaker("c")["state"] == "open"

        wait_until(is_open, 60, "the breaker opens", 0.2)
        self.assertGreaterEqual(time.monotonic() - began, 5)
        self.assertEqual(set(self.names(ADDRESS, 12)), {"a", "b"})
        self.up("c")
        self.assertEqual(set(self.names(ADDRESS, 12)), {"a", "b"}, "its time is not over")

        def is_closed():
            self.names(ADDRESS, 3)
            return self.breaker("c")["state"] == "closed"

        wait_until(is_closed, 100, "the breaker closes", 0.2)
        self.assertGreaterEqual(time.monotonic() - tries[-1], 9.99)  # it counts in milliseconds
        self.assert_in_turn(self.names(ADDRESS, 12), ["a", "b", "c"])

    def test_article_case_4_traffic_moves_to_the_standby_and_back(self):
        self.apply(
            {"consecutiveLocalOriginFailures": 1, "baseEjectionTime": LASTING},
            pods=("a", "b"),
            standby=("c",),
        )
        self.assertEqual(set(self.names(ADDRESS, 20)), {"a", "b"})
        self.assert_stand_in_and_back()

    def test_limits_refuse_at_once_and_are_counted(self):
        self.apply(connectionPool={"tcp": {"maxConnections": 3}})
        held = [self.client.start(client.keep_open, ADDRESS, 80) for _ in range(3)]
        for job in held:
            job.receive()
        before = self.weftd.metrics().sum("weft_connect_refused_total", reason="limit")
        self.assertEqual(self.client.run(client.connect_error, ADDRESS, 80), "ECONNREFUSED")
        after = self.weftd.metrics().sum("weft_connect_refused_total", reason="limit")
        self.assertEqual(after - before, 1)
        why = self.weftd.ctl("why", "--from", "client", "--to", f"{ADDRESS}:80")
        self.assertIn(why["verdict"], ("translate", "refuse_limit"))
        for job in held:
            job.stop()
        wait_until(
            lambda: self.client.run(client.connect_error, ADDRESS, 80) is None,
            what="there is room again",
        )


class Labels(BreakerTest):
    """Pods of version v1 serve, those of v2 stand by."""

    def apply_versions(self, **versions):
        rule = manifests.destination_rule(
            SERVICE,
            "web",
            outlierDetection={"consecutiveLocalOriginFailures": 1, "baseEjectionTime": LASTING},
        )
        setting = {"failoverPriority": ["version=v1"]}
        rule["spec"]["trafficPolicy"]["loadBalancer"]["localityLbSetting"] = setting
        self.mesh.write(
            "test-web.yaml",
            manifests.service(SERVICE, [ADDRESS], [manifests.service_port(80, PORT)]),
            manifests.endpoint_slice(SERVICE, [self.node[p].v4 for p in versions], [PORT]),
            *(
                manifests.pod(f"test/{p}", {"version": v}, [self.node[p].v4])
                for p, v in versions.items()
            ),
            rule,
        )
        self.weftd.wait_service(SERVICE, len(versions))

    def test_the_other_version_stands_in_while_the_first_is_broken(self):
        self.apply_versions(a="v1", b="v1", c="v2")
        self.assert_in_turn(self.names(ADDRESS, 20), ["a", "b"])
        self.assert_stand_in_and_back()

    def test_a_pods_new_version_moves_it_to_the_first(self):
        self.apply_versions(a="v1", b="v2", c="v2")
        self.assertEqual(set(self.names(ADDRESS, 9)), {"a"})
        self.apply_versions(a="v1", b="v1", c="v2")
        wait_until(lambda: set(self.names(ADDRESS, 10)) == {"a", "b"}, what="b serves, too")


class Ports(BreakerTest):
    """Port 81 has a policy of its own, and nothing of the rule's."""

    RULE = {
        "connectionPool": {"tcp": {"maxConnections": 100}},
        "outlierDetection": {"consecutiveLocalOriginFailures": 1},
    }

    def apply_ports(self, **own):
        named = [("web", 80), ("admin", 81)]
        settings = [{"port": {"number": 81}, **own}]
        self.mesh.write(
            "test-web.yaml",
            manifests.service(
                SERVICE, [ADDRESS], [manifests.service_port(p, PORT, n) for n, p in named]
            ),
            manifests.endpoint_slice(
                SERVICE,
                [self.node[p].v4 for p in self.NAMES],
                [manifests.slice_port(PORT, n) for n, _ in named],
            ),
            manifests.destination_rule(SERVICE, "web", portLevelSettings=settings, **self.RULE),
        )
        self.weftd.wait_service(SERVICE, 2 * len(self.NAMES))

    def test_a_limit_of_one_port_is_not_the_others(self):
        self.apply_ports(connectionPool={"tcp": {"maxConnections": 2}})
        held = {}
        for port in (80, 81):
            held[port] = [self.client.start(client.keep_open, ADDRESS, port) for _ in range(2)]
            for job in held[port]:
                job.receive()
        self.assertEqual(self.client.run(client.connect_error, ADDRESS, 81), "ECONNREFUSED")
        self.assertIsNone(self.client.run(client.connect_error, ADDRESS, 80))
        for job in held[80] + held[81]:
            job.stop()
        wait_until(
            lambda: self.client.run(client.connect_error, ADDRESS, 81) is None,
            what="there is room again",
        )

    def test_a_port_that_names_no_outlier_detection_has_none(self):
        self.apply_ports(connectionPool={"tcp": {"maxConnections": 50}})
        self.down("c")
        self.assertEqual(self.names(ADDRESS, 30, port=81).count("ECONNREFUSED"), 10)
        self.assertEqual(self.names(ADDRESS, 30, port=80).count("ECONNREFUSED"), 1)
        rows = self.weftd.ctl("breaker", "list", "--service", SERVICE)
        self.assertEqual({r["port"] for r in rows if r["state"] == "open"}, {80}, rows)

    def test_the_balancer_of_a_port_is_shown_where_it_differs(self):
        self.apply_ports(loadBalancer={"simple": "LEAST_REQUEST"})
        shown = self.weftd.service(SERVICE)
        self.assertEqual(shown["balancer"], "round-robin")
        self.assertEqual([p.get("balancer") for p in shown["ports"]], [None, "least-request"])
        why = self.weftd.ctl("why", "--from", "client", "--to", f"{ADDRESS}:81")
        self.assertEqual(why["balancer"], "least-request")
        table = self.weftd.ctl_raw("service", "list").stdout
        self.assertIn("round-robin,least-request", table)


class Told(BreakerTest):
    def test_every_transition_is_an_event_a_log_line_and_a_count(self):
        self.apply({"consecutiveLocalOriginFailures": 1, "baseEjectionTime": "1s"})
        with subprocess.Popen(
            self.weftd.ctl_command("-j", "event", "watch", "--count", "3"),
            stdout=subprocess.PIPE,
            text=True,
        ) as watch:
            self.wait_asked(watch.pid)
            self.down("c")
            # No more than it takes: c is not to be probed before it is up.
            wait_until(lambda: self.ask(ADDRESS)["error"] == "ECONNREFUSED", what="c has failed")
            self.up("c")
            wait_until(lambda: "c" in self.names(ADDRESS, 3), what="c serves again")
            output, _ = watch.communicate(timeout=60)
        events = [json.loads(line) for line in output.splitlines()]
        self.assertEqual([e["to"] for e in events], ["open", "half_open", "closed"])
        self.assertEqual(events[0]["reason"], "refused")
        self.assertEqual({e["service"] for e in events}, {SERVICE})
        self.assertEqual({e["endpoint"] for e in events}, {f"{self.node['c'].v4}:{PORT}"})
        self.weftd.wait_log("to=half_open reason=probe")

        def counted():
            samples = self.weftd.metrics()
            each = ("open", "half_open", "closed")
            return all(samples.sum("weft_breaker_transitions_total", to=to) >= 1 for to in each)

        wait_until(counted, what="each transition is counted")
        samples = self.weftd.metrics()
        self.assertEqual(
            [v for n, has, v in samples if n == "weft_breaker_state" and has["service"] == "web"], [0]
        )

    def test_an_open_breaker_that_goes_with_its_endpoint_is_told(self):
        self.apply({"consecutiveLocalOriginFailures": 1, "baseEjectionTime": "600s"})
        endpoint = f"{self.node['c'].v4}:{PORT}"
        self.down("c")
        self.names(ADDRESS, 9)
        self.assertEqual(self.breaker("c")["state"], "open")
        self.apply({"consecutiveLocalOriginFailures": 1}, pods=("a", "b"))
        self.weftd.wait_log(f"endpoint={endpoint} from=open to=closed reason=removed")

        def count(**labels):
            return int(self.weftd.metrics().sum("weft_breaker_transitions_total", **labels))

        wait_until(lambda: count(reason="removed"), 30, "it is counted")
        done = self.weftd.ctl_raw("-j", "event", "watch", "--history", "--count", str(count()))
        told = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(
            (told["endpoint"], told["from"], told["to"], told["reason"]),
            (endpoint, "open", "closed", "removed"),
        )
        self.assertEqual(told["service"], SERVICE)

    def test_who_watches_goes_on_with_the_next_agent(self):
        self.apply({"consecutiveLocalOriginFailures": 1, "baseEjectionTime": "1h"})
        with subprocess.Popen(
            self.weftd.ctl_command("-j", "event", "watch", "--count", "2"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watch:
            self.wait_asked(watch.pid)
            self.weftd.kill9()
            self.down("c")  # told while no agent runs
            self.assertEqual(self.names(ADDRESS, 9).count("ECONNREFUSED"), 1)
            self.weftd.start()
            self.weftd.ctl("breaker", "close", f"{self.node['c'].v4}:{PORT}")
            output, errors = watch.communicate(timeout=60)
        events = [json.loads(line) for line in output.splitlines()]
        self.assertEqual(
            [(e["to"], e["reason"]) for e in events], [("open", "refused"), ("closed", "operator")]
        )
        self.assertEqual(errors.count("waiting for the next agent"), 1, errors)
        self.assertEqual(watch.returncode, 0)

    def test_who_watches_where_no_agent_runs_is_told_so(self):
        self.weftd.stop()
        done = self.weftd.ctl_raw("event", "watch")
        self.assertEqual((done.returncode, "no agent answers" in done.stderr), (1, True), done.stderr)
        self.weftd.start()

    def wait_asked(self, pid):
        """Until `weftctl event watch` has its first answer: from where on it is told. Each question
        has a socket of its own, and one without news is answered and asked again after seconds."""
        seen = set()

        def asks_again():
            folder = f"/proc/{pid}/fd"
            for name in os.listdir(folder):
                with contextlib.suppress(FileNotFoundError):
                    seen.add(os.readlink(f"{folder}/{name}"))
            return len([file for file in seen if file.startswith("socket:")]) > 1

        wait_until(asks_again, what="weftctl event watch waits")

    def test_people_open_close_and_reset(self):
        self.apply()
        endpoint = f"{self.node['c'].v4}:{PORT}"
        told = self.weftd.ctl("breaker", "open", endpoint, "--for", "1h")
        self.assertEqual([(e["to"], e["reason"]) for e in told], [("open", "operator")])
        self.assertEqual(set(self.names(ADDRESS, 12)), {"a", "b"})
        self.assertAlmostEqual(self.breaker("c")["ejected_for_seconds"], 3600, delta=60)
        told = self.weftd.ctl("breaker", "close", str(self.endpoint("c")["id"]))
        self.assertEqual([(e["from"], e["to"]) for e in told], [("open", "closed")])
        counted = self.weftd.metrics().sum("weft_breaker_transitions_total")
        for action in ("close", "reset", "close"):
            self.assertEqual(self.weftd.ctl("breaker", action, endpoint), [], "nothing has moved")
        self.assertEqual(self.weftd.metrics().sum("weft_breaker_transitions_total"), counted)
        self.assert_in_turn(self.names(ADDRESS, 12), ["a", "b", "c"])
        self.assertEqual(self.weftd.ctl("breaker", "list", "--service", SERVICE), [])

    def test_bad_orders_say_what_is_wrong(self):
        self.apply()
        for words, part in (
            (["open", "192.0.2.1:1"], "no endpoint is 192.0.2.1:1"),
            (["open", "999999"], "no endpoint is 999999"),
            (["open", "1", "--for", "never"], "--for never is no time"),
            (["open", "1", "--for", "721h"], "--for 721h is more than 30 days"),
        ):
            done = self.weftd.ctl_raw("breaker", *words)
            self.assertEqual((done.returncode, part in done.stderr), (1, True), done.stderr)
        self.assertEqual(self.weftd.ctl_raw("breaker", "open").returncode, 2)

    def test_it_works_and_is_kept_without_an_agent(self):
        self.apply({"consecutiveLocalOriginFailures": 1, "baseEjectionTime": "1h"})
        self.weftd.kill9()
        self.down("c")
        self.assertEqual(self.names(ADDRESS, 30).count("ECONNREFUSED"), 1)
        endpoint = f"{self.node['b'].v4}:{PORT}"
        done = self.weftd.ctl_raw("breaker", "open", endpoint, "--for", "4000000h")
        self.assertEqual((done.returncode, "30 days" in done.stderr), (1, True), done.stderr)
        done = self.weftd.ctl_raw("breaker", "open", endpoint)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("no agent runs", done.stderr)
        self.assertEqual(set(self.names(ADDRESS, 9)), {"a"})
        failed = f"{self.node['c'].v4}:{PORT}"
        before = [self.ejection_ends(self.weftd, SERVICE, e) for e in (endpoint, failed)]
        self.weftd.start()
        for e, end in zip((endpoint, failed), before):
            self.assert_same_moment(self.ejection_ends(self.weftd, SERVICE, e), end)
        self.assertEqual(self.breaker("c")["ejections"], 1)
        self.assertEqual(set(self.names(ADDRESS, 9)), {"a"})
        # What was told while no agent ran comes first.
        self.weftd.wait_log(f"endpoint={self.node['c'].v4}:{PORT} from=closed to=open")
        self.weftd.ctl("audit")
        self.weftd.ctl("breaker", "close", endpoint)


if __name__ == "__main__":
    main()
