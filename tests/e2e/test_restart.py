#!/usr/bin/python3
"""weftd dies at any moment, and nobody who connects can tell."""

import itertools
import random
import time

from harness import LONG, NodeTest, client, main, wait_until, weftlab

WEB = "10.96.0.10"


def map_writes(weftd):
    samples = weftd.metrics()
    if "weft_map_writes_total" not in samples.names():
        raise AssertionError("the metric weft_map_writes_total is missing")
    return samples.sum("weft_map_writes_total")


def links(weftd):
    hooks = weftd.ctl("status")["hooks"]
    return {hook["name"]: (hook["attached"], hook["link_id"]) for hook in hooks}


class Restart(NodeTest):
    PODS = ["client", "caller", "a", "b", "c"]

    @classmethod
    def prepare(cls):
        cls.write_ballast()
        cls.write_service("test/web", [WEB, "fd00:96::10"], ["a", "b", "c"])
        cls.write_service("test/empty", ["10.96.0.11"], [])

    def setUp(self):
        if not self.weftd.running():
            self.weftd.start()
        self.weftd.wait_service("test/web", 6)

    def test_no_request_is_lost_when_weftd_is_killed_and_started_under_traffic(self):
        job = self.client.start(client.traffic, WEB, 80)
        job.receive()
        self.weftd.kill9()
        while_dead = self.names(WEB, 60, pod=self.node["caller"])
        self.assertEqual(set(while_dead), {"a", "b", "c"})
        self.weftd.start()
        self.assertEqual(set(self.names(WEB, 60, pod=self.node["caller"])), {"a", "b", "c"})
        traffic = job.stop()
        self.assertEqual(traffic["failures"], [])
        self.assertGreater(traffic["requests"], 0)

    def test_a_dead_weftd_still_refuses_what_has_no_endpoint(self):
        self.weftd.kill9()
        self.assertEqual(self.ask("10.96.0.11")["error"], "ECONNREFUSED")

    def test_a_restart_with_unchanged_input_writes_nothing_and_keeps_its_links(self):
        for end in (self.weftd.kill9, self.weftd.stop):
            before = links(self.weftd)
            generation = self.weftd.ctl("status")["generation"]
            self.assertTrue(before and all(attached for attached, _ in before.values()), before)
            end()
            self.weftd.start()
            self.assertEqual(map_writes(self.weftd), 0)
            self.assertEqual(self.weftd.ctl("status")["last_apply"]["writes"], 0)
            self.assertEqual(links(self.weftd), before)
            self.assertEqual(self.weftd.ctl("status")["generation"], generation)

    def test_endpoint_ids_and_counters_survive_a_restart(self):
        self.names(WEB, 3)
        before = {
            key: (e["id"], e["connections"]["opened"])
            for key, e in self.weftd.endpoints("test/web").items()
        }
        self.assertTrue(any(opened for _, opened in before.values()))
        self.weftd.restart()
        self.assertEqual(
            {
                key: (e["id"], e["connections"]["opened"])
                for key, e in self.weftd.endpoints("test/web").items()
            },
            before,
        )

    def test_what_changed_while_weftd_was_dead_is_found_at_the_start(self):
        self.serve_service("test/meanwhile", ["10.96.0.12"], ["a"])
        self.weftd.kill9()
        self.write_service("test/meanwhile", ["10.96.0.12"], ["b"])
        self.weftd.start()
        self.weftd.wait_service("test/meanwhile", 1)
        wait_until(lambda: self.ask("10.96.0.12")["name"] == "b", what="the new endpoint answers")
        self.assertGreater(map_writes(self.weftd), 0)
        self.weftd.ctl("audit")

    def test_sigterm_leaves_the_data_path_in_place(self):
        self.assertEqual(self.weftd.stop(), 0)
        self.assert_in_turn(self.names(WEB, 9), ["a", "b", "c"])

    def test_audit_agrees_after_kills_at_random_instants_under_churn(self):
        """Service test/churn always has a ready endpoint; no connect to it may ever fail."""
        dice = random.Random(20)
        subsets = [names for size in (1, 2, 3) for names in itertools.combinations("abc", size)]
        self.serve_service("test/churn", ["10.96.0.13"], ["a"])
        job = self.client.start(client.traffic, "10.96.0.13", 80)
        job.receive()
        for _ in range(60 if LONG else 12):
            for _ in range(dice.randrange(1, 12)):
                self.write_service("test/churn", ["10.96.0.13"], dice.choice(subsets))
                self.write_service("test/churn2", ["10.96.0.14"], dice.choice(subsets))
            time.sleep(dice.random() * 0.02)  # the instant is what is random here
            self.weftd.kill9()
            self.weftd.start()
            self.weftd.ctl("audit")
        self.write_service("test/churn", ["10.96.0.13"], ["a", "b", "c"])
        self.weftd.wait_service("test/churn", 3)
        self.weftd.ctl("audit")
        self.assertEqual(job.stop()["failures"], [])

    def test_kills_while_it_starts_leave_a_start_that_works(self):
        dice = random.Random(21)
        for _ in range(30 if LONG else 8):
            self.weftd.kill9()
            self.weftd.start(wait=False)
            time.sleep(dice.random() * 0.15)
            self.assertEqual(set(self.names(WEB, 6)), {"a", "b", "c"})
        self.weftd.kill9()
        self.weftd.start()
        self.weftd.ctl("audit")


class Uninstall(NodeTest):
    START = False

    @classmethod
    def prepare(cls):
        cls.write_service("test/web", [WEB], ["a", "b", "c"])

    def test_uninstall_leaves_nothing_behind(self):
        self.weftd.start()
        self.weftd.wait_service("test/web", 3)
        self.assertTrue(self.node.pinned())
        self.weftd.stop()
        done = self.weftd.uninstall()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.node.pinned(), [])
        self.assertIn(
            self.client.run(client.connect_error, WEB, 80), ("EHOSTUNREACH", "ENETUNREACH")
        )
        self.assertEqual(attached_programs(self.node.cgroup), [])
        again = self.weftd.uninstall()
        self.assertEqual(again.returncode, 0, again.stderr)

    def test_an_interrupted_first_start_can_be_uninstalled(self):
        for seconds in (0.01, 0.03, 0.1, 0.3):
            self.weftd.start(wait=False)
            time.sleep(seconds)
            self.weftd.kill9()
            self.assertEqual(self.weftd.uninstall().returncode, 0)
            self.assertEqual(self.node.pinned(), [])
            self.assertEqual(attached_programs(self.node.cgroup), [])


def attached_programs(cgroup):
    status, output, error = weftlab.tool.run(["bpftool", "cgroup", "show", cgroup])
    if status:
        raise AssertionError(f"bpftool cgroup show: {error}")
    return [line for line in output.splitlines()[1:] if line.strip()]


if __name__ == "__main__":
    main()
