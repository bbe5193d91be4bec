#!/usr/bin/python3
"""Requests go where the rules of their service say: the article's, VirtualService's, HTTPRoute's; and
what is no service with rules is let alone."""

import socket
from collections import Counter

from harness import client, main, manifests, server, wait_until
from routes_harness import (
    BACKEND_PORT,
    RoutesTest,
    article,
    everything_to,
    fetch,
    http_route,
    to,
    virtual_service,
)

PORTS = [manifests.service_port(80, BACKEND_PORT)]


def closed_at_once(address, port):
    """What a connection that sends a request reads: b"" or the error's name."""
    with socket.create_connection((address, port), 10) as sock:
        try:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            return sock.recv(1000)
        except OSError as error:
            return client.error_name(error)


class Article(RoutesTest):
    """The article's manifests with the addresses that a cluster would have given them."""

    PODS = ["client", "other", "service-a", "service-b", "elsewhere"]
    ADDRESSES = {"service-a": "10.96.0.1", "service-b": "10.96.0.2"}
    ELSEWHERE = "10.96.0.3"

    @classmethod
    def prepare(cls):
        services = [each for each in article("services.yaml") if each["kind"] == "Service"]
        for service in services:
            service["spec"]["clusterIP"] = cls.ADDRESSES[service["metadata"]["name"]]
        cls.mesh.write("services.yaml", *services)
        cls.mesh.write("virtual-service.yaml", *article("virtual-service.yaml"))
        cls.mesh.write("destination-rule.yaml", *article("destination-rule.yaml"))
        cls.write_pods("service-mesh-app")
        cls.write_service("elsewhere/service-a", [cls.ELSEWHERE], ["elsewhere"])

    def setUp(self):
        super().setUp()
        for name in self.ADDRESSES:
            self.weftd.wait_service(f"service-mesh-app/{name}", 1)
        self.weftd.wait_service("elsewhere/service-a", 1)

    def ask(self, service, paths):
        return [
            (answer["body"]["name"], answer["body"]["path"])
            for answer in self.fetch(self.ADDRESSES[service], paths)
        ]

    def test_service_a_serves_itself_what_the_rule_does_not_match(self):
        paths = ["/", "/other", "/service-", "/x/service-b", "/?q=/service-b"]
        self.assertEqual(self.ask("service-a", paths), [("service-a", path) for path in paths])

    def test_what_begins_with_service_b_goes_to_service_b_unchanged(self):
        paths = ["/service-b", "/service-b/x", "/service-bar", "/service-b/x?y=z"]
        self.assertEqual(self.ask("service-a", paths), [("service-b", path) for path in paths])

    def test_service_b_serves_every_path(self):
        paths = ["/", "/service-b", "/service-a", "/service-b/x"]
        self.assertEqual(self.ask("service-b", paths), [("service-b", path) for path in paths])

    def test_a_service_of_another_namespace_is_left_to_the_kernel(self):
        for path in ("/", "/service-b"):
            answer = self.get(self.ELSEWHERE, path)
            self.assertEqual(answer["body"]["name"], "elsewhere")
            self.assertFalse(self.is_captured(answer))
        self.assertTrue(self.is_captured(self.get(self.ADDRESSES["service-a"])))

    def test_which_service_was_dialled_counts_and_not_the_host_header(self):
        answer = self.get(self.ADDRESSES["service-a"], headers={"Host": "service-b"})
        self.assertEqual((answer["body"]["name"], answer["body"]["host"]), ("service-a", "service-b"))


class VirtualServices(RoutesTest):
    LABELS = {"a": {"app": "web", "version": "v1"}, "b": {"app": "web", "version": "v2"}}
    WEB, OTHER, PICKY, BY_NODE = (f"10.96.0.{n}" for n in range(10, 14))
    SIX_V6 = "fd00:96::12"

    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.write_web()
        cls.mesh.write(
            "other.yaml",
            manifests.service("test/c", [cls.OTHER], PORTS, selector={"app": "c"}),
            manifests.service("test/picky", [cls.PICKY], PORTS, selector={"app": "c"}),
            virtual_service(
                "test/picky", "picky", {"match": [{"uri": {"exact": "/only"}}], "route": [to("picky")]}
            ),
            manifests.service("test/six", [cls.SIX_V6], PORTS, selector={"app": "c"}),
            everything_to("test/six"),
            manifests.service(
                "test/node",
                [cls.BY_NODE],
                PORTS,
                selector={"app": "c"},
                annotations={"weft.mesh/source-address": "node"},
            ),
            everything_to("test/node"),
        )

    @classmethod
    def write_web(cls):
        v1, v2 = to("web", "v1"), to("web", "v2")
        prefix = lambda path: [{"uri": {"prefix": path}}]  # noqa: E731
        cls.mesh.write(
            "web.yaml",
            manifests.service("test/web", [cls.WEB], PORTS, selector={"app": "web"}),
            manifests.destination_rule(
                "test/web", "web", subsets={v: {"version": v} for v in ("v1", "v2")}
            ),
            virtual_service(
                "test/web",
                "web",
                {"match": [{"headers": {"x-user": {"exact": "beta"}}}], "route": [v2]},
                {
                    "match": prefix("/share"),
                    "route": [{**v1, "weight": 90}, {**v2, "weight": 10}],
                },
                {
                    "match": [{"uri": {"exact": "/old"}}],
                    "redirect": {"uri": "/new", "redirectCode": 308},
                },
                {
                    "match": prefix("/api/"),
                    "rewrite": {"uri": "/v2/", "authority": "inner.example"},
                    "route": [to("c")],
                },
                {
                    "match": prefix("/said"),
                    "directResponse": {"status": 418, "body": {"string": "a teapot"}},
                },
                {"match": prefix("/slow"), "timeout": "3s", "route": [v1]},
                {
                    "match": prefix("/again"),
                    "retries": {"attempts": 2, "retryOn": "503"},
                    "route": [to("web")],
                },
                {
                    "match": prefix("/seen"),
                    "mirrors": [{"destination": {"host": "picky"}, "percentage": {"value": 100}}],
                    "route": [v1],
                },
                {
                    "match": prefix("/cors"),
                    "corsPolicy": {
                        "allowOrigins": [{"regex": "https://[a-z]+[.]example"}],
                        "exposeHeaders": ["x-more"],
                    },
                    "route": [v1],
                },
                {"route": [v1]},
            ),
        )

    def setUp(self):
        super().setUp()
        for name, ready in {"web": 2, "c": 1, "picky": 1, "six": 1, "node": 1}.items():
            self.weftd.wait_service(f"test/{name}", ready)

    def test_a_header_chooses_the_subset(self):
        self.assertEqual(set(self.answered_by(self.WEB, 10)), {"a"})
        self.assertEqual(set(self.answered_by(self.WEB, 10, headers={"x-user": "beta"})), {"b"})
        self.assertEqual(set(self.answered_by(self.WEB, 10, headers={"x-user": "beta2"})), {"a"})

    def test_weights_are_what_a_thousand_requests_show(self):
        answers = self.fetch(self.WEB, ["/share"] * 1000)
        seen = Counter(answer["body"]["name"] for answer in answers)
        self.assertEqual(sum(seen.values()), 1000)
        chi_square = (seen["a"] - 900) ** 2 / 900 + (seen["b"] - 100) ** 2 / 100
        self.assertLess(chi_square, 19.51, seen)  # once in 100,000 runs by chance

    def test_a_redirect_is_answered_and_not_followed(self):
        answer = self.get(self.WEB, "/old")
        self.assertEqual(answer["status"], 308)
        self.assertEqual(answer["headers"]["location"], f"http://{self.WEB}/new")

    def test_a_rewrite_changes_path_and_authority_on_the_way_to_another_service(self):
        body = self.get(self.WEB, "/api/users?all=1")["body"]
        self.assertEqual((body["name"], body["path"]), ("c", "/v2/users?all=1"))
        self.assertEqual(body["host"], "inner.example")

    def test_a_direct_response_asks_nobody(self):
        answer = self.get(self.WEB, "/said")
        self.assertEqual((answer["status"], answer["body"]), (418, b"a teapot"))

    def test_a_timeout_is_504_with_its_flag(self):
        labels = {"response_code": "504", "response_flags": "UT"}
        before = self.count("istio_requests_total", **labels)
        answer = self.get(self.WEB, "/slow", headers={"x-slow": "15"})
        self.assertEqual(answer["status"], 504)
        self.assertIn(b"UT", answer["body"])
        self.assertEqual(self.get(self.WEB, "/slow")["status"], 200)
        wait_until(
            lambda: self.count("istio_requests_total", **labels) == before + 1, what="it is counted"
        )

    def test_a_503_is_tried_again_at_another_endpoint(self):
        headers = {"x-fail-at": "a"}
        before = self.count("weft_proxy_retries_total")
        answers = self.fetch(self.WEB, ["/again"] * 20, headers=headers)
        self.assertEqual({(x["status"], x["body"]["name"]) for x in answers}, {(200, "b")})
        wait_until(
            lambda: 5 <= self.count("weft_proxy_retries_total") - before <= 20, what="are counted"
        )
        self.assertEqual(self.get(self.WEB, "/", headers=headers)["status"], 503)

    def test_a_mirrored_request_is_asked_of_both_and_answered_by_the_rules_own(self):
        labels = {"destination_service_name": "picky", "response_code": "200"}
        before = self.count("istio_requests_total", **labels)
        self.assertEqual(self.answered_by(self.WEB, 1), ["a"])
        answers = self.fetch(self.WEB, ["/seen"] * 20)
        self.assertEqual({x["body"]["name"] for x in answers}, {"a"})
        wait_until(
            lambda: self.count("istio_requests_total", **labels) == before + 20, what="20 mirrored"
        )
        self.assertEqual(self.count("weft_proxy_requests_active"), 0)

    def test_origins_that_a_cors_policy_allows_are_told_so_and_others_nothing(self):
        answer = self.get(self.WEB, "/cors", headers={"origin": "https://shop.example"})
        self.assertEqual(answer["headers"]["access-control-allow-origin"], "https://shop.example")
        self.assertEqual(answer["headers"]["access-control-expose-headers"], "x-more")
        answer = self.get(self.WEB, "/cors", headers={"origin": "https://evil.test"})
        self.assertEqual(answer["status"], 200)
        self.assertNotIn("access-control-allow-origin", answer["headers"])

    def test_what_no_rule_matches_is_404_with_its_flag(self):
        self.assertEqual(self.get(self.PICKY, "/only")["status"], 200)
        answer = self.get(self.PICKY, "/other")
        self.assertEqual(answer["status"], 404)
        self.assertIn(b"NR", answer["body"])

    def test_a_service_of_ipv6_is_captured_too(self):
        answer = self.get(self.SIX_V6)
        self.assertTrue(self.is_captured(answer))
        self.assertEqual(answer["body"]["name"], "c")
        self.assertEqual(answer["body"]["peer"][0], self.client.v6)

    def test_backends_see_the_address_of_each_caller(self):
        for pod in (self.client, self.other):
            answer = self.get(self.WEB, pod=pod)
            self.assertTrue(self.is_captured(answer))
            self.assertEqual(answer["body"]["peer"][0], pod.v4)

    def test_backends_see_the_nodes_address_where_the_service_says_so(self):
        for pod in (self.client, self.other):
            answer = self.get(self.BY_NODE, pod=pod)
            self.assertTrue(self.is_captured(answer))
            self.assertEqual(answer["body"]["peer"][0], self.node.v4)

    def test_a_pods_own_address_and_hosts_outside_are_not_captured(self):
        for address in (self.node["a"].v4, self.node["a"].v6):
            answer = self.client.run(fetch, address, ["/"], None, BACKEND_PORT)[0]
            self.assertEqual(answer["body"]["name"], "a")
            self.assertFalse(self.is_captured(answer))
        self.assertEqual(self.get(self.OTHER)["body"]["name"], "c")
        self.assertFalse(self.is_captured(self.get(self.OTHER)))
        self.node.local_address("192.0.2.80")
        self.node.outside.serve(server.http_at, "outside", ["192.0.2.80"], 80)
        answer = self.client.run(client.ask, "192.0.2.80", 80)
        self.assertEqual((answer["name"], answer["peer"]), ("outside", ("192.0.2.80", 80)))

    def test_a_connection_to_the_proxy_itself_is_closed_and_counted(self):
        counter = "weft_proxy_connections_without_origin_total"
        before = self.count(counter)
        for address in ("127.0.0.1", "::1"):
            self.assertIn(self.client.run(closed_at_once, address, 15001), (b"", "ECONNRESET"))
        wait_until(lambda: self.count(counter) == before + 2, what="both are counted")


class HttpRoutes(RoutesTest):
    """Gateway API's precedence, whatever the order of rules, and a VirtualService in its shadow."""

    WEB = "10.96.0.10"

    @classmethod
    def prepare(cls):
        cls.write_pods()
        services = [
            manifests.service(f"test/{name}", [f"10.96.0.{11 + i}"], PORTS, selector={"app": name})
            for i, name in enumerate("abc")
        ]

        def rule(backend, *matches):
            return {"matches": list(matches), "backendRefs": [{"name": backend, "port": 80}]}

        path = lambda kind, value: {"path": {"type": kind, "value": value}}  # noqa: E731
        cls.mesh.write(
            "web.yaml",
            manifests.service("test/web", [cls.WEB], PORTS, selector={"app": "a"}),
            *services,
            virtual_service("test/web", "web", {"directResponse": {"status": 418}}),
            http_route(
                "test/web",
                "web",
                rule("a", path("PathPrefix", "/p")),
                rule("b", path("PathPrefix", "/p/long")),
                rule("c", path("Exact", "/p/long/exact")),
                rule("c", {**path("PathPrefix", "/p"), "method": "GET", "headers": [x("1")]}),
                rule("b", {**path("PathPrefix", "/p"), "headers": [x("2")]}),
            ),
        )

    def setUp(self):
        super().setUp()
        self.weftd.wait_service("test/web", 1)

    def at(self, path, **headers):
        return self.answered_by(self.WEB, path=path, headers=headers)[0]

    def test_the_more_specific_match_wins(self):
        self.assertEqual(self.at("/p"), "a")
        self.assertEqual(self.at("/p/x"), "a")
        self.assertEqual(self.at("/p/long/x"), "b")
        self.assertEqual(self.at("/p/long/exact"), "c")
        self.assertEqual(self.at("/p", x="1"), "c")
        self.assertEqual(self.at("/p", x="2"), "b")
        self.assertEqual(self.at("/p/long", x="1"), "b")

    def test_prefixes_are_of_whole_segments_and_no_match_is_404(self):
        for path in ("/", "/pp", "/q"):
            self.assertEqual(self.get(self.WEB, path)["status"], 404)
        self.assertIn(b"NR", self.get(self.WEB, "/pp")["body"])


def x(value):
    return {"name": "x", "value": value}


if __name__ == "__main__":
    main()
