#!/usr/bin/python3
"""The dashboard and the alert rules: what they name exists, and a real Prometheus that scrapes a
real weftd sees the connections that were made and the trouble that was caused."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest
import urllib.parse

import yaml

ROOT = os.path.abspath(f"{os.path.dirname(__file__)}/../..")
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

RULES = f"{ROOT}/helm/weft/rules/weft.yaml"
DASHBOARD = f"{ROOT}/helm/weft/dashboards/weft.json"
METRICS = f"{ROOT}/docs/metrics.md"
GUIDE = f"{ROOT}/docs/kubernetes.md"
# Prometheus' own, or given by it to every series.
SCRAPED = {"up": set()}
TARGET_LABELS = {"job", "instance"}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def alerts():
    return [rule for group in yaml.safe_load(read(RULES))["groups"] for rule in group["rules"]]


def panels():
    """Every panel that is no row."""
    return [p for p in json.loads(read(DASHBOARD))["panels"] if p["type"] != "row"]


def label_values(variable):
    """(series, label) that a variable of the dashboard takes its values from."""
    return re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()


def expressions():
    """(where, expression) of every alert, panel and dashboard variable."""
    found = [(f"alert {rule['alert']}", rule["expr"]) for rule in alerts()]
    found += [(f"panel {p['title']}", t["expr"]) for p in panels() for t in p["targets"]]
    for variable in json.loads(read(DASHBOARD))["templating"]["list"]:
        if variable["type"] == "query":
            series, label = label_values(variable)
            found.append((f"variable {variable['name']}", f"count by ({label}) ({series})"))
    return found


def documented():
    """{metric: its labels} of docs/metrics.md."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", read(METRICS), re.MULTILINE)
    found = {name: set(re.findall(r"`(\w+)`", labels)) for name, _, labels in rows}
    for name, kind, _ in rows:
        if kind == "histogram":
            found[f"{name}_bucket"] = found[name] | {"le"}
            found[f"{name}_count"] = found[f"{name}_sum"] = found[name]
    return found


_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "on", "without", "ignoring"}


def metrics_in(expression):
    """({metric: labels its matchers name}, labels it is grouped by)."""
    grouped = set(re.findall(r"\w+", " ".join(_GROUPING.findall(expression))))
    text = re.sub(r"\[[^]]*\]", "", _GROUPING.sub("", expression))
    named = {}
    for name, call, matchers in re.findall(
        r"\b([a-zA-Z_:][\w:]*)(\s*\()?(?:\{((?:[^}\"]|\"[^\"]*\")*)\})?", text
    ):
        if not call and name not in _WORDS:
            labels = re.findall(r"(\w+)\s*[=!]", re.sub(r'"[^"]*"', '""', matchers))
            named.setdefault(name, set()).update(labels)
    return named, grouped


def promtool(*words):
    return subprocess.run(
        ["promtool", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


class Files(unittest.TestCase):
    def test_promtool_accepts_the_rules(self):
        done = promtool("check", "rules", RULES)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_every_alert_fires_when_it_should_and_not_otherwise(self):
        tests = f"{os.path.dirname(os.path.abspath(__file__))}/weft_test.yaml"
        done = promtool("test", "rules", tests)
        self.assertEqual(done.returncode, 0, done.stdout)
        text = read(tests)
        for rule in alerts():
            self.assertRegex(text, rf'alertname="{rule["alert"]}"', "it is never shown firing")

    def test_alerts_say_what_is_wrong_how_bad_it_is_and_what_to_do(self):
        names = [rule["alert"] for rule in alerts()]
        self.assertEqual(len(names), len(set(names)))
        for rule in alerts():
            with self.subTest(rule["alert"]):
                self.assertRegex(rule["alert"], r"^Weft[A-Z]\w+$")
                self.assertIn(rule["labels"]["severity"], {"warning", "critical"})
                self.assertEqual(set(rule["annotations"]), {"summary", "description", "action"})
                self.assertIn(f"`{rule['alert']}`", read(GUIDE), "docs/kubernetes.md lists them")

    def test_every_metric_and_label_named_is_one_that_weftd_has(self):
        known = {**documented(), **SCRAPED}
        self.assertGreater(len(known), 30)
        for where, expression in expressions():
            with self.subTest(where):
                named, grouped = metrics_in(expression)
                self.assertTrue(named, "it names no metric")
                for name, labels in named.items():
                    self.assertIn(name, known)
                    self.assertLessEqual(labels - TARGET_LABELS, known[name], name)
                    self.assertLessEqual(grouped - TARGET_LABELS, known[name], name)

    def test_names_that_others_use_too_are_asked_of_job_weft_only(self):
        for rule in alerts():
            for selector in re.findall(r"\b(?:up|(?:process|istio)_\w+)\b[^[()]*", rule["expr"]):
                self.assertIn('{job="weft"', selector, rule["alert"])

    def test_the_dashboard_is_what_grafana_expects(self):
        dashboard = json.loads(read(DASHBOARD))
        self.assertEqual(dashboard["uid"], "weft-node-mesh", "links and updates go by the uid")
        self.assertNotIn("id", dashboard, "an id is of one Grafana's database")
        everything = dashboard["panels"]
        ids = [panel["id"] for panel in everything]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual(
            [panel["title"] for panel in everything if panel["type"] == "row"],
            [
                "Is it serving",
                "Propagation",
                "Connections per service",
                "Refused, by reason",
                "BPF maps",
                "Sources",
                "Agent CPU and memory",
            ],
        )
        cells = set()
        for panel in everything:
            grid = panel["gridPos"]
            self.assertLessEqual(grid["x"] + grid["w"], 24, panel["title"])
            for x in range(grid["x"], grid["x"] + grid["w"]):
                for y in range(grid["y"], grid["y"] + grid["h"]):
                    self.assertNotIn((x, y), cells, f"{panel['title']} lies on another panel")
                    cells.add((x, y))

    def test_panels_explain_themselves_and_take_the_chosen_data_source(self):
        source = {"type": "prometheus", "uid": "${datasource}"}
        variables = json.loads(read(DASHBOARD))["templating"]["list"]
        for panel in panels():
            with self.subTest(panel["title"]):
                self.assertTrue(panel["description"].endswith("."))
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                for part in (panel, *panel["targets"]):
                    self.assertEqual(part["datasource"], source)
                for target in panel["targets"]:
                    used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
                    self.assertLessEqual(used, {variable["name"] for variable in variables})
                    self.assertLessEqual({"job", "instance"}, used)


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

    def vector(self, expression):
        """[(labels, value)] of now."""
        return [
            (row["metric"], float(row["value"][1]))
            for row in self.api("query", query=expression)["result"]
        ]

    def value(self, expression):
        """The one value of an expression; None where it has none."""
        rows = self.vector(expression)
        if len(rows) > 1:
            raise AssertionError(f"{expression} has {len(rows)} values")
        return rows[0][1] if rows else None

    def last_scrape(self):
        return self.value("timestamp(weft_build_info)") or 0  # of one that was answered

    def wait_scrapes(self, count=3):
        """Until that many more scrapes are stored. The first may have begun before this call, and
        weftd's text may be 100 ms older than the scrape: the third is newer in any case."""
        for _ in range(count):
            before = self.last_scrape()
            wait_until(lambda: self.last_scrape() > before, 120, "another scrape")

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


class Scraped(ScrapedTest):
    def opened(self, service):
        return self.prometheus.value(
            f'sum(istio_tcp_connections_opened_total{{destination_service_name="{service}"}})'
        )

    def test_prometheus_counts_the_connections_made_also_over_a_restart_of_weftd(self):
        self.names(self.WEB, 1)
        self.prometheus.wait_scrapes()
        before = self.opened("web")
        by_endpoint = 'weft_endpoint_connections_opened_total{service="web"}'
        endpoints_before = {
            labels["endpoint"]: n for labels, n in self.prometheus.vector(by_endpoint)
        }

        jobs = [
            self.node[pod].start(client.traffic, self.WEB, 80)
            for pod in ("client", "client2", "client3")
        ]
        for job in jobs:
            job.receive()
        self.prometheus.wait_scrapes()
        self.weftd.restart()
        self.prometheus.wait_scrapes()
        results = [job.stop() for job in jobs]
        self.prometheus.wait_scrapes()

        self.assertEqual([failure for r in results for failure in r["failures"]], [])
        made = sum(result["requests"] for result in results)
        self.assertGreater(made, 0)
        self.assertEqual(self.opened("web") - before, made)
        endpoints = {labels["endpoint"]: n for labels, n in self.prometheus.vector(by_endpoint)}
        self.assertEqual(
            {at: endpoints[at] - endpoints_before.get(at, 0) for at in endpoints},
            {
                f"{self.node[name].v4}:8080": sum(r["by_name"].get(name, 0) for r in results)
                for name in "abc"
            },
        )
        self.assertEqual(
            self.prometheus.value(
                'sum(resets(istio_tcp_connections_opened_total{port="80"}[1h]))'
            ),
            0,
            "the counters are the kernel's: a restart of weftd takes nothing back",
        )

    def test_prometheus_counts_refusals_failures_and_udp(self):
        counted = [
            'sum(weft_connect_refused_total{reason="no_endpoint"})',
            'sum(weft_connect_refused_total{reason="family"})',
            'sum(istio_tcp_connections_failed_total{destination_service_name="dead"})',
            'sum(weft_udp_flows_opened_total{destination_service_name="dns"})',
            'sum(weft_events_total{event=~"refused_.*"})',
        ]

        def values():
            self.prometheus.wait_scrapes()
            return [self.prometheus.value(expression) or 0 for expression in counted]

        before = values()
        self.refuse(7)
        for _ in range(5):
            self.client.run(client.udp_ask_connected, self.DNS, 53)
        self.assertEqual([b - a for a, b in zip(before, values())], [7, 7, 7, 5, 14])

    def test_the_rules_load_and_evaluate(self):
        names = [rule["alert"] for rule in alerts()]
        wait_until(
            lambda: all(rule["health"] != "unknown" for rule in self.prometheus.rules()),
            120,
            "every rule was evaluated",
        )
        self.assertEqual(
            [(r["name"], r["health"], r.get("lastError")) for r in self.prometheus.rules()],
            [(name, "ok", None) for name in names],
        )

    def test_every_panel_shows_something_and_its_legend_names_labels_it_has(self):
        for _ in range(2):
            self.names(self.WEB, 3)
            self.refuse()
            self.client.run(client.udp_ask_connected, self.DNS, 53)
            self.prometheus.wait_scrapes()
        self.serve_service("test/fresh", ["10.96.0.20"], ["a"])
        self.prometheus.wait_scrapes()
        values = {"__rate_interval": "5m", "job": "weft"}
        for panel in panels():
            for target in panel["targets"]:
                with self.subTest(panel["title"]):
                    expression = re.sub(
                        r"\$(\w+)", lambda found: values.get(found[1], ".*"), target["expr"]
                    )
                    rows = self.prometheus.vector(expression)
                    self.assertTrue(rows, expression)
                    for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                        self.assertIn(label, rows[0][0], expression)

    def test_the_dashboards_variables_find_their_values(self):
        self.names(self.WEB, 3)
        self.prometheus.wait_scrapes()
        found = {}
        for variable in json.loads(read(DASHBOARD))["templating"]["list"]:
            if variable["type"] != "query":
                continue
            series, label = label_values(variable)
            rows = self.prometheus.vector(series.replace("$job", "weft"))
            found[variable["name"]] = {labels[label] for labels, _ in rows}
        self.assertEqual(found["job"], {"weft"})
        self.assertEqual(found["instance"], {"127.0.0.1:15020"})
        self.assertIn("web.test.svc.cluster.local", found["service"])
        self.assertIn("test", found["namespace"])


class Trouble(ScrapedTest):
    """Real trouble, and the alert for it. What has to last is looked for as pending: that it fires
    after its time is promtool's part."""

    FLAGS = ["--max-services=16", "--source-timeout=1s", "--hold-empty=1h"]

    @classmethod
    def prepare(cls):
        super().prepare()
        cls.write_ballast(40)
        cls.missing = f"{cls.node.dir}/missing"
        cls.weftd.sources.append(f"dir:{cls.missing}")

    def expect(self, name, act=lambda: None, **labels):
        """act() is repeated until the alert is there with these labels; its texts read well."""
        found = []

        def there():
            if self.weftd.process.poll() not in (None, 0):
                self.fail(f"weftd ended:\n{self.weftd.log_tail()}")
            act()
            found[:] = [
                alert
                for alert in self.prometheus.alerts(name)
                if labels.items() <= alert["labels"].items()
            ]
            return found

        wait_until(there, 120, f"alert {name} {labels}", pause=0.2)
        for alert in found:
            for text in alert["annotations"].values():
                self.assertNotRegex(text, r"<no value>|<error|\{\{|NaN|%!")

    def absent(self, *names):
        """Waits, because the first evaluation may be older than the first scrape."""
        for name in names:
            wait_until(lambda n=name: not self.prometheus.alerts(n), 120, f"no alert {name}")

    def test_trouble_raises_its_alert(self):
        # The traffic's alerts first: they want a rate, and everything below lasts.
        self.absent("WeftAgentDown", "WeftNoAgents", "WeftNotReady", "WeftMapNearlyFull")
        service = {"port": "80"}
        self.expect(
            "WeftServiceWithoutEndpoints",
            self.refuse,
            destination_service="empty.test.svc.cluster.local",
            **service,
        )
        self.expect(
            "WeftConnectionsRefused",
            self.refuse,
            destination_service="v4-backends.test.svc.cluster.local",
            reason="family",
            **service,
        )
        self.expect(
            "WeftConnectionsFailing",
            self.refuse,
            destination_service="dead.test.svc.cluster.local",
            **service,
        )
        self.expect("WeftSourceStale", uri=f"dir:{self.missing}")
        self.assertEqual(len(self.prometheus.alerts("WeftSourceStale")), 1)
        os.mkdir(self.missing)
        self.absent("WeftSourceStale")

        self.absent("WeftObjectsRejected", "WeftPolicyNotEnforced")
        self.mesh.write("broken.yaml", manifests.service("test/broken", ["10.96.0.30"], [99999]))
        self.expect("WeftObjectsRejected")
        rule = manifests.destination_rule("test/rule", "web.test.svc.cluster.local")
        rule["spec"]["trafficPolicy"] = {"tls": {"mode": "ISTIO_MUTUAL"}}
        self.mesh.write("rule.yaml", rule)
        self.expect("WeftPolicyNotEnforced")

        self.absent("WeftMapNearlyFull", "WeftServicesRefused")
        for number in range(8):
            self.write_service(f"test/more-{number}", [f"10.96.1.{number}"], ["a"])
        self.expect("WeftMapNearlyFull", map="weft_services")
        self.absent("WeftServicesRefused")
        for number in range(8, 16):
            self.write_service(f"test/more-{number}", [f"10.96.1.{number}"], ["a"])
        self.expect("WeftServicesRefused")

        self.absent("WeftHoldBackActive")
        self.mesh.remove("test-ballast.yaml")
        self.expect("WeftHoldBackActive")

        self.absent("WeftRestartLoop")
        start_time = 'process_start_time_seconds{job="weft"}'
        for _ in range(5):
            before = self.prometheus.value(start_time)
            self.weftd.restart()
            wait_until(
                lambda: (self.prometheus.value(start_time) or before) != before,
                120,
                "Prometheus has seen the new start",
            )
        self.expect("WeftRestartLoop")

        self.absent("WeftAgentDown")
        self.weftd.stop()
        self.expect("WeftAgentDown")

        self.weftd.sources = [f"dir:{self.missing}/again"]
        self.weftd.flags = ["--max-services=16", "--source-timeout=1h"]
        self.weftd.start(wait=False)
        self.expect("WeftNotReady")
        self.absent("WeftNoAgents", "WeftWritesFailing")


del ScrapedTest, NodeTest  # a base alone is no test

if __name__ == "__main__":
    main()
