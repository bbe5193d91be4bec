#!/usr/bin/python3
"""The proxy's endpoints fail, the proxy itself dies or is replaced, the configuration changes: what callers
see of it, and what is to be seen from outside."""

import http.client
import os
import signal
import subprocess
import threading
import time
from collections import Counter

from harness import LONG, client, main, manifests, wait_until
from routes_harness import (
    BACKEND_PORT,
    RoutesTest,
    everything_to,
    fetch,
    held,
    requests_kept,
)

# HTTP: else a connection to an endpoint is made, and counted, for a caller that takes its time to say
# something.
PORTS = [{**manifests.service_port(80, BACKEND_PORT), "appProtocol": "http"}]
WEB, DIRECT, PLAIN = "10.96.0.10", "10.96.0.11", "10.96.0.12"


def opens(channel, address, port):
    """A job: a connection a request until it is stopped: how many went through the proxy and how many
    directly, by where this end of theirs is; errors by name."""
    seen = Counter(direct=0, proxy=0, ECONNREFUSED=0)
    first, failed = True, 0
    while not channel.stopping():
        try:
            answer = fetch(address, port=port)[0]
            ok = answer["status"] == 200
            own = answer["local"][0] == "127.0.0.1"
            seen[("proxy" if own else "direct") if ok else str(answer["status"])] += 1
        except OSError as error:
            seen[client.error_name(error)] += 1
        except http.client.HTTPException as error:
            seen[type(error).__name__] += 1
        if failures(seen) > failed:  # what asks again at once may come before weftd looks
            failed = failures(seen)
            time.sleep(0.01)
        if first:
            channel.send("first request done")
        first = False
    return seen


def at_once(address, count, headers):
    """So many requests at the same time, each on a connection of its own: their statuses."""
    statuses, threads = [], []
    for _ in range(count):
        ask = lambda: statuses.append(fetch(address, headers=headers)[0]["status"])  # noqa: E731
        threads.append(threading.Thread(target=ask))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return sorted(statuses)


def failures(seen):
    return sum(seen.values()) - seen["direct"] - seen["proxy"]


class OneBreaker(RoutesTest):
    """The proxy and connect() keep away from the same endpoints."""

    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.write_ballast()

    def apply(self, **outlier):
        """The service anew: no breaker remembers anything."""
        outlier = {"baseEjectionTime": "60s", **outlier}
        self.mesh.write(
            "web.yaml",
            manifests.service("test/web", [WEB], PORTS),
            manifests.endpoint_slice("test/web", [self.node[n].v4 for n in "abc"], [BACKEND_PORT]),
            manifests.destination_rule("test/web", "web", outlierDetection=outlier),
        )
        self.weftd.wait_service("test/web", 3)

    def tearDown(self):
        self.mesh.remove("web.yaml")
        wait_until(
            lambda: not any(s["name"] == "web" for s in self.weftd.ctl("service", "list")),
            what="the service is gone",
        )

    def rules(self, there):
        if there:
            self.mesh.write("rules.yaml", everything_to("test/web"))
        else:
            self.mesh.remove("rules.yaml")
        wait_until(
            lambda: self.is_captured(self.get(WEB, pod=self.other)) == there,
            what=f"captured: {there}",
        )

    def breaker(self, name):
        rows = self.weftd.ctl("breaker", "list", "--service", "test/web")
        return next(r for r in rows if r["endpoint"] == f"{self.node[name].v4}:{BACKEND_PORT}")

    def test_answers_of_5xx_in_a_row_keep_connect_away_too(self):
        self.apply(consecutive5xxErrors=3)
        self.rules(True)
        statuses = [self.get(WEB, headers={"x-fail-at": "a"})["status"] for _ in range(30)]
        self.assertEqual(statuses.count(503), 3, statuses)
        shown = self.breaker("a")
        self.assertEqual((shown["state"], shown["reason"]), ("open", "5xx"))
        self.assertEqual(set(self.answered_by(WEB, 20)), {"b", "c"})
        self.rules(False)
        answers = [self.get(WEB) for _ in range(20)]
        self.assertFalse(any(self.is_captured(answer) for answer in answers))
        self.assertEqual({answer["body"]["name"] for answer in answers}, {"b", "c"})
        self.assertEqual(self.breaker("a")["state"], "open")

    def test_a_connect_that_was_refused_keeps_the_proxy_away_too(self):
        self.apply(consecutiveLocalOriginFailures=1)
        self.down("a")
        answers = self.names(WEB, 9)
        self.assertEqual(answers.count("ECONNREFUSED"), 1, answers)
        self.assertEqual(self.breaker("a")["state"], "open")
        self.up("a")
        self.rules(True)
        answers = [self.get(WEB) for _ in range(20)]
        self.assertTrue(all(self.is_captured(answer) for answer in answers))
        self.assertEqual({answer["body"]["name"] for answer in answers}, {"b", "c"})
        self.rules(False)


class Connections(RoutesTest):
    """Those of the proxy and those of connect() are one number."""

    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.write_ballast()

    def apply(self, rules, of_port=False, **pool):
        policy = {"connectionPool": pool}
        if of_port:
            entry = {"port": {"number": 80}, **policy}
            policy = {
                "connectionPool": {"tcp": {"maxConnections": 1000}},
                "portLevelSettings": [entry],
            }
        self.mesh.write(
            "web.yaml",
            manifests.service("test/web", [WEB], PORTS),
            manifests.endpoint_slice("test/web", [self.node["a"].v4], [BACKEND_PORT]),
            manifests.destination_rule("test/web", "web", **policy),
            *([everything_to("test/web")] if rules else []),
        )
        self.weftd.wait_service("test/web", 1)
        path = "proxy" if rules else "kernel"
        wait_until(lambda: self.path() == path, what=f"it is the {path}'s")

    def tearDown(self):
        self.mesh.remove("web.yaml")
        wait_until(lambda: self.path() is None, what="the service is gone")

    def path(self):
        services = self.weftd.ctl("service", "list")
        return next((s["ports"][0]["path"] for s in services if s["name"] == "web"), None)

    def active(self):
        rows = self.weftd.ctl("endpoint", "list", "--service", "test/web")
        return sum(row["connections"]["active"] for row in rows)

    def test_a_proxys_connections_are_the_endpoints_until_it_closes_them_or_dies(self):
        self.apply(rules=True)
        job = self.client.start(held, WEB)
        job.receive()
        self.assertEqual(self.active(), 1)
        self.assertEqual(self.count("weft_endpoint_connections_active", service="web"), 1)
        old = self.proxy()["pid"]
        os.kill(old, signal.SIGKILL)
        self.wait_serving(but_not=old)
        self.assertEqual(self.active(), 0)
        job.stop()

    def test_what_connect_has_taken_of_max_connections_the_proxy_has_not(self):
        self.assert_one_limit(of_port=False)

    def test_of_a_limit_in_port_level_settings_neither(self):
        self.assert_one_limit(of_port=True)

    def assert_one_limit(self, of_port):
        overflow = {"response_flags": "UO", "response_code": "503"}
        before = self.count("istio_requests_total", **overflow)
        self.apply(rules=False, of_port=of_port, tcp={"maxConnections": 2})
        direct = self.client.start(held, WEB)
        direct.receive()
        self.assertEqual(self.active(), 1)
        pool = {"tcp": {"maxConnections": 2}, "http": {"http1MaxPendingRequests": 1}}
        self.apply(rules=True, of_port=of_port, **pool)
        statuses = self.other.run(at_once, WEB, 3, {"x-slow": "2"})
        self.assertEqual(statuses, [200, 200, 503])
        self.assertEqual(self.active(), 2, "the direct one, and one that waits for a request")
        wait_until(
            lambda: self.count("istio_requests_total", **overflow) == before + 1,
            what="one is counted",
        )
        error, answered = direct.stop()
        self.assertIsNone(error)
        self.assertGreater(answered, 3)
        wait_until(lambda: self.active() == 1, what="the direct one is gone")


class Replaced(RoutesTest):
    """A service that refuses while no proxy is there, one that does without, and one without rules."""

    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.write_service("test/web", [WEB], ["a", "b"])
        cls.write_service(
            "test/direct", [DIRECT], ["a", "b"], annotations={"weft.mesh/proxy-down": "direct"}
        )
        cls.write_service("test/plain", [PLAIN], ["c"])
        cls.mesh.write("rules.yaml", everything_to("test/web"), everything_to("test/direct"))

    def setUp(self):
        super().setUp()
        for name, ready in {"web": 2, "direct": 2, "plain": 1}.items():
            self.weftd.wait_service(f"test/{name}", ready)

    def kill_for(self, seconds):
        """Every proxy that starts is killed, two at least; those that were."""
        killed, until = set(), time.monotonic() + seconds

        def enough():
            pid = self.proxy()["pid"]
            if pid and pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            return time.monotonic() > until and len(killed) > 1

        wait_until(enough, what="two proxies are killed")
        return killed

    def test_without_a_proxy_a_service_refuses_or_does_without_as_it_says(self):
        jobs = {a: self.client.start(opens, a, 80) for a in (WEB, DIRECT, PLAIN)}
        for job in jobs.values():
            job.receive()
        killed = self.kill_for(3)
        self.wait_serving()
        time.sleep(0.2)
        web, direct, plain = (jobs[a].stop() for a in (WEB, DIRECT, PLAIN))
        print("killed:", len(killed), "web:", web, "direct:", direct, "plain:", plain)
        self.assertGreater(web["ECONNREFUSED"], 0)
        self.assertEqual(web["direct"], 0)
        self.assertEqual(direct["ECONNREFUSED"], 0)
        self.assertGreater(direct["direct"], 0)
        for seen in (web, direct):  # what was under way when a proxy died
            broken = sum(v for k, v in seen.items() if k not in ("direct", "proxy", "ECONNREFUSED"))
            self.assertLessEqual(broken, len(killed), seen)
        self.assertEqual(set(k for k, v in plain.items() if v), {"direct"})
        for address in (WEB, DIRECT):
            answers = [self.get(address) for _ in range(20)]
            self.assertEqual({answer["status"] for answer in answers}, {200})
            self.assertTrue(all(self.is_captured(answer) for answer in answers))

    def test_twenty_reloads_under_load_lose_nothing(self):
        jobs = [pod.start(requests_kept, WEB) for pod in (self.client, self.client, self.other)]
        jobs.append(self.other.start(client.traffic, WEB, 80))
        for job in jobs:
            job.receive()
        before, share = self.requests(), 10_500 if LONG else 105
        for number in range(1, 21):
            pid = self.proxy()["pid"]
            self.weftd.ctl("proxy", "reload")
            self.wait_serving(but_not=pid)
            wait_until(lambda n=number: self.requests() - before >= n * share, 300, "its share")
        opened = jobs.pop().stop()
        kept = [job.stop() for job in jobs]
        total = sum(count for count, _ in kept) + opened["requests"]
        print(f"{total} requests, {opened['requests']} of them with a connection each")
        self.assertEqual([f for _, failures in kept for f in failures], [])
        self.assertEqual(opened["failures"], [])
        self.assertGreater(total, 200_000 if LONG else 2_000)

    def requests(self):
        return self.count("istio_requests_total", destination_service_name="web")


class Changes(RoutesTest):
    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.write_ballast()
        cls.mesh.write("rules.yaml", everything_to("test/web"), everything_to("test/direct"))

    def setUp(self):
        super().setUp()
        self.serve_service("test/web", [WEB], ["a", "b"])
        self.serve_service("test/direct", [DIRECT], ["c"])

    def test_a_kept_connection_outlives_changes_of_endpoints_and_of_other_rules(self):
        jobs = [self.client.start(held, address) for address in (WEB, DIRECT)]
        for job in jobs:
            job.receive()
        proxy = self.proxy()["pid"]
        self.serve_service("test/direct", [DIRECT], ["c", "a"])
        self.serve_service("test/web", [WEB], ["a", "b", "c"])
        wait_until(lambda: "c" in self.answered_by(WEB, 10), what="the proxy knows of the third")
        self.serve_service("test/web", [WEB], ["b", "c"])
        wait_until(lambda: "a" not in self.answered_by(WEB, 10), what="the proxy forgot the first")
        self.serve_service("test/third", [PLAIN], ["a"])
        self.mesh.write("third.yaml", everything_to("test/third"))
        wait_until(lambda: self.is_captured(self.get(PLAIN)), what="another service has rules")
        self.mesh.remove("third.yaml")
        time.sleep(0.2)
        for job in jobs:
            error, answered = job.stop()
            self.assertIsNone(error)
            self.assertGreater(answered, 3)
        self.assertEqual(self.proxy()["pid"], proxy)


    def test_rules_that_come_and_go_under_traffic_lose_no_request(self):
        self.serve_service("test/third", [PLAIN], ["a", "b"])
        jobs = [pod.start(client.traffic, PLAIN, 80) for pod in (self.client, self.other)]
        for job in jobs:
            job.receive()
        for _ in range(20):
            self.mesh.write("third.yaml", everything_to("test/third"))
            wait_until(lambda: self.is_captured(self.get(PLAIN)), what="there are rules")
            self.mesh.remove("third.yaml")
            wait_until(lambda: not self.is_captured(self.get(PLAIN)), what="there are none")
        for job in jobs:
            self.assertEqual(job.stop()["failures"], [])


class FromOutside(RoutesTest):
    LABELS = {
        "client": {"app": "shop", "version": "v7", "pod-template-hash": "77"},
        "a": {"app": "web", "version": "v1"},
        "b": {"app": "web", "version": "v1", "service.istio.io/canonical-name": "front"},
    }

    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.write_service("test/web", [WEB], ["a", "b"])
        cls.mesh.write("rules.yaml", everything_to("test/web"))

    def test_requests_are_counted_with_who_asked_and_who_was_asked(self):
        self.weftd.wait_service("test/web", 2)
        labels = {
            "reporter": "source",
            "source_app": "shop",
            "source_version": "v7",
            "source_workload_namespace": "test",
            "destination_service": "web.test.svc.cluster.local",
            "destination_service_name": "web",
            "destination_service_namespace": "test",
            "request_protocol": "http",
            "response_code": "200",
            "response_flags": "-",
        }
        asked = {
            name: {
                "source_canonical_service": "shop",
                "destination_workload": name,
                "destination_workload_namespace": "test",
                "destination_app": "web",
                "destination_version": "v1",
                "destination_canonical_service": canonical,
                "destination_canonical_revision": "v1",
            }
            for name, canonical in {"a": "web", "b": "front"}.items()
        }
        before = self.count("istio_requests_total", **labels)
        self.fetch(WEB, ["/"] * 12)
        self.get(WEB, pod=self.other)
        wait_until(
            lambda: self.count("istio_requests_total", **labels) == before + 12,
            what="12 are counted",
        )
        for who in asked.values():
            self.assertGreater(self.count("istio_requests_total", **labels, **who), 0)
        counted = sum(self.count("istio_requests_total", **labels, **who) for who in asked.values())
        self.assertEqual(counted, before + 12)
        self.assertEqual(self.count("weft_proxy_up"), 1)

    def test_promtool_finds_nothing_to_say(self):
        self.get(WEB)
        wait_until(lambda: self.count("istio_requests_total") > 0, what="a request is counted")
        status, text = self.weftd.page("/metrics")
        self.assertEqual(status, 200)
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        # Istio's name, which dashboards ask for.
        said = [x for x in (done.stdout + done.stderr).splitlines() if "istio_request_dur" not in x]
        self.assertEqual(said, [])


if __name__ == "__main__":
    main()
