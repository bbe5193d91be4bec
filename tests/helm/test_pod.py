#!/usr/bin/python3
"""The chart's pod, with its rendered command line, mounts and capabilities, started on a virtual
node whose cgroups are laid out as kubelet's."""

import json
import os
import sys

import tools
from chart import PodWeftd, host_paths, pod_spec, render
from container import Container
from harness import NodeTest, main, wait_until, weftlab
from weftlab import client, kernel


class OnANode(NodeTest):
    """The node's cgroup plays /sys/fs/cgroup, with kubelet's tree below it."""

    PODS = ["client", "system", "a", "b"]
    BACKENDS = ["a", "b"]
    START = False
    WEB = "10.96.0.10"

    @classmethod
    def scope(cls, uid, quality):
        """As kubelet's systemd driver and containerd name it."""
        slices = f"kubepods.slice/kubepods-{quality}.slice"
        pod = f"kubepods-{quality}-pod{uid.replace('-', '_')}.slice"
        return f"{cls.node.cgroup}/{slices}/{pod}/cri-containerd-{'0123456789abcdef' * 4}.scope"

    @classmethod
    def prepare(cls):
        for pod, path in (
            ("client", cls.scope("0f6e2c1a-8f3b-4c55-9d37-3a1d9c2f7b10", "burstable")),
            ("system", f"{cls.node.cgroup}/system.slice/sshd.service"),
        ):
            os.makedirs(path)
            cls.node[pod].run(kernel.enter_cgroup, path)
        cls.write_service("test/web", [cls.WEB], ["a", "b"])
        cls.pod = pod_spec(render("directory"))

    def weftd_of(self, without=()):
        container = Container(
            self.pod,
            self.pod["containers"][0],
            host_paths(self.node),
            self.node.name,
            binaries=f"{weftlab.build_dir()}/bin",
        )
        container.capabilities = [c for c in container.capabilities if c not in without]
        return PodWeftd(self.node, container)

    def weftctl(self, *words, without=()):
        """In the pod, as `kubectl exec` does it."""
        container = self.weftd_of(without).container
        command = ["/usr/local/bin/weftctl", "-j", *words]
        command = container.command(f"{self.node.dir}/exec.json", argv=command)
        return weftlab.Weftd(self.node).run_to_end(replace=command)

    def probe(self, name):
        get = self.pod["containers"][0][name]["httpGet"]
        return self.node.outside.run(client.http_get, get["host"], get["port"], get["path"])[0]

    def uninstall(self):
        pod = pod_spec(render("directory", "uninstall"))
        container = Container(
            pod,
            pod["initContainers"][0],
            host_paths(self.node),
            self.node.name,
            binaries=f"{weftlab.build_dir()}/bin",
        )
        command = container.command(f"{self.node.dir}/uninstall.json")
        return weftlab.Weftd(self.node).run_to_end(replace=command)

    def test_the_rendered_pod_serves_the_tree_of_pods_and_nobody_else(self):
        weftd = self.weftd_of().start(wait=False)
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            wait_until(
                lambda name=name: weftd.process.poll() is not None or self.probe(name) == 200,
                60,
                f"{name} succeeds",
            )
        self.assertIsNone(weftd.process.poll(), weftd.log())
        self.assertEqual(set(self.names(self.WEB, 10)), {"a", "b"})
        outside = self.ask(self.WEB, pod=self.node["system"])
        self.assertIn(outside["error"], ("EHOSTUNREACH", "ENETUNREACH"))
        status = weftd.ctl("status")
        self.assertEqual(status["node"], self.node.name)
        self.assertTrue(all(hook["attached"] for hook in status["hooks"]), status["hooks"])
        self.assertEqual([f for f in status["features"] if not f["enabled"]], [])
        weftd.ctl("audit")
        proxy = wait_until(
            lambda: [p for p in [weftd.ctl("status")["proxy"]] if p["state"] == "serving" or p["error"]],
            60,
            "weft-proxy serves",
        )
        self.assertEqual(proxy[0]["error"], "")
        wait_until(
            lambda: weftd.ctl("status")["bypass"]["mode"] == "auto", 60, "the self-test passes"
        )

        # SIGTERM leaves the data path; the next pod finds it.
        self.assertEqual(weftd.stop(self.pod["terminationGracePeriodSeconds"]), 0)
        self.assertEqual(set(self.names(self.WEB, 10)), {"a", "b"})
        weftd.start()
        self.assertEqual(weftd.stop(), 0)

        done = self.uninstall()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.node.pinned(), [])
        self.assertIn(self.ask(self.WEB)["error"], ("EHOSTUNREACH", "ENETUNREACH"))

    def test_it_does_not_start_without_any_of_the_capabilities_that_loading_needs(self):
        for name in ("BPF", "NET_ADMIN", "PERFMON"):
            without = [name, "SYS_ADMIN"]  # which stands for each of them
            with self.subTest(without=without):
                weftd = self.weftd_of(without)
                weftd.start(wait=False)
                self.assertEqual(weftd.process.wait(60), 1, weftd.log())
                self.assertIn("cannot load the programs", weftd.log())

    def test_whoever_forbids_a_capability_loses_what_the_chart_says_and_no_more(self):
        weftd = self.weftd_of(["SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_RESOURCE"])
        weftd.start()
        self.assertEqual(set(self.names(self.WEB, 10)), {"a", "b"})

        def cgroups(without):
            status = json.loads(self.weftctl("status", without=without).stdout)
            return {hook["cgroup"] for hook in status["hooks"]}

        def sees_namespaces(without):
            pid = self.client.run(os.getpid)
            words = ["why", "--from", str(pid), "--to", f"{self.WEB}:80"]
            return self.weftctl(*words, without=without).returncode == 0

        served = weftd.container.mount_path("cgroup") + "/kubepods.slice"
        self.assertEqual(cgroups([]), {served})
        self.assertEqual(cgroups(["DAC_READ_SEARCH"]), {""})
        self.assertTrue(sees_namespaces([]))
        self.assertFalse(sees_namespaces(["SYS_ADMIN"]))
        self.assertFalse(sees_namespaces(["SYS_PTRACE"]))

        def bypass():
            return json.loads(self.weftctl("status").stdout)["bypass"]

        wait_until(lambda: not bypass()["reason"].startswith("starting"), 60, "the self-test has been tried")
        self.assertEqual(bypass()["mode"], "off")
        self.assertIn("no network namespace of its own", bypass()["reason"])
        self.assertEqual(weftd.stop(), 0)
        self.assertEqual(self.uninstall().returncode, 0)


if __name__ == "__main__":
    try:
        tools.helm4()
    except tools.ToolMissing as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    main()
