"""A virtual node: network namespace + cgroup + directory on a bpffs. A virtual pod: a network
namespace joined to its node by a veth pair, and a child cgroup.

A node's pods share a bridge, as with an ordinary CNI; the node routes everything else, so that
service addresses have a route and an address nobody owns is answered with "unreachable" instead of
silence. Many nodes run on one kernel; nothing here touches the machine's own addresses, routes or
root cgroup.
"""

import ipaddress
import itertools
import os
import subprocess

from . import cleanup, kernel, kubelet
from .worker import Worker

_numbers = itertools.count(1)


def ip(lines, netns=None):
    """Runs `ip` commands as one batch, in a namespace or in the caller's."""
    where = ["-n", netns] if netns else []
    done = subprocess.run(
        ["ip", *where, "-batch", "-"],
        input="\n".join(lines).encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        text = done.stderr.decode().strip().replace("\n", "; ")
        raise kernel.LabError(f"ip -batch failed in {netns or 'the root namespace'}: {text}")


def _sysctls(settings):
    for key, value in settings:
        with open(f"/proc/sys/net/{key}", "w", encoding="ascii") as file:
            file.write(value)


_POD_SYSCTLS = [("ipv6/conf/all/accept_dad", "0"), ("ipv6/conf/default/accept_dad", "0")]
_NODE_SYSCTLS = _POD_SYSCTLS + [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    # An unreachable address must answer every time, not ten times a second.
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
]


class VirtualPod:
    """run() and start() execute functions in the pod. Made by VirtualNode.pod() and its kin."""

    uid = None  # of kubelet's pods

    def __init__(self, node, name, netns, cgroup, v4=None, v6=None):
        self.node = node
        self.name = name
        self.netns = netns
        self.cgroup = cgroup
        self.v4 = v4
        self.v6 = v6
        self.jobs = []
        self.worker = Worker(f"{node.name}/{name}", netns, cgroup)

    def run(self, function, *args, guard_seconds=60):
        return self.worker.run(function, *args, guard_seconds=guard_seconds)

    def start(self, function, *args):
        job = self.worker.start(function, *args)
        self.jobs.append(job)
        return job

    def serve(self, function, *args):
        """Starts a server job and returns it once its sockets listen."""
        job = self.start(function, *args)
        job.receive()
        return job

    def close(self):
        self.worker.close()


class VirtualNode:
    """With kubelet's cgroup driver named, `cgroup` is that driver's root of pods, and what
    kubelet_cgroup() and kubelet_pod() make lies below it as kubelet has it."""

    def __init__(
        self, pods=(), v4="10.244.{}.0/24", v6="fd00:244:{:x}::/64", name=None, driver=None
    ):
        kernel.require_root("a virtual node")
        self.number = next(_numbers)
        self.id = f"{cleanup.PREFIX}-{os.getpid()}-{self.number}"
        self.name = name or f"node-{self.number}"
        self.v4_net = ipaddress.ip_network(v4.format(self.number))
        self.v6_net = ipaddress.ip_network(v6.format(self.number))
        self.v4 = str(self.v4_net[-2])
        self.v6 = str(self.v6_net[0xFFFF])
        self.netns = self.id
        self.top_cgroup = f"{kernel.cgroup2_root()}/{self.id}"
        self.driver = driver
        self.cgroup = f"{self.top_cgroup}/{kubelet.ROOTS[driver]}" if driver else self.top_cgroup
        # Beside: the agent is not among its own clients.
        self.agent_cgroup = f"{self.top_cgroup}-agent"
        self.dir = f"{cleanup.RUN_ROOT}/{self.id}"
        self.run_dir = f"{self.dir}/run"
        self.state_dir = f"{self.dir}/state"
        self.manifest_dir = f"{self.dir}/mesh"
        self.pods = {}
        self._workers = []
        self._netns = []
        self._closers = []
        self._positions = itertools.count(1)  # of addresses; not used twice
        cleanup.register(self.close)
        try:
            self._make(pods)
        except BaseException:
            self.close()
            raise

    def _make(self, pods):
        for folder in (self.run_dir, self.state_dir, self.manifest_dir):
            os.makedirs(folder, exist_ok=True)
        self.bpffs = self._make_bpffs()
        _make_cgroup(self.cgroup)
        _make_cgroup(self.agent_cgroup)
        self._add_netns([self.netns] + [self._netns_of(pod) for pod in pods])
        self.outside = self._add("outside", self.netns, None, self.v4, self.v6)
        self.outside.run(_sysctls, _NODE_SYSCTLS)
        ip(
            [
                "link set lo up",
                # Its own, else it would change to the lowest of the ports' as pods come and go, and
                # pods would send to the old one until their neighbour entries expire.
                "link add weft0 address 02:00:00:00:00:01 type bridge mcast_snooping 0 "
                "forward_delay 0",
                f"addr add {self.v4}/{self.v4_net.prefixlen} dev weft0",
                f"addr add {self.v6}/{self.v6_net.prefixlen} dev weft0 nodad",
                "link set weft0 up",
                # Beyond this node there is nobody: say so at once.
                "route add unreachable default",
                "route add unreachable ::/0",
            ],
            self.netns,
        )
        for name in pods:
            self._connect(name)
        self._plug(pods)

    def _make_bpffs(self):
        if "/sys/fs/bpf" in kernel.mounts("bpf"):
            path = f"/sys/fs/bpf/{self.id}"
            os.makedirs(path, exist_ok=True)
            return path
        mounted = f"{self.dir}/bpf"
        os.makedirs(mounted, exist_ok=True)
        kernel.mount("bpffs", mounted, "bpf")
        path = f"{mounted}/weft"
        os.makedirs(path)
        return path

    def _add_netns(self, names):
        ip([f"netns add {name}" for name in names])
        self._netns += names

    def _netns_of(self, pod):
        return f"{self.id}-{pod}"

    def _add(self, name, netns, cgroup, v4, v6):
        pod = VirtualPod(self, name, netns, cgroup, v4, v6)
        self._workers.append(pod)
        return pod

    def _connect(self, name, cgroup=None):
        """The pod's cgroup, worker and addresses; its link comes with _plug()."""
        position = next(self._positions)
        cgroup = cgroup or f"{self.cgroup}/{name}"
        _make_cgroup(cgroup)
        pod = self._add(
            name,
            self._netns_of(name),
            cgroup,
            str(self.v4_net[position]),
            str(self.v6_net[position]),
        )
        pod.port = f"pod{position}"
        pod.run(_sysctls, _POD_SYSCTLS)
        self.pods[name] = pod

    def _plug(self, names):
        pods = [self.pods[name] for name in names]
        lines = []
        for pod in pods:
            lines += [
                f"link add {pod.port} type veth peer name eth0 netns {pod.netns}",
                f"link set {pod.port} master weft0",
                f"link set {pod.port} up",
            ]
        if lines:
            ip(lines, self.netns)
        for pod in pods:
            ip(
                [
                    "link set lo up",
                    "link set eth0 up",
                    f"addr add {pod.v4}/{self.v4_net.prefixlen} dev eth0",
                    f"addr add {pod.v6}/{self.v6_net.prefixlen} dev eth0 nodad",
                    f"route add default via {self.v4}",
                    f"route add ::/0 via {self.v6}",
                ],
                pod.netns,
            )

    def __getitem__(self, name):
        return self.pods[name]

    def pod(self, name, cgroup=None):
        """One more pod."""
        self._add_netns([self._netns_of(name)])
        self._connect(name, cgroup)
        self._plug([name])
        return self.pods[name]

    def pod_cgroup(self, uid, quality="burstable"):
        """Kubelet's name for it; nothing is made."""
        return f"{self.cgroup}/{kubelet.pod_cgroup(self.driver, uid, quality)}"

    def kubelet_cgroup(self, uid, quality="burstable"):
        """A pod's cgroup with that of a container in it, which is returned."""
        cgroup = f"{self.pod_cgroup(uid, quality)}/{kubelet.container_cgroup(self.driver, uid)}"
        _make_cgroup(cgroup)
        return cgroup

    def kubelet_pod(self, name, uid, quality="burstable"):
        """A pod whose process is in kubelet_cgroup()."""
        made = self.pod(name, self.kubelet_cgroup(uid, quality))
        made.uid = uid
        return made

    def remove_pod(self, name):
        """Process, cgroup and network namespace; of kubelet's pods the pod's own cgroup too."""
        pod = self.pods.pop(name)
        pod.close()
        self._workers.remove(pod)
        cleanup.kill_cgroup(os.path.dirname(pod.cgroup) if pod.uid else pod.cgroup)
        if pod.netns != self.netns:
            cleanup.remove_netns([pod.netns])
            self._netns.remove(pod.netns)

    def host_network_pod(self, name, cgroup=None):
        """A pod in the node's own network namespace, with a cgroup like any other."""
        cgroup = cgroup or f"{self.cgroup}/{name}"
        _make_cgroup(cgroup)
        self.pods[name] = self._add(name, self.netns, cgroup, self.v4, self.v6)
        return self.pods[name]

    def outsider(self, pod):
        """A process in a pod's network namespace that is not below the node's cgroup."""
        return self._add(f"{pod.name}-outside", pod.netns, None, pod.v4, pod.v6)

    def local_address(self, address):
        """Gives the node one more address: something real behind an address that is no service."""
        width = ipaddress.ip_address(address).max_prefixlen
        ip([f"addr add {address}/{width} dev lo"], self.netns)

    def enter_command(self, name):
        pod = self.pods[name]
        return f"nsenter --net={kernel.NETNS_DIR}/{pod.netns}"

    def pinned(self):
        """Paths of everything pinned in the node's bpffs directory."""
        return [f"{folder}/{name}" for folder, _, names in os.walk(self.bpffs) for name in names]

    def on_close(self, close):
        """Runs before the node goes."""
        self._closers.append(close)

    def close(self):
        while self._closers:
            self._closers.pop()()
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        cleanup.kill_cgroup(self.agent_cgroup)
        cleanup.kill_cgroup(self.top_cgroup)
        cleanup.remove_netns(self._netns)
        self._netns = []
        if getattr(self, "bpffs", "").startswith("/sys/fs/bpf/"):
            cleanup.remove_tree(self.bpffs)
        cleanup.remove_tree(self.dir)
        cleanup.forget(self.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _make_cgroup(path):
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise kernel.LabError(
            f"cannot make cgroup {path}: {error.strerror}; " "cgroup v2 must be writable"
        ) from None


def join(nodes):
    """Links nodes to each other: a switch between them, and a route to everybody else's pods."""
    switch = f"{nodes[0].id}-switch"
    ip([f"netns add {switch}"])
    nodes[0].on_close(lambda: cleanup.remove_netns([switch]))
    lines = ["link add switch type bridge mcast_snooping 0 forward_delay 0", "link set switch up"]
    for node in nodes:
        lines += [
            f"link add n{node.number} type veth peer name eth0 netns {node.netns}",
            f"link set n{node.number} master switch",
            f"link set n{node.number} up",
        ]
    ip(lines, switch)
    for node in nodes:
        lines = [
            f"addr add 192.168.240.{node.number}/24 dev eth0",
            f"addr add fd00:240::{node.number:x}/64 dev eth0 nodad",
            "link set eth0 up",
        ]
        for other in nodes:
            if other is not node:
                lines += [
                    f"route add {other.v4_net} via 192.168.240.{other.number}",
                    f"route add {other.v6_net} via fd00:240::{other.number:x}",
                ]
        ip(lines, node.netns)
