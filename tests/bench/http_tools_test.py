#!/usr/bin/python3
"""What scripts/bench l7 measures with, against servers that misbehave in a known way."""

import hashlib
import json
import os
import random
import socket
import subprocess
import threading
import time
import unittest

_BUILD = os.environ.get("WEFT_BUILD") or f"{os.path.dirname(__file__)}/../../build"
_OK = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\nabc"


def _tool(name):
    return f"{_BUILD}/tests/{name}"


class Server:
    """A thread a connection; handle(connection) until the test ends."""

    def __init__(self, handle):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.at = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._handle = handle
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                self._handle(connection)
            except OSError:
                pass  # the client may reset


def _answer(reply, before=lambda: None):
    def handle(connection):
        while connection.recv(4096):
            before()
            connection.sendall(reply)

    return Server(handle)


def _open_loop(server, rate, seconds, connections):
    words = ["open", rate, seconds, connections, server.at, "/"]
    done = subprocess.run(
        [_tool("weft_http_load"), *map(str, words)],
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


class HttpLoad(unittest.TestCase):
    def test_latency_counts_from_when_a_request_was_due(self):
        """Half a second of 2 the server is silent: a quarter of all requests were due then."""
        begun = []  # when the first request came, however long the client took to start

        def stall():
            begun.append(time.monotonic())
            since = time.monotonic() - begun[0]
            if 1.0 < since < 1.5:
                time.sleep(1.5 - since)

        result = _open_loop(_answer(_OK, stall), 200, 2, 4)
        self.assertEqual((result["ops"], result["errors"]), (400, 0))
        self.assertGreater(result["p99_ns"], 350e6)
        self.assertGreater(result["max_ns"], result["p50_ns"] * 2)

    def test_an_answer_that_is_not_2xx_is_an_error(self):
        server = _answer(_OK)
        self.assertEqual(_open_loop(server, 100, 0.5, 2)["errors"], 0)
        count = iter(range(1000))
        bad = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

        def handle(connection):
            while connection.recv(4096):
                connection.sendall(_OK if next(count) < 10 else bad)

        result = _open_loop(Server(handle), 100, 0.5, 2)
        self.assertEqual(result["ops"] + result["errors"], 50)
        self.assertEqual(result["ops"], 8)  # two of the ten were before the clock ran

    def test_a_server_that_closes_every_connection_is_not_waited_for(self):
        def handle(connection):
            connection.recv(4096)
            connection.sendall(_OK)

        result = _open_loop(Server(handle), 100, 0.5, 2)
        self.assertGreater(result["errors"], 0)
        self.assertLess(result["seconds"], 5)


class Relay(unittest.TestCase):
    def _relay_to(self, server):
        for _ in range(10):  # another process may take the free port first
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.at = free.getsockname()
            at = f"{self.at[0]}:{self.at[1]}"
            relay = subprocess.Popen([_tool("weft_relay"), at, server.at], stdout=subprocess.PIPE)
            self.addCleanup(relay.stdout.close)
            self.addCleanup(relay.wait)
            self.addCleanup(relay.kill)
            said = relay.stdout.readline()
            if said:
                break
        self.assertEqual(said, b"ready\n")

    def test_megabytes_reach_a_slow_reader_whole_and_then_the_end(self):
        body = random.Random(1).randbytes(5_000_000)

        def handle(connection):
            connection.recv(1)
            connection.sendall(body)

        self._relay_to(Server(handle))
        digest, size = hashlib.sha256(), 0
        with socket.create_connection(self.at) as client:
            client.sendall(b"?")
            time.sleep(0.2)
            while chunk := client.recv(100_000):
                digest.update(chunk)
                size += len(chunk)
                if size < 1_000_000:
                    time.sleep(0.01)
        self.assertEqual(size, len(body))
        self.assertEqual(digest.digest(), hashlib.sha256(body).digest())

    def test_a_client_that_goes_takes_its_upstream_connection_along(self):
        ended = threading.Event()

        def handle(connection):
            while connection.recv(4096):
                pass
            ended.set()

        self._relay_to(Server(handle))
        with socket.create_connection(self.at) as client:
            client.sendall(b"hello")
        self.assertTrue(ended.wait(60))


if __name__ == "__main__":
    unittest.main()
