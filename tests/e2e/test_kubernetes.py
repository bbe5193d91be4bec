#!/usr/bin/python3
"""The Kubernetes API as a source: what is served, what is asked for, and how weftd may come in."""

import json
import os
import shutil
import tempfile

from harness import main, wait_until
from kube_harness import GUARD, KINDS, KubernetesTest
from weftlab.kube_api import ballast, pod


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
