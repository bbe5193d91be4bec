#!/usr/bin/python3
"""A real Prometheus that scrapes a real weftd sees the connections that were made, and the
dashboard shows them."""

import json
import re

import prometheus
from operations import DASHBOARD, alerts, label_values, panels, read
from prometheus import client, main, wait_until


class Scraped(prometheus.ScrapedTest):
    def opened(self, service, at):
        return self.prometheus.value(
            f'sum(istio_tcp_connections_opened_total{{destination_service_name="{service}"}})', at
        )

    def test_prometheus_counts_the_connections_made_also_over_a_restart_of_weftd(self):
        self.names(self.WEB, 1)
        at = self.prometheus.wait_scrapes()
        before = self.opened("web", at)
        by_endpoint = 'weft_endpoint_connections_opened_total{service="web"}'
        endpoints_before = {
            labels["endpoint"]: n for labels, n in self.prometheus.vector(by_endpoint, at)
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
        at = self.prometheus.wait_scrapes()

        self.assertEqual([failure for r in results for failure in r["failures"]], [])
        made = sum(result["requests"] for result in results)
        self.assertGreater(made, 0)
        self.assertEqual(self.opened("web", at) - before, made)
        endpoints = {labels["endpoint"]: n for labels, n in self.prometheus.vector(by_endpoint, at)}
        self.assertEqual(
            {where: n - endpoints_before.get(where, 0) for where, n in endpoints.items()},
            {
                f"{self.node[name].v4}:8080": sum(r["by_name"].get(name, 0) for r in results)
                for name in "abc"
            },
        )
        self.assertEqual(
            self.prometheus.value(
                'sum(resets(istio_tcp_connections_opened_total{port="80"}[1h]))', at
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
            at = self.prometheus.wait_scrapes()
            return [self.prometheus.value(expression, at) or 0 for expression in counted]

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
        at = self.prometheus.wait_scrapes()
        values = {"__rate_interval": "5m", "job": "weft"}
        for panel in panels():
            for target in panel["targets"]:
                with self.subTest(panel["title"]):
                    expression = re.sub(
                        r"\$(\w+)", lambda found: values.get(found[1], ".*"), target["expr"]
                    )
                    rows = self.prometheus.vector(expression, at)
                    self.assertTrue(rows, expression)
                    for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                        self.assertIn(label, rows[0][0], expression)

    def test_the_dashboards_variables_find_their_values(self):
        self.names(self.WEB, 3)
        at = self.prometheus.wait_scrapes()
        found = {}
        for variable in json.loads(read(DASHBOARD))["templating"]["list"]:
            if variable["type"] != "query":
                continue
            series, label = label_values(variable)
            rows = self.prometheus.vector(series.replace("$job", "weft"), at)
            found[variable["name"]] = {labels[label] for labels, _ in rows}
        self.assertEqual(found["job"], {"weft"})
        self.assertEqual(found["instance"], {"127.0.0.1:15020"})
        self.assertIn("web.test.svc.cluster.local", found["service"])
        self.assertIn("test", found["namespace"])


if __name__ == "__main__":
    main()
