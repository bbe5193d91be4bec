#!/usr/bin/python3
"""Enrolment: whose connections are served in Kubernetes, from when to when, and what weft leaves to
others. The node's cgroups are laid out as kubelet's; weftd follows a KubeApi."""

import contextlib
import functools
import itertools
import os
import socket
import statistics
import time
import uuid

from harness import PORT, client, main, manifests, server, wait_until, weftlab
from kube_harness import GUARD, WEB, KubernetesTest
from weftlab import cleanup, kernel, kube_proxy
from weftlab.kube_api import endpoint_slice, namespace, pod, service, service_port
from weftlab.waiting import Hang

WEB6 = "fd00:96::10"
EMPTY = "10.96.0.11"  # nobody is ready
DNS = "10.96.0.53"
API_SERVER = "10.96.0.1"
OTHER = "10.96.0.2"
LABEL = "weft.mesh/enrol"
NOBODY = ("EHOSTUNREACH", "ENETUNREACH")  # beyond the node nobody answers
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

_numbers = itertools.count(1)


def labelled(value):
    return None if value is None else {LABEL: value}


def netns_cookie():
    """A function to run in a pod."""
    with socket.socket() as sock:
        return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")


def within(cgroup, home, function, *args):
    """function(*args) as a process of `cgroup`; its worker goes `home` afterwards."""
    kernel.enter_cgroup(cgroup)
    try:
        return function(*args)
    finally:
        kernel.enter_cgroup(home)


def start_pods(places, home, address, port):
    """Makes one cgroup after the other and connects from it at once, then until it is served. The
    service has nobody ready: who is served is refused within the call, others are on their way.

    Returns for each (connects before the first that was served, ms from the cgroup to there)."""
    rows = []
    try:
        for place in places:
            os.makedirs(place)
            made = time.monotonic()
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


class EnrolmentTest(KubernetesTest):
    """`caller` moves through the pods' cgroups: what its network namespace does is the same in
    all. The kernel has the services web (HTTP) and dns (UDP), both families of web."""

    FLAGS = []  # labelled is the default where a source is kubernetes:
    NODE = {"driver": "systemd"}

    @classmethod
    def populate(cls):
        super().populate()
        cls.api.put(
            namespace("shop", labelled("true")),
            namespace("plain"),
            namespace("kube-system", labelled("true")),
        )
        cls.api.put(
            service("test/web", [WEB, WEB6], [service_port(80, PORT)]),
            endpoint_slice("test/web", [cls.node[p].v6 for p in "abc"], [PORT], family="IPv6"),
            service("test/dns", [DNS], [service_port(53, 5353, protocol="UDP")]),
            endpoint_slice(
                "test/dns", [cls.node["a"].v4], [manifests.slice_port(5353, protocol="UDP")]
            ),
        )
        cls.put_service("test/empty", EMPTY, [])
        cls.node["a"].serve(server.udp, "a", 5353)
        # Beside the root of pods: nobody's pod.
        cls.home = f"{cls.node.top_cgroup}/system.slice"
        os.makedirs(cls.home)
        cls.caller = cls.node.outsider(cls.node["client"])
        cls.caller.run(kernel.enter_cgroup, cls.home)

    def setUp(self):
        self.weftd.wait_service("test/web", 6)
        self.weftd.wait_service("test/dns", 1)
        self.weftd.wait_service("test/empty", 0)
        self.api.wait_watchers(5, guard_seconds=GUARD)

    # --- pods ---

    def new_uid(self):
        return str(uuid.uuid4())

    def put_pod(self, where, uid, label=None, **more):
        """The API's half of a pod."""
        made = pod(
            where, [self.node["client"].v4], self.node.name, uid=uid, labels=labelled(label), **more
        )
        self.api.put(made)
        self.addCleanup(self.api_delete, uid)
        return made

    def cgroup(self, uid, quality="burstable"):
        """The kernel's half; of it a container's, where processes are."""
        made = self.node.kubelet_cgroup(uid, quality)
        self.addCleanup(cleanup.kill_cgroup, os.path.dirname(made))
        return made

    def pod(self, space, label=None, quality="burstable", **more):
        """Both halves: (uid, container's cgroup)."""
        uid = self.new_uid()
        self.put_pod(f"{space}/pod-{next(_numbers)}", uid, label, **more)
        return uid, self.cgroup(uid, quality)

    def api_pod(self, uid):
        pods = self.api.objects("Pod").values()
        return next((p for p in pods if p["metadata"]["uid"] == uid), None)

    def api_delete(self, uid):
        """Where it is still there."""
        found = self.api_pod(uid)
        if found:
            self.api.delete("Pod", found["metadata"]["namespace"], found["metadata"]["name"])

    def workload(self, uid):
        return next((w for w in self.weftd.ctl("workload", "list") if w["uid"] == uid), None)

    def wait_workload(self, uid, **wanted):
        """Until weftctl shows the pod so; the kernel has it then."""
        seen = []

        def shown():
            seen[:] = [self.workload(uid) or {}]
            return wanted.items() <= seen[0].items()

        try:
            wait_until(shown, GUARD)
        except Hang:
            self.fail(f"not {wanted}: {seen[0]}\n{self.weftd.log_tail()}")
        return seen[0]

    def wait_enrolled(self, uid, enrolled=True):
        return self.wait_workload(
            uid, enrolled=enrolled, known=True, cgroup=self.pod_cgroup_of(uid)
        )

    def pod_cgroup_of(self, uid):
        for quality in ("burstable", "besteffort", "guaranteed"):
            path = self.node.pod_cgroup(uid, quality)
            if os.path.isdir(path):
                return path
        return ""

    def wait_gone(self, uid):
        wait_until(lambda: not self.workload(uid), GUARD, f"pod {uid} is not listed")

    def entries(self):
        """Of the map that programs ask."""
        return next(
            m["entries"] for m in self.weftd.ctl("map", "list") if m["name"] == "weft_workloads"
        )

    # --- connections ---

    def ask_in(self, cgroup, address=WEB, port=80, caller=None):
        return (caller or self.caller).run(within, cgroup, self.home, client.ask, address, port)

    def assert_served(self, *cgroups, address=WEB):
        for cgroup in cgroups:
            answer = self.ask_in(cgroup, address)
            self.assertIn(answer["name"], ("a", "b", "c"), (cgroup, answer))

    def assert_untouched(self, *cgroups, address=WEB, **more):
        for cgroup in cgroups:
            answer = self.ask_in(cgroup, address, **more)
            self.assertIn(answer["error"], NOBODY, (cgroup, answer))


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


class BesideIptables(EnrolmentTest):
    """kube-proxy's rules are in the node's namespace and lead to k, where weft's endpoints are a, b
    and c: the answer tells whose way a connection took."""

    PODS = ["client", "a", "b", "c", "k"]
    BACKENDS = PODS[1:]
    MODE = "iptables"
    UNKNOWN = "10.96.0.77"  # to kube-proxy a service, to weft nothing

    @classmethod
    def populate(cls):
        super().populate()
        k = cls.node["k"]
        k.serve(server.udp, "k", 5353)
        rows = [
            (WEB, "tcp", 80, k.v4, PORT),
            (WEB6, "tcp", 80, k.v6, PORT),
            (cls.UNKNOWN, "tcp", 80, k.v4, PORT),
            (DNS, "udp", 53, k.v4, 5353),
        ]
        kube_proxy.install(cls.node, cls.MODE, rows)

    def name_in(self, cgroup, address=WEB, **more):
        return self.ask_in(cgroup, address, **more)["name"]

    def udp_in(self, cgroup):
        target = [(DNS, 53)]
        (answer,) = self.caller.run(within, cgroup, self.home, client.udp_ask, target)
        return answer

    def test_who_is_not_enrolled_takes_the_way_of_kube_proxy(self):
        ours, ours_cgroup = self.pod("shop")
        other, other_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(other, False)
        for address in (WEB, WEB6):
            with self.subTest(address=address):
                for _ in range(3):
                    self.assertIn(self.name_in(ours_cgroup, address), ("a", "b", "c"))
                    answer = self.ask_in(other_cgroup, address)
                    self.assertEqual((answer["name"], answer["peer"]), ("k", (address, 80)))
        self.assertEqual(self.udp_in(ours_cgroup), ("a:5353 hello", (DNS, 53)))
        self.assertEqual(self.udp_in(other_cgroup), ("k:5353 hello", (DNS, 53)))

    def test_the_node_itself_takes_the_way_of_kube_proxy(self):
        uid, cgroup = self.pod("shop", "true", host_network=True)
        self.wait_enrolled(uid, False)
        for address in (WEB, WEB6):
            self.assertEqual(self.name_in(cgroup, address, caller=self.node.outside), "k")
            self.assertEqual(self.ask(address, pod=self.node.outside)["name"], "k")

    def test_what_weft_does_not_know_is_left_to_kube_proxy(self):
        uid, cgroup = self.pod("shop")
        self.wait_enrolled(uid)
        self.assertEqual(self.name_in(cgroup, self.UNKNOWN), "k")
        self.assertIn(self.name_in(cgroup), ("a", "b", "c"))

    def test_before_the_pod_is_known_its_connections_take_the_way_of_kube_proxy(self):
        made = self.node.kubelet_pod("early", self.new_uid())
        self.addCleanup(self.node.remove_pod, "early")
        self.wait_workload(made.uid, known=False)
        self.assertEqual(made.run(client.ask, WEB, 80)["name"], "k")
        connection = made.start(client.keep_open, WEB, 80)
        self.assertEqual(connection.receive(), "k")
        self.put_pod("shop/early", made.uid)
        self.wait_enrolled(made.uid)
        self.assertIn(made.run(client.ask, WEB, 80)["name"], ("a", "b", "c"))
        # And what was open stays where it was.
        self.assertEqual(connection.stop(), "k")

    def test_weft_goes_and_comes_without_a_failed_connection(self):
        pods = []
        for name, space in (("in", "shop"), ("out", "plain")):
            made = self.node.kubelet_pod(name, self.new_uid())
            self.addCleanup(self.node.remove_pod, name)
            self.put_pod(f"{space}/{name}", made.uid)
            self.wait_enrolled(made.uid, space == "shop")
            pods.append(made)
        ours, other = pods
        jobs = [made.start(client.traffic, WEB, 80, 0.001) for made in pods]
        for job in jobs:
            job.receive()
        self.weftd.kill9()
        self.assertIn(ours.run(client.ask, WEB, 80)["name"], ("a", "b", "c"))
        done = self.weftd.uninstall()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(ours.run(client.ask, WEB, 80)["name"], "k")
        self.weftd.start()
        self.wait_enrolled(ours.uid)
        self.assertIn(ours.run(client.ask, WEB, 80)["name"], ("a", "b", "c"))
        done = [job.stop() for job in jobs]
        self.assertEqual([d["failures"] for d in done], [[], []])
        self.assertEqual(set(done[0]["by_name"]), {"a", "b", "c", "k"})
        self.assertEqual(set(done[1]["by_name"]), {"k"})
        self.assertEqual(other.run(client.ask, WEB, 80)["name"], "k")


class BesideNftables(BesideIptables):
    MODE = "nftables"


class BesideOthers(EnrolmentTest):
    """NodeLocal DNS and other programs."""

    CACHE = "169.254.20.10"

    def test_a_dns_cache_of_the_node_is_asked_by_its_own_address(self):
        self.node.local_address(self.CACHE)
        cache = self.node.outside.serve(
            functools.partial(server.udp, address=self.CACHE), "cache", 53
        )
        self.addCleanup(cache.stop)
        ours, ours_cgroup = self.pod("shop")
        other, other_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(other, False)
        for cgroup in (ours_cgroup, other_cgroup):
            targets = [(self.CACHE, 53)]
            answers = self.caller.run(within, cgroup, self.home, client.udp_ask, targets)
            self.assertEqual(answers, [("cache:53 hello", (self.CACHE, 53))])

    def test_where_the_cache_has_the_clusters_dns_address_enrolled_pods_ask_the_endpoints(self):
        self.node.local_address(DNS)
        cache = self.node.outside.serve(functools.partial(server.udp, address=DNS), "cache", 53)
        self.addCleanup(weftlab.node.ip, [f"addr del {DNS}/32 dev lo"], self.node.netns)
        self.addCleanup(cache.stop)
        ours, ours_cgroup = self.pod("shop")
        other, other_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(other, False)
        for cgroup, name in ((ours_cgroup, "a:5353"), (other_cgroup, "cache:53")):
            answers = self.caller.run(within, cgroup, self.home, client.udp_ask, [(DNS, 53)])
            self.assertEqual(answers, [(f"{name} hello", (DNS, 53))])

    def test_another_program_on_the_same_cgroup_serves_beside(self):
        """A weftd with pins of its own, which the first one knows nothing of, serves a service of
        its own to everybody."""
        other = OtherWeftd(self.node)
        self.addCleanup(other.remove)
        other.mesh.write(
            "other.yaml",
            manifests.service("test/other", [OTHER], [manifests.service_port(80, PORT)]),
            manifests.endpoint_slice("test/other", [self.node["b"].v4], [PORT]),
        )
        other.start()
        ours, ours_cgroup = self.pod("shop")
        strange, strange_cgroup = self.pod("plain")
        self.wait_enrolled(ours)
        self.wait_enrolled(strange, False)
        self.assert_served(ours_cgroup)
        self.assert_untouched(strange_cgroup)
        for cgroup in (ours_cgroup, strange_cgroup):
            self.assertEqual(self.ask_in(cgroup, OTHER)["name"], "b")


class OtherWeftd(weftlab.Weftd):
    PORT = 15021

    def __init__(self, node):
        folder = f"{node.dir}/other"
        self.own = {
            "--bpffs": f"{node.bpffs}-other",
            "--run-dir": f"{folder}/run",
            "--metrics": f"127.0.0.1:{self.PORT}",
        }
        os.makedirs(self.own["--bpffs"])
        os.makedirs(self.own["--run-dir"])
        self.mesh = weftlab.Manifests(f"{folder}/mesh")
        super().__init__(node, sources=[f"dir:{self.mesh.path}"])
        self.log_path = f"{folder}/weftd.log"

    def command(self, *more):
        command = super().command(*more)
        for flag, value in self.own.items():
            command[command.index(flag) + 1] = value
        return command

    def page(self, path):
        return self.node.outside.run(client.http_get, "127.0.0.1", self.PORT, path)

    def remove(self):
        if self.running():
            self.stop()
        bpffs = self.own["--bpffs"]
        words = ["--uninstall", "--bpffs", bpffs, "--cgroup", self.node.cgroup]
        self.run_to_end(replace=[weftlab.binary("weftd"), *words])
        cleanup.remove_tree(bpffs)


class Itself(KubernetesTest):
    """weftd runs among those it serves, and the API server's own address is a service of the mesh
    with nobody ready."""

    FLAGS = ["--enrol", "all"]

    @classmethod
    def prepare(cls):
        beside = cls.node.agent_cgroup
        cls.node.on_close(lambda: cleanup.kill_cgroup(beside))
        cls.node.agent_cgroup = f"{cls.node.cgroup}/agent"
        os.makedirs(cls.node.agent_cgroup)
        cls.API = {"tls": True, "host": cls.node.v4, "names": [f"IP:{cls.node.v4}"]}
        super().prepare()

    @classmethod
    def populate(cls):
        super().populate()
        cls.neighbour = cls.node.outsider(cls.node["client"])
        cls.neighbour.run(kernel.enter_cgroup, cls.node.agent_cgroup)

    def take_the_address(self):
        self.api.put(
            service("test/api", [self.node.v4], [service_port(self.api.port, 6443)]),
            endpoint_slice("test/api", [], [6443]),
        )
        self.weftd.wait_service("test/api", 0)
        self.assert_others_are_refused()

    def assert_others_are_refused(self):
        for _ in range(3):
            self.assertEqual(
                self.neighbour.run(client.connect_error, self.node.v4, self.api.port),
                "ECONNREFUSED",
            )

    def assert_follows(self):
        """Over new connections: lists and watches go on, and what they bring is served."""
        accepted, watches = self.api.accepted, dict(self.api.watches)
        self.api.compact()
        self.api.drop_connections()
        self.api.wait(
            lambda: all(self.api.watches[kind] > watches[kind] for kind in watches),
            "every kind is watched anew",
            GUARD,
        )
        self.assertGreater(self.api.accepted, accepted)
        self.marker()
        self.assert_others_are_refused()

    def test_it_reaches_the_api_server_where_others_are_refused(self):
        self.assertIsNone(self.neighbour.run(client.connect_error, self.node.v4, self.api.port))
        self.take_the_address()
        self.assert_follows()
        # Also the one that is started onto such a data path, whichever way the last one ended.
        for end in (self.weftd.kill9, self.weftd.stop):
            end()
            self.assert_others_are_refused()
            self.weftd.start()
            self.assert_follows()
        self.assert_serves()


class LastEndpoint(EnrolmentTest):
    """default/kubernetes keeps its last endpoint: without it nobody could be told of another."""

    FLAGS = ["--hold-empty", "1s"]

    def put_both(self, pods):
        for where, address in (("default/kubernetes", API_SERVER), ("test/other", OTHER)):
            self.put_service(where, address, pods)

    def setUp(self):
        super().setUp()
        self.put_both("a")
        for where in ("default/kubernetes", "test/other"):
            self.weftd.wait_service(where, 1)
        self.uid, self.pod_cgroup = self.pod("shop")
        self.wait_enrolled(self.uid)

    def assert_kept(self, name):
        self.assertEqual(self.ask_in(self.pod_cgroup, API_SERVER)["name"], name)
        self.assertEqual(self.ask_in(self.pod_cgroup, OTHER)["error"], "ECONNREFUSED")

    def test_where_its_slice_becomes_empty(self):
        self.put_both("")
        self.weftd.wait_service("test/other", 0)
        self.marker()
        self.assert_kept("a")
        self.weftd.restart()
        self.marker()
        self.assert_kept("a")
        self.put_service("default/kubernetes", API_SERVER, "bc")
        self.weftd.wait_service("default/kubernetes", 2)
        self.assertIn(self.ask_in(self.pod_cgroup, API_SERVER)["name"], ("b", "c"))

    def test_where_its_slice_and_the_service_itself_are_deleted(self):
        for space, name in (("default", "kubernetes"), ("test", "other")):
            self.api.delete("EndpointSlice", space, f"{name}-ipv4")
        self.weftd.wait_service("test/other", 0)
        self.marker()
        self.assert_kept("a")
        for space, name in (("default", "kubernetes"), ("test", "other")):
            self.api.delete("Service", space, name)
        self.marker()
        self.assertEqual(self.ask_in(self.pod_cgroup, API_SERVER)["name"], "a")
        self.assert_untouched(self.pod_cgroup, address=OTHER)

    def test_also_when_a_removal_of_many_endpoints_is_held_back_no_longer(self):
        ballast = self.api.objects("EndpointSlice")[("test", "ballast-ipv4")]
        self.addCleanup(self.weftd.wait_service, "test/ballast", len(ballast["endpoints"]))
        self.addCleanup(self.api.put, ballast)
        self.put_both("")
        self.weftd.wait_service("test/other", 0)
        self.api.put({**ballast, "endpoints": []})
        self.weftd.wait_service("test/ballast", 0)
        self.assert_kept("a")


if __name__ == "__main__":
    main()
