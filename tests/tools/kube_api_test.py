#!/usr/bin/python3
"""The replaying API server keeps to the API: asked by http.client, compared with what the
documentation says (kubernetes.io, "API concepts")."""

import contextlib
import gzip
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.abspath(f"{os.path.dirname(__file__)}/../../scripts/lib"))

from weftlab.kube_api import (  # noqa: E402
    KubeApi,
    endpoint_slice,
    namespace,
    node,
    pod,
    service,
)

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
GUARD = 30


class Client:
    def __init__(self, api, token="weft-token-1", context=None):
        if api.tls:
            context = context or ssl.create_default_context(cafile=api.authority.ca)
            self.http = http.client.HTTPSConnection(
                "127.0.0.1", api.port, timeout=GUARD, context=context
            )
        else:
            self.http = http.client.HTTPConnection("127.0.0.1", api.port, timeout=GUARD)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def raw(self, path):
        self.http.request("GET", path, headers=self.headers)
        return self.http.getresponse()

    def get(self, path, status=200):
        answer = self.raw(path)
        body = json.loads(answer.read())
        if answer.status != status:
            raise AssertionError(f"{path}: {answer.status}, not {status}: {body}")
        return body

    def list(self, path=SERVICES, query=""):
        return self.get(f"{path}?{query}")

    def watch(self, version, path=SERVICES, query=""):
        answer = self.raw(f"{path}?watch=1&resourceVersion={version}&{query}")
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {answer.read()}")
        return answer

    def close(self):
        self.http.close()


def event(stream):
    return json.loads(stream.readline())


def web(name="web", address="10.96.0.10", **more):
    return service(f"shop/{name}", [address], [80], **more)


class ApiTest(unittest.TestCase):
    OPTIONS = {}

    def setUp(self):
        self.api = KubeApi(**self.OPTIONS).start()
        self.addCleanup(self.api.close)
        self.client = self.connect()

    def connect(self, **more):
        client = Client(self.api, **more)
        self.addCleanup(client.close)
        return client

    def version(self, path=SERVICES):
        return self.client.list(path)["metadata"]["resourceVersion"]


class Lists(ApiTest):
    def test_items_of_a_typed_list_carry_no_kind_and_the_list_does(self):
        self.api.put(web())
        found = self.client.list()
        self.assertEqual((found["kind"], found["apiVersion"]), ("ServiceList", "v1"))
        self.assertEqual(len(found["items"]), 1)
        self.assertNotIn("kind", found["items"][0])
        self.assertNotIn("apiVersion", found["items"][0])
        metadata = found["items"][0]["metadata"]
        self.assertEqual(metadata["resourceVersion"], found["metadata"]["resourceVersion"])
        self.assertTrue(metadata["uid"] and metadata["creationTimestamp"])

    def test_every_resource_has_its_path_and_kind(self):
        self.api.put(
            web(),
            endpoint_slice("shop/web", ["10.244.0.1"], [8080]),
            pod("shop/a", ["10.244.0.1"], "n1"),
            node("n1"),
            namespace("shop"),
        )
        for path, kind in (
            (SERVICES, "ServiceList"),
            (SLICES, "EndpointSliceList"),
            ("/api/v1/pods", "PodList"),
            ("/api/v1/nodes", "NodeList"),
            ("/api/v1/namespaces", "NamespaceList"),
            ("/api/v1/namespaces/shop/services", "ServiceList"),
            ("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", "EndpointSliceList"),
        ):
            found = self.client.list(path)
            self.assertEqual((found["kind"], len(found["items"])), (kind, 1), path)
        self.assertEqual(self.client.get("/api/v1/namespaces/shop")["kind"], "Namespace")
        self.assertEqual(self.client.get("/api/v1/nodes/n1")["metadata"]["name"], "n1")
        self.assertEqual(
            self.client.get("/api/v1/namespaces/shop/services/web")["spec"]["clusterIP"],
            "10.96.0.10",
        )
        self.assertEqual(self.client.list("/api/v1/namespaces/other/services")["items"], [])
        self.assertEqual(self.client.get("/api/v1/nodes/n2", 404)["reason"], "NotFound")
        self.assertEqual(self.client.get("/api/v1/gizmos", 404)["kind"], "Status")

    def test_pages_stay_at_the_version_of_the_first(self):
        for i in range(10):
            self.api.put(web(f"s{i}", f"10.96.0.{i + 1}"))
        first = self.client.list(query="limit=4")
        self.assertEqual(first["metadata"]["remainingItemCount"], 6)
        self.api.delete("Service", "shop", "s5")
        self.api.put(web("s6", "10.96.1.1"), web("s55", "10.96.1.2"))
        names, version = [i["metadata"]["name"] for i in first["items"]], first["metadata"]
        page = first
        while token := page["metadata"].get("continue"):
            page = self.client.list(query=f"limit=4&continue={token}")
            self.assertEqual(page["metadata"]["resourceVersion"], version["resourceVersion"])
            names += [i["metadata"]["name"] for i in page["items"]]
        self.assertEqual(names, [f"s{i}" for i in range(10)])
        self.assertEqual((self.api.lists["services"], self.api.pages["services"]), (1, 3))

    def test_a_continue_token_expires_and_offers_an_inconsistent_rest(self):
        for i in range(6):
            self.api.put(web(f"s{i}", f"10.96.0.{i + 1}"))
        for expire in (self.api.compact, self.api.expire_continue):
            token = self.client.list(query="limit=4")["metadata"]["continue"]
            self.api.put(web("s0", f"10.96.1.{self.api.store.revision % 250}"))
            expire()
            gone = self.client.get(f"{SERVICES}?limit=4&continue={token}", 410)
            self.assertEqual((gone["reason"], gone["code"]), ("Expired", 410))
            rest = self.client.list(query=f"continue={gone['metadata']['continue']}")
            self.assertEqual([i["metadata"]["name"] for i in rest["items"]], ["s4", "s5"])
        self.assertEqual(self.client.get(f"{SERVICES}?continue=rubbish", 400)["code"], 400)

    def test_versions_unset_0_exact_and_of_the_future(self):
        old = self.api.put(web())
        self.api.store.freeze(True)
        self.api.put(web("later", "10.96.0.11"))
        self.assertEqual(len(self.client.list()["items"]), 2)
        self.assertEqual(len(self.client.list(query="resourceVersion=0&limit=1")["items"]), 1)
        exact = self.client.list(query=f"resourceVersion={old}&resourceVersionMatch=Exact")
        self.assertEqual(
            (len(exact["items"]), exact["metadata"]["resourceVersion"]), (1, str(old))
        )
        newer = self.client.list(query=f"resourceVersion={old}&resourceVersionMatch=NotOlderThan")
        self.assertEqual(len(newer["items"]), 2)
        future = self.client.get(f"{SERVICES}?resourceVersion=99999", 504)
        self.assertIn("Too large resource version", future["message"])
        self.assertEqual(future["details"]["causes"][0]["reason"], "ResourceVersionTooLarge")
        self.api.compact()
        query = f"resourceVersion={old}&resourceVersionMatch=Exact"
        self.assertEqual(self.client.get(f"{SERVICES}?{query}", 410)["reason"], "Expired")

    def test_selectors(self):
        self.api.put(
            pod("shop/a", ["10.244.0.1"], "n1", labels={"app": "web"}),
            pod("shop/b", ["10.244.0.2"], "n2", labels={"app": "db", "tier": "x"}),
        )

        def names(query):
            return [i["metadata"]["name"] for i in self.client.list("/api/v1/pods", query)["items"]]

        self.assertEqual(names("fieldSelector=spec.nodeName%3Dn1"), ["a"])
        self.assertEqual(names("fieldSelector=spec.nodeName!%3Dn1"), ["b"])
        self.assertEqual(names("labelSelector=app%3Ddb,tier"), ["b"])
        self.assertEqual(names("labelSelector=app!%3Ddb"), ["a"])
        self.assertEqual(names("labelSelector=!tier"), ["a"])
        self.client.get("/api/v1/pods?fieldSelector=spec.nonsense%3D1", 400)

    def test_metadata_alone_in_the_form_that_fits_the_request(self):
        form = "application/json;as=PartialObjectMetadata%s;g=meta.k8s.io;v=v1"
        self.api.put(pod("shop/a", ["10.244.0.1"], "n1", labels={"version": "v1"}))
        self.client.headers["Accept"] = form % "List"
        found = self.client.list("/api/v1/pods")
        self.assertEqual(found["kind"], "PartialObjectMetadataList")
        item = found["items"][0]
        self.assertEqual(set(item), {"kind", "apiVersion", "metadata"})
        self.assertEqual(
            (item["kind"], item["apiVersion"]), ("PartialObjectMetadata", "meta.k8s.io/v1")
        )
        self.assertEqual(item["metadata"]["labels"], {"version": "v1"})
        version = found["metadata"]["resourceVersion"]
        self.client.get(f"/api/v1/pods?watch=1&resourceVersion={version}", 406)
        self.client.headers["Accept"] = form % ""
        self.client.get("/api/v1/pods", 406)
        stream = self.client.watch(version, "/api/v1/pods", "allowWatchBookmarks=1")
        self.api.put(pod("shop/a", ["10.244.0.1"], "n1", labels={"version": "v2"}))
        changed = event(stream)["object"]
        self.assertEqual(set(changed), {"kind", "apiVersion", "metadata"})
        self.assertEqual(changed["metadata"]["labels"], {"version": "v2"})
        self.api.bookmark()
        self.assertEqual(event(stream)["object"]["kind"], "PartialObjectMetadata")

    def test_custom_resources_are_there_where_they_are_installed(self):
        path = "/apis/networking.istio.io/v1/virtualservices"
        self.client.get(path, 404)
        self.api.missing_groups.clear()
        self.assertEqual(self.client.list(path)["kind"], "VirtualServiceList")

    def test_a_large_list_is_compressed_for_who_takes_it(self):
        for i in range(300):
            self.api.put(web(f"s{i}", f"10.96.{i // 200}.{i % 200}"))
        self.client.headers["Accept-Encoding"] = "gzip"
        answer = self.client.raw(SERVICES)
        self.assertEqual(answer.headers["Content-Encoding"], "gzip")
        self.assertEqual(len(json.loads(gzip.decompress(answer.read()))["items"]), 300)


class Watches(ApiTest):
    def test_events_in_order_from_a_version_on(self):
        self.api.put(web())
        stream = self.client.watch(self.version())
        self.api.put(web("b", "10.96.0.11"))
        self.api.put(web("b", "10.96.0.12"))
        self.api.put(web("b", "10.96.0.12"))  # no change: no event
        gone = self.api.delete("Service", "shop", "b")
        found = [event(stream) for _ in range(3)]
        self.assertEqual([e["type"] for e in found], ["ADDED", "MODIFIED", "DELETED"])
        self.assertEqual(found[0]["object"]["kind"], "Service")
        self.assertEqual(found[2]["object"]["metadata"]["resourceVersion"], str(gone))
        self.assertEqual(found[2]["object"]["spec"]["clusterIP"], "10.96.0.12")
        self.assertIsNotNone(self.api.sent_ns(gone))

    def test_a_watch_replays_what_it_missed_and_without_a_version_starts_with_all(self):
        start = self.version()
        self.api.put(web())
        self.api.put(web("b", "10.96.0.11"))
        stream = self.client.watch(start)
        self.assertEqual([event(stream)["type"] for _ in range(2)], ["ADDED", "ADDED"])
        for version in ("", "0"):
            stream = self.connect().watch(version)
            names = [event(stream)["object"]["metadata"]["name"] for _ in range(2)]
            self.assertEqual(names, ["b", "web"])

    def test_what_leaves_the_selection_is_deleted_for_its_watchers(self):
        self.api.put(pod("shop/a", ["10.244.0.1"], "n1"), pod("shop/b", ["10.244.0.2"], "n2"))
        stream = self.client.watch(
            self.version("/api/v1/pods"), "/api/v1/pods", "fieldSelector=spec.nodeName%3Dn1"
        )
        self.api.put(pod("shop/b", ["10.244.0.2"], "n2", ready=False))  # not ours: no event
        self.api.put(pod("shop/a", ["10.244.0.1"], "n2"))
        last = self.api.put(pod("shop/b", ["10.244.0.2"], "n1"))
        left, came = event(stream), event(stream)
        self.assertEqual((left["type"], left["object"]["metadata"]["name"]), ("DELETED", "a"))
        self.assertEqual(left["object"]["spec"]["nodeName"], "n1")
        self.assertEqual((came["type"], came["object"]["metadata"]["name"]), ("ADDED", "b"))
        self.assertEqual(came["object"]["metadata"]["resourceVersion"], str(last))

    def test_bookmarks_go_to_who_allows_them_and_carry_the_newest_version(self):
        version = self.version()
        plain = self.connect().watch(version, query="timeoutSeconds=1")
        stream = self.client.watch(version, query="allowWatchBookmarks=true")
        moved = self.api.store.touch()
        self.api.bookmark("Service")
        found = event(stream)
        self.assertEqual((found["type"], found["object"]["kind"]), ("BOOKMARK", "Service"))
        self.assertEqual(found["object"]["metadata"]["resourceVersion"], str(moved))
        self.assertEqual(plain.read(), b"")

    def test_a_stream_ends_properly_at_its_timeout_and_the_connection_stays(self):
        stream = self.client.watch(self.version(), query="timeoutSeconds=1&allowWatchBookmarks=1")
        self.assertEqual([json.loads(x)["type"] for x in stream.read().splitlines()], ["BOOKMARK"])
        accepted = self.api.accepted
        self.client.list()
        self.assertEqual(self.api.accepted, accepted)

    def test_compacted_history_is_told_as_status_or_in_the_stream(self):
        version = self.version()
        self.api.put(web())
        self.api.compact()
        gone = self.client.get(f"{SERVICES}?watch=1&resourceVersion={version}", 410)
        self.assertEqual((gone["reason"], gone["code"]), ("Expired", 410))
        self.api.gone = "event"
        stream = self.client.watch(version)
        found = event(stream)
        self.assertEqual((found["type"], found["object"]["code"]), ("ERROR", 410))
        self.assertEqual(stream.read(), b"")
        # From the compacted version itself nothing is missing.
        self.client.watch(self.version(), query="timeoutSeconds=1").read()

    def test_a_bounded_history_compacts_itself(self):
        self.api.store._history_size = 5
        version = self.version()
        for i in range(7):
            self.api.put(web("x", f"10.96.0.{i}"))
        self.client.get(f"{SERVICES}?watch=1&resourceVersion={version}", 410)
        stream = self.client.watch(int(version) + 2)
        self.assertEqual(event(stream)["object"]["spec"]["clusterIP"], "10.96.0.2")

    def test_a_watch_from_a_version_to_come_is_silent_until_then(self):
        stream = self.client.watch(int(self.version()) + 2)
        versions = [self.api.put(web("x", f"10.96.0.{i}")) for i in range(3)]
        found = event(stream)["object"]["metadata"]["resourceVersion"]
        self.assertEqual(found, str(versions[2]))

    def test_send_initial_events_is_refused_or_streams_the_list(self):
        self.api.put(web())
        query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        path = f"{SERVICES}?watch=1&{query}"
        self.assertEqual(self.client.get(path, 422)["reason"], "Invalid")
        self.api.watch_list = True
        stream = self.client.raw(path)
        self.assertEqual(event(stream)["type"], "ADDED")
        end = event(stream)
        self.assertEqual(end["type"], "BOOKMARK")
        self.assertEqual(
            end["object"]["metadata"]["annotations"], {"k8s.io/initial-events-end": "true"}
        )

    def test_wait_watchers_sees_streams_come_and_go(self):
        self.client.watch(self.version())
        self.api.wait_watchers(1, "Service", GUARD)
        self.client.close()
        self.api.wait(lambda: self.api.watchers() == 0, "the stream is closed", GUARD)


class Refusals(ApiTest):
    def test_a_wrong_token_is_401_and_the_right_one_can_change(self):
        self.assertEqual(self.connect(token="no").get(SERVICES, 401)["reason"], "Unauthorized")
        self.assertEqual(self.connect(token=None).get(SERVICES, 401)["message"], "Unauthorized")
        self.api.set_token("second")
        self.client.get(SERVICES, 401)
        with open(self.api.token_file, encoding="ascii") as file:
            self.connect(token=file.read()).get(SERVICES)

    def test_a_denied_verb_is_403_with_the_servers_words(self):
        self.api.deny("services", "list")
        self.assertEqual(
            self.client.get(SERVICES, 403)["message"],
            'services is forbidden: User "system:serviceaccount:weft:weft" cannot list resource '
            '"services" in API group "" at the cluster scope',
        )
        self.client.watch("1000", query="timeoutSeconds=1").read()
        self.api.deny("EndpointSlice")
        self.assertEqual(
            self.client.get(f"{SLICES}?watch=1&resourceVersion=1000", 403)["message"],
            'endpointslices.discovery.k8s.io is forbidden: User "system:serviceaccount:weft:weft" '
            'cannot watch resource "endpointslices" in API group "discovery.k8s.io" at the cluster '
            "scope",
        )
        self.api.allow("services", "list")
        self.client.get(SERVICES)

    def test_scripted_answers_come_as_often_as_asked_for(self):
        for status in (401, 403, 410, 429, 500, 503, 504):
            self.api.fail(status, "services", "list", times=2)
            for _ in range(2):
                found = self.client.get(SERVICES, status)
                self.assertEqual((found["kind"], found["code"]), ("Status", status))
            self.client.get(SERVICES)
        self.api.fail(429, retry_after=7)
        answer = self.client.raw(SERVICES)
        answer.read()
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "7"))


class Faults(ApiTest):
    def test_a_cut_ends_the_stream_in_the_middle_of_an_object(self):
        stream = self.client.watch(self.version())
        self.api.wait_watchers(1)
        self.api.cut("services", after=100)
        self.api.put(web())
        with self.assertRaises((http.client.IncompleteRead, ConnectionError)) as caught:
            stream.read()
        self.assertLess(len(caught.exception.partial), 100)

    def test_a_clean_cut_is_proper_http_and_half_an_object(self):
        stream = self.client.watch(self.version())
        self.api.wait_watchers(1)
        self.api.cut("services", after=50, how="clean")
        self.api.put(web())
        self.assertEqual(len(stream.read()), 50)

    def test_a_cut_of_a_list(self):
        self.api.put(web())
        self.api.cut("services", after=60, verb="list", how="reset")
        with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
            self.client.list()
        self.assertEqual(len(self.connect().list()["items"]), 1)

    def test_a_stalled_server_accepts_and_sends_nothing(self):
        stream = self.client.watch(self.version())
        self.api.wait_watchers(1)
        self.api.stall()
        self.api.put(web())
        late = threading.Timer(0.2, self.api.resume)
        begin = time.monotonic()
        late.start()
        self.addCleanup(late.join)
        self.assertEqual(event(stream)["type"], "ADDED")
        self.assertGreater(time.monotonic() - begin, 0.15)

    def test_a_drip_and_odd_chunks_change_no_byte(self):
        stream = self.client.watch(self.version())
        self.api.drip(7, 0)
        self.api.chunk_bytes = 11
        self.api.put(web())
        self.assertEqual(event(stream)["object"]["metadata"]["name"], "web")

    def test_away_refuses_connections_and_back_listens_on_the_same_port(self):
        stream = self.client.watch(self.version())
        self.api.wait_watchers(1)
        port = self.api.port
        self.api.away()
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
            stream.read()
        with self.assertRaises(ConnectionRefusedError):
            self.connect().list()
        self.api.back()
        self.assertEqual(self.api.port, port)
        self.connect().list()

    def test_endless_and_oversize_lines(self):
        stream = self.client.watch(self.version())
        self.api.wait_watchers(1)
        self.api.oversize("services", 1 << 20)
        self.assertGreater(len(stream.readline()), 1 << 20)
        self.api.endless("services")
        self.assertNotIn(b"\n", stream.read(1 << 20))
        self.client.close()
        self.api.wait(lambda: self.api.watchers() == 0, "the stream is closed", GUARD)

    def test_errors_in_the_stream_end_it(self):
        for code in (410, 500):
            client = self.connect()
            stream = client.watch(self.version())
            self.api.wait_watchers(1)
            self.api.send_error("services", code)
            self.assertEqual(event(stream)["object"]["code"], code)
            self.assertEqual(stream.read(), b"")
            client.list()

    def test_wrong_types_are_kept_and_slices_can_be_doubled(self):
        self.api.put(web(), endpoint_slice("shop/web", ["10.244.0.1"], [8080]))
        broken = web()
        broken["spec"]["ports"] = "eighty"
        self.api.put(broken)
        self.assertEqual(self.client.list()["items"][0]["spec"]["ports"], "eighty")
        self.api.duplicate_slice("shop", "web-ipv4")
        self.assertEqual(len(self.client.list(SLICES)["items"]), 2)

    def test_a_thousand_events_a_second_arrive_in_order(self):
        streams = [self.connect().watch(self.version()) for _ in range(3)]
        self.api.wait_watchers(3)
        begin = time.monotonic()
        versions = [self.api.put(web("x", f"10.96.{i >> 8}.{i & 255}")) for i in range(3000)]
        self.api.wait_sent()
        took = time.monotonic() - begin
        for stream in streams:
            got = [int(event(stream)["object"]["metadata"]["resourceVersion"]) for _ in versions]
            self.assertEqual(got, versions)
        self.assertLess(took, 30)
        print(f"kube_api: {len(versions) / took:.0f} events a second to 3 watches", file=sys.stderr)


class Tls(ApiTest):
    OPTIONS = {"tls": True, "client_certs": True}

    def test_a_certificate_or_a_token_lets_in(self):
        self.client.get(SERVICES)
        self.connect(token=None).get(SERVICES, 401)
        context = ssl.create_default_context(cafile=self.api.authority.ca)
        context.load_cert_chain(*self.api.client_cert)
        self.connect(token=None, context=context).get(SERVICES)

    def test_certificates_can_be_swapped_expired_and_strange(self):
        self.client.get(SERVICES)
        self.api.swap_certificate()
        self.connect().get(SERVICES)
        for change, text in (
            (self.api.expire_certificate, "expired"),
            (lambda: self.api.swap_certificate(authority=self.api.stranger()), "issuer"),
            (lambda: self.api.swap_certificate(names=["DNS:elsewhere"]), "127.0.0.1"),
        ):
            change()
            with self.assertRaisesRegex(ssl.SSLCertVerificationError, text):
                self.connect().get(SERVICES)
        self.client.get(SERVICES)  # an old connection lives on until it is dropped
        self.api.drop_connections()
        self.api.swap_certificate()
        self.connect().get(SERVICES)

    def test_a_watch_ends_with_its_tls_client(self):
        self.client.watch(self.version())
        self.api.wait_watchers(1)
        self.client.close()
        self.api.wait(lambda: self.api.watchers() == 0, "the stream is closed", GUARD)


class Process(unittest.TestCase):
    def test_it_runs_as_a_process(self):
        program = os.path.abspath(
            f"{os.path.dirname(__file__)}/../../scripts/lib/weftlab/kube_api.py"
        )
        with subprocess.Popen(
            [sys.executable, program, "--services", "20", "--rate", "100"],
            stdout=subprocess.PIPE,
        ) as process:
            try:
                ready = json.loads(process.stdout.readline())
                connection = http.client.HTTPConnection("127.0.0.1", ready["port"], timeout=GUARD)
                connection.request("GET", SLICES)
                self.assertEqual(len(json.loads(connection.getresponse().read())["items"]), 20)
                connection.request("GET", f"{SLICES}?watch=1&resourceVersion=1040")
                self.assertEqual(event(connection.getresponse())["type"], "MODIFIED")
                connection.close()
            finally:
                process.terminate()
            self.assertEqual(process.wait(GUARD), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
