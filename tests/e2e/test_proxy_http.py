#!/usr/bin/python3
"""weft-proxy between well-behaved peers: what HTTP/1.1 asks of an intermediary, upgrades, tunnels."""

import hashlib
import os
import threading

from proxy_harness import (
    CRLF2,
    GUARD,
    OK,
    PATIENT,
    WORKERS,
    Backend,
    ProxyTest,
    answer,
    chunk,
    main,
    request,
    wait_until,
)

UPGRADE = ["Connection: Upgrade", "Upgrade: websocket"]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Messages(ProxyTest):
    FLAGS = PATIENT

    def says(self, data, *after):
        """From now on the endpoint answers each request with `data`; "close": and ends there."""

        def script(peer):
            while peer.request():
                peer.send(self.reply)
                if "close" in after:
                    return

        self.reply = data
        self.backend.script = script

    def sees(self):
        """What the endpoint is asked is recorded."""
        seen = []

        def script(peer):
            while message := peer.request():
                seen.append(message)
                peer.send(OK)

        self.backend.script = script
        return seen

    def test_a_get_is_passed_on_and_answered(self):
        seen = self.sees()
        answered = self.client().ask(request("GET", "/a?b=c", "X-Mine: 1"))
        self.assertEqual((answered.status, answered.body), (200, b"ok"))
        self.assertEqual(seen[0].line, "GET /a?b=c HTTP/1.1")
        self.assertEqual((seen[0].all("host"), seen[0].get("x-mine")), (["service"], "1"))

    def test_an_answer_to_head_has_a_length_and_no_body(self):
        self.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        client = self.client()
        for _ in range(2):
            answered = client.ask(request("HEAD"), head_only=True)
            self.assertEqual(answered.get("content-length"), "1000")
        self.assertEqual(client.buffer, b"")

    def test_204_and_304_end_with_their_head(self):
        for line in (b"204 No Content", b"304 Not Modified\r\nContent-Length: 77"):
            self.says(b"HTTP/1.1 " + line + CRLF2)
            client = self.client()
            for _ in range(2):
                self.assertEqual(client.ask(request()).status, int(line[:3]))
            self.assertEqual(client.buffer, b"")

    def test_bodies_are_passed_on_with_a_length(self):
        seen = self.sees()
        client = self.client()
        for body in (b"x", b"y" * 100000):
            self.assertEqual(client.ask(request("POST", body=body)).status, 200)
            self.assertEqual(seen[-1].body, body)

    def test_chunks_and_trailers_go_to_the_endpoint(self):
        seen = self.sees()
        data = chunk(b"abc") + chunk(b"d" * 5000) + b"0\r\nX-Sum: 7\r\n\r\n"
        client = self.client()
        client.ask(request("POST", "/", "Transfer-Encoding: chunked") + data)
        self.assertEqual(seen[0].body, b"abc" + b"d" * 5000)
        self.assertEqual(seen[0].trailers, b"X-Sum: 7\n")
        self.assertEqual(client.ask(request()).status, 200)

    def test_chunks_and_trailers_come_back(self):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.says(head + chunk(b"abc") + chunk(b"de") + b"0\r\nX-Sum: 7\r\n\r\n")
        client = self.client()
        for _ in range(2):
            answered = client.ask(request())
            self.assertEqual((answered.body, answered.trailers), (b"abcde", b"X-Sum: 7\n"))

    def test_an_http_1_0_client_gets_no_chunks(self):
        self.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"abc") + b"0\r\n\r\n")
        client = self.client()
        client.send(request(version="1.0"))
        answered = client.head()
        self.assertEqual(answered.all("transfer-encoding"), [])
        self.assertEqual(client.rest(), b"abc")

    def test_an_http_1_0_client_may_keep_its_connection(self):
        client = self.client()
        for _ in range(2):
            answered = client.ask(request("GET", "/", "Connection: keep-alive", version="1.0"))
            self.assertEqual(answered.get("connection"), "keep-alive")

    def test_an_answer_that_ends_with_its_connection_is_passed_on_in_chunks(self):
        self.says(b"HTTP/1.1 200 OK\r\n\r\nall there is", "close")
        client = self.client()
        for _ in range(2):
            answered = client.ask(request())
            self.assertEqual(answered.body, b"all there is")
            self.assertEqual(answered.all("transfer-encoding"), ["chunked"])

    def test_trailers_of_another_answer_do_not_end_one_that_has_none(self):
        def until_close(peer):
            peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\n\r\nfirst")
            go_on.wait(GUARD)

        go_on = threading.Event()
        self.backend.script = until_close
        slow = self.client().send(request())
        slow.until(b"first\r\n")
        self.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSecret: of-another\r\n\r\n")
        self.assertEqual(self.client().ask(request()).trailers, b"Secret: of-another\n")
        go_on.set()
        self.assertEqual(slow.until(b"0\r\n"), b"0\r\n")
        self.assertEqual(slow.until(b"\r\n"), b"\r\n")

    def test_100_continue_comes_from_the_endpoint(self):
        def script(peer):
            peer.head()
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + peer.take(5))

        self.backend.script = script
        client = self.client()
        client.send(request("POST", "/", "Expect: 100-continue", "Content-Length: 5"))
        self.assertEqual(client.response().status, 100)
        self.assertEqual(client.ask(b"hello").body, b"hello")

    def test_early_hints_are_passed_on_before_the_answer(self):
        self.says(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + OK)
        client = self.client()
        hints = client.ask(request())
        self.assertEqual((hints.status, hints.get("link")), (103, "</a.css>"))
        self.assertEqual(client.response().body, b"ok")
        client = self.client()
        self.assertEqual(client.ask(request(version="1.0")).status, 200)

    def test_fifty_requests_in_one_write_are_answered_in_order(self):
        def script(peer):
            while message := peer.request():
                body = message.line.split(" ")[1].encode()
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        self.backend.script = script
        client = self.client()
        client.send(b"".join(request("GET", f"/{i}") for i in range(50)))
        for i in range(50):
            self.assertEqual(client.response().body, b"/%d" % i)

    def test_pipelined_requests_beyond_any_buffer_are_all_answered(self):
        requests = [request("POST" if i % 3 else "GET", f"/{'p' * 90}{i}") for i in range(4000)]
        requests = [r if r.startswith(b"GET") else r.replace(CRLF2, b"\r\nContent-Length: 0\r\n\r\n")
                    for r in requests]
        client = self.client(timeout=5 * GUARD)  # in which all has to be sent
        writer = threading.Thread(target=client.sock.sendall, args=(b"".join(requests),))
        writer.start()
        for _ in requests:
            self.assertEqual(client.response().status, 200)
        writer.join()

    def test_requests_pipelined_before_a_half_close_are_all_answered(self):
        client = self.client()
        client.send(b"".join(request("GET", f"/{i}") for i in range(5))).half_close()
        for _ in range(5):
            self.assertEqual(client.response().body, b"ok")
        self.assertTrue(client.at_end())

    def test_a_half_close_within_an_answer_does_not_cut_it_short(self):
        def script(peer):
            peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            go_on.wait(GUARD)
            peer.send(b"world")
            peer.request()

        go_on = threading.Event()
        self.backend.script = script
        client = self.client().send(request())
        client.until(b"hello")
        client.half_close()
        self.wait_quiet()
        go_on.set()
        self.assertEqual(client.rest(), b"world")

    def wait_quiet(self):
        """The proxy has read what was sent to it: it answers another client."""
        with self.proxy.connect() as other:
            other.ask(b"GET / HTTP/1.1\r\n\r\n")  # no Host

    def test_connections_to_the_endpoint_are_used_again(self):
        client = self.client()
        for _ in range(20):
            client.ask(request())
        for _ in range(20):
            self.proxy.get()
        self.assertLessEqual(len(self.backend.peers), int(WORKERS))

    def test_connect_is_refused(self):
        client = self.client()
        answered = client.ask(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
        self.assertEqual(answered.status, 405)
        self.assertEqual(self.backend.received, [])

    def test_fields_of_one_connection_stay_on_it(self):
        seen = self.sees()
        self.client().ask(
            request("GET", "/", "Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: 5", "X-End: 2")
        )
        self.assertEqual([seen[0].get(n) for n in ("x-hop", "keep-alive", "x-end")], [None, None, "2"])
        self.assertFalse(seen[0].closes)

    def test_ten_megabytes_pass_unchanged_both_ways(self):
        body = os.urandom(10_000_000)

        def script(peer):
            while message := peer.request():
                peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for at in range(0, len(message.body), 70000):
                    peer.send(chunk(message.body[at : at + 70000]))
                peer.send(b"0\r\n\r\n")

        self.backend.script = script
        client = self.client(timeout=5 * GUARD)
        for _ in range(3):
            answered = client.ask(request("POST", body=body))
            self.assertEqual(hashlib.sha256(answered.body).digest(), hashlib.sha256(body).digest())
            self.assertFalse(answered.closes)
        pieces = b"".join(chunk(body[at : at + 50000]) for at in range(0, len(body), 50000))
        head = request("POST", "/", "Transfer-Encoding: chunked")
        self.assertEqual(client.ask(head + pieces + b"0\r\n\r\n").body, body)


class Upgrades(ProxyTest):
    FLAGS = PATIENT

    def echo_after(self, answered):
        def script(peer):
            peer.request()
            peer.send(answered)
            while peer.buffer or peer.fill():
                peer.send(peer.take(len(peer.buffer)))
            peer.half_close()

        self.backend.script = script

    def test_bytes_pass_both_ways_after_101(self):
        self.echo_after(SWITCH)
        client = self.client()
        answered = client.ask(request("GET", "/chat", *UPGRADE))
        self.assertEqual((answered.status, answered.get("upgrade")), (101, "websocket"))
        for data in (b"\x81\x05hello", os.urandom(200000)):
            writer = threading.Thread(target=client.send, args=(data,))
            writer.start()
            self.assertEqual(client.take(len(data)), data)
            writer.join()
        client.half_close()
        self.assertEqual(client.rest(), b"")

    def test_what_comes_with_the_101_comes_behind_it(self):
        self.echo_after(SWITCH + b"at once")
        client = self.client()
        self.assertEqual(client.ask(request("GET", "/chat", *UPGRADE)).status, 101)
        self.assertEqual(client.take(7), b"at once")

    def test_bytes_behind_the_request_wait_for_the_101(self):
        go_on = threading.Event()

        def script(peer):
            peer.request()
            go_on.wait(GUARD)
            before.append(peer.received)
            peer.send(SWITCH)
            peer.send(peer.take(5))

        before = []
        self.backend.script = script
        client = self.client().send(request("GET", "/chat", *UPGRADE) + b"early")
        wait_until(lambda: self.backend.received)
        go_on.set()
        self.assertEqual(client.response().status, 101)
        self.assertEqual(client.take(5), b"early")
        self.assertNotIn(b"early", before[0])

    def test_a_half_close_right_behind_the_request_reaches_the_endpoint(self):
        self.echo_after(SWITCH)
        client = self.client().send(request("GET", "/chat", *UPGRADE) + b"all").half_close()
        self.assertEqual(client.response().status, 101)
        self.assertEqual(client.rest(), b"all")

    def test_a_refused_upgrade_leaves_an_ordinary_connection(self):
        for status in (b"200 OK", b"426 Upgrade Required"):
            answered = b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno"
            self.backend.script = lambda peer, a=answered: answer(peer, a)
            client = self.client()
            client.send(request("GET", "/chat", *UPGRADE) + request("GET", "/next"))
            self.assertEqual([client.response().body for _ in range(2)], [b"no", b"no"])

    def test_bytes_behind_a_refused_upgrade_never_reach_the_endpoint(self):
        self.backend.script = lambda peer: answer(peer, OK)
        client = self.client().send(request("GET", "/chat", *UPGRADE) + b"\x81\x05hello")
        self.assertEqual(client.response().status, 200)
        self.assertEqual(client.response().status, 400)
        self.assertNotIn(b"hello", b"".join(self.backend.received))


CLIENT_HELLO = bytes.fromhex("16030100750100007103037b") + bytes(range(96)) + b"\r\n\r\nGET / HTTP/1.1"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"


class Tunnels(ProxyTest):
    FLAGS = PATIENT

    def test_what_is_no_http_is_passed_on_as_it_is(self):
        def script(peer):
            peer.send(b"<" + peer.rest())

        self.backend.script = script
        for data in (b"\0\1made up\n", CLIENT_HELLO, PREFACE, b"hello there\r\n", b"PING\r\n"):
            client = self.client().send(data).half_close()
            self.assertEqual(client.rest(), b"<" + data)
            self.assertEqual(self.backend.received[-1], data)

    def test_an_endpoint_may_end_first(self):
        def script(peer):
            peer.send(b"goodbye").half_close()
            ended.append(peer.rest())

        ended = []
        self.backend.script = script
        client = self.client().send(b"\0one")
        self.assertEqual(client.rest(), b"goodbye")
        client.send(b"two").half_close()
        wait_until(lambda: ended)
        self.assertEqual(ended, [b"\0onetwo"])

    def test_megabytes_pass_unchanged_both_ways(self):
        data = b"\0" + os.urandom(10_000_000)

        def script(peer):
            while peer.fill():
                peer.send(peer.take(len(peer.buffer)))
            peer.half_close()

        self.backend.script = script
        client = self.client(timeout=5 * GUARD)

        def write():
            client.send(data).half_close()

        writer = threading.Thread(target=write)
        writer.start()
        self.assertEqual(hashlib.sha256(client.rest()).digest(), hashlib.sha256(data).digest())
        writer.join()

    def test_a_client_that_only_looked_in_makes_no_connection(self):
        for _ in range(3):
            self.assertTrue(self.client().half_close().at_end())
        self.assertEqual(self.backend.peers, [])

    def test_an_endpoint_that_refuses_is_passed_over(self):
        dead = Backend()
        dead.stop_listening()
        self.backend.script = lambda peer: peer.send(b"<" + peer.rest())
        proxy = self.start_proxy(dead, self.backend)
        for _ in range(10):
            with proxy.connect() as client:
                self.assertEqual(client.send(b"\0x").half_close().rest(), b"<\0x")



def greet(peer):
    peer.send(b"220 mail.example\r\n")
    peer.send(b"250 " + peer.until(b"\r\n"))
    peer.rest()


class ServersThatSpeakFirst(ProxyTest):
    """Clients that say nothing, on a port that may be no HTTP."""

    def waiting_client(self):
        client = self.client()
        wait_until(lambda: self.backend.peers, what="an endpoint is asked")
        return client

    def test_a_greeting_reaches_a_client_that_says_nothing(self):
        self.backend.script = greet
        client = self.client()
        self.assertEqual(client.until(b"\n"), b"220 mail.example\r\n")
        self.assertEqual(client.send(b"EHLO me\r\n").until(b"\n"), b"250 EHLO me\r\n")

    def test_what_follows_a_greeting_is_passed_on_even_if_it_looks_like_http(self):
        self.backend.script = greet
        client = self.client()
        client.until(b"\n")
        text = b"GET /../a HTTP/1.1\r\n"
        self.assertEqual(client.send(text).until(b"\n"), b"250 " + text)
        self.assertEqual(self.backend.received, [text])

    def test_first_letters_of_a_method_go_behind_a_greeting(self):
        def script(peer):
            told.wait(GUARD)
            greet(peer)

        told = threading.Event()
        self.backend.script = script
        client = self.waiting_client().send(b"EH")
        told.set()
        client.until(b"\n")
        self.assertEqual(client.send(b"LO me\r\n").until(b"\n"), b"250 EHLO me\r\n")

    def test_a_late_request_is_answered_as_any_other(self):
        client = self.waiting_client()
        for _ in range(3):
            self.assertEqual(client.ask(request("GET", "/a/../b")).body, b"ok")
        self.assertEqual([r.count(b"GET /b HTTP/1.1") for r in self.backend.received], [0, 3])
        self.assertIn(b"x-request-id", self.backend.received[1].lower())
        client.close()
        self.assert_quiet()

    def test_a_late_request_in_single_bytes_is_answered_as_any_other(self):
        client = self.waiting_client()
        for byte in request("GET", "/"):
            client.send(bytes([byte]))
        self.assertEqual(client.response().status, 200)
        self.assertEqual(self.backend.received[0], b"")

    def test_late_bytes_that_are_no_http_go_to_the_endpoint_that_was_asked(self):
        self.backend.script = lambda peer: peer.send(b"<" + peer.rest())
        client = self.waiting_client().send(b"\0late").half_close()
        self.assertEqual(client.rest(), b"<\0late")
        self.assertEqual(len(self.backend.peers), 1)

    def test_a_client_that_ends_without_a_word_is_still_greeted(self):
        def script(peer):
            peer.rest()
            peer.send(b"bye")

        self.backend.script = script
        self.assertEqual(self.waiting_client().half_close().rest(), b"bye")

    def test_an_endpoint_that_ends_without_a_word_ends_its_client(self):
        self.backend.script = lambda peer: peer.half_close()
        self.assertTrue(self.client().at_end())

    def test_an_endpoint_that_refuses_ends_its_client(self):
        self.backend.stop_listening()
        self.assertTrue(self.client().at_end())

    def test_a_drain_does_not_wait_for_those_who_said_nothing(self):
        client = self.waiting_client()
        self.assert_quiet()
        self.assertTrue(client.at_end())


class PatienceWithTheSilent(ProxyTest):
    FLAGS = ["--detect-timeout", "0.05", "--head-timeout", "0.5"]

    def test_a_slow_head_is_cut_also_where_an_endpoint_was_asked(self):
        client = self.client()
        wait_until(lambda: self.backend.peers, what="an endpoint is asked")
        self.assertEqual(client.ask(b"GE").status, 408)
        wait_until(lambda: self.proxy.endpoints() == 0)

    def test_who_says_nothing_is_closed_after_the_idle_time_and_its_endpoint_too(self):
        proxy = self.start_proxy(self.backend, flags=["--detect-timeout", "0.05", "--idle-timeout", "1"])
        with proxy.connect() as client:
            self.assertTrue(client.at_end())
            wait_until(lambda: proxy.endpoints() == 0)


if __name__ == "__main__":
    main()
