#!/usr/bin/python3
"""Real trouble, and the alert for it in a real Prometheus."""

import os

import prometheus
from prometheus import main, manifests, wait_until


class Trouble(prometheus.ScrapedTest):
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
        wait_until(
            lambda: len(self.prometheus.alerts("WeftSourceStale")) == 1, 120, "of one source only"
        )
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
            before = wait_until(lambda: self.prometheus.value(start_time), 120, "its start")
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


if __name__ == "__main__":
    main()
