#!/usr/bin/python3
"""The laboratory itself, without weftd: what the other tests take for granted."""

import os
import signal
import subprocess
import sys
import unittest

from harness import ALT_PORT, PORT, client, main, server, wait_until, weftlab
from weftlab import VirtualNode

MAKE_AND_WAIT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import weftlab
node = weftlab.VirtualNode(pods=["a", "b"])
node["a"].serve(weftlab.server.http, "a", 8080)
print("made", flush=True)
if sys.argv[2] == "raise":
    raise RuntimeError("as asked")
time.sleep(60)
"""


class Pods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = VirtualNode(pods=["client", "a"])
        cls.addClassCleanup(cls.node.close)
        cls.node["a"].serve(server.http, "a", PORT)
        cls.node["a"].serve(server.udp, "a", 5353)
        cls.client = cls.node["client"]

    def test_pods_reach_each_other_over_both_families(self):
        a = self.node["a"]
        for address in (a.v4, a.v6, f"::ffff:{a.v4}"):
            answer = self.client.run(client.ask, address, PORT)
            self.assertEqual((answer["name"], answer["peer"]), ("a", (address, PORT)))

    def test_a_udp_answer_comes_from_where_it_was_asked(self):
        a = self.node["a"]
        for address in (a.v4, a.v6):
            answers = self.client.run(client.udp_ask, [(address, 5353)])
            self.assertEqual(answers, [("a:5353 hello", (address, 5353))])

    def test_an_address_that_nobody_owns_is_unreachable_and_not_silent(self):
        for address in ("10.96.0.1", "fd00:96::1"):
            error = self.client.run(client.connect_error, address, 80)
            self.assertIn(error, ("EHOSTUNREACH", "ENETUNREACH"))

    def test_a_closed_port_is_refused(self):
        self.assertEqual(
            self.client.run(client.connect_error, self.node["a"].v4, 9), "ECONNREFUSED"
        )

    def test_a_pod_lives_in_its_own_cgroup_and_namespace(self):
        for pod in self.node.pods.values():
            with open(f"/proc/{pod.worker.pid}/cgroup", encoding="ascii") as file:
                self.assertIn(f"0::/{self.node.id}/{pod.name}\n", file.read())
        inodes = {pod.run(netns_inode) for pod in self.node.pods.values()}
        self.assertEqual(len(inodes), len(self.node.pods))

    def test_an_outsider_shares_the_namespace_but_not_the_cgroup(self):
        outsider = self.node.outsider(self.client)
        self.assertEqual(outsider.run(netns_inode), self.client.run(netns_inode))
        with open(f"/proc/{outsider.worker.pid}/cgroup", encoding="ascii") as file:
            self.assertNotIn(self.node.id, file.read())

    def test_pods_that_come_later_are_reached_too(self):
        late = self.node.pod("late")
        late.serve(server.http, "late", PORT, ALT_PORT)
        self.assertEqual(self.client.run(client.ask, late.v4, ALT_PORT)["name"], f"late:{ALT_PORT}")

    def test_joined_nodes_reach_each_others_pods(self):
        with VirtualNode(pods=["there"]) as other:
            weftlab.join([self.node, other])
            other["there"].serve(server.http, "there", PORT)
            for address in (other["there"].v4, other["there"].v6):
                self.assertEqual(self.client.run(client.ask, address, PORT)["name"], "there")

    def test_an_error_in_a_pod_arrives_with_its_traceback(self):
        with self.assertRaisesRegex(weftlab.RemoteError, r"FileNotFoundError(.|\n)*in netns_inode"):
            self.client.run(netns_inode, "/proc/self/ns/nothing")

    def test_weft_load_records_every_connection(self):
        tool = weftlab.binary("weft_load", "tests")
        command = [tool, "serve", "--name", "a", "--port", "9000", "--port", "9001"]
        self.node["a"].serve(weftlab.tool.job, command)
        output = f"{self.node.dir}/record"
        to = [f"--to={self.node['a'].v4}:9000", f"--to=[{self.node['a'].v6}]:9001"]
        command = [tool, "connect", *to, "--count", "100", "--output", output]
        self.assertEqual(self.client.run(weftlab.tool.run, command)[0], 0)
        with open(output, encoding="ascii") as file:
            rows = [line.split() for line in file]
        self.assertEqual(
            [row[2:] for row in rows[:2]], [["0", "0", "a:9000"], ["1", "0", "a:9001"]]
        )
        self.assertEqual(len(rows), 100)
        self.assertTrue(all(int(row[0]) <= int(row[1]) for row in rows))


class Cleanup(unittest.TestCase):
    """Nothing stays behind, whatever ends the process that made it."""

    def make(self, how="wait"):
        lib = os.path.abspath(f"{os.path.dirname(__file__)}/../../scripts/lib")
        process = subprocess.Popen(
            [sys.executable, "-c", MAKE_AND_WAIT, lib, how],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.addCleanup(process.stdout.close)
        self.assertEqual(process.stdout.readline(), "made\n")
        return process

    def test_after_an_exception(self):
        process = self.make("raise")
        self.assertEqual(process.wait(30), 1)
        self.assertEqual(weftlab.leftovers(process.pid), [])

    def test_after_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number.name):
                process = self.make()
                self.assertNotEqual(weftlab.leftovers(process.pid), [])
                process.send_signal(number)
                self.assertNotEqual(process.wait(30), 0)
                self.assertEqual(weftlab.leftovers(process.pid), [])

    def test_what_sigkill_leaves_is_found_and_removed_later(self):
        process = self.make()
        process.kill()
        process.wait()
        self.assertTrue(any("netns" in line for line in weftlab.leftovers(process.pid)))
        wait_until(lambda: not any("process" in line for line in weftlab.leftovers(process.pid)))
        weftlab.cleanup_stale()
        self.assertEqual(weftlab.leftovers(process.pid), [])


def netns_inode(path="/proc/self/ns/net"):
    return os.stat(path).st_ino


if __name__ == "__main__":
    main()
