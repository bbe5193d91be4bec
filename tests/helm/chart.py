"""The chart as the tests see it: rendered, and its pod run on a virtual node."""

import os
import subprocess
import sys

import yaml

sys.path[:0] = [os.path.abspath(f"{os.path.dirname(os.path.abspath(__file__))}/../e2e")]

import tools  # noqa: E402
from harness import LONG, weftlab  # noqa: E402

VALUES = sorted(name[:-5] for name in os.listdir(f"{tools.HERE}/values"))
KUBERNETES = ["1.25.0", "1.30.0", "1.35.0"]
NAMESPACE = "weft-system"


def helms():
    """[(name, path)]; helm 3 where it is cached or time does not matter."""
    found = [("helm 4", tools.helm4())]
    three = tools.helm3(build=LONG)
    if three:
        found.append(("helm 3", three))
    else:
        print("helm 3 is not cached: scripts/test --long builds it", file=sys.stderr)
    return found


def helm(path, *words):
    with tools.scratch() as env:
        return subprocess.run(
            [path, *words],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=600,
            check=False,
        )


def template(path, values, *flags, version=KUBERNETES[-1]):
    """helm template's CompletedProcess; `values` name files of tests/helm/values."""
    files = [word for name in values for word in ("-f", f"{tools.HERE}/values/{name}.yaml")]
    words = ["--namespace", NAMESPACE, "--kube-version", version, *files, *flags]
    return helm(path, "template", "weft", tools.CHART, *words)


def render(*values, flags=(), version=KUBERNETES[-1]):
    """{kind: object}, by helm 4."""
    done = template(tools.helm4(), values, *flags, version=version)
    if done.returncode:
        raise AssertionError(done.stderr)
    return {found["kind"]: found for found in yaml.safe_load_all(done.stdout) if found}


def pod_spec(objects):
    return objects["DaemonSet"]["spec"]["template"]["spec"]


def arguments(objects):
    return pod_spec(objects)["containers"][0]["args"]


def weftd(*words):
    return subprocess.run(
        [weftlab.binary("weftd"), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


class PodWeftd(weftlab.Weftd):
    """weftd in its rendered container on the virtual node."""

    def __init__(self, node, container):
        super().__init__(node)
        self.container = container

    def command(self, *more):
        return self.container.command(f"{self.node.dir}/container.json") + list(more)

    def ctl_command(self, *words):
        # The pins as this machine sees them.
        found = super().ctl_command(*words)
        found[found.index("--bpffs") + 1] += "/weft"
        return found


def host_paths(node):
    """Which directory of the laboratory plays each directory of the host."""
    return {
        "/sys/fs/cgroup": node.cgroup,
        "/sys/fs/bpf": node.bpffs,
        "/run/weft": node.run_dir,
        "/var/lib/weft": node.state_dir,
        "/srv/mesh": node.manifest_dir,
    }
