#!/usr/bin/python3
"""A proxy of several threads on a node while everything about it changes: rules, endpoints,
breakers, workloads, the proxy itself. ThreadSanitizer's build of it goes through the same
(scripts/test)."""

import os

from harness import client, main, manifests, wait_until, weftlab
from routes_harness import BACKEND_PORT, RoutesTest, requests_kept, to, virtual_service

WEB = "10.96.0.10"
PORTS = [manifests.service_port(80, BACKEND_PORT)]
WORKERS = 4
SWAPS = 50


def rules(number, *more):
    """A VirtualService whose answers say its number, and some rules in front that nothing meets."""
    others = [
        {"match": [{"uri": {"regex": f"/other-{i}/[a-z]+"}}], "route": [to("web")]}
        for i in range(number % 7)
    ]
    says = {"response": {"set": {"x-table": str(number)}}}
    return virtual_service(
        "test/web", "web", *others, *more, {"route": [to("web")], "headers": says}
    )


class Workers(RoutesTest):
    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.write_ballast()
        cls.write_endpoints("abc")
        cls.mesh.write("rules.yaml", rules(0))
        cls.weftd.flags += ["--proxy", cls.with_workers()]

    @classmethod
    def with_workers(cls):
        """A program that is weft-proxy with so many threads: weftd gives it no such flag."""
        path, program = f"{cls.node.dir}/weft-proxy", os.path.abspath(weftlab.proxy_binary())
        with open(path, "w", encoding="ascii") as file:
            file.write(f'#!/bin/sh\nexec {program} --workers {WORKERS} "$@"\n')
        os.chmod(path, 0o755)
        os.chmod(cls.node.dir, 0o755)
        return path

    @classmethod
    def write_endpoints(cls, names):
        cls.mesh.write(
            "web.yaml",
            manifests.service("test/web", [WEB], PORTS),
            manifests.endpoint_slice("test/web", [cls.node[n].v4 for n in names], [BACKEND_PORT]),
            manifests.destination_rule(
                "test/web",
                "web",
                outlierDetection={"consecutive5xxErrors": 1, "baseEjectionTime": "0.1s"},
            ),
        )

    def setUp(self):
        self.weftd.wait_service("test/web", 3)
        super().setUp()

    def tearDown(self):
        self.assertNotIn("ThreadSanitizer", self.weftd.log())
        self.assertNotIn("was stalled", self.weftd.log())

    def under_load(self):
        jobs = [pod.start(requests_kept, WEB) for pod in (self.client, self.other)]
        jobs += [pod.start(client.traffic, WEB, 80) for pod in (self.client, self.other)]
        for job in jobs:
            job.receive()
        return jobs

    def assert_nothing_failed(self, jobs):
        kept, opened = [job.stop() for job in jobs[:2]], [job.stop() for job in jobs[2:]]
        total = sum(count for count, _ in kept) + sum(done["requests"] for done in opened)
        print(f"{total} requests meanwhile")
        self.assertEqual([f for _, failures in kept for f in failures], [])
        self.assertEqual([f for done in opened for f in done["failures"]], [])

    def opened(self):
        return self.count("weft_breaker_transitions_total", to="open")

    def serves(self, number):
        return self.get(WEB)["headers"].get("x-table") == str(number)

    def test_it_has_so_many_threads_and_the_sanitizer_that_it_was_built_with(self):
        with open(f"/proc/{self.proxy()['pid']}/maps", encoding="ascii") as file:
            has_it = "libtsan" in file.read()
        self.assertEqual(has_it, "tsan" in weftlab.proxy_build_dir())
        threads = os.listdir(f"/proc/{self.proxy()['pid']}/task")
        self.assertEqual(len(threads), WORKERS + 1 + has_it)  # control, and the sanitizer's own

    def test_rules_and_endpoints_are_swapped_under_load(self):
        jobs = self.under_load()
        for number in range(1, SWAPS + 1):
            self.mesh.write("rules.yaml", rules(number))
            self.write_endpoints("abc" if number % 3 else "ab")
            wait_until(lambda n=number: self.serves(n), what=f"rules {number} are in force")
            self.weftd.metrics()  # every worker is asked
        wait_until(lambda: self.count("istio_requests_total") > SWAPS, what="they are counted")
        self.write_endpoints("abc")
        self.assert_nothing_failed(jobs)

    def test_reloads_and_changes_at_once_lose_nothing(self):
        jobs = self.under_load()
        for number in range(1001, 1006):
            pid = self.proxy()["pid"]
            self.weftd.ctl("proxy", "reload")
            self.mesh.write("rules.yaml", rules(number))
            self.wait_serving(but_not=pid)
            wait_until(lambda n=number: self.serves(n), what=f"rules {number} are in force")
        self.assert_nothing_failed(jobs)
        wait_until(lambda: self.proxy()["draining"] == 0, 90, "the old ones have ended")

    def test_workloads_come_and_go_under_load(self):
        jobs = self.under_load()
        for _ in range(2):  # one goes when nobody was in it for 5 s
            captured = self.proxy()["captured"]
            pod = self.node.pod("late")
            wait_until(lambda n=captured: self.proxy()["captured"] > n, what="it is captured")
            self.assertTrue(self.is_captured(self.get(WEB, pod=pod)))
            self.node.remove_pod("late")
            wait_until(lambda n=captured: self.proxy()["captured"] == n, what="it is gone")
        self.assert_nothing_failed(jobs)

    def test_breakers_open_and_close_under_load(self):
        jobs = self.under_load()
        before = self.opened()

        def opens_again():
            self.fetch(WEB, ["/"] * 6, headers={"x-fail-at": "a"})
            return self.opened() >= before + 5

        wait_until(opens_again, 120, "a's breaker has opened five times")
        self.assert_nothing_failed(jobs)


if __name__ == "__main__":
    main()
