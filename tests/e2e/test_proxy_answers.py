#!/usr/bin/python3
"""What the proxy answers itself: redirects to other hosts, ports and schemes; CORS preflights."""

from harness import main, manifests
from routes_harness import BACKEND_PORT, RoutesTest, http_route, to, virtual_service

PORTS = [manifests.service_port(80, BACKEND_PORT)]
WEB, GATE = "10.96.0.10", "10.96.0.11"
SHOP, EVIL = "https://shop.example", "https://evil.test"


def exact(path):
    return [{"uri": {"exact": path}}]


class AnswersTest(RoutesTest):
    PODS = ["client", "other", "a"]
    NAME, ADDRESS = None, None

    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.mesh.write(
            "service.yaml",
            manifests.service(f"test/{cls.NAME}", [cls.ADDRESS], PORTS, selector={"app": "a"}),
        )
        cls.mesh.write("rules.yaml", cls.rules())

    def setUp(self):
        super().setUp()
        self.weftd.wait_service(f"test/{self.NAME}", 1)

    def location(self, path, status, **headers):
        answer = self.get(self.ADDRESS, path, headers=headers)
        self.assertEqual((answer["status"], answer["body"]), (status, b""))
        return answer["headers"]["location"]

    def preflight(self, path, origin, **more):
        asks = {"origin": origin, "access-control-request-method": "PUT", **more}
        return self.get(self.ADDRESS, path, headers=asks, method="OPTIONS")

    def granted(self, answer):
        """What was said of CORS."""
        return {
            name.removeprefix("access-control-"): value
            for name, value in answer["headers"].items()
            if name.startswith("access-control-")
        }


class OfVirtualServices(AnswersTest):
    NAME, ADDRESS = "web", WEB

    @classmethod
    def rules(cls):
        cors = {
            "allowOrigins": [{"exact": SHOP}],
            "allowMethods": ["PUT", "DELETE"],
            "allowHeaders": ["x-mine", "content-type"],
            "exposeHeaders": ["x-more"],
            "maxAge": "600s",
            "allowCredentials": True,
        }
        closed = {**cors, "unmatchedPreflights": "IGNORE"}

        def redirect(path, **fields):
            return {"match": exact(path), "redirect": fields}

        return virtual_service(
            "test/web",
            "web",
            redirect("/host", authority="shop.example", scheme="https", port=8443, uri="/in"),
            redirect("/port", port=8081),
            redirect("/usual", scheme="https", derivePort="FROM_PROTOCOL_DEFAULT"),
            redirect("/scheme", scheme="https", authority="shop.example", redirectCode=307),
            {"match": exact("/cors"), "corsPolicy": cors, "route": [to("web")]},
            {"match": exact("/closed"), "corsPolicy": closed, "route": [to("web")]},
            {"route": [to("web")]},
        )

    def test_a_redirect_may_name_another_host_port_and_scheme(self):
        self.assertEqual(self.location("/host?q=1", 301), "https://shop.example:8443/in?q=1")
        self.assertEqual(self.location("/scheme", 307), "https://shop.example/scheme")

    def test_a_redirect_to_a_port_keeps_the_host_and_replaces_the_port_that_was_asked_for(self):
        self.assertEqual(self.location("/port?q=1", 301), f"http://{WEB}:8081/port?q=1")
        self.assertEqual(self.location("/port", 301, Host="web:80"), "http://web:8081/port")
        six = self.location("/port", 301, Host="[fd00::1]:80")
        self.assertEqual(six, "http://[fd00::1]:8081/port")

    def test_a_port_that_the_scheme_implies_is_not_named(self):
        self.assertEqual(self.location("/usual", 301, Host="web:80"), "https://web/usual")

    def test_a_preflight_of_an_allowed_origin_is_answered_here(self):
        answer = self.preflight("/cors", SHOP)
        self.assertEqual((answer["status"], answer["body"]), (200, b""))
        self.assertEqual(
            self.granted(answer),
            {
                "allow-origin": SHOP,
                "allow-methods": "PUT, DELETE",
                "allow-headers": "x-mine, content-type",
                "allow-credentials": "true",
                "expose-headers": "x-more",
                "max-age": "600",
            },
        )

    def test_preflights_and_requests_share_a_connection(self):
        asks = {"origin": SHOP, "access-control-request-method": "PUT"}
        answers = self.fetch(WEB, ["/cors", "/", "/cors"], headers=asks, method="OPTIONS")
        self.assertEqual([bool(answer["body"]) for answer in answers], [False, True, False])
        self.assertEqual(len({tuple(answer["local"]) for answer in answers}), 1)

    def test_what_is_no_preflight_is_asked_of_the_endpoint(self):
        for headers in ({"origin": SHOP}, {"access-control-request-method": "PUT"}):
            answer = self.get(WEB, "/cors", headers=headers, method="OPTIONS")
            self.assertEqual((answer["body"]["name"], answer["body"]["method"]), ("a", "OPTIONS"))

    def test_a_preflight_of_another_origin_is_the_endpoints_to_answer(self):
        answer = self.preflight("/cors", EVIL)
        self.assertEqual((answer["body"]["name"], answer["body"]["method"]), ("a", "OPTIONS"))
        self.assertEqual(self.granted(answer), {})

    def test_one_that_is_not_to_be_forwarded_is_granted_nothing(self):
        answer = self.preflight("/closed", EVIL)
        self.assertEqual((answer["status"], answer["body"]), (200, b""))
        self.assertEqual(self.granted(answer), {})
        self.assertEqual(self.granted(self.preflight("/closed", SHOP))["allow-origin"], SHOP)


class OfHttpRoutes(AnswersTest):
    NAME, ADDRESS = "gate", GATE

    @classmethod
    def rules(cls):
        def rule(prefix, filter_type, **fields):
            key = {"RequestRedirect": "requestRedirect", "CORS": "cors"}[filter_type]
            made = {
                "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
                "filters": [{"type": filter_type, key: fields}],
            }
            if filter_type == "CORS":
                made["backendRefs"] = [{"name": "gate", "port": 80}]
            return made

        elsewhere = {"hostname": "shop.example", "port": 8443}
        replaced = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}
        return http_route(
            "test/gate",
            "gate",
            rule("/https", "RequestRedirect", scheme="https"),
            rule("/host", "RequestRedirect", statusCode=301, path=replaced, **elsewhere),
            rule("/stay", "RequestRedirect", path=replaced),
            rule("/cors", "CORS", allowOrigins=[SHOP], allowMethods=["PUT"]),
        )

    def test_a_scheme_brings_its_port(self):
        self.assertEqual(self.location("/https/x", 302, Host="gate:80"), "https://gate/https/x")

    def test_host_port_and_prefix_are_replaced_each_where_it_is_named(self):
        self.assertEqual(self.location("/host/x?q=1", 301), "http://shop.example:8443/new/x?q=1")
        self.assertEqual(self.location("/stay/x", 302, Host="gate"), "http://gate/new/x")

    def test_preflights_are_answered_here_and_strangers_are_granted_nothing(self):
        answer = self.preflight("/cors", SHOP)
        self.assertEqual((answer["status"], answer["body"]), (200, b""))
        granted = {"allow-origin": SHOP, "allow-methods": "PUT", "max-age": "5"}
        self.assertEqual(self.granted(answer), granted)
        answer = self.preflight("/cors", EVIL)
        self.assertEqual((answer["status"], answer["body"]), (200, b""))
        self.assertEqual(self.granted(answer), {})


if __name__ == "__main__":
    main()
