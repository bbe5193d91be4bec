"""A real Prometheus beside a real weftd, and a node with something to see."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.parse

import yaml

from operations import ROOT, RULES, read

sys.path.insert(0, f"{ROOT}/tests/e2e")

from harness import (  # noqa: E402
    NodeTest,
    client,
    main,
    manifests,
    server,
    wait_until,
    weftlab,
)
from weftlab import kernel  # noqa: E402

__all__ = ["Prometheus", "ScrapedTest", "client", "main", "manifests", "wait_until"]


class Prometheus:
    """Debian's Prometheus in a node's network namespace, outside its cgroup: it is no client of the
    mesh. It scrapes and evaluates more often than anybody would, so that nothing takes long."""

    PORT = 9090
    INTERVAL = "500ms"

    def __init__(self, node):
        self.node = node
        self.dir = f"{node.dir}/prometheus"
        self.process = None
        node.on_close(self.stop)

    def start(self):
        binary = shutil.which("prometheus")
        if not binary:
            raise weftlab.LabError("prometheus is missing: scripts/setup installs it")
        os.makedirs(self.dir)
        config = {
            "global": {
                "scrape_interval": self.INTERVAL,
                "scrape_timeout": self.INTERVAL,
                "evaluation_interval": self.INTERVAL,
            },
            "rule_files": [RULES],
            "scrape_configs": [
                {
                    "job_name": "weft",
                    "static_configs": [{"targets": [f"127.0.0.1:{weftlab.weftd.METRICS_PORT}"]}],
                }
            ],
        }
        with open(f"{self.dir}/prometheus.yml", "w", encoding="utf-8") as file:
            yaml.safe_dump(config, file)
        with open(f"{self.dir}/log", "wb") as log:
            self.process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={self.dir}/prometheus.yml",
                    f"--storage.tsdb.path={self.dir}/data",
                    f"--web.listen-address=127.0.0.1:{self.PORT}",
                    "--log.level=warn",
                ],
                cwd=self.dir,
                env={**os.environ, "GOMAXPROCS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self._enter_node(),
            )
        wait_until(self._ready_or_dead, 120, "Prometheus is ready")
        if self.process.poll() is not None:
            raise AssertionError(f"Prometheus ended:\n{read(f'{self.dir}/log')[-2000:]}")
        return self

    def _enter_node(self):
        parent = os.getpid()

        def enter():
            kernel.die_with_parent(parent)
            kernel.enter_cgroup(self.node.agent_cgroup)
            kernel.enter_netns(f"{kernel.NETNS_DIR}/{self.node.netns}")

        return enter

    def _ready_or_dead(self):
        return self.process.poll() is not None or self._get("/-/ready")[0] == 200

    def _get(self, path):
        return self.node.outside.run(client.http_get, "127.0.0.1", self.PORT, path)

    def api(self, path, **parameters):
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        status, text = self._get(f"/api/v1/{path}{query}")
        if status != 200:
            raise AssertionError(f"{path} {parameters}: {status} {text}")
        return json.loads(text)["data"]

    def vector(self, expression, at=None):
        """[(labels, value)] of now, or of a scrape's time."""
        when = {"time": at} if at else {}
        return [
            (row["metric"], float(row["value"][1]))
            for row in self.api("query", query=expression, **when)["result"]
        ]

    def value(self, expression, at=None):
        """The one value of an expression; None where it has none."""
        rows = self.vector(expression, at)
        if len(rows) > 1:
            raise AssertionError(f"{expression} has {len(rows)} values")
        return rows[0][1] if rows else None

    def last_scrape(self):
        return self.value("timestamp(weft_build_info)") or 0  # of one that was answered

    def wait_scrapes(self, count=3):
        """Until that many more scrapes are stored; the time of the last of them. The first may have
        begun before this call, and weftd's text may be 100 ms older than the scrape: the third is
        newer in any case. Of now there may be nothing to read: a scrape that a busy machine has no
        answer to in time takes all series away until the next."""
        seen = wait_until(self.last_scrape, 120, "a scrape")
        for _ in range(count):
            seen = wait_until(
                lambda: (at := self.last_scrape()) > seen and at,  # noqa: B023
                120,
                "another scrape",
            )
        return seen

    def rules(self):
        return [rule for group in self.api("rules")["groups"] for rule in group["rules"]]

    def alerts(self, name):
        """Pending and firing alerts of a rule."""
        return next(rule for rule in self.rules() if rule["name"] == name)["alerts"]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class ScrapedTest(NodeTest):
    """A node with services of every fate, and Prometheus beside weftd."""

    WEB = "10.96.0.10"
    EMPTY = "10.96.0.11"
    DEAD = "10.96.0.12"
    V6_ONLY = "fd00:96::13"
    DNS = "10.96.0.14"
    PODS = ["client", "client2", "client3", "a", "b", "c"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.weftd.wait_service("test/web", 3)
        cls.prometheus = Prometheus(cls.node).start()
        wait_until(lambda: cls.prometheus.value("weft_ready") == 1, 120, "the first scrape")

    @classmethod
    def prepare(cls):
        cls.write_service("test/web", [cls.WEB], ["a", "b", "c"])
        cls.write_service("test/empty", [cls.EMPTY], [])
        port = [manifests.service_port(80, 9)]
        cls.write_service("test/dead", [cls.DEAD], ["a"], ports=port, slice_ports=[9])
        cls.write_service("test/v4-backends", [cls.V6_ONLY], ["a"], family="v4")
        cls.node["a"].serve(server.udp, "a", 5353)
        cls.write_service(
            "test/dns",
            [cls.DNS],
            ["a"],
            ports=[manifests.service_port(53, 5353, protocol="UDP")],
            slice_ports=[manifests.slice_port(5353, protocol="UDP")],
        )

    def refuse(self, times=1):
        """Calls that nobody is there for, that reach no family, that the endpoint does not take."""
        for _ in range(times):
            self.client.run(client.connect_error, self.EMPTY, 80)
            self.client.run(client.connect_error, self.V6_ONLY, 80, True, True)
            self.client.run(client.connect_error, self.DEAD, 80)
