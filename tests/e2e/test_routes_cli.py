#!/usr/bin/python3
"""`weftctl route list` and `why` on a port with HTTP rules: the article's, for Services with addresses."""

import os
import shutil

from harness import NodeTest, main, wait_until

ARTICLE = os.path.abspath(f"{os.path.dirname(__file__)}/../golden/article")
NAMESPACE = "service-mesh-app"
A, B = "10.96.0.1", "10.96.0.2"
RULE = f"VirtualService {NAMESPACE}/service-a"


class RoutesCli(NodeTest):
    @classmethod
    def prepare(cls):
        cls.write_service(f"{NAMESPACE}/service-a", [A], ["a"])
        cls.write_service(f"{NAMESPACE}/service-b", [B], ["b", "c"])
        cls.write_service("elsewhere/plain", ["10.96.0.3"], ["a"])
        for name in ("virtual-service.yaml", "destination-rule.yaml"):
            shutil.copy(f"{ARTICLE}/{name}", f"{cls.mesh.path}/article-{name}")

    def setUp(self):
        if not self.weftd.running():
            self.weftd.start()
        self.weftd.wait_service(f"{NAMESPACE}/service-b", 2)

        def serves():
            proxy = self.weftd.ctl("status")["proxy"]
            return proxy["state"] == "serving" and proxy["captured"] >= 4

        wait_until(serves, 30, "a proxy serves the node's pods")

    def why(self, *words, address=A):
        pid = str(self.client.worker.pid)
        return self.weftd.ctl("why", "--from", pid, "--to", f"{address}:80", *words)

    def why_text(self, *words):
        pid = str(self.client.worker.pid)
        return self.weftd.ctl_raw("why", "--from", pid, "--to", f"{A}:80", *words).stdout

    def test_route_list_has_the_order_of_trial(self):
        (port,) = self.weftd.ctl("route", "list", "--service", f"{NAMESPACE}/service-a")
        self.assertEqual((port["port"], port["kind"]), (80, "VirtualService"))
        self.assertEqual(port["otherwise"], f"{NAMESPACE}/service-a:80")
        (rule,) = port["rules"]
        self.assertEqual((rule["number"], rule["object"]), (0, RULE))
        self.assertTrue(rule["file"].endswith("article-virtual-service.yaml"), rule["file"])
        self.assertEqual(rule["line"], 10)
        self.assertEqual(rule["matches"], ["prefix /service-b"])
        self.assertEqual(rule["destinations"][0]["cluster"], f"{NAMESPACE}/service-b:80")
        text = self.weftd.ctl_raw("route", "list").stdout
        for words in ("prefix /service-b", "otherwise", "article-virtual-service.yaml:10"):
            self.assertIn(words, text)

    def test_route_list_fails_with_one_line_for_what_is_not_there(self):
        for name in ("test/nobody", "nobody"):
            done = self.weftd.ctl_raw("route", "list", "--service", name)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            self.assertIn("nobody", done.stderr)

    def test_why_names_the_rule_that_won_and_its_endpoints(self):
        told = self.why("--path", "/x/../service-b//list?q=1")
        self.assertEqual((told["path"], told["verdict"]), ("proxy", "capture"))
        routing = told["routing"]
        self.assertEqual((routing["path"], routing["rule"]), ("/service-b/list", 0))
        self.assertEqual(routing["rules"][0]["line"], 10)
        (cluster,) = routing["clusters"]
        self.assertEqual(
            {e["address"]: e["state"] for e in cluster["endpoints"]},
            {self.node[name].v4: "ready" for name in "bc"},
        )
        text = self.why_text("--path", "/service-b")
        for words in ("path        proxy", f"rule        0, {RULE}", "(it won)", "yaml:10"):
            self.assertIn(words, text)

    def test_why_says_what_the_kernel_knows_of_an_endpoints_breaker(self):
        shown = self.weftd.endpoints(f"{NAMESPACE}/service-b")
        number = next(e["id"] for e in shown.values() if e["address"] == self.node["b"].v4)
        self.weftd.ctl("breaker", "open", str(number), "--for", "60s")
        self.addCleanup(self.weftd.ctl, "breaker", "reset", str(number))
        (cluster,) = self.why("--path", "/service-b")["routing"]["clusters"]
        states = {e["address"]: e["state"] for e in cluster["endpoints"]}
        self.assertEqual(states[self.node["b"].v4], "ejected")

    def test_why_says_why_a_rule_did_not_win_and_what_happens_then(self):
        told = self.why("--method", "POST", "--path", "/else", "--header", "host=shop.example")
        routing = told["routing"]
        self.assertEqual(routing["rule"], None)
        self.assertEqual(routing["authority"], "shop.example")
        self.assertIn("path /else", routing["rules"][0]["why"])
        self.assertEqual([c["name"] for c in routing["clusters"]], [f"{NAMESPACE}/service-a:80"])
        self.assertIn("none matches", self.why_text("--path", "/else"))

    def test_why_for_a_service_of_the_kernel_has_no_rules(self):
        told = self.why("--path", "/service-b", address="10.96.0.3")
        self.assertEqual((told["path"], told["routing"]), ("kernel", None))
        self.assertIn("play no part", " ".join(told["notes"]))

    def test_without_the_agent_the_rules_are_said_to_be_unknown(self):
        self.weftd.kill9()
        self.addCleanup(self.weftd.start)
        told = self.why("--path", "/service-b")
        self.assertEqual((told["path"], told["routing"]), ("proxy", None))
        self.assertIn("only known with the agent up", " ".join(told["notes"]))
        done = self.weftd.ctl_raw("route", "list")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no agent answers", done.stderr)

    def test_a_header_without_a_value_is_wrong_usage(self):
        pid = str(self.client.worker.pid)
        done = self.weftd.ctl_raw("why", "--from", pid, "--to", f"{A}:80", "--header", "x")
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    main()
