#!/usr/bin/python3
"""weftctl as a contract: its JSON, its exit statuses, and that it works without an agent."""

import json
import os

from harness import PORT, NodeTest, main, manifests, wait_until

ANY = object()


class Cli(NodeTest):
    @classmethod
    def prepare(cls):
        cls.write_service(
            "test/web",
            ["10.96.0.10", "fd00:96::10"],
            ["a", "b", manifests.endpoint(cls.node["c"].v4, ready=False, serving=False)],
            family="v4",
        )
        cls.write_service("test/sticky", ["10.96.0.11"], ["a"], affinity_seconds=60)

    def setUp(self):
        if not self.weftd.running():
            self.weftd.start()
        self.weftd.wait_service("test/sticky", 1)

    def assert_keys(self, value, **types):
        """`value` has every key with a value of its type (ANY: whatever)."""
        for key, kind in types.items():
            self.assertIn(key, value)
            if kind is not ANY:
                self.assertIsInstance(value[key], kind, f"{key} in {value}")

    def test_status_has_the_contracts_shape(self):
        status = self.weftd.ctl("status")
        self.assert_keys(
            status,
            version=str,
            node=str,
            generation=int,
            sources=list,
            hooks=list,
            features=list,
            neighbours=list,
            maps=list,
            proxy=dict,
            last_apply=dict,
        )
        self.assertEqual(status["node"], self.node.name)
        self.assertGreater(status["generation"], 0)
        self.assert_keys(
            status["sources"][0], uri=str, state=str, age_seconds=(int, float), error=ANY
        )
        self.assertEqual(status["sources"][0]["uri"], f"dir:{self.node.manifest_dir}")
        for hook in status["hooks"]:
            self.assert_keys(hook, name=str, attached=bool, cgroup=str, link_id=int)
            self.assertTrue(hook["attached"], hook)
            self.assertEqual(hook["cgroup"], self.node.cgroup)
        names = {hook["name"] for hook in status["hooks"]}
        self.assertLessEqual(
            {
                "connect4",
                "connect6",
                "sendmsg4",
                "sendmsg6",
                "recvmsg4",
                "recvmsg6",
                "getpeername4",
                "getpeername6",
            },
            names,
        )
        for feature in status["features"]:
            self.assert_keys(feature, name=str, enabled=bool, reason=ANY)
        for row in status["maps"]:
            self.assert_keys(
                row, name=str, type=str, entries=int, max_entries=int, pressure=(int, float)
            )
        self.assert_keys(status["proxy"], state=str)

    def test_kernel_features_that_are_missing_are_listed(self):
        for feature in self.weftd.ctl("status")["features"]:
            if not feature["enabled"]:
                print(
                    f"not run: kernel feature {feature['name']} ({feature['reason']})", flush=True
                )

    def check_service(self, service):
        self.assert_keys(
            service,
            namespace=str,
            name=str,
            addresses=list,
            ports=list,
            balancer=str,
            endpoints=dict,
            generation=int,
        )
        self.assert_keys(service["endpoints"], total=int, ready=int, draining=int, ejected=int)
        for port in service["ports"]:
            self.assert_keys(port, name=str, port=int, protocol=str, path=str, reason=ANY)
            self.assertEqual((port["protocol"], port["path"]), ("TCP", "kernel"))

    def test_service_list_and_show_have_the_contracts_shape(self):
        services = {f"{s['namespace']}/{s['name']}": s for s in self.weftd.ctl("service", "list")}
        self.assertLessEqual({"test/web", "test/sticky"}, set(services))
        for service in services.values():
            self.check_service(service)
        shown = self.weftd.service("test/web")
        self.check_service(shown)
        self.assertEqual(set(shown["addresses"]), {"10.96.0.10", "fd00:96::10"})
        self.assertEqual({port["port"] for port in shown["ports"]}, {80})

    def test_endpoint_list_has_the_contracts_shape(self):
        for endpoint in self.weftd.ctl("endpoint", "list", "--service", "test/web"):
            self.assert_keys(
                endpoint,
                id=int,
                service=str,
                port=ANY,
                address=str,
                target_port=int,
                weight=int,
                priority=int,
                zone=ANY,
                node=ANY,
                state=str,
                connections=dict,
                rtt_us=ANY,
            )
            self.assert_keys(endpoint["connections"], active=int, opened=int, failed=int)
            self.assertEqual((endpoint["service"], endpoint["target_port"]), ("test/web", PORT))
        states = {e["address"]: e["state"] for e in self.weftd.ctl("endpoint", "list")}
        self.assertEqual(states[self.node["a"].v4], "ready")
        self.assertEqual(states[self.node["c"].v4], "not_ready")

    def test_map_list_and_dump_and_prog_list_are_json(self):
        maps = {row["name"] for row in self.weftd.ctl("map", "list")}
        self.assertLessEqual(
            {"weft_frontends", "weft_services", "weft_slots", "weft_endpoints"}, maps
        )
        for name in ("weft_frontends", "weft_endpoints", "weft_events"):
            self.assertTrue(self.weftd.ctl("map", "dump", name), name)
        self.assertTrue(self.weftd.ctl("prog", "list"))

    def test_why_names_the_service_and_its_candidates(self):
        told = json.dumps(
            self.weftd.ctl("why", "--from", str(self.client.worker.pid), "--to", "10.96.0.10:80")
        )
        for word in ("test/web", self.node["a"].v4, self.node["b"].v4, self.node["c"].v4):
            self.assertIn(word, told)
        elsewhere = self.weftd.ctl_raw(
            "-j", "why", "--from", str(self.client.worker.pid), "--to", "10.96.77.77:80"
        )
        self.assertNotIn("test/web", elsewhere.stdout)

    def test_why_says_pass_for_a_process_that_is_not_served(self):
        told = self.weftd.ctl("why", "--from", str(os.getpid()), "--to", "10.96.0.10:80")
        self.assertEqual(told["verdict"], "pass")
        self.assertIn("outside of", " ".join(told["notes"]))
        self.assertEqual(told["endpoint"], None)

    def test_why_does_not_take_anybodys_turn(self):
        before = self.names("10.96.0.10", 2)
        for _ in range(3):
            self.weftd.ctl("why", "--from", str(self.client.worker.pid), "--to", "10.96.0.10:80")
        self.assertEqual(self.names("10.96.0.10", 2), before)

    def test_audit_agrees_and_names_a_hook_that_is_gone(self):
        self.weftd.ctl("audit")
        pin = next(path for path in self.node.pinned() if path.endswith("getpeername4"))
        self.weftd.kill9()
        os.unlink(pin)
        done = self.weftd.ctl_raw("audit")
        self.assertEqual(done.returncode, 1)
        self.assertIn("getpeername4", done.stdout + done.stderr)
        self.weftd.start()
        self.weftd.ctl("audit")

    def test_wait_returns_when_it_is_so_and_fails_after_its_timeout(self):
        self.assertEqual(
            self.weftd.ctl_raw("wait", "--service", "test/sticky", "--ready", "1").returncode, 0
        )
        late = self.weftd.ctl_raw(
            "wait", "--service", "test/sticky", "--ready", "7", "--timeout", "100ms"
        )
        self.assertEqual(late.returncode, 1)
        self.assertEqual(len(late.stderr.strip().splitlines()), 1, late.stderr)
        generation = self.weftd.ctl("status")["generation"]
        self.assertEqual(self.weftd.ctl_raw("wait", "--generation", str(generation)).returncode, 0)
        self.write_service("test/more", ["10.96.0.12"], ["b"])
        self.assertEqual(
            self.weftd.ctl_raw("wait", "--generation", str(generation + 1)).returncode, 0
        )
        self.assertGreater(self.weftd.ctl("status")["generation"], generation)

    def test_everything_that_reads_maps_works_with_the_agent_stopped(self):
        services = {s["name"] for s in self.weftd.ctl("service", "list")}
        self.weftd.kill9()
        self.assertEqual({s["name"] for s in self.weftd.ctl("service", "list")}, services)
        self.check_service(self.weftd.service("test/web"))
        self.assertEqual(len(self.weftd.endpoints("test/web")), 3)
        self.assertTrue(self.weftd.ctl("map", "list"))
        self.assertTrue(self.weftd.ctl("map", "dump", "weft_frontends"))
        self.assertTrue(self.weftd.ctl("prog", "list"))
        told = self.weftd.ctl("why", "--from", str(self.client.worker.pid), "--to", "10.96.0.10:80")
        self.assertIn("test/web", json.dumps(told))
        status = self.weftd.ctl("status")
        self.assertTrue(all(hook["attached"] for hook in status["hooks"]))
        self.assertEqual(
            self.weftd.ctl_raw("wait", "--service", "test/sticky", "--ready", "1").returncode, 0
        )

    def test_exit_status_1_is_one_line_and_2_is_usage(self):
        for words in (["service", "show", "test/nobody"], ["map", "dump", "nobody"]):
            done = self.weftd.ctl_raw(*words)
            self.assertEqual(done.returncode, 1, words)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            self.assertIn("nobody", done.stderr)
        for words in (["nonsense"], ["service", "nonsense"], ["wait", "--nonsense"], []):
            self.assertEqual(self.weftd.ctl_raw(*words).returncode, 2, words)

    def test_every_object_has_help(self):
        for words in (
            ["help"],
            ["help", "wait"],
            ["service", "help"],
            ["endpoint", "help"],
            ["map", "help"],
            ["prog", "help"],
            ["status", "help"],
            ["why", "help"],
            ["route", "help"],
            ["audit", "help"],
            ["wait", "help"],
            ["check", "help"],
            ["confirm", "help"],
            ["--help"],
        ):
            done = self.weftd.ctl_raw(*words)
            self.assertEqual(done.returncode, 0, words)
            about = next((word for word in words if word.isalpha() and word != "help"), "weftctl")
            usage = "Usage: weftctl " + ("" if about == "weftctl" else about)
            self.assertIn(usage, done.stdout)
        self.assertEqual(self.weftd.ctl_raw("help", "nonsense").returncode, 2)

    def test_plain_and_pretty_output_exist(self):
        self.assertIn("test/web", self.weftd.ctl_raw("service", "list").stdout)
        pretty = self.weftd.ctl_raw("-p", "service", "list").stdout
        self.assertGreater(len(pretty.splitlines()), 5)
        json.loads(pretty)

    def test_check_accepts_what_is_good_and_names_what_is_not(self):
        good = f"{self.node.dir}/check-good"
        bad = f"{self.node.dir}/check-bad"
        for folder in (good, bad):
            os.makedirs(folder)
        service = manifests.service("shop/fine", ["10.96.3.1"], [manifests.service_port(80, PORT)])
        with open(f"{good}/web.yaml", "w", encoding="utf-8") as file:
            file.write(manifests.to_yaml(service))
        self.assertEqual(self.weftd.ctl_raw("check", good).returncode, 0)
        with open(f"{bad}/web.yaml", "w", encoding="utf-8") as file:
            file.write(manifests.to_yaml(manifests.service("shop/bad", ["10.96.3.2"], [70000])))
        done = self.weftd.ctl_raw("check", bad)
        self.assertEqual(done.returncode, 1)
        self.assertIn("web.yaml:", done.stdout + done.stderr)
        self.assertIn("70000", done.stdout + done.stderr)

    def test_check_refuses_a_policy_that_cannot_be_enforced(self):
        folder = f"{self.node.dir}/check-policy"
        os.makedirs(folder)
        policy = {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"namespace": "shop", "name": "deny-all"},
            "spec": {},
        }
        with open(f"{folder}/policy.yaml", "w", encoding="utf-8") as file:
            file.write(manifests.to_yaml(policy))
        done = self.weftd.ctl_raw("check", folder)
        self.assertEqual(done.returncode, 1)
        self.assertIn("AuthorizationPolicy", done.stdout + done.stderr)
        self.mesh.write("policy.yaml", policy)
        wait_until(
            lambda: "deny-all" in json.dumps(self.weftd.ctl("status")),
            what="status names the policy",
        )
        self.mesh.remove("policy.yaml")

    def test_completion_for_bash_names_the_objects(self):
        done = self.weftd.ctl_raw("completion", "bash")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("endpoint", done.stdout)


if __name__ == "__main__":
    main()
