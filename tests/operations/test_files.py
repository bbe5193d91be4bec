#!/usr/bin/python3
"""The dashboard and the alert rules, as files: what they name exists, and what they say helps."""

import json
import os
import re
import subprocess
import unittest

from operations import DASHBOARD, ROOT, RULES, alerts, label_values, panels, read

METRICS = f"{ROOT}/docs/metrics.md"
GUIDE = f"{ROOT}/docs/kubernetes.md"
# Prometheus' own, or given by it to every series.
SCRAPED = {"up": set()}
TARGET_LABELS = {"job", "instance"}


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


if __name__ == "__main__":
    unittest.main(verbosity=2)
