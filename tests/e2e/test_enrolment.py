#!/usr/bin/python3
"""Enrolment: whose connections are served in Kubernetes, from when to when, and how it is shown."""

import contextlib
import os
import socket
import statistics
import time
import uuid

from enrolment_harness import EMPTY, LABEL, NOBODY, WEB6, EnrolmentTest, labelled
from harness import client, main, wait_until
from kube_harness import GUARD, WEB
from weftlab import cleanup, kernel
from weftlab.kube_api import namespace
from weftlab.waiting import Hang

SO_NETNS_COOKIE = 71
SHAPE = {
    "namespace": str,
    "name": str,
    "uid": str,
    "service_account": str,
    "cgroup": str,
    "cgroup_id": int,
    "netns_cookie": int,
    "known": bool,
    "enrolled": bool,
    "reason": str,
}


def netns_cookie():
    """A function to run in a pod."""
    with socket.socket() as sock:
        return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")


def start_pods(places, home, address, port):
    """Makes one cgroup after the other and connects from it at once, then until it is served. The
    service has nobody ready: who is served is refused within the call, others are on their way.

    Returns for each (connects before the first that was served, ms from the cgroup to there)."""
    rows = []
    try:
        for place in places:
            made = time.monotonic()
            os.makedirs(place)
            kernel.enter_cgroup(place)
            tries = 0
            while client.connect_error(address, port, blocking=False) != "ECONNREFUSED":
                tries += 1
                if time.monotonic() > made + GUARD:
                    raise Hang(f"still not served after {GUARD} s: {place}")
                os.sched_yield()
            rows.append((tries, (time.monotonic() - made) * 1e3))
    finally:
        kernel.enter_cgroup(home)
    return rows


class Layout(EnrolmentTest):
    """Where pods are found, whatever kubelet's driver."""

    def test_pods_of_every_quality_of_service_are_found(self):
        for quality in ("guaranteed", "burstable", "besteffort"):
            with self.subTest(quality=quality):
                uid, cgroup = self.pod("shop", quality=quality)
                shown = self.wait_enrolled(uid)
                self.assertEqual(shown["cgroup"], os.path.dirname(cgroup))
                self.assertEqual(shown["cgroup_id"], os.stat(shown["cgroup"]).st_ino)
                self.assert_served(cgroup)

    def test_every_container_of_the_pod_is_served_and_what_it_makes_below(self):
        uid, cgroup = self.pod("shop")
        self.wait_enrolled(uid)
        inner = f"{cgroup}/init.scope/worker"
        second = f"{os.path.dirname(cgroup)}/second"
        for path in (inner, second):
            os.makedirs(path)
        self.assert_served(inner, second, os.path.dirname(cgroup))

    def test_processes_of_no_pod_are_not_served(self):
        uid, cgroup = self.pod("shop")
        self.wait_enrolled(uid)
        quality_class = os.path.dirname(os.path.dirname(cgroup))
        stray = f"{self.node.cgroup}/stray.slice/pod-{uid}"
        os.makedirs(stray)
        self.addCleanup(cleanup.kill_cgroup, os.path.dirname(stray))
        self.assert_untouched(self.node.cgroup, quality_class, stray, self.home)
        self.assert_served(cgroup)

    def test_a_static_pod_is_known_by_the_hash_in_its_mirror(self):
        """Kubelet names its cgroup by the hash of its file; the API object has a UID of its own."""
        digest = uuid.uuid4().hex
        made = self.put_pod("shop/static", self.new_uid())
        made["metadata"]["annotations"] = {
            "kubernetes.io/config.hash": digest,
            "kubernetes.io/config.mirror": digest,
        }
        self.api.put(made)
        cgroup = self.cgroup(digest)
        self.wait_enrolled(digest)
        self.assert_served(cgroup)


class LayoutOfCgroupfs(Layout):
    NODE = {"driver": "cgroupfs"}


class Decision(EnrolmentTest):
    """Who is enrolled."""

    def test_a_pod_of_a_labelled_namespace_is_served_and_one_of_another_is_not(self):
        ours, ours_cgroup = self.pod("shop")
        other, other_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(other, False)
        for address in (WEB, WEB6):
            self.assert_served(ours_cgroup, address=address)
            self.assert_untouched(other_cgroup, address=address)

    def test_why_says_what_enrolment_makes_of_it_also_without_an_agent(self):
        ours, ours_cgroup = self.pod("shop")
        other, other_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(other, False)
        for running in (True, False):
            for cgroup, verdict in ((ours_cgroup, "translate"), (other_cgroup, "pass")):
                self.caller.run(kernel.enter_cgroup, cgroup)
                told = self.weftd.ctl("why", "--from", str(self.caller.worker.pid), "--to", f"{WEB}:80")
                self.assertEqual(told["verdict"], verdict, told)
            self.caller.run(kernel.enter_cgroup, self.home)
            if running:
                self.weftd.kill9()
        self.weftd.start()

    def test_a_service_without_endpoints_is_refused_to_enrolled_pods_only(self):
        ours, ours_cgroup = self.pod("shop")
        other, other_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(other, False)
        self.assertEqual(self.ask_in(ours_cgroup, EMPTY)["error"], "ECONNREFUSED")
        self.assert_untouched(other_cgroup, address=EMPTY)

    def test_the_pods_own_label_overrides_its_namespace(self):
        yes, yes_cgroup = self.pod("plain", "true")
        no, no_cgroup = self.pod("shop", "false")
        self.assertIn("the pod is labelled", self.wait_enrolled(yes)["reason"])
        self.assertIn("the pod is labelled", self.wait_enrolled(no, False)["reason"])
        self.assert_served(yes_cgroup)
        self.assert_untouched(no_cgroup)

    def test_the_pods_own_label_may_change(self):
        uid, cgroup = self.pod("plain")
        self.wait_enrolled(uid, False)
        made = self.api_pod(uid)
        for value, enrolled in (("true", True), ("false", False), ("True", False)):
            made["metadata"]["labels"] = {LABEL: value}
            self.api.put(made)
            shown = self.wait_workload(
                uid,
                enrolled=enrolled,
                reason=f"the pod is labelled {LABEL}={value}"
                + ("" if value != "True" else ", which is neither true nor false"),
            )
            (self.assert_served if shown["enrolled"] else self.assert_untouched)(cgroup)

    def test_pods_of_the_hosts_network_never_are(self):
        uid, cgroup = self.pod("shop", "true", host_network=True)
        shown = self.wait_enrolled(uid, False)
        self.assertIn("host", shown["reason"])
        self.assert_untouched(cgroup, caller=self.node.outside)
        self.assert_untouched(cgroup)

    def assert_system(self, space):
        uid, cgroup = self.pod(space)
        asks, asks_cgroup = self.pod(space, "true")
        self.assertIn("system namespace", self.wait_enrolled(uid, False)["reason"])
        self.wait_enrolled(asks)
        self.assert_untouched(cgroup)
        self.assert_served(asks_cgroup)

    def test_kube_system_is_not_unless_the_pod_itself_says_so(self):
        self.assert_system("kube-system")

    def test_nor_is_a_namespace_that_a_flag_names(self):
        self.api.put(namespace("weft-system", labelled("true")))
        self.weftd.restart("--exclude-namespaces", "kube-system,weft-system")
        self.addCleanup(self.weftd.restart)
        for space in ("kube-system", "weft-system"):
            self.assert_system(space)

    def test_the_label_of_a_namespace_comes_and_goes(self):
        self.api.put(namespace("later"))
        uid, cgroup = self.pod("later")
        self.wait_enrolled(uid, False)
        self.assert_untouched(cgroup)
        self.api.put(namespace("later", labelled("true")))
        self.wait_enrolled(uid)
        self.assert_served(cgroup)
        # An open connection stays where it is.
        kept = self.node.kubelet_pod("kept", self.new_uid())
        self.addCleanup(self.node.remove_pod, "kept")
        self.put_pod("later/kept", kept.uid)
        self.wait_enrolled(kept.uid)
        connection = kept.start(client.keep_open, WEB, 80)
        name = connection.receive()
        self.api.put(namespace("later"))
        self.wait_enrolled(uid, False)
        self.wait_enrolled(kept.uid, False)
        self.assert_untouched(cgroup)
        self.assertIn(kept.run(client.ask, WEB, 80)["error"], NOBODY)
        self.assertEqual(connection.stop(), name)

    def test_a_namespace_that_is_told_of_last(self):
        uid, cgroup = self.pod("last")
        self.assertIn("not known yet", self.wait_enrolled(uid, False)["reason"])
        self.api.put(namespace("last", labelled("true")))
        self.wait_enrolled(uid)
        self.assert_served(cgroup)


class Order(EnrolmentTest):
    """Either half of a pod may come first and either may go first."""

    STARTS = 50

    def test_the_cgroup_first(self):
        uid = self.new_uid()
        cgroup = self.cgroup(uid)
        shown = self.wait_workload(uid, known=False, enrolled=False)
        self.assertEqual((shown["namespace"], shown["name"]), ("", ""))
        self.assert_untouched(cgroup)
        self.put_pod("shop/cgroup-first", uid)
        self.wait_enrolled(uid)
        self.assert_served(cgroup)

    def test_the_object_first_and_a_process_that_connects_at_once(self):
        """How many of the first connects were served is told, not judged: it is a race of weftd
        with a process that nobody starts so fast. All are served once weftctl shows the pods."""
        uids = [self.new_uid() for _ in range(self.STARTS)]
        for i, uid in enumerate(uids):
            self.put_pod(f"shop/start-{i}", uid)
        for uid in uids:
            self.wait_workload(uid, known=True, enrolled=True, cgroup="", cgroup_id=0)
        places = []
        for uid in uids:
            pod_cgroup = self.node.pod_cgroup(uid)
            self.addCleanup(cleanup.kill_cgroup, pod_cgroup)
            places.append(f"{pod_cgroup}/main")
        rows = self.caller.run(start_pods, places, self.home, EMPTY, 80, guard_seconds=2 * GUARD)
        took = [ms for _, ms in rows]
        print(
            f"\n  {sum(not tries for tries, _ in rows)} of {len(rows)} first connects were served; "
            f"from the cgroup to the first that was: p50 {statistics.median(took):.2f} ms, "
            f"max {max(took):.2f} ms",
            flush=True,
        )
        for uid in uids:
            self.wait_enrolled(uid)
        for place in places:
            self.assert_served(place)

    def recreate(self, replace):
        """A StatefulSet's pod: the name stays. Until its last process has gone the old one is
        served as it was."""
        old, new = self.new_uid(), self.new_uid()
        self.put_pod("shop/db-0", old)
        old_cgroup = self.cgroup(old)
        self.wait_enrolled(old)
        replace(new)
        new_cgroup = self.cgroup(new)
        self.wait_enrolled(new)
        self.wait_workload(old, known=False, enrolled=True, name="db-0")
        self.assert_served(old_cgroup, new_cgroup)
        entries = self.entries()
        cleanup.kill_cgroup(os.path.dirname(old_cgroup))
        self.wait_gone(old)
        self.assertEqual(self.entries(), entries - 1)
        self.assert_served(new_cgroup)
        self.api_delete(new)
        self.wait_workload(new, known=False, enrolled=True)
        self.assert_served(new_cgroup)

    def test_the_same_name_with_another_uid(self):
        def replace(new):
            self.api.delete("Pod", "shop", "db-0")
            self.put_pod("shop/db-0", new)

        self.recreate(replace)

    def test_the_same_name_with_another_uid_while_nobody_watched(self):
        """Weftd finds the new one in a list, where the old one is just not."""

        def replace(new):
            self.api.away()
            self.api.delete("Pod", "shop", "db-0")
            self.put_pod("shop/db-0", new)
            self.api.compact()
            self.api.back()

        self.recreate(replace)

    def test_the_same_name_in_a_namespace_that_is_not_enrolled(self):
        uid, cgroup = self.pod("shop")
        self.wait_enrolled(uid)
        self.put_pod("shop/again", self.new_uid())
        twin = self.new_uid()
        self.put_pod("plain/again", twin)
        twin_cgroup = self.cgroup(twin)
        self.wait_enrolled(twin, False)
        self.assert_untouched(twin_cgroup)
        self.assert_served(cgroup)

    def test_a_cgroup_that_goes_takes_its_entry_along(self):
        # When weftd has heard of this one, it has of those that earlier tests removed.
        self.wait_enrolled(self.pod("shop")[0])
        before = self.entries()
        pods = [self.pod("shop") for _ in range(5)]
        for uid, _ in pods:
            self.wait_enrolled(uid)
        self.assertEqual(self.entries(), before + 5)
        for _, cgroup in pods:
            cleanup.kill_cgroup(os.path.dirname(cgroup))
        for uid, _ in pods:
            self.wait_workload(uid, cgroup="", cgroup_id=0, netns_cookie=0)
        self.assertEqual(self.entries(), before)

    def test_a_cgroup_that_comes_back_under_its_name_is_another(self):
        uid, cgroup = self.pod("shop")
        first = self.wait_enrolled(uid)["cgroup_id"]
        entries = self.entries()
        for _ in range(10):
            cleanup.kill_cgroup(os.path.dirname(cgroup))
            os.makedirs(cgroup)
        last = os.stat(os.path.dirname(cgroup)).st_ino
        self.assertNotEqual(first, last)
        self.wait_workload(uid, cgroup_id=last, enrolled=True)
        self.assertEqual(self.entries(), entries)
        self.assert_served(cgroup)


class Restart(EnrolmentTest):
    """Weftd dies; who was enrolled stays served."""

    def setUp(self):
        if not self.weftd.running():
            self.weftd.start()
        super().setUp()

    @contextlib.contextmanager
    def traffic(self, *names):
        """New connections in these pods all the time; nobody is ever unserved."""
        jobs = [self.node[name].start(client.traffic, WEB, 80, 0.001) for name in names]
        for job in jobs:
            job.receive()
        yield
        for job in jobs:
            done = job.stop()
            self.assertEqual(done["failures"], [])
            self.assertEqual(set(done["by_name"]), {"a", "b", "c"})

    def running_pod(self, name, where):
        made = self.node.kubelet_pod(name, self.new_uid())
        self.addCleanup(self.node.remove_pod, name)
        self.put_pod(where, made.uid)
        self.wait_enrolled(made.uid)
        return made

    def test_killed_and_started_again_while_pods_come_and_go(self):
        self.running_pod("one", "shop/one")
        self.running_pod("two", "shop/two")
        vanishing, vanishing_cgroup = self.pod("shop")
        leaving, leaving_cgroup = self.pod("plain", "true")
        self.wait_enrolled(vanishing)
        self.wait_enrolled(leaving)
        before = self.entries()
        with self.traffic("one", "two"):
            self.weftd.kill9()
            self.assertEqual(self.entries(), before)
            cleanup.kill_cgroup(os.path.dirname(vanishing_cgroup))
            made = self.api_pod(leaving)
            made["metadata"]["labels"] = {}
            self.api.put(made)
            coming, coming_cgroup = self.pod("shop")
            self.assert_untouched(coming_cgroup)
            self.assert_served(leaving_cgroup)  # nobody could tell the kernel yet
            self.weftd.start()
            self.wait_enrolled(coming)
            self.wait_enrolled(leaving, False)
            self.assert_served(coming_cgroup)
            self.assert_untouched(leaving_cgroup)
            self.wait_workload(vanishing, cgroup="")
            # One vanished, one left, one came.
            self.assertEqual(self.entries(), before - 1)

    def test_an_orderly_restart(self):
        self.running_pod("three", "shop/three")
        before = self.entries()
        with self.traffic("three"):
            for _ in range(3):
                self.weftd.restart()
                self.assertEqual(self.entries(), before)

    def test_with_the_api_server_away_earlier_decisions_stand(self):
        self.running_pod("four", "shop/four")
        before = self.entries()
        with self.traffic("four"):
            self.weftd.kill9()
            self.api.away()
            # Without its sources it serves what is there.
            self.weftd.start("--source-timeout", "10ms")
            self.assertEqual(self.entries(), before)
            self.api.back()
            self.wait_enrolled(self.node["four"].uid)
            self.assertEqual(self.entries(), before)

    def test_with_namespaces_told_last_nobody_is_unserved_meanwhile(self):
        uid = self.running_pod("five", "shop/five").uid
        before = self.entries()
        with self.traffic("five"):
            self.weftd.kill9()
            self.api.deny("namespaces")
            self.weftd.start("--source-timeout", "10ms")
            self.wait_workload(uid, known=True)
            self.assertEqual(self.entries(), before)
            self.api.allow("namespaces")
            self.wait_enrolled(uid)
            self.assertEqual(self.entries(), before)


class Shown(EnrolmentTest):
    """What people and Prometheus are told."""

    def test_weftctl_shows_every_pod_with_its_identity(self):
        uid, _ = self.pod("shop", service_account="cashier")
        self.wait_enrolled(uid)
        rows = self.weftd.ctl("workload", "list")
        for row in rows:
            self.assertEqual({key: type(value) for key, value in row.items()}, SHAPE)
        names = [(row["namespace"], row["name"]) for row in rows]
        self.assertEqual(names, sorted(names))
        shown = self.workload(uid)
        self.assertEqual(shown["namespace"], "shop")
        self.assertEqual(shown["service_account"], "cashier")
        self.assertEqual(shown["reason"], f"namespace shop is labelled {LABEL}=true")
        text = self.weftd.ctl_raw("workload", "list").stdout
        line = next(line for line in text.splitlines() if f"shop/{shown['name']} " in line)
        for word in ("yes", "cashier", shown["cgroup"], shown["reason"]):
            self.assertIn(word, line)

    def test_the_cookie_is_that_of_the_pods_network(self):
        pods = [self.node.kubelet_pod(f"cookie-{i}", self.new_uid()) for i in range(2)]
        for i, made in enumerate(pods):
            self.addCleanup(self.node.remove_pod, made.name)
            self.put_pod(f"{('shop', 'plain')[i]}/{made.name}", made.uid)
        cookies = [made.run(netns_cookie) for made in pods]
        self.assertEqual(len(set(cookies)), 2)
        for made, cookie in zip(pods, cookies):
            self.wait_workload(made.uid, known=True, netns_cookie=cookie)

    def test_the_metric_counts_pods(self):
        uids = [self.pod("shop")[0], self.pod("shop")[0], self.pod("plain")[0]]
        for uid, enrolled in zip(uids, (True, True, False)):
            self.wait_enrolled(uid, enrolled)

        def agrees():
            rows = self.weftd.ctl("workload", "list")
            samples = self.weftd.metrics()
            return all(
                samples.sum("weft_workloads", enrolled=str(value).lower())
                == sum(row["enrolled"] is value for row in rows)
                for value in (True, False)
            )

        wait_until(agrees, GUARD, "weft_workloads counts what weftctl lists")
        self.assertGreaterEqual(self.weftd.metrics().sum("weft_workloads", enrolled="true"), 2)
        self.assertEqual(
            self.weftd.metrics().sum("weft_map_entries", map="weft_workloads"), self.entries()
        )


if __name__ == "__main__":
    main()
