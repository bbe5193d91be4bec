#!/usr/bin/python3
"""Connections to endpoints that terminate or have gone: theirs until the deadline, and no longer."""

import contextlib
import time

from harness import PORT, NodeTest, client, main, manifests, server, wait_until

SERVICE, ADDRESS, ADDRESS6 = "test/web", "10.96.0.10", "fd00:96::10"
DNS = [manifests.service_port(53, 5353, protocol="UDP")]
DNS_SLICE = [manifests.slice_port(5353, protocol="UDP")]


class Drain(NodeTest):
    BACKENDS = ["a", "b"]
    PODS = ["client", "other", "a", "b"]

    @classmethod
    def prepare(cls):
        for name in cls.BACKENDS:
            cls.node[name].serve(server.udp, name, 5353)
        cls.write_ballast()

    def setUp(self):
        self.jobs = []

    def tearDown(self):
        for job in self.jobs:
            job.kill()
        for name in ("test-web.yaml", "test-dns.yaml"):
            with contextlib.suppress(FileNotFoundError):
                self.mesh.remove(name)
        wait_until(
            lambda: {s["name"] for s in self.weftd.ctl("service", "list")} == {"ballast"},
            what="the services are gone",
        )

    def write(self, leaving=(), absent=(), deadline=None, serving=True, addresses=(ADDRESS,)):
        def endpoints(family):
            return [
                manifests.endpoint(
                    getattr(self.node[name], family),
                    **(
                        {"ready": False, "serving": serving, "terminating": True}
                        if name in leaving
                        else {}
                    ),
                )
                for name in self.BACKENDS
                if name not in absent
            ]

        families = ["v6" if ":" in address else "v4" for address in addresses]
        self.mesh.write(
            "test-web.yaml",
            manifests.service(
                SERVICE,
                list(addresses),
                [manifests.service_port(80, PORT)],
                annotations={"weft.mesh/drain-deadline": deadline} if deadline else None,
            ),
            *(
                manifests.endpoint_slice(SERVICE, endpoints(f), [PORT], suffix=f, family=f"IP{f}")
                for f in families
            ),
        )
        ready = len(self.BACKENDS) - len(set(leaving) | set(absent))
        self.weftd.wait_service(SERVICE, ready * len(families))

    def hold(self, count, address=ADDRESS, pod=None):
        """Open connections as (name of the endpoint, job)."""
        held = []
        for _ in range(count):
            job = (pod or self.client).start(client.until_closed, address, 80)
            self.jobs.append(job)
            held.append((job.receive(), job))
        return held

    def closed(self, reason):
        return self.weftd.metrics().sum("weft_drain_closed_connections_total", reason=reason)

    def test_connections_to_a_terminating_endpoint_are_closed_at_the_deadline_and_no_others(self):
        for serving in (True, False):
            with self.subTest(serving=serving):
                self.write(deadline="1s")
                held = self.hold(4) + self.hold(2, pod=self.node["other"])
                before = self.closed("terminating")
                began = time.monotonic()
                self.write(leaving=["b"], deadline="1s", serving=serving)
                for name, job in held:
                    if name == "b":
                        self.assertEqual(job.result(), "ECONNABORTED")
                self.assertGreaterEqual(time.monotonic() - began, 1)
                self.assertEqual({job.stop() for name, job in held if name == "a"}, {"stopped"})
                wait_until(
                    lambda: self.closed("terminating") - before == 3, what="they are counted"
                )
                self.weftd.wait_log("endpoint_is=terminating closed=3")
                self.assertEqual(set(self.names(ADDRESS, 4)), {"a"})

    def test_without_a_deadline_they_stay_also_when_it_has_gone(self):
        self.write()
        held = self.hold(4)
        self.write(leaving=["b"])
        self.write(absent=["b"])
        # What would have been closed is: another service's, asked for later.
        self.mesh.write(
            "test-dns.yaml",
            manifests.service(
                "test/dns",
                ["10.96.0.11"],
                [manifests.service_port(80, PORT)],
                annotations={"weft.mesh/drain-deadline": "0s"},
            ),
            manifests.endpoint_slice("test/dns", [self.node["b"].v4], [PORT]),
        )
        self.weftd.wait_service("test/dns", 1)
        ((_, job),) = self.hold(1, "10.96.0.11")
        self.mesh.remove("test-dns.yaml")
        self.assertEqual(job.result(), "ECONNABORTED")
        self.assertEqual([job.stop() for _, job in held], ["stopped"] * 4)

    def test_both_families_and_one_that_goes_without_terminating(self):
        self.write(deadline="0s", addresses=(ADDRESS, ADDRESS6))
        held = self.hold(2) + self.hold(2, ADDRESS6)
        self.write(absent=["b"], deadline="0s", addresses=(ADDRESS, ADDRESS6))
        ended = [job.result() for name, job in held if name == "b"]
        self.assertEqual(ended, ["ECONNABORTED"] * 2)
        self.assertEqual([job.stop() for name, job in held if name == "a"], ["stopped"] * 2)

    def test_while_only_terminating_endpoints_serve_nobody_is_closed(self):
        self.write(deadline="0s")
        held = self.hold(4)
        self.write(leaving=["a", "b"], deadline="0s")
        self.assertEqual(set(self.names(ADDRESS, 4)), {"a", "b"})
        self.write(leaving=["b"], deadline="0s")
        ended = [job.result() for name, job in held if name == "b"]
        self.assertEqual(ended, ["ECONNABORTED"] * 2)
        self.assertEqual([job.stop() for name, job in held if name == "a"], ["stopped"] * 2)

    def test_a_restart_of_weftd_in_between_closes_them_all_the_same(self):
        self.write(deadline="1s")
        held = self.hold(4)
        self.weftd.kill9()
        self.write_only(leaving=["b"], deadline="1s")
        self.weftd.start()
        ended = [job.result() for name, job in held if name == "b"]
        self.assertEqual(ended, ["ECONNABORTED"] * 2)
        self.assertEqual([job.stop() for name, job in held if name == "a"], ["stopped"] * 2)

    def write_only(self, **how):
        wait, self.weftd.wait_service = self.weftd.wait_service, lambda *_: None
        try:
            self.write(**how)
        finally:
            self.weftd.wait_service = wait

    def test_a_connected_udp_socket_to_an_endpoint_that_has_gone_is_told_at_once(self):
        def write(*names):
            self.serve_service(
                "test/dns", ["10.96.0.12"], list(names), ports=DNS, slice_ports=DNS_SLICE
            )

        write("a", "b")
        held = []
        for _ in range(4):
            job = self.client.start(client.udp_until_closed, "10.96.0.12", 53)
            self.jobs.append(job)
            held.append((job.receive(), job))
        self.assertEqual({name for name, _ in held}, {"a", "b"})
        write("a")
        ended = [job.result() for name, job in held if name == "b"]
        self.assertEqual(set(ended), {"ECONNABORTED"})
        self.assertEqual({job.stop() for name, job in held if name == "a"}, {"stopped"})

    def test_status_tells_that_this_kernel_can(self):
        (feature,) = [
            f for f in self.weftd.ctl("status")["features"] if f["name"] == "sock_destroy"
        ]
        self.assertTrue(feature["enabled"], feature)

    def test_a_deadline_that_cannot_be_read_is_named_and_the_service_served(self):
        self.write(deadline="soon")
        wait_until(
            lambda: any(
                "drain-deadline" in n["message"] for n in self.weftd.ctl("status")["notices"]
            ),
            what="status names the deadline",
        )
        self.assertEqual(set(self.names(ADDRESS, 4)), {"a", "b"})


if __name__ == "__main__":
    main()
