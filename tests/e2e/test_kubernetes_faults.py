#!/usr/bin/python3
"""API servers on bad days. Whatever they do, the last good state serves, the fault is named in
status, and in the end weft has what the server has."""

import os
import random

from harness import LONG, PORT, client, main, wait_until
from kube_harness import GUARD, KINDS, WEB, KubernetesTest
from weftlab.kube_api import endpoint, endpoint_slice, service, service_port


class Faults(KubernetesTest):
    """Streams and servers that break. weft serves on, says what is wrong, and catches up."""

    def test_streams_cut_in_the_middle_of_an_object_lose_nothing(self):
        for i, (how, after) in enumerate(
            [("close", 1), ("close", 300), ("reset", 500), ("clean", 40), ("clean", 400)]
        ):
            with self.subTest(how=how, after=after):
                before = self.api.watches["endpointslices"]
                self.api.cut("endpointslices", after, how=how)
                self.put_service("test/cut", "10.96.0.40", ["a", "b", f"10.98.1.{i + 1}"])
                self.api.wait(
                    lambda: self.api.watches["endpointslices"] > before, "watched again", GUARD
                )
                self.assert_truth()

    def test_a_stalled_server_stops_nobody(self):
        self.api.stall()
        self.put_service("test/stalled", "10.96.0.41", "a")
        self.assert_serves()
        accepted = self.api.accepted
        self.api.drop_connections()
        self.api.wait(lambda: self.api.accepted > accepted, "weftd connects again", GUARD)
        self.assert_serves()
        self.api.resume()
        self.weftd.wait_service("test/stalled", 1, GUARD)

    def test_a_server_that_is_away_and_back_costs_no_connection_and_no_write(self):
        def step():
            self.api.away()
            self.wait_error()
            self.api.store.touch()
            self.api.compact()
            self.api.back()
            self.wait_streams_again()

        job = self.client.start(client.traffic, WEB, 80)
        job.receive()
        self.assert_writes_nothing(step)
        traffic = job.stop()
        self.assertEqual(traffic["failures"], [])
        self.assertGreater(traffic["requests"], 0)
        self.wait_no_error()

    def test_a_server_that_is_away_is_named(self):
        self.api.away()
        error = self.wait_error("refused")
        self.assertIn(f"127.0.0.1:{self.api.port}", error)
        self.assert_serves()
        self.api.back()
        self.wait_no_error()

    def test_answers_of_an_overloaded_server_are_waited_out(self):
        for status in (429, 500, 503):
            self.api.fail(status, times=len(KINDS))
        self.api.drop_connections()
        self.wait_streams_again()
        self.marker()
        self.wait_no_error()

    def test_retry_after_is_kept_to(self):
        asked = []
        self.api.on_request = lambda verb, plural, path: asked.append(plural)
        self.api.fail(429, "services", "watch", times=1, retry_after=3)
        sent = self.weftd_time()
        self.api.end_streams("services")
        self.api.wait(lambda: "services" in asked, "asked again", GUARD)
        self.assertGreater(self.weftd_time() - sent, 2.5)

    @staticmethod
    def weftd_time():
        with open("/proc/uptime", encoding="ascii") as file:
            return float(file.read().split()[0])

    def test_a_forbidden_verb_names_the_rule_that_is_missing(self):
        for kind, group in (("endpointslices", "discovery.k8s.io"), ("services", '""')):
            with self.subTest(kind):
                self.api.deny(kind)
                self.api.drop_connections()
                error = self.wait_error("403", kind, group)
                self.assertIn("list", error)
                self.assertIn("watch", error)
                self.assert_serves()
                self.api.allow(kind)
                self.wait_streams_again()
                self.wait_no_error()
        self.marker()

    def test_a_token_that_changes_is_read_again(self):
        self.api.set_token("weft-token-2")
        self.api.drop_connections()
        self.wait_streams_again()
        self.marker()
        self.api.set_token("weft-token-3", tell=False)
        self.api.drop_connections()
        self.wait_error("401")
        self.assert_serves()
        self.api.write_token()
        self.wait_streams_again()
        self.wait_no_error()
        self.marker()

    def test_certificates_may_be_renewed_but_not_by_a_stranger(self):
        self.api.swap_certificate()
        self.api.drop_connections()
        self.wait_streams_again()
        self.marker()
        for change, word in (
            (self.api.expire_certificate, "expired"),
            (lambda: self.api.swap_certificate(start="20480101000000Z"), "not yet valid"),
            (lambda: self.api.swap_certificate(authority=self.api.stranger()), "certificate"),
            (lambda: self.api.swap_certificate(names=["DNS:elsewhere"]), "127.0.0.1"),
        ):
            with self.subTest(word):
                change()
                self.api.drop_connections()
                self.wait_error(word)
                self.assert_serves()
        self.api.swap_certificate()
        self.wait_streams_again()
        self.wait_no_error()
        self.marker()


class HostileObjects(KubernetesTest):
    """Objects no server should send."""

    def break_service(self, field, value):
        broken = service("test/typed", ["10.96.0.50"], [service_port(80, PORT)])
        target = broken
        *path, last = field.split(".")
        for part in path:
            target = target[part]
        target[last] = value
        self.api.put(broken)

    def test_an_object_of_wrong_types_keeps_its_last_good_version_and_is_named(self):
        for field, value in (
            ("spec.ports", "eighty"),
            ("spec.clusterIPs", 7),
            ("spec", []),
            ("metadata.labels", {"app": 7}),
            ("spec.selector", {"app": ["x"]}),
            ("spec.ports", [{"port": "80"}]),
            ("spec.clusterIP", "not-an-address"),
        ):
            with self.subTest(field=field, value=value):
                self.put_service("test/typed", "10.96.0.50", "a")
                self.weftd.wait_service("test/typed", 1)
                wait_until(
                    lambda: "test/typed" not in self.notices(), GUARD, "no notice of test/typed"
                )
                self.break_service(field, value)
                wait_until(lambda: "test/typed" in self.notices(), GUARD, "it is named in notices")
                self.assertEqual(self.ask("10.96.0.50")["name"], "a")
                self.marker()

    def test_a_slice_of_wrong_types_keeps_its_last_good_version(self):
        self.put_service("test/slice", "10.96.0.51", "ab")
        self.weftd.wait_service("test/slice", 2)
        for field, value in (
            ("endpoints", {"addresses": []}),
            ("ports", [{"port": 99999}]),
            ("addressType", 4),
        ):
            with self.subTest(field=field):
                broken = endpoint_slice("test/slice", [self.node["c"].v4], [PORT])
                broken[field] = value
                self.api.put(broken)
                wait_until(lambda: "slice-ipv4" in self.notices(), GUARD, "it is named in notices")
                self.assert_in_turn(self.names("10.96.0.51", 4), ["a", "b"])
        self.put_service("test/slice", "10.96.0.51", "c")
        self.weftd.wait_service("test/slice", 1)
        wait_until(lambda: "slice-ipv4" not in self.notices(), GUARD, "the notice is gone")

    def test_events_without_sense_do_no_harm(self):
        version = {"resourceVersion": str(self.api.store.revision)}
        for event, value in (
            ("ADDED", {}),
            ("ADDED", []),
            ("ADDED", None),
            ("MODIFIED", {"metadata": "x"}),
            ("MODIFIED", {"metadata": {"name": 7, **version}}),
            ("DELETED", {"metadata": {"name": "nobody", "namespace": "test", **version}}),
            ("DELETED", {"metadata": {}}),
            ("RENAMED", {"metadata": {"name": "web", "namespace": "test", **version}}),
            ("BOOKMARK", {}),
            ("ERROR", {"code": "410"}),
        ):
            with self.subTest(event=event, value=value):
                self.wait_streams_again()
                self.api.send_event("services", event, value)
                self.marker()
                self.assert_serves()
        for line in (
            b"\n\n",
            b"rubbish\n",
            b'{"type":7,"object":1}\n',
            b"{" * 5000 + b"\n",
            b"\0\n",
        ):
            with self.subTest(line=line[:20]):
                self.wait_streams_again()
                self.api.send_raw("services", line)
                self.marker()
                self.assert_serves()
        self.assert_truth()

    def resident_kb(self):
        with open(f"/proc/{self.weftd.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def test_absurd_sizes_are_hung_up_on(self):
        memory = self.resident_kb()
        for size in (1 << 20, 40 << 20):
            self.api.oversize("services", size)
            self.marker()
            self.assert_serves()
        watches = self.api.watches["services"]
        self.api.endless("services")
        self.api.wait(lambda: self.api.watches["services"] > watches, "weftd hangs up", GUARD)
        self.marker()
        self.assert_serves()
        self.assertLess(self.api.endless_bytes, 256 << 20)
        self.assertLess(self.resident_kb(), memory + 128 * 1024)


class RandomHistory(KubernetesTest):
    """A seeded history of changes and faults; at its end weft has what the server has."""

    FLAGS = ["--enrol", "all", "--allow-empty"]
    SEEDS = range(1, 11 if LONG else 2)
    OPERATIONS = 300
    SERVICES = 30

    def setUp(self):
        super().setUp()
        self.broken = set()

    # --- changes ---

    def where(self, i):
        return f"random/s{i}"

    def endpoints(self):
        dice = self.dice
        chosen = dice.sample(range(1, 200), dice.randrange(0, 6))
        return [
            endpoint(
                f"10.98.{dice.randrange(3)}.{n}",
                ready := dice.random() < 0.8,
                serving=ready or dice.random() < 0.5,
                terminating=not ready and dice.random() < 0.5,
            )
            for n in chosen
        ]

    def service_now(self, i):
        return service(self.where(i), [f"10.97.0.{i + 1}"], [service_port(80, PORT)])

    def change_service(self):
        i = self.dice.randrange(self.SERVICES)
        if self.dice.random() < 0.3 and ("random", f"s{i}") in self.api.objects("Service"):
            self.api.delete("Service", "random", f"s{i}")
        else:
            self.api.put(self.service_now(i))
        self.broken.discard(i)

    def change_slice(self):
        i, suffix = self.dice.randrange(self.SERVICES), self.dice.choice(["x", "y"])
        if self.dice.random() < 0.2:
            if ("random", f"s{i}-{suffix}") in self.api.objects("EndpointSlice"):
                self.api.delete("EndpointSlice", "random", f"s{i}-{suffix}")
            return
        other = "y" if suffix == "x" else "x"
        there = self.api.objects("EndpointSlice").get(("random", f"s{i}-{other}"))
        endpoints = self.endpoints()
        if there and self.dice.random() < 0.3:
            endpoints = there["endpoints"]  # they move: for a while they are in both
        else:
            taken = {e["addresses"][0] for e in (there or {"endpoints": []})["endpoints"]}
            endpoints = [e for e in endpoints if e["addresses"][0] not in taken]
        self.api.put(
            endpoint_slice(self.where(i), endpoints, [PORT], suffix=suffix, family="IPv4")
        )

    def break_service(self):
        i = self.dice.randrange(self.SERVICES)
        value = self.service_now(i)
        value["spec"]["ports"] = "eighty"
        self.api.put(value)
        self.broken.add(i)

    def repair(self):
        for i in sorted(self.broken):
            self.api.put(self.service_now(i))
        self.broken.clear()

    # --- faults ---

    def faults(self):
        api, dice = self.api, self.dice
        kind = dice.choice(KINDS[:2] + ["pods"])
        return [
            api.compact,
            api.store.touch,
            api.bookmark,
            api.expire_continue,
            api.end_streams,
            api.drop_connections,
            lambda: api.drop_connections(reset=True),
            lambda: api.cut(kind, dice.randrange(1, 3000), how=dice.choice(["close", "clean"])),
            lambda: api.cut(kind, dice.randrange(1, 9000), "list", "reset"),
            lambda: api.send_error(kind, dice.choice([410, 410, 500])),
            lambda: setattr(api, "gone", dice.choice(["status", "event"])),
            lambda: api.fail(dice.choice([410, 429, 500, 503, 504]), kind, times=1, retry_after=0),
            lambda: setattr(api, "chunk_bytes", dice.choice([0, 1, 100])),
            lambda: api.drip(dice.randrange(50, 5000), 0),
            api.drip,
            lambda: api.set_token(f"token-{dice.random()}"),
            lambda: (api.away(), api.back()),
            lambda: (api.away(), api.store.touch(), api.compact(), api.back()),
        ]

    def calm(self):
        self.repair()
        self.wait_streams_again()
        self.assert_truth()

    def play(self):
        steps = [self.change_slice] * 6 + [self.change_service] * 3 + [self.break_service]
        for number in range(self.OPERATIONS):
            if self.dice.random() < 0.25:
                self.dice.choice(self.faults())()
            else:
                self.dice.choice(steps)()
            if number % 10 == 9:
                self.wait_streams_again()
            if number % 100 == 99:
                self.calm()

    def test_what_is_served_in_the_end_is_what_the_server_has(self):
        seeds = [int(os.environ["WEFT_SEED"])] if "WEFT_SEED" in os.environ else self.SEEDS
        for seed in seeds:
            with self.subTest(f"WEFT_SEED={seed}"):
                self.dice = random.Random(seed)
                self.play()
                self.tearDown()
                self.calm()
                self.assert_serves()
                self.wait_no_error()


if __name__ == "__main__":
    main()
