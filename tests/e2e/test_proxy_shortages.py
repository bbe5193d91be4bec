#!/usr/bin/python3
"""weft-proxy while descriptors, ports or its own limits are short: who makes room, and that it
recovers."""

import contextlib
import os
import resource
import select
import threading
import time

from proxy_harness import (
    GUARD,
    OK,
    PATIENT,
    WORKERS,
    Backend,
    ProxyTest,
    answer,
    main,
    request,
    wait_until,
)


class Shortages(ProxyTest):
    def test_without_descriptors_nothing_spins_and_it_recovers(self):
        descriptors = 48 + 16 * int(WORKERS)  # they are shared out among workers
        proxy = self.start_proxy(self.backend, descriptors=descriptors)
        clients = []
        for _ in range(150):
            with contextlib.suppress(OSError):
                clients.append(proxy.connect(timeout=1))
        before = proxy.cpu_seconds()
        time.sleep(1)
        self.assertLess(proxy.cpu_seconds() - before, 0.3)
        served = 0
        for client in clients:
            with contextlib.suppress(OSError, EOFError):
                served += client.ask(request()).status == 200
        self.assertGreaterEqual(served, 5)
        for client in clients:
            client.close()
        began = time.monotonic()
        wait_until(lambda: self.answers(proxy))
        self.assertLess(time.monotonic() - began, 10)  # timeouts are of a minute and more

    def idle_clients(self, proxy, count):
        clients = []
        for _ in range(count):
            clients.append(proxy.connect())
            self.addCleanup(clients[-1].close)
            self.assertEqual(clients[-1].ask(request()).status, 200)
        return clients

    def assert_oldest_makes_room(self, proxy, clients):
        self.assertEqual(clients[0].ask(request()).status, 200)  # the oldest is the second now
        with proxy.connect() as new:
            self.assertEqual(new.ask(request()).status, 200)
            self.assertTrue(clients[1].at_end())
            for client in (clients[0], *clients[2:]):
                self.assertEqual(client.ask(request()).status, 200)

    def test_the_client_that_waits_longest_makes_room_at_the_limit(self):
        flags = [*PATIENT, "--workers", "1", "--max-connections", "3"]
        proxy = self.start_proxy(self.backend, flags=flags)
        self.assert_oldest_makes_room(proxy, self.idle_clients(proxy, 3))

    def test_the_client_that_waits_longest_makes_room_where_descriptors_end(self):
        proxy = self.start_proxy(self.backend, flags=[*PATIENT, "--workers", "1"])
        clients = self.idle_clients(proxy, 5)
        # UBSan looks at an object of a kind that it has not seen through a pipe, for which there will be no
        # descriptors: a connection that ended is seen here.
        self.assertEqual(proxy.get().status, 200)
        wait_until(lambda: proxy.clients() == 5)
        used = max(int(name) for name in os.listdir(f"/proc/{proxy.process.pid}/fd"))
        resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (used + 1, used + 1))
        self.assert_oldest_makes_room(proxy, clients)

    def test_clients_that_say_nothing_make_room_too(self):
        proxy = self.start_proxy(self.backend, flags=["--workers", "1", "--max-connections", "3"])
        silent = [proxy.connect() for _ in range(3)]
        wait_until(lambda: self.answers(proxy))
        self.assertTrue(silent[0].at_end())
        for client in silent:
            client.close()

    def test_nobody_is_closed_in_the_middle_of_a_request(self):
        def script(peer):
            request = peer.request()
            asked.append(request)
            go.wait(GUARD)
            peer.send(OK)

        asked, go = [], threading.Event()
        self.backend.script = script
        flags = [*PATIENT, "--workers", "1", "--max-connections", "3"]
        proxy = self.start_proxy(self.backend, flags=flags)
        clients = [proxy.connect().send(request()) for _ in range(3)]
        wait_until(lambda: len(asked) == 3)
        with proxy.connect() as new:
            self.assertTrue(new.at_end())
        go.set()
        for client in clients:
            self.assertEqual(client.response().body, b"ok")
            client.close()

    def test_connections_to_endpoints_that_wait_make_room_for_others(self):
        """64 descriptors are 20 connections to endpoints; 30 endpoints are asked in turn."""
        backends = [self.backend, *(Backend() for _ in range(29))]
        proxy = self.start_proxy(*backends, flags=["--workers", "1"], descriptors=64)
        with proxy.connect() as client:
            for _ in range(90):
                self.assertEqual(client.ask(request()).status, 200)
        self.assertGreater(sum(len(b.peers) > 0 for b in backends), 20)
        # The last one that made room is closed by now, or is being closed.
        wait_until(lambda: proxy.endpoints() <= 20)

    def answers(self, proxy):
        try:
            return proxy.get(timeout=1).status == 200
        except (OSError, EOFError):
            return False

    def first_answers(self, clients, count):
        waiting, statuses = {client.sock: client for client in clients}, []
        while len(statuses) < count:
            ready = select.select(list(waiting), [], [], GUARD)[0]
            self.assertTrue(ready, f"only {len(statuses)} of {count} are answered")
            statuses += [waiting.pop(sock).response().status for sock in ready]
        return statuses

    def test_without_ports_the_answer_is_a_quick_503(self):
        path = "/proc/sys/net/ipv4/ip_local_port_range"
        go_on = threading.Event()
        self.backend.script = lambda peer: (peer.request(), go_on.wait(2 * GUARD), peer.send(OK))
        proxy = self.start_proxy(self.backend, flags=PATIENT)
        with open(path, encoding="ascii") as file:
            usual = file.read()
        # Clients bind their own; what is left of the range is the proxy's.
        clients = [proxy.connect() for _ in range(40)]
        with open(path, "w", encoding="ascii") as file:
            file.write("40000 40009")
        try:
            for client in clients:
                client.send(request())
            began = time.monotonic()
            short = self.first_answers(clients, len(clients) - 12)
            took = time.monotonic() - began
            before = proxy.cpu_seconds()
            time.sleep(0.5)
            self.assertLess(proxy.cpu_seconds() - before, 0.2)
        finally:
            with open(path, "w", encoding="ascii") as file:
                file.write(usual)
            go_on.set()
        self.assertEqual(set(short), {503})
        self.assertLess(took, 8)  # a connect may take 10
        self.backend.script = answer
        wait_until(lambda: self.answers(proxy))


if __name__ == "__main__":
    main()
