#!/usr/bin/python3
"""Istio's and Gateway API's objects in Kubernetes: routes, subsets, failover by labels,
ServiceEntries, and the pods of other nodes that are watched for them."""

import collections

from harness import PORT, main, manifests, wait_until
from kube_harness import GUARD, WEB, KubernetesTest
from weftlab.kube_api import endpoint_slice, pod
from weftlab.kube_store import ApiError
from weftlab.waiting import Hang


class RoutesTest(KubernetesTest):
    """Subsets whose pods are all on other nodes; route() gives v1 six of eight connections."""

    API = {"tls": True, "istio": True}
    VERSIONS = {"a": "v1", "b": "v1", "c": "v2"}

    @classmethod
    def populate(cls):
        super().populate()
        for name in cls.BACKENDS:
            cls.api.delete("Pod", "test", name)
            cls.label(name, cls.VERSIONS[name])
        addresses = [cls.node[name].v4 for name in cls.BACKENDS]
        cls.api.put(endpoint_slice("test/web", addresses, [PORT], pods=cls.BACKENDS))
        subsets = {version: {"version": version} for version in ("v1", "v2")}
        cls.api.put(manifests.destination_rule("test/web", "web", subsets=subsets))

    @classmethod
    def label(cls, name, version):
        cls.api.put(
            pod(f"test/{name}", [cls.node[name].v4], "elsewhere", labels={"version": version})
        )

    @classmethod
    def route(cls):
        cls.api.put(manifests.tcp_routes("test/web", "web", {"v1": 3, "v2": 1}))

    def wait_shares(self, **wanted):
        """Of eight connections, exactly."""
        found = {}

        def as_wanted():
            nonlocal found
            found = dict(collections.Counter(self.names(WEB, 8)))
            return found == wanted

        try:
            wait_until(as_wanted, GUARD)
        except Hang:
            self.assertEqual(found, wanted, self.weftd.log_tail())

    def asked_for_labels(self):
        return [
            (verb, plural)
            for verb, plural, accept in list(self.api.forms)  # which the server adds to
            if "as=PartialObjectMetadata" in accept
        ]

    def refuse_labels(self):
        """Of all pods; this node's are listed with a selector. Returns what was refused so far."""
        refused = []

        def refuse(verb, plural, path):
            if plural == "pods" and "fieldSelector" not in path:
                refused.append(path)
                raise ApiError(500, "InternalError", "the labels of pods are not to be had")

        self.api.on_request = refuse
        return refused


class Routes(RoutesTest):
    @classmethod
    def populate(cls):
        super().populate()
        cls.route()

    def test_subsets_on_other_nodes_have_their_weights(self):
        self.wait_shares(a=3, b=3, c=2)

        def route():
            return self.weftd.ctl("why", "--from", "client", "--to", f"{WEB}:80")["route"]

        # The kernel has it before the agent tells of it, and before the labels are watched.
        wait_until(route, GUARD, "why has a route")
        self.assertEqual(route()["virtual_service"], "test/web")
        asked = {("list", "pods"), ("watch", "pods")}
        self.api.wait(lambda: set(self.asked_for_labels()) == asked, "labels are watched", GUARD)
        self.assertNotIn("in no subset", self.notices())
        self.assertEqual(self.source_error(), "")
        self.weftd.ctl("audit")

    def test_a_label_that_changes_moves_the_endpoint(self):
        self.label("b", "v2")
        self.wait_shares(a=6, b=1, c=1)
        self.label("b", "v1")
        self.wait_shares(a=3, b=3, c=2)

    def test_a_pod_that_nobody_knows_is_in_no_subset(self):
        self.api.delete("Pod", "test", "a")
        self.wait_shares(b=6, c=2)
        wait_until(lambda: "are in no subset" in self.notices(), GUARD, "status names it")
        self.label("a", "v1")
        self.wait_shares(a=3, b=3, c=2)

    def test_labels_that_changed_unseen_are_found_by_the_next_list(self):
        self.api.away()
        self.label("a", "v2")
        self.api.compact()
        self.api.back()
        self.wait_shares(a=1, b=6, c=1)
        self.label("a", "v1")
        self.wait_shares(a=3, b=3, c=2)

    def test_without_the_virtual_service_all_endpoints_serve(self):
        self.api.delete("VirtualService", "test", "web")
        # No marker's matter: it comes on another stream. Of 24 the route gives c six.
        even = dict.fromkeys("abc", 8)
        wait_until(
            lambda: collections.Counter(self.names(WEB, 24)) == even, GUARD, "all serve alike"
        )
        self.assert_serves()
        self.route()
        self.wait_shares(a=3, b=3, c=2)

    def test_a_restart_waits_for_the_labels_and_writes_nothing(self):
        self.wait_shares(a=3, b=3, c=2)
        self.weftd.stop()
        refused = self.refuse_labels()
        self.weftd.start("--source-timeout", "3600s", wait=False)
        wait_until(lambda: len(refused) > 1, GUARD, "labels are asked for again")
        wait_until(lambda: self.weftd.page("/healthz")[0] == 200, GUARD, "weftd answers")
        self.assertNotEqual(self.weftd.page("/readyz")[0], 200)
        self.assertEqual(dict(collections.Counter(self.names(WEB, 8))), {"a": 3, "b": 3, "c": 2})
        self.api.on_request = None
        self.weftd.wait_ready(GUARD)
        self.assertEqual(self.weftd.metrics().sum("weft_map_writes_total"), 0)
        self.wait_shares(a=3, b=3, c=2)
        self.weftd.restart()


class HttpRoutes(RoutesTest):
    """Rules of the proxy's; what a rule does is another file's matter."""

    API = {"tls": True, "istio": True, "gateway": True}

    def rules(self):
        ports = self.weftd.ctl("route", "list", "--service", "test/web")
        return [rule["object"] for port in ports for rule in port["rules"]]

    def put(self, api_version, kind, spec):
        meta = {"name": kind.lower(), "namespace": "test"}
        self.api.put({"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": spec})
        self.addCleanup(self.api.delete, kind, "test", meta["name"])

    def test_an_http_route_comes_and_goes(self):
        self.assertEqual(self.rules(), [])
        spec = {
            "parentRefs": [{"kind": "Service", "group": "", "name": "web"}],
            "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
        }
        self.put("gateway.networking.k8s.io/v1", "HTTPRoute", spec)
        wanted = ["HTTPRoute test/httproute"]
        wait_until(lambda: self.rules() == wanted, GUARD, "its rule is in force")
        self.doCleanups()
        wait_until(lambda: self.rules() == [], GUARD, "its rule is gone")
        self.assertEqual(self.source_error(), "")

    def test_an_http_route_to_a_subset_has_the_labels_of_all_pods_watched(self):
        to = {"destination": {"host": "web", "subset": "v2"}}
        spec = {"hosts": ["web"], "http": [{"route": [to]}]}
        self.put("networking.istio.io/v1", "VirtualService", spec)
        wait_until(lambda: self.rules() == ["VirtualService test/virtualservice"], GUARD, "rules")
        self.assertNotEqual(self.asked_for_labels(), [])


class FirstRoute(RoutesTest):
    """The first VirtualService comes when weftd has long been ready."""

    def test_until_labels_are_known_nothing_changes(self):
        self.assert_serves()
        self.assertEqual(self.asked_for_labels(), [], "nobody needs them yet")
        self.refuse_labels()
        self.route()
        self.wait_error("pods", "not to be had")
        self.marker()
        self.assert_serves()
        self.api.on_request = None
        self.wait_shares(a=3, b=3, c=2)
        self.wait_no_error()


class FailoverLabels(RoutesTest):
    """A rule, not a route, asks for the labels of pods."""

    def put_rule(self):
        rule = manifests.destination_rule("test/web", "web", outlierDetection={})
        setting = {"failoverPriority": ["version=v1"]}
        rule["spec"]["trafficPolicy"]["loadBalancer"]["localityLbSetting"] = setting
        self.api.put(rule)

    def test_the_labels_of_all_pods_decide_and_are_watched_from_then_on(self):
        self.assert_serves()
        self.assertEqual(self.asked_for_labels(), [], "nobody needs them yet")
        refused = self.refuse_labels()
        self.put_rule()
        self.wait_error("pods", "not to be had")
        self.assertNotEqual(refused, [])
        self.assert_serves()
        self.api.on_request = None
        self.wait_shares(a=4, b=4)
        self.wait_no_error()
        self.assertNotIn("count as without labels", self.notices())
        self.label("c", "v1")
        self.label("a", "v2")
        self.wait_shares(b=4, c=4)


class Entries(RoutesTest):
    """ServiceEntries: nobody writes slices for what they select, so pods of other nodes are watched."""

    ADDRESS = "10.96.0.77"

    def put_entry(self, *endpoints, **spec):
        entry = manifests.service_entry(
            "test/db", "db.example.com", [self.ADDRESS], {"http": 80}, endpoints, **spec
        )
        entry["spec"]["ports"][0]["targetPort"] = PORT
        self.api.put(entry)

    def wait_names(self, *wanted):
        wait_until(
            lambda: set(self.names(self.ADDRESS, 6)) == set(wanted), GUARD, f"{wanted} serve"
        )

    def test_pods_of_other_nodes_are_selected_and_followed(self):
        self.put_entry(workloadSelector={"labels": {"version": "v1"}})
        self.wait_names("a", "b")
        self.label("c", "v1")
        self.wait_names("a", "b", "c")
        self.label("a", "v2")
        self.wait_names("b", "c")
        self.assertEqual(self.source_error(), "")
        self.weftd.ctl("audit")

    def test_one_with_endpoints_of_its_own_comes_changes_and_goes(self):
        a, b = (self.node[name].v4 for name in ("a", "b"))
        self.put_entry(a, b)
        self.wait_names("a", "b")
        (service,) = self.weftd.ctl("service", "show", "test/db.example.com")
        self.assertEqual(service["endpoints"]["ready"], 2)
        self.put_entry(b)
        self.wait_names("b")
        self.api.delete("ServiceEntry", "test", "db")
        wait_until(
            lambda: all(s["name"] != "db.example.com" for s in self.weftd.ctl("service", "list")),
            GUARD,
            "it goes",
        )


# A /run of its own, with everything that was there but other service accounts: $1/account is ours.


if __name__ == "__main__":
    main()
