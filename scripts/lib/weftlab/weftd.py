"""weftd on a virtual node, and weftctl beside it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

from . import client, kernel
from .waiting import Hang, wait_until

METRICS_PORT = 15020
_ROOT = os.path.abspath(f"{os.path.dirname(__file__)}/../../..")


def build_dir():
    return os.environ.get("WEFT_BUILD") or f"{_ROOT}/build"


def binary(name, folder="bin"):
    path = f"{build_dir()}/{folder}/{name}"
    if not os.access(path, os.X_OK):
        raise kernel.LabError(
            f"{path} is missing: build it with scripts/build "
            "(WEFT_BUILD names another build directory)"
        )
    return path


def proxy_binary():
    """weft-proxy. WEFT_PROXY_BUILD: of another build than the rest, ThreadSanitizer's."""
    path = f"{proxy_build_dir()}/bin/weft-proxy"
    if not os.access(path, os.X_OK):
        raise kernel.LabError(f"{path} is missing: build it with scripts/build")
    return path


def proxy_build_dir():
    return os.environ.get("WEFT_PROXY_BUILD") or build_dir()


class CommandFailed(AssertionError):
    pass


class Weftd:
    """At most one process. It lives in the node's network namespace, outside its cgroup."""

    def __init__(self, node, *flags, sources=None):
        self.node = node
        self.flags = list(flags)
        self.sources = sources or [f"dir:{node.manifest_dir}"]
        self.process = None
        self.log_path = f"{node.dir}/weftd.log"
        node.on_close(self._close)

    def command(self, *more):
        node = self.node
        sources = [word for source in self.sources for word in ("--source", source)]
        return [
            binary("weftd"),
            *sources,
            "--node-name",
            node.name,
            "--cgroup",
            node.cgroup,
            "--bpffs",
            node.bpffs,
            "--run-dir",
            node.run_dir,
            "--state-dir",
            node.state_dir,
            "--metrics",
            f"127.0.0.1:{METRICS_PORT}",
            *self.flags,
            *more,
        ]

    def start(self, *more, wait=True):
        """Runs it and, with `wait`, returns once /readyz answers 200."""
        self._spawn(self.command(*more))
        if wait:
            self.wait_ready()
        return self

    def _spawn(self, command):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self._enter_node(),
            )

    def _enter_node(self):
        """What the child does before it becomes weftd."""
        parent = os.getpid()

        def enter():
            kernel.die_with_parent(parent)
            kernel.enter_cgroup(self.node.agent_cgroup)
            kernel.enter_netns(f"{kernel.NETNS_DIR}/{self.node.netns}")

        return enter

    def wait_ready(self, guard_seconds=30):
        try:
            wait_until(self._ready_or_dead, guard_seconds, "weftd answers 200 on /readyz", 0.005)
        except Hang as hang:
            raise Hang(f"{hang}; its log ends:\n{self.log_tail()}") from None
        if self.process.poll() is not None:
            raise CommandFailed(f"weftd ended with {self.process.returncode}:\n{self.log_tail()}")

    def _ready_or_dead(self):
        return self.process.poll() is not None or self.page("/readyz")[0] == 200

    def page(self, path):
        """(status, body) of the metrics port."""
        return self.node.outside.run(client.http_get, "127.0.0.1", METRICS_PORT, path)

    def run_to_end(self, *flags, guard_seconds=60, prefix=(), replace=None):
        """Runs weftd once with output caught; for starts that must fail, and --uninstall."""
        command = [*prefix, *(replace or self.command()), *flags]
        return subprocess.run(
            command,
            preexec_fn=self._enter_node(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=guard_seconds,
            check=False,
        )

    def _uninstall_command(self):
        node = self.node
        return [binary("weftd"), "--uninstall", "--bpffs", node.bpffs, "--cgroup", node.cgroup]

    def uninstall(self):
        return self.run_to_end(replace=self._uninstall_command())

    def start_uninstall(self):
        """The process, whose standard error is a pipe."""
        return subprocess.Popen(
            self._uninstall_command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill9(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, guard_seconds=30):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(guard_seconds)
        except subprocess.TimeoutExpired:
            raise Hang(
                f"weftd still runs {guard_seconds} s after SIGTERM:\n{self.log_tail()}"
            ) from None

    def restart(self, *more):
        if self.process.poll() is None:
            self.stop()
        return self.start(*more)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        with contextlib.suppress(FileNotFoundError):
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        return ""

    def log_tail(self, lines=15):
        return "\n".join(self.log().splitlines()[-lines:])

    def wait_log(self, text, guard_seconds=30):
        wait_until(lambda: text in self.log(), guard_seconds, f"weftd logs {text!r}")

    def ctl_command(self, *words):
        return [
            binary("weftctl"),
            "--bpffs",
            self.node.bpffs,
            "--run-dir",
            self.node.run_dir,
            *words,
        ]

    def ctl_raw(self, *words, guard_seconds=60):
        """weftctl's CompletedProcess."""
        return subprocess.run(
            self.ctl_command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=guard_seconds,
            check=False,
        )

    def ctl(self, *words, exit_code=0):
        """Parsed JSON of `weftctl -j words...`; fails the test on another exit status."""
        done = self.ctl_raw("-j", *words)
        if done.returncode != exit_code:
            raise CommandFailed(
                f"weftctl {' '.join(words)}: exit {done.returncode}, not {exit_code}: "
                f"{done.stderr.strip()}\n{done.stdout[-2000:]}\nweftd's log ends:\n"
                f"{self.log_tail()}"
            )
        return json.loads(done.stdout) if done.stdout.strip() else None

    def wait_service(self, service, ready, guard_seconds=30):
        """Until `service` has exactly `ready` ready endpoints in the kernel's maps."""
        done = self.ctl_raw(
            *wait_words(service, ready, guard_seconds), guard_seconds=guard_seconds + 30
        )
        if done.returncode:
            raise Hang(f"weftctl wait: {done.stderr.strip()}; weftd's log ends:\n{self.log_tail()}")

    def service(self, name):
        found = self.ctl("service", "show", name)
        return found[0] if isinstance(found, list) else found

    def endpoints(self, service):
        """{"address:port": endpoint} of one service."""
        return {
            f"{e['address']}:{e['target_port']}": e
            for e in self.ctl("endpoint", "list", "--service", service)
        }

    def metrics(self):
        """Samples of now: weftd renders once in 100 ms at most, so an older text must age first."""
        time.sleep(0.11)
        status, text = self.page("/metrics")
        if status != 200:
            raise CommandFailed(f"/metrics answered {status}: {text}")
        return parse_metrics(text)

    def _close(self):
        if self.running():
            self.process.kill()
            self.process.wait()


def wait_words(service, ready, guard_seconds=30):
    return ["wait", "--service", service, "--ready", str(ready), "--timeout", f"{guard_seconds}s"]


_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Samples(list):
    """(name, labels, value) rows of one scrape."""

    def sum(self, name, **labels):
        """Sum over the series of that name whose labels include those given; of none: 0."""
        return sum(
            value for found, has, value in self if found == name and labels.items() <= has.items()
        )

    def names(self):
        return {name for name, _, _ in self}


def parse_metrics(text):
    rows = Samples()
    for line in text.splitlines():
        found = _SAMPLE.match(line)
        if found and not line.startswith("#"):
            labels = dict(_LABEL.findall(found.group(2) or ""))
            rows.append((found.group(1), labels, float(found.group(3))))
    return rows
