#!/usr/bin/python3
"""The article's worked cases 1 and 2 (tests/golden/article/README.md), at its very addresses."""

import os
import shutil

from harness import PORT, NodeTest, client, main, manifests, wait_until

ARTICLE = os.path.abspath(f"{os.path.dirname(__file__)}/../golden/article")
SERVICE = "service-mesh-app/service-c"
ADDRESS = "10.96.0.1"
FIRST, SECOND, THIRD = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class Article(NodeTest):
    PODS = ["one", "two", "three", "client"]
    BACKENDS = ["one", "two", "three"]
    NODE = {"v4": "10.0.0.0/24"}

    def setUp(self):
        self.assertEqual([self.node[name].v4 for name in self.BACKENDS], [FIRST, SECOND, THIRD])

    def write(self, *states):
        endpoints = [
            manifests.endpoint(address, ready=state == "UP")
            for address, state in zip((FIRST, SECOND, THIRD), states)
        ]
        self.serve_service(SERVICE, [ADDRESS], endpoints)

    def states(self):
        shown = self.weftd.endpoints(SERVICE)
        return [
            "UP" if shown[f"{address}:{PORT}"]["state"] == "ready" else "DOWN"
            for address in (FIRST, SECOND, THIRD)
        ]

    def test_case_1_discovery_sees_exactly_the_states_given(self):
        self.write("UP", "DOWN", "UP")
        self.assertEqual(self.states(), ["UP", "DOWN", "UP"])
        self.assertEqual(self.weftd.endpoints(SERVICE)[f"{SECOND}:{PORT}"]["state"], "not_ready")
        self.write("UP", "UP", "UP")
        self.assertEqual(self.states(), ["UP", "UP", "UP"])

    def test_case_2_connections_visit_the_routes_in_turn(self):
        self.write("UP", "UP", "UP")
        self.assert_in_order(["one", "two", "three"])
        self.write("UP", "DOWN", "UP")
        self.assert_in_order(["one", "three"])

    def assert_in_order(self, expected):
        """In turn, in the list's own order; which one comes first is the cursor's business."""
        names = self.names(ADDRESS, 4 * len(expected))
        start = expected.index(names[0])
        turn = expected[start:] + expected[:start]
        self.assertEqual(names, turn * 4)

    def test_the_articles_manifests_load_unchanged_with_a_warning_for_the_virtual_service(self):
        for name in ("services.yaml", "virtual-service.yaml", "destination-rule.yaml"):
            shutil.copy(f"{ARTICLE}/{name}", f"{self.mesh.path}/article-{name}")
        wanted = {("service-mesh-app", "service-a"), ("service-mesh-app", "service-b")}
        wait_until(
            lambda: wanted
            <= {(s["namespace"], s["name"]) for s in self.weftd.ctl("service", "list")},
            what="both services are listed",
        )
        done = self.weftd.ctl_raw("check", ARTICLE)
        self.assertIn("VirtualService", done.stdout + done.stderr)
        self.assertIn("virtual-service.yaml:8: warning", done.stdout + done.stderr)
        self.assertIn("covers the services of its own namespace only", done.stdout + done.stderr)
        self.assertNotIn(": rejected:", done.stdout + done.stderr)

    def test_the_articles_manifests_do_not_disturb_a_service(self):
        self.write("UP", "UP", "UP")
        self.assertIsNone(self.client.run(client.ask, ADDRESS, 80)["error"])


if __name__ == "__main__":
    main()
