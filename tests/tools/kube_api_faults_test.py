#!/usr/bin/python3
"""The replaying API server refuses and fails as it is told, over TLS too, and runs as a process."""

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import unittest

import kube_api_asked
from kube_api_asked import GUARD, SERVICES, SLICES, endpoint_slice, event, web


class Refusals(kube_api_asked.ApiTest):
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


class Faults(kube_api_asked.ApiTest):
    def test_a_cut_ends_the_stream_in_the_middle_of_an_object(self):
        stream = self.client.watch(self.version())
        self.api.wait_watchers(1)
        self.api.cut("services", after=100)
        self.api.put(web())
        with self.assertRaises((http.client.IncompleteRead, ConnectionError)) as caught:
            stream.read()
        self.assertLess(len(getattr(caught.exception, "partial", b"")), 100)  # a reset has none

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


class Tls(kube_api_asked.ApiTest):
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
