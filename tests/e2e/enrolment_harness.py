"""What the tests of enrolment stand on: a node whose cgroups are laid out as kubelet's; pods that
have an object in the API, a cgroup, or both; processes that connect from them."""

import itertools
import os
import uuid

from harness import PORT, client, manifests, server, wait_until
from kube_harness import GUARD, WEB, KubernetesTest
from weftlab import cleanup, kernel
from weftlab.kube_api import endpoint_slice, namespace, pod, service, service_port
from weftlab.waiting import Hang

WEB6 = "fd00:96::10"
EMPTY = "10.96.0.11"  # nobody is ready
DNS = "10.96.0.53"
LABEL = "weft.mesh/enrol"
NOBODY = ("EHOSTUNREACH", "ENETUNREACH")  # beyond the node nobody answers

_numbers = itertools.count(1)


def labelled(value):
    return None if value is None else {LABEL: value}


def within(cgroup, home, function, *args):
    """function(*args) as a process of `cgroup`; its worker goes `home` afterwards."""
    kernel.enter_cgroup(cgroup)
    try:
        return function(*args)
    finally:
        kernel.enter_cgroup(home)


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
