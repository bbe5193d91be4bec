#!/usr/bin/python3
"""The Kubernetes API as a source: what is served, what is asked for, and how weftd may come in."""

import collections
import json
import os
import shutil
import tempfile

from harness import PORT, main, manifests, wait_until
from kube_harness import GUARD, KINDS, WEB, KubernetesTest
from weftlab.kube_api import ballast, endpoint_slice, pod
from weftlab.kube_store import ApiError
from weftlab.waiting import Hang


class Following(KubernetesTest):
    """What an ordinary day brings."""

    def test_the_first_state_is_served(self):
        self.assert_serves()
        self.assert_truth()
        self.assertEqual(self.source_error(), "")

    def test_events_are_followed(self):
        self.put_service("test/follow", "10.96.0.20", "a")
        self.weftd.wait_service("test/follow", 1)
        self.assertEqual(self.ask("10.96.0.20")["name"], "a")
        self.put_service("test/follow", "10.96.0.20", "bc")
        self.weftd.wait_service("test/follow", 2)
        self.assert_in_turn(self.names("10.96.0.20", 4), ["b", "c"])
        self.api.delete("Service", "test", "follow")
        self.api.delete("EndpointSlice", "test", "follow-ipv4")
        self.marker()
        self.assertIn(self.ask("10.96.0.20")["error"], ("EHOSTUNREACH", "ENETUNREACH"))

    def test_the_same_endpoint_in_two_slices_is_one(self):
        self.put_service("test/moves", "10.96.0.21", "ab")
        self.weftd.wait_service("test/moves", 2)
        self.api.duplicate_slice("test", "moves-ipv4")
        self.marker()
        self.assert_in_turn(self.names("10.96.0.21", 4), ["a", "b"])
        self.api.delete("EndpointSlice", "test", "moves-ipv4")
        self.marker()
        self.assert_in_turn(self.names("10.96.0.21", 4), ["a", "b"])

    def test_odd_chunks_and_a_drip_change_nothing(self):
        for size in (1, 7, 1000):
            self.api.chunk_bytes = size
            self.api.drip(3 * size, 0)
            self.marker()
        self.assert_truth()

    def test_only_this_nodes_pods_are_asked_for(self):
        self.assertEqual(self.api.requests["/api/v1/pods"] > 0, True)
        paths = []

        def note(verb, plural, path):
            if plural:  # kinds that are not installed are listed again now and then
                paths.append(path)

        self.api.on_request = note
        self.api.drop_connections()
        self.wait_streams_again()
        for path in paths:
            if "/pods" in path:
                self.assertIn(f"spec.nodeName%3D{self.node.name}", path)
            self.assertIn("allowWatchBookmarks=true", path)

    def test_readiness_means_that_the_first_full_list_is_in_the_kernel(self):
        self.weftd.stop()
        self.api.stall()
        accepted = self.api.accepted
        self.weftd.start("--source-timeout", "3600s", wait=False)
        self.api.wait(lambda: self.api.accepted > accepted, "weftd connects", GUARD)
        wait_until(lambda: self.weftd.page("/healthz")[0] == 200, GUARD, "weftd answers")
        self.assertNotEqual(self.weftd.page("/readyz")[0], 200)
        self.put_service("test/late", "10.96.0.22", "a")
        self.api.resume()
        self.weftd.wait_ready(GUARD)
        self.assertEqual(self.served(), self.truth())
        self.weftd.restart()

    def test_a_restart_with_an_unchanged_server_writes_nothing(self):
        self.marker()
        self.weftd.restart()
        self.assertEqual(self.weftd.metrics().sum("weft_map_writes_total"), 0)
        self.assert_truth()


class Versions(KubernetesTest):
    """Bookmarks, history that ends, lists anew."""

    def lists(self):
        return {kind: self.api.lists[kind] for kind in KINDS}

    def test_after_a_bookmark_a_compaction_costs_no_list(self):
        before = self.lists()
        for _ in range(3):
            self.api.store.touch()
            self.api.bookmark()
            self.api.wait_sent()
            self.api.compact()
            self.api.drop_connections()
            self.wait_streams_again()
        self.marker()
        self.assertEqual(self.lists(), before)

    def test_a_stream_that_ends_goes_on_without_a_list(self):
        before = self.lists()
        self.api.end_streams()
        self.wait_streams_again()
        self.marker()
        self.assertEqual(self.lists(), before)

    def expire(self, gone):
        self.api.gone = gone
        before = self.lists()
        self.api.away()
        self.api.store.touch()
        self.api.compact()
        self.api.back()
        self.api.wait(
            lambda: all(self.api.lists[kind] > before[kind] for kind in KINDS),
            "everything is listed anew",
            GUARD,
        )
        self.wait_streams_again()

    def test_history_that_is_gone_means_a_list_and_no_write_for_what_did_not_change(self):
        for gone in ("status", "event"):
            with self.subTest(gone):
                self.assert_writes_nothing(lambda: self.expire(gone))
                self.assert_truth()
                self.wait_no_error()

    def test_a_410_in_a_running_stream_means_a_list_and_no_write(self):
        def step():
            for kind in ("services", "endpointslices"):
                before = self.api.lists[kind]
                self.api.send_error(kind, 410)
                self.api.wait(lambda: self.api.lists[kind] > before, f"{kind} are listed", GUARD)
            self.wait_streams_again()

        self.assert_writes_nothing(step)
        self.assert_truth()

    def test_a_list_finds_what_came_and_went_unseen(self):
        self.put_service("test/goes", "10.96.0.30", "a")
        self.put_service("test/stays", "10.96.0.31", "a")
        self.weftd.wait_service("test/stays", 1)
        self.api.away()
        self.api.delete("Service", "test", "goes")
        self.put_service("test/comes", "10.96.0.32", "b")
        self.put_service("test/stays", "10.96.0.31", "c")
        self.api.compact()
        self.api.back()
        self.wait_streams_again()
        self.assert_truth()
        self.assertEqual(self.ask("10.96.0.31")["name"], "c")

    def test_errors_in_a_stream_are_no_reason_to_forget(self):
        self.api.send_error("services", 500)
        self.api.wait(lambda: self.api.watchers("services") == 1, "watched again", GUARD)
        self.marker()
        self.assert_serves()

    def test_a_server_that_lags_behind_our_version_is_waited_for(self):
        """As behind a load balancer: this server's cache has not reached what another one gave."""
        self.api.fail(504, "services", "watch", times=3)
        self.api.drop_connections()
        self.wait_streams_again()
        self.marker()
        self.wait_no_error()


class Paging(KubernetesTest):
    SERVICES = 1200

    @classmethod
    def populate(cls):
        super().populate()
        for pair in ballast(cls.SERVICES, 1):
            cls.api.put(*pair)

    def test_large_lists_come_in_pages_also_while_their_token_expires(self):
        self.assertGreaterEqual(self.api.pages["services"], 3)
        self.assertLess(self.api.lists["services"], self.api.pages["services"])
        expired = []

        def compact_at_second_page(verb, plural, path):
            if plural == "services" and "continue=" in path and len(expired) < 2:
                expired.append(path)
                self.api.store.touch()
                self.api.compact()

        self.api.on_request = compact_at_second_page
        self.api.away()
        self.api.store.touch()
        self.api.compact()
        self.api.delete("Service", "ballast-7", "s00007")
        self.api.back()
        self.api.wait(lambda: len(expired) == 2, "two pages expire", GUARD)
        self.wait_streams_again()
        self.assert_truth()
        self.assert_serves()

    def test_a_list_cut_in_the_middle_is_asked_for_again(self):
        self.api.away()
        self.api.store.touch()
        self.api.compact()
        for how, after in (("close", 50_000), ("reset", 200_000)):
            self.api.cut("services", after, "list", how)
            self.api.cut("endpointslices", after, "list", how)
        self.api.back()
        self.wait_streams_again()
        self.assert_truth()


class ClientCertificate(KubernetesTest):
    API = {"tls": True, "client_certs": True, "token": None}

    def test_it_is_served(self):
        self.assert_serves()
        self.api.drop_connections()
        self.wait_streams_again()
        self.assert_truth()


class PlainText(KubernetesTest):
    """As with `kubectl proxy`."""

    API = {"tls": False, "token": None}

    def test_it_is_served(self):
        self.assert_serves()
        self.api.drop_connections()
        self.wait_streams_again()
        self.assert_truth()


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
_POD = """
set -e
mount --rbind /run "$1/run"
mount -t tmpfs none /run
for path in "$1"/run/*/; do
  name=$(basename "$path")
  [ "$name" = secrets ] && continue
  mkdir -p "/run/$name"  # mount(8) may have made one already
  mount --rbind "$path" "/run/$name"
done
mkdir -p /run/secrets/kubernetes.io/serviceaccount
mount --rbind "$1/account" /run/secrets/kubernetes.io/serviceaccount
shift
exec "$@"
"""


class InCluster(KubernetesTest):
    """Without a kubeconfig: the service account's files and the environment of a pod."""

    @classmethod
    def prepare(cls):
        super().prepare()
        # Beside /run: the files must be found when another /run is in its place.
        aside = tempfile.mkdtemp(prefix="weft-lab-account-")
        cls.addClassCleanup(shutil.rmtree, aside)
        cls.account = f"{aside}/account"
        cls.api.service_account(cls.account)
        os.mkdir(f"{aside}/run")
        cls.weftd.sources = ["kubernetes:"]
        command = cls.weftd.command
        cls.weftd.command = lambda *more: [
            *("env", "KUBERNETES_SERVICE_HOST=127.0.0.1"),
            f"KUBERNETES_SERVICE_PORT={cls.api.port}",
            *("unshare", "--mount", "sh", "-c", _POD, "sh", aside),
            *command(*more),
        ]

    def test_its_token_is_renewed_by_kubelet(self):
        self.assert_serves()
        self.assertEqual(self.status()["sources"][0]["uri"], "kubernetes:")
        for token in ("second", "third"):
            self.api.set_token(token)
            self.api.service_account(self.account)
            self.api.drop_connections()
            self.wait_streams_again()
            self.marker()


class ExecPlugin(KubernetesTest):
    """A cloud's credential plugin."""

    API = {"tls": True}

    @classmethod
    def kubeconfig(cls):
        answer = json.dumps(
            {
                "apiVersion": "client.authentication.k8s.io/v1",
                "kind": "ExecCredential",
                "status": {"token": "%s"},
            }
        )
        cls.api.write_token()
        script = f"printf '{answer}' \"$(cat {cls.api.token_file})\""
        return cls.api.kubeconfig(
            f"{cls.node.dir}/kubeconfig", auth="exec", exec_command=["/bin/sh", "-c", script]
        )

    def test_the_plugin_is_asked_again_when_its_token_is_refused(self):
        self.assert_serves()
        self.api.set_token("weft-token-2")
        self.api.drop_connections()
        self.wait_streams_again()
        self.marker()


if __name__ == "__main__":
    main()
