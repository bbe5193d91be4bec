#!/usr/bin/python3
"""weft-proxy and clients that mean it harm: whatever could be read in two ways is refused and closed,
and of what is passed on nothing is copied; what a client can make it hold is bounded."""

import contextlib
import re
import threading
import time

from proxy_harness import (
    CRLF2,
    GUARD,
    OK,
    PATIENT,
    SANITIZED,
    ProxyTest,
    answer,
    chunk,
    main,
    request,
    wait_until,
)

SOON = 20  # seconds: after a limit of less than one; the usual ones are a minute and more
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: service\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


def post(*fields, body=b"", version="1.1"):
    lines = [f"POST /first HTTP/{version}", "Host: service", *fields]
    return "\r\n".join(lines).encode("latin1") + CRLF2 + body


def get(path="/first", *fields):
    return request("GET", path, *fields)


# name: (what is sent, the status it is refused with). The rows of Beast's list are numbered.
REFUSED = {
    # Which of two framings holds
    "length and chunked": (post("Content-Length: 4", CHUNKED, body=b"0\r\n\r\n"), 400),
    "2 chunked and length": (post(CHUNKED, "Content-Length: 4", body=b"0\r\n\r\n"), 400),
    "2 gzip, then length": (post("Transfer-Encoding: gzip", "Content-Length: 4"), 400),
    "1 gzip alone": (post("Transfer-Encoding: gzip"), 501),
    "1 chunked, gzip": (post("Transfer-Encoding: chunked, gzip"), 501),
    "gzip, chunked": (post("Transfer-Encoding: gzip, chunked"), 501),
    "1 xchunked": (post("Transfer-Encoding: xchunked"), 501),
    "chunked in quotes": (post('Transfer-Encoding: "chunked"'), 501),
    "chunked twice": (post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400),
    "chunked, chunked": (post("Transfer-Encoding: chunked, chunked"), 501),
    "identity": (post("Transfer-Encoding: identity", "Content-Length: 4"), 400),
    "vertical tab before chunked": (post("Transfer-Encoding: \x0bchunked"), 400),
    "3 chunked in HTTP/1.0": (post(CHUNKED, body=b"0\r\n\r\n", version="1.0"), 400),
    "4 the same length twice": (post("Content-Length: 4", "Content-Length: 4"), 400),
    "4 a list of lengths": (post("Content-Length: 4, 4"), 400),
    "two lengths": (post("Content-Length: 4", "Content-Length: 40"), 400),
    "a signed length": (post("Content-Length: +4"), 400),
    "a negative length": (post("Content-Length: -1"), 400),
    "a hexadecimal length": (post("Content-Length: 0x4"), 400),
    "an empty length": (post("Content-Length: "), 400),
    "a length beyond 64 bits": (post("Content-Length: 18446744073709551620"), 400),
    "a length with a blank in it": (post("Content-Length: 4 4"), 400),
    # Where a line, a name or a head ends
    "5 a folded field": (get("/first", "X-A: 1", " folded"), 400),
    "5 a folded framing": (post("X-A: 1", " Transfer-Encoding: chunked"), 400),
    "a blank before the colon": (post("Transfer-Encoding : chunked"), 400),
    "a tab before the colon": (post("Content-Length\t: 4"), 400),
    "9 a bare CR in a field": (get("/first", "X-A: 1\rTransfer-Encoding: chunked"), 400),
    "9 a bare LF in a field": (get("/first", "X-A: 1\nTransfer-Encoding: chunked"), 400),
    "bare LF throughout": (b"GET /first HTTP/1.1\nHost: service\n\n", 400),
    "a NUL in a value": (get("/first", "X-A: 1\0"), 400),
    "a NUL in a name": (get("/first", "X\0A: 1"), 400),
    "a NUL in the target": (get("/fir\0st"), 400),
    "a field without a colon": (get("/first", "nothing"), 400),
    "a field without a name": (get("/first", ": nothing"), 400),
    "a name that is no token": (get("/first", "a(b): 1"), 400),
    "a line before the first field": (b"GET /first HTTP/1.1\r\n Host: service\r\n\r\n", 400),
    "blanks in the request line": (b"GET  /first HTTP/1.1\r\nHost: service\r\n\r\n", 400),
    "a tab in the request line": (b"GET /first\tHTTP/1.1\r\nHost: service\r\n\r\n", 400),
    "no version": (b"GET /first\r\nHost: service\r\n\r\n", 400),
    "HTTP/1.2": (get().replace(b"HTTP/1.1", b"HTTP/1.2"), 505),
    "HTTP/2.0": (get().replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
    # Who is meant
    "6 no Host": (b"GET /first HTTP/1.1\r\n\r\n", 400),
    "6 two Hosts": (get("/first", "Host: other"), 400),
    "6 the same Host twice": (get("/first", "Host: service"), 400),
    "6 a Host with a path": (b"GET /first HTTP/1.1\r\nHost: service/x\r\n\r\n", 400),
    "6 a Host with a user": (b"GET /first HTTP/1.1\r\nHost: a@service\r\n\r\n", 400),
    "6 two Hosts in one": (b"GET /first HTTP/1.1\r\nHost: service, other\r\n\r\n", 400),
    "an absolute target of nobody": (get("http:///first"), 400),
    "an absolute target with a user": (get("http://a@service/first"), 400),
    "an absolute target without Host": (b"GET http://a/first HTTP/1.1\r\n\r\n", 400),
    "another scheme": (get("gopher://service/first"), 400),
    "a target that is no path": (get("first"), 400),
    "* for a GET": (get("*"), 400),
    # Which path
    "an encoded slash": (get("/a%2fb"), 400),
    "an encoded backslash": (get("/a%5cb"), 400),
    "a backslash": (get("/a\\b"), 400),
    "a fragment": (get("/a#b"), 400),
    "an encoded NUL": (get("/a%00b"), 400),
    "a broken encoding": (get("/a%4"), 400),
    "dots with parameters": (get("/a/..;x/b"), 400),
    # How much
    "7 too many fields": (get("/first", *(f"X-{i}: 1" for i in range(101))), 431),
    "a head too large": (get("/first", *(f"X-{i}: {'y' * 900}" for i in range(90))), 431),
    "a request line too long": (get("/" + "x" * 20000), 414),
    "too many connection options": (get("/first", "Connection: " + ",".join(["a"] * 200)), 400),
    "empty lines before it": (b"\r\n\r\n\r\n" + get(), 400),
}

# name: chunked bodies whose head may be passed on, but never their end.
BROKEN_CHUNKS = {
    "8 an extension too long": b"2;" + b"x" * 5000 + b"\r\nok\r\n0\r\n\r\n",
    "8 trailers too large": b"0\r\n" + b"X: " + b"y" * 9000 + b"\r\n\r\n",
    "a bare LF behind the size": b"2\nok\r\n0\r\n\r\n",
    "a bare LF in an extension": b"2;a\nxx\r\nok\r\n0\r\n\r\n",
    "a bare CR behind the size": b"2\rok\r\n0\r\n\r\n",
    "a bare LF behind the data": b"2\r\nok\n0\r\n\r\n",
    "more data than its size": b"2\r\nokay\r\n0\r\n\r\n",
    "a signed size": b"+2\r\nok\r\n0\r\n\r\n",
    "a negative size": b"-2\r\nok\r\n0\r\n\r\n",
    "0x before the size": b"0x2\r\nok\r\n0\r\n\r\n",
    "a blank before the size": b" 2\r\nok\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"10000000000000002\r\nok\r\n0\r\n\r\n",
    "a size that overflows": b"FFFFFFFFFFFFFFFFF\r\nok\r\n0\r\n\r\n",
    "no size": b"\r\nok\r\n0\r\n\r\n",
    "framing in trailers": b"0\r\nContent-Length: 5\r\n\r\n",
    "a folded trailer": b"0\r\nX: a\r\n b\r\n\r\n",
    "a bare LF in trailers": b"0\r\nX: a\n\r\n\r\n",
}


def framings(head):
    return len(re.findall(rb"(?im)^(?:content-length|transfer-encoding):", head))


class Hostile(ProxyTest):
    FLAGS = PATIENT

    def refusal(self, data):
        """The one answer to `data`, after which the connection ends."""
        client = self.client()
        with contextlib.suppress(ConnectionError):  # it may be cut off before all was sent
            client.send(data)
        answered = client.response()
        self.assertTrue(answered.closes, answered.head)
        self.assertTrue(client.at_end())
        client.close()
        return answered.status

    def test_what_can_be_read_in_two_ways_is_refused(self):
        for name, (data, status) in REFUSED.items():
            with self.subTest(name):
                self.assertEqual(self.refusal(data + SMUGGLED), status)
        self.assertEqual(self.backend.received, [])

    def test_the_same_in_single_bytes_is_refused_too(self):
        for name, (data, status) in REFUSED.items():
            if len(data) > 2000:
                continue
            with self.subTest(name):
                client = self.client()
                with contextlib.suppress(ConnectionError):
                    for at in range(len(data)):
                        client.send(data[at : at + 1])
                self.assertEqual(client.response().status, status)
        self.assertEqual(self.backend.received, [])

    def test_what_is_framed_in_doubt_is_refused(self):
        for name, body in BROKEN_CHUNKS.items():
            with self.subTest(name):
                before = len(self.backend.peers)
                self.assertIn(self.refusal(post(CHUNKED, body=body + SMUGGLED)), (400, 431))
                for raw in self.backend.received[before:]:
                    self.assertNotIn(b"smuggled", raw)
                    self.assertNotIn(b"\r\n0\r\n\r\n", raw)

    def test_a_body_that_ends_too_soon_is_never_whole(self):
        for head, body in ((post(CHUNKED), chunk(b"ok")), (post("Content-Length: 5"), b"ok")):
            client = self.client().send(head + body).half_close()
            self.assertTrue(client.at_end())
        for raw in self.backend.received:
            self.assertNotIn(b"0\r\n\r\n", raw)

    def test_what_is_passed_on_has_one_framing_and_is_written_anew(self):
        odd = [
            (post("content-LENGTH:   2  ", body=b"ok"), b"Content-Length: 2\r\n"),
            (
                post("transfer-encoding:\tChunked", body=b"02;a=b\r\nok\r\n0\r\n\r\n"),
                b"Transfer-Encoding: chunked\r\n",
            ),
            (post("Content-Length: 002", body=b"ok"), b"Content-Length: 2\r\n"),
            (post("Content-Length: 2", "Connection: content-length", body=b"ok"), b"Content-Length: 2\r\n"),
        ]
        for data, wanted in odd:
            with self.subTest(data):
                self.assertEqual(self.client().ask(data).status, 200)
                seen = b"".join(self.backend.received)
                self.assertIn(wanted, seen)
                self.assertNotIn(b";a=b", seen)
                heads = [part.split(CRLF2)[0] for part in seen.split(b"POST ")[1:]]
                self.assertEqual({framings(head) for head in heads}, {1})

    def test_a_second_request_is_read_where_the_first_ends(self):
        """What smuggling would hide stands in the open, as a request of its own."""
        client = self.client()
        client.send(post("Content-Length: 6", body=b"0\r\n\r\nG") + SMUGGLED)
        self.assertEqual([client.response().status for _ in range(2)], [200, 200])
        raw = b"".join(self.backend.received)
        self.assertEqual([framings(head) for head in raw.split(b"HTTP/1.1")[1:]], [1, 0])

    def test_paths_are_told_as_they_were_matched(self):
        for path, seen in (
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/../../a", "/a"),
            ("//a///b", "/a/b"),
            ("/%61%2D", "/a-"),
            ("/a/%2e%2e/b", "/b"),
            ("/a%c3%bc", "/a%C3%BC"),
            ("/a;x/b", "/a;x/b"),
            ("http://other/a/../b?c=/../d", "/b?c=/../d"),
        ):
            with self.subTest(path):
                self.client().ask(get(path))
                lines = b"".join(self.backend.received).decode()
                self.assertIn(f"GET {seen} HTTP/1.1\r\n", lines)

    def test_an_absolute_target_names_the_host_for_everybody(self):
        self.client().ask(get("http://other:8080/a"))
        self.assertIn(b"\r\nHost: other:8080\r\n", self.backend.received[0])
        self.assertNotIn(b"Host: service", self.backend.received[0])

    def test_fields_that_connection_names_cannot_take_the_framing_away(self):
        self.client().ask(post("Connection: host, content-length, transfer-encoding",
                               "Content-Length: 2", body=b"ok"))
        raw = self.backend.received[0]
        self.assertIn(b"Content-Length: 2\r\n", raw)
        self.assertEqual(raw.lower().count(b"\r\nhost:"), 1)

    def test_an_upgrade_to_cleartext_http_2_is_not_passed_on(self):
        self.client().ask(get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                              "HTTP2-Settings: AAMAAABk"))
        self.assertNotRegex(self.backend.received[0].lower(), rb"upgrade|settings")

    def test_an_upgrade_with_a_body_is_an_ordinary_request(self):
        self.client().ask(post("Connection: Upgrade", "Upgrade: websocket", "Content-Length: 2",
                               body=b"ok") + SMUGGLED)
        self.assertNotIn(b"pgrade", self.backend.received[0])


ANSWERS = {
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "another encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "a folded field": b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok",
    "a NUL": b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\nok",
    "a bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "a 101 that nobody asked for": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 101 + b"\r\n",
}


class HostileEndpoints(ProxyTest):
    FLAGS = PATIENT

    def test_an_answer_that_can_be_read_in_two_ways_is_a_502(self):
        for name, data in ANSWERS.items():
            with self.subTest(name):
                self.backend.script = lambda peer, d=data: answer(peer, d)
                self.assertEqual(self.proxy.get().status, 502)

    def test_a_second_answer_is_nobodys(self):
        self.backend.script = lambda peer: answer(peer, OK + OK.replace(b"ok", b"no"))
        client = self.client()
        for _ in range(10):
            self.assertEqual(client.ask(get()).body, b"ok")

    def test_bytes_on_an_idle_connection_are_nobodys_answer(self):
        def script(peer):
            peer.request()
            peer.send(OK)
            idle.acquire(timeout=GUARD)
            peer.send(OK.replace(b"ok", b"no"))
            answer(peer)

        idle = threading.Semaphore(0)
        self.backend.script = script
        client = self.client()
        for _ in range(5):
            self.assertEqual(client.ask(get()).body, b"ok")
            idle.release()
            wait_until(lambda: self.proxy.endpoints() == 0)
        self.assertEqual(len(self.backend.peers), 5)


class Patience(ProxyTest):
    FLAGS = [*PATIENT, "--head-timeout", "0.5", "--stall-timeout", "0.7"]

    def test_a_slow_head_is_cut(self):
        for start in (b"GET / HTTP/1.1\r\nHost: service\r\nX-", b"G"):
            client = self.client().send(start)
            began = time.monotonic()
            for _ in range(10):
                time.sleep(0.08)
                with contextlib.suppress(ConnectionError):
                    client.send(b"a")
            self.assertEqual(client.response().status, 408)
            self.assertLess(time.monotonic() - began, SOON)

    def test_an_idle_connection_is_closed_without_a_word(self):
        proxy = self.start_proxy(self.backend, flags=["--idle-timeout", "3"])
        with proxy.connect() as client, proxy.connect() as silent:
            client.ask(get())
            for peer in (client, silent):
                self.assertTrue(peer.at_end())

    def test_a_body_that_stands_still_is_cut(self):
        client = self.client().send(post("Content-Length: 10", body=b"abc"))
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            client.rest()
        self.assertLess(time.monotonic() - began, SOON)

    def test_a_client_that_left_a_silent_endpoint_is_forgotten(self):
        self.backend.script = lambda peer: (peer.request(), peer.rest())
        self.client().send(get()).close()
        wait_until(lambda: any(self.backend.received))
        wait_until(lambda: self.proxy.clients() + self.proxy.endpoints() == 0)


class Bounds(ProxyTest):
    FLAGS = PATIENT

    def test_many_incomplete_heads_cost_little_and_nobody_waits(self):
        data = b"GET / HTTP/1.1\r\nHost: service\r\nX-A: " + b"a" * 200
        count = 2000
        self.proxy.get()
        before = self.proxy.memory()
        clients = [self.proxy.connect().send(data) for _ in range(count)]
        took = []
        for _ in range(50):
            began = time.monotonic()
            self.assertEqual(self.proxy.get().status, 200)
            took.append(time.monotonic() - began)
        # What the incomplete ones cost all pay, what a busy machine costs only some.
        self.assertLess(min(took), 0.1)
        self.assertLess(sum(took) / len(took), 1)
        if not SANITIZED:
            self.assertLess(self.proxy.memory() - before, 100 * count * len(data))
            self.assertLess(self.proxy.memory() - before, count * 8192)
        for client in clients:
            client.reset()

    def test_large_incomplete_heads_cost_what_they_hold(self):
        data = get()[:-2] + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 900) for i in range(60))
        self.proxy.get()
        before = self.proxy.memory()
        clients = [self.proxy.connect().send(data) for _ in range(200)]
        self.proxy.get()
        if not SANITIZED:
            self.assertLess(self.proxy.memory() - before, 3 * 200 * len(data))
        for client in clients:
            client.reset()

    def flood_of_answers(self, peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1000):
            peer.send(b"z" * 100000)

    def test_a_client_that_does_not_read_holds_its_endpoint_up(self):
        self.backend.script = self.flood_of_answers
        before = self.proxy.memory()
        clients = [self.client(receive_buffer=4096).send(get()) for _ in range(10)]
        wait_until(lambda: len(self.backend.peers) >= 10)
        time.sleep(1.5)
        self.assertEqual(len(self.backend.peers), 10)
        if not SANITIZED:
            self.assertLess(self.proxy.memory() - before, 10 * 1_000_000)
        self.backend.script = answer
        self.assertEqual(self.proxy.get().status, 200)
        for client in clients:
            client.reset()
        wait_until(lambda: self.proxy.clients() == 0)
        wait_until(lambda: self.proxy.endpoints() <= 1)

    def test_an_endpoint_that_does_not_read_holds_its_client_up(self):
        self.backend.script = lambda peer: (peer.head(), go_on.wait(GUARD))
        go_on = threading.Event()
        client = self.client(timeout=1).send(post("Content-Length: 100000000"))
        before = self.proxy.memory()
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 60_000_000:
                sent += client.sock.send(b"z" * 100000)
        self.assertLess(sent, 30_000_000)
        if not SANITIZED:
            self.assertLess(self.proxy.memory() - before, 1_000_000)
        go_on.set()

    def test_one_byte_at_a_time_both_ways_arrives(self):
        def script(peer):
            bodies.append(peer.request().body)  # before the client can have its answer
            for at in range(len(answered)):
                peer.send(answered[at : at + 1])

        bodies = []
        answered = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"abc") * 20 + b"0\r\n\r\n"
        self.backend.script = script
        client = self.client()
        data = post(CHUNKED, body=chunk(b"xyz") * 20 + b"0\r\n\r\n")
        for at in range(len(data)):
            client.send(data[at : at + 1])
        self.assertEqual(client.response().body, b"abc" * 20)
        self.assertEqual(bodies, [b"xyz" * 20])

    def test_a_slow_reader_is_not(self):
        """... let go: it gets all of what it reads so slowly."""
        proxy = self.start_proxy(self.backend, flags=[*PATIENT, "--stall-timeout", "2"])
        body = bytes(range(256)) * 8000

        def script(peer):
            peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        self.backend.script = script
        with proxy.connect(receive_buffer=4096) as client:
            client.send(get())
            head = client.head()
            got = client.take(len(client.buffer))
            for _ in range(80):  # for twice as long as it may stand still
                time.sleep(0.05)
                got += client.sock.recv(20000)
            got += client.take(int(head.get("content-length")) - len(got))
        self.assertEqual(got, body)

    def test_a_reader_that_stands_still_is_let_go(self):
        proxy = self.start_proxy(self.backend, flags=[*PATIENT, "--stall-timeout", "0.5"])
        self.backend.script = self.flood_of_answers
        with proxy.connect(receive_buffer=4096) as client:
            client.send(get())
            wait_until(lambda: any(self.backend.received))
            wait_until(lambda: proxy.clients() + proxy.endpoints() == 0)


if __name__ == "__main__":
    main()
