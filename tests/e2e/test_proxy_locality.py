"""Which endpoints a request is near to: the proxy sends where connect() would, by locality, by subset,
and as breakers move."""

from collections import Counter

from harness import main, manifests, wait_until
from weftlab import kube_objects
from routes_harness import BACKEND_PORT, RoutesTest, to, virtual_service

# HTTP: else an endpoint is asked, in its turn, for a caller that takes its time to say something.
PORTS = [{**manifests.service_port(80, BACKEND_PORT), "appProtocol": "http"}]
WEB = "10.96.0.10"
WORKERS = 4  # at most; each takes turns of its own
ZONES = {"a": "here", "b": "here", "c": "there", "d": "there"}


class Place(RoutesTest):
    PODS = ["client", "other", *ZONES]
    SUBZONES = {}  # of those that have one
    FLAGS = ["--region", "r1", "--zone", "here"]
    LABELS = {"a": {"version": "v1"}, "c": {"version": "v1"}}

    @classmethod
    def prepare(cls):
        cls.write_pods()
        cls.write_ballast()
        nodes = [
            kube_objects.node(n, zone=ZONES[n], region="r1", subzone=cls.SUBZONES.get(n))
            for n in ZONES  # each pod's node has its name
        ]
        cls.mesh.write("nodes.yaml", *nodes)

    def apply(self, *objects, annotations=None, **locality):
        """The service, its rules for all that asks it, and nothing that a breaker remembers."""
        endpoints = [
            manifests.endpoint(self.node[name].v4, zone=zone, node=name)
            for name, zone in ZONES.items()
        ]
        rule = manifests.destination_rule(
            "test/web",
            "web",
            subsets={"v1": {"version": "v1"}},
            outlierDetection={"consecutive5xxErrors": 2, "baseEjectionTime": "60s"},
        )
        if locality:
            rule["spec"]["trafficPolicy"]["loadBalancer"]["localityLbSetting"] = locality
        self.mesh.write(
            "web.yaml",
            manifests.service("test/web", [WEB], PORTS, annotations=annotations),
            manifests.endpoint_slice("test/web", endpoints, [BACKEND_PORT]),
            rule,
            *objects,
        )
        self.weftd.wait_service("test/web", len(ZONES))
        captured = bool(objects)
        wait_until(
            lambda: self.is_captured(self.get(WEB)) == captured, what=f"captured: {captured}"
        )

    def tearDown(self):
        self.mesh.remove("web.yaml")
        wait_until(
            lambda: not any(s["name"] == "web" for s in self.weftd.ctl("service", "list")),
            what="the service is gone",
        )

    def shares(self, count=100):
        return Counter(self.answered_by(WEB, count))

    def both_ways(self, check, rules, **policy):
        """What the kernel does without rules the proxy does with them."""
        self.apply(**policy)
        check()
        self.apply(rules, **policy)
        check()


class Subzones(Place):
    FLAGS = [*Place.FLAGS, "--subzone", "rack1"]
    SUBZONES = {"a": "rack1", "b": "rack2"}

    def test_requests_stay_in_the_subzone_while_somebody_is_there(self):
        whole = virtual_service("test/web", "web", {"route": [to("web")]})
        check = lambda: self.assertEqual(set(self.shares(20)), {"a"})  # noqa: E731
        self.both_ways(check, whole, enabled=True)

    def test_shares_of_subzones_are_those_that_distribute_names(self):
        def check():
            shares = self.shares()
            self.assertAlmostEqual(shares["a"], 80, delta=5 * WORKERS, msg=shares)
            self.assertEqual(shares["a"] + shares["b"], 100)

        whole = virtual_service("test/web", "web", {"route": [to("web")]})
        entry = {"from": "r1/here/rack1", "to": {"r1/here/rack1": 80, "r1/here/rack2": 20}}
        self.both_ways(check, whole, distribute=[entry])


class Locality(Place):
    def test_requests_stay_in_the_zone_while_somebody_is_there(self):
        def check():
            shares = self.shares(40)
            self.assertEqual(set(shares), {"a", "b"})
            self.assertAlmostEqual(shares["a"], 20, delta=WORKERS)

        whole = virtual_service("test/web", "web", {"route": [to("web")]})
        self.both_ways(check, whole, enabled=True)

    def test_shares_of_zones_are_those_that_distribute_names(self):
        def check():
            shares = self.shares()
            near, far = shares["a"] + shares["b"], shares["c"] + shares["d"]
            self.assertAlmostEqual(near, 80, delta=5 * WORKERS, msg=shares)
            self.assertEqual(near + far, 100)

        whole = virtual_service("test/web", "web", {"route": [to("web")]})
        distribute = [{"from": "r1/here", "to": {"r1/here": 80, "r1/there": 20}}]
        self.both_ways(check, whole, distribute=distribute)

    def test_pods_with_the_label_of_failover_priority_serve_before_nearer_ones(self):
        def check():
            shares = self.shares(40)
            self.assertEqual(set(shares), {"a", "c"})
            self.assertAlmostEqual(shares["a"], 20, delta=WORKERS)

        whole = virtual_service("test/web", "web", {"route": [to("web")]})
        self.both_ways(check, whole, failoverPriority=["version=v1"])

    def test_a_subset_has_its_own_nearness(self):
        rules = virtual_service(
            "test/web",
            "web",
            {"match": [{"uri": {"prefix": "/v1"}}], "route": [to("web", "v1")]},
            {"route": [to("web")]},
        )
        self.apply(rules, enabled=True)
        self.assertEqual(set(self.answered_by(WEB, 20, path="/v1")), {"a"})
        self.assertEqual(set(self.answered_by(WEB, 20)), {"a", "b"})

    def test_load_spills_to_the_next_zone_as_breakers_take_the_near_ones(self):
        rules = virtual_service("test/web", "web", {"route": [to("web")]})
        self.apply(rules, enabled=True, annotations={"weft.mesh/failover-below": "100"})

        def opens():
            self.get(WEB, headers={"x-fail-at": "a"})
            return self.breaker("a")["state"] == "open"

        wait_until(opens, what="a's breaker is open")
        # One in two of the zone is out, so half of the load goes on; b serves the rest.
        wait_until(lambda: self.shares(20)["c"], what="load moves to the next zone")
        shares = self.shares()
        self.assertNotIn("a", shares)
        self.assertAlmostEqual(shares["b"], 50, delta=3 * WORKERS, msg=shares)
        self.assertAlmostEqual(shares["c"], 25, delta=3 * WORKERS, msg=shares)
        self.assertEqual(self.breaker("a")["state"], "open")

    def breaker(self, name):
        rows = self.weftd.ctl("breaker", "list", "--service", "test/web")
        return next(r for r in rows if r["endpoint"] == f"{self.node[name].v4}:{BACKEND_PORT}")


if __name__ == "__main__":
    main()
