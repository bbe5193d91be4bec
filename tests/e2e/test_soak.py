#!/usr/bin/python3
"""Connects by the hundred thousand (with scripts/test --long: ten million) while backends come and go,
limits change, breakers open, clients are killed and weftd is killed and started again. Afterwards every
count is exact and audit agrees."""

import random
import time

from harness import LONG, NodeTest, main, manifests, tool_path, wait_until, weftlab

PORT = 9000
CONNECTS = 10_000_000 if LONG else 100_000
SERVICE, ADDRESS = "test/soak", "10.96.0.10"


class Soak(NodeTest):
    PODS = ["one", "two", "a", "b", "c", "d"]
    BACKENDS = []
    SERVERS = ["a", "b", "c", "d"]

    @classmethod
    def prepare(cls):
        cls.servers = {}
        cls.random = random.Random()
        cls.transitions = 0
        cls.write_ballast()
        for name in cls.SERVERS:
            cls.up(name)
        cls.write(0)

    @classmethod
    def up(cls, name):
        if name not in cls.servers:
            pod = cls.node[name]
            cls.servers[name] = pod.start(
                weftlab.tool.job, [tool_path("weft_storm"), "serve", f"{pod.v4}:{PORT}"]
            )
            cls.servers[name].receive()

    @classmethod
    def write(cls, step):
        """Another limit, another balancer, with each step."""
        balancer = ["round-robin", "random", "least-request", "peak-ewma", "maglev"][step % 5]
        limit = [1000, 20, 5, 100][step % 4]
        cls.mesh.write(
            "soak.yaml",
            manifests.service(
                SERVICE,
                [ADDRESS],
                [manifests.service_port(80, PORT)],
                annotations={"weft.mesh/balancer": balancer},
            ),
            manifests.endpoint_slice(SERVICE, [cls.node[n].v4 for n in cls.SERVERS], [PORT]),
            manifests.destination_rule(
                SERVICE,
                "soak",
                outlierDetection={
                    "consecutiveLocalOriginFailures": 1 + step % 3,
                    "baseEjectionTime": "50ms",
                    "maxEjectionPercent": 75,
                },
                connectionPool={"tcp": {"maxConnections": limit}},
            ),
        )

    def storm(self, pod):
        return pod.start(
            weftlab.tool.job,
            [tool_path("weft_storm"), "closed", "16", "3600", f"{ADDRESS}:80"],
        )

    def transitions_now(self):
        return self.weftd.metrics().sum("weft_breaker_transitions_total")

    def opened(self):
        return sum(row["connections"]["opened"] for row in self.rows())

    def rows(self):
        return self.weftd.ctl("endpoint", "list", "--service", SERVICE)

    def disturb(self, step):
        """One of the things that happen to a node."""
        name = self.random.choice(self.SERVERS)
        kind = step % 4
        if kind == 0 and name in self.servers:
            self.servers.pop(name).stop()
        elif kind == 1:
            for missing in self.SERVERS:
                self.up(missing)
        elif kind == 2:
            self.write(step // 4)
        elif step % 16 == 3:
            self.transitions += self.transitions_now()  # an agent counts its own
            self.weftd.kill9()
            self.weftd.start()
        else:
            endpoint = f"{self.node[name].v4}:{PORT}"
            self.weftd.ctl_raw("breaker", self.random.choice(["open", "close", "reset"]), endpoint, "--for", "1s")

    def test_counts_are_exact_after_everything(self):
        clients = [self.node["one"], self.node["two"]]
        jobs = [self.storm(pod) for pod in clients]
        total, seen, step, deadline = 0, self.opened(), 0, time.monotonic() + (7200 if LONG else 600)
        while total < CONNECTS:
            self.assertLess(time.monotonic(), deadline, f"only {total} of {CONNECTS} connects")
            self.disturb(step)
            step += 1
            number = self.random.randrange(len(jobs))
            if step % 3 == 0:
                jobs[number].kill()  # in the middle of whatever it does
                jobs[number] = self.storm(clients[number])
            time.sleep(0.05)  # the pace of disturbances, not a wait for anything
            now = self.opened()
            total += now - seen if now >= seen else now
            seen = now
        for job in jobs:
            job.kill()
        wait_until(
            lambda: all(row["connections"]["active"] == 0 for row in self.rows()),
            60,
            "nothing is in flight",
        )
        states = self.weftd.ctl("map", "dump", "weft_service_states")
        self.assertEqual([s["active"] for s in states if s.get("active")], [])
        self.weftd.ctl("audit")
        self.assertGreater(self.transitions + self.transitions_now(), 0)
        samples = self.weftd.metrics()
        self.assertEqual(samples.sum("weft_events_total", event="storage_failed"), 0)
        print(f"{total:,} connects, {step} disturbances", flush=True)


if __name__ == "__main__":
    main()
