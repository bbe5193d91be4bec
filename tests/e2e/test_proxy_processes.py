#!/usr/bin/python3
"""weftd's side of the proxy: it runs, is watched, is replaced; workloads are found and captured."""

import contextlib
import os
import signal
import time

from harness import NodeTest, client, main, manifests, server, wait_until

WEB = "10.96.0.10"


def routes(where, host):
    """A VirtualService whose one rule sends every request to the host."""
    namespace, name = where.split("/")
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "hosts": [host],
            "http": [{"route": [{"destination": {"host": host}}]}],
        },
    }


def proxy_status(weftd):
    return weftd.ctl("status")["proxy"]


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


class ProxyTest(NodeTest):
    @classmethod
    def prepare(cls):
        cls.write_service("test/web", [WEB], ["a", "b", "c"])
        cls.mesh.write("routes.yaml", routes("test/web", "web"))

    def setUp(self):
        if not self.weftd.running():
            self.weftd.start()
        self.weftd.wait_service("test/web", 3)
        self.wait_serving()

    def proxy(self):
        return proxy_status(self.weftd)

    def wait_serving(self, but_not=0):
        def serves():
            now = self.proxy()
            return now["state"] == "serving" and now["pid"] != but_not and now["captured"] >= 4

        wait_until(serves, 60, "a proxy serves the node's pods")
        return self.proxy()["pid"]

    def served_by_proxy(self):
        return self.weftd.metrics().sum("istio_requests_total")


class Processes(ProxyTest):
    def test_the_proxy_is_unprivileged_and_in_its_own_cgroup(self):
        status = status_of(self.proxy()["pid"])
        self.assertEqual(set(status["Uid"].split()), {"65534"})
        self.assertEqual(int(status["CapEff"], 16) | int(status["CapBnd"], 16), 0)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(status["Seccomp"], "2")
        with open(f"/proc/{self.proxy()['pid']}/cgroup", encoding="ascii") as file:
            self.assertTrue(file.read().rstrip().endswith("/weft-proxy"))

    def test_every_namespace_with_a_process_is_captured(self):
        def all_are():
            proxy = self.proxy()
            return proxy["workloads"] == proxy["captured"] >= len(self.PODS)

        wait_until(all_are, what="all that were found are captured")

    def test_requests_to_a_service_with_rules_go_through_it(self):
        before = self.served_by_proxy()
        self.assertEqual(set(self.names(WEB, 30)), {"a", "b", "c"})
        wait_until(lambda: self.served_by_proxy() >= before + 30, what="30 requests are counted")

    def test_a_proxy_that_dies_is_replaced_at_once(self):
        pid = self.proxy()["pid"]
        os.kill(pid, signal.SIGKILL)
        begin = time.monotonic()
        self.wait_serving(but_not=pid)
        self.assertLess(time.monotonic() - begin, 10)  # one that fails to start is given so long
        self.assertEqual(set(self.names(WEB, 30)), {"a", "b", "c"})

    def test_a_proxy_that_stalls_is_killed_and_replaced(self):
        pid = self.proxy()["pid"]
        os.kill(pid, signal.SIGSTOP)
        self.wait_serving(but_not=pid)
        self.assertFalse(os.path.exists(f"/proc/{pid}/cmdline"))
        self.assertEqual(set(self.names(WEB, 30)), {"a", "b", "c"})

    def test_reloads_under_traffic_lose_no_request(self):
        job = self.client.start(client.traffic, WEB, 80)
        job.receive()
        for _ in range(5):
            pid = self.proxy()["pid"]
            self.weftd.ctl("proxy", "reload")
            self.wait_serving(but_not=pid)
        traffic = job.stop()
        self.assertEqual(traffic["failures"], [])
        self.assertGreater(traffic["requests"], 0)
        wait_until(lambda: self.proxy()["draining"] == 0, 90, "the old ones have ended")

    def test_weft_sockets_is_replaced_and_the_proxy_with_it(self):
        pid = self.proxy()["pid"]
        procs = f"{self.node.cgroup}/weft-proxy/cgroup.procs"
        with open(procs, encoding="ascii") as file:
            others = [int(line) for line in file if int(line) != pid]
        names = {}
        for other in others:
            with contextlib.suppress(OSError):  # a proxy of before, at its end
                names[other] = status_of(other)["Name"]
        os.kill(next(p for p, name in names.items() if name == "weft-sockets"), signal.SIGKILL)
        self.wait_serving(but_not=pid)
        self.assertEqual(set(self.names(WEB, 30)), {"a", "b", "c"})

    def test_a_proxy_outlives_its_weftd_and_is_replaced_by_the_next(self):
        pid = self.proxy()["pid"]
        job = self.client.start(client.traffic, WEB, 80)
        job.receive()
        self.weftd.kill9()
        time.sleep(0.5)
        self.assertTrue(os.path.exists(f"/proc/{pid}"))
        self.weftd.start()
        self.wait_serving(but_not=pid)
        traffic = job.stop()
        self.assertEqual(traffic["failures"], [])
        wait_until(lambda: self.proxy()["draining"] == 0, 90, "the old one has ended")

    def test_a_new_pod_is_captured_soon(self):
        captured = self.proxy()["captured"]
        begin = time.monotonic()
        self.node.pod("late")
        self.addCleanup(self.node.remove_pod, "late")
        made = time.monotonic()
        wait_until(lambda: self.proxy()["captured"] > captured, 60, "it is captured", 0.005)
        now = time.monotonic()
        print(
            f"captured {(now - begin) * 1000:.0f} ms after it was asked for, its making included: "
            f"{(made - begin) * 1000:.0f} ms"
        )
        self.assertLess(now - made, 10)  # it is looked for every second at least


DIRECT = "10.96.0.11"


class NobodyLeft(ProxyTest):
    """weftd and its proxy are gone, and what they wrote is still there."""

    @classmethod
    def prepare(cls):
        super().prepare()
        cls.write_service(
            "test/any", [DIRECT], ["a", "b", "c"], annotations={"weft.mesh/proxy-down": "direct"}
        )
        cls.mesh.write("any.yaml", routes("test/any", "any"))

    def error(self, address):
        return self.client.run(client.connect_error, address, 80)

    def test_each_service_follows_its_own_rule_when_weftd_and_the_proxy_have_died(self):
        self.weftd.wait_service("test/any", 3)
        self.assertEqual(set(self.names(DIRECT, 30)), {"a", "b", "c"})
        pid = self.proxy()["pid"]
        self.weftd.kill9()
        self.assertEqual(set(self.names(DIRECT, 30)), {"a", "b", "c"})  # the proxy lives
        self.assertEqual(set(self.names(WEB, 30)), {"a", "b", "c"})
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.ask(DIRECT)["error"] is None, what="the proxy is missed")
        self.assertEqual(set(self.names(DIRECT, 30)), {"a", "b", "c"})
        self.assertEqual(self.error(WEB), "ECONNREFUSED")
        self.weftd.start()
        self.wait_serving(but_not=pid)
        before = self.served_by_proxy()
        for address in (WEB, DIRECT):
            self.assertEqual(set(self.names(address, 30)), {"a", "b", "c"})
        wait_until(lambda: self.served_by_proxy() >= before + 60, what="both are captured again")


MAIL = "10.96.0.25"


class Greetings(ProxyTest):
    """A service whose port may be anything, with rules, and a server that speaks first."""

    @classmethod
    def prepare(cls):
        super().prepare()
        cls.node["a"].serve(server.greeting, "220 mail\r\n", 2525)
        ports = [manifests.service_port(25, 2525)]
        cls.write_service("test/mail", [MAIL], ["a"], ports=ports, slice_ports=[2525])
        cls.mesh.write("mail.yaml", routes("test/mail", "mail"))

    def setUp(self):
        super().setUp()
        self.weftd.wait_service("test/mail", 1)

    def be_greeted(self):
        job = self.client.start(client.be_greeted, MAIL, 25)
        self.assertEqual(job.receive(), "220 mail\r\n")
        return job

    def test_a_captured_client_hears_its_server_first(self):
        def tunnels():
            return self.weftd.metrics().sum("weft_proxy_tunnels_opened_total")

        before = tunnels()
        self.assertEqual(self.be_greeted().stop(), "stopped")
        wait_until(lambda: tunnels() == before + 1, what="the tunnel is counted")

    def test_a_reload_that_needs_room_cuts_the_oldest_tunnels_alone(self):
        jobs = []
        for _ in range(4):
            jobs.append(self.be_greeted())
            pid = self.proxy()["pid"]
            self.weftd.ctl("proxy", "reload")
            self.wait_serving(but_not=pid)
        self.assertEqual(jobs[0].result(), "closed")
        self.assertEqual([job.finished() for job in jobs[1:]], [False] * 3)
        self.assertEqual([job.stop() for job in jobs[1:]], ["stopped"] * 3)
        wait_until(lambda: self.proxy()["draining"] == 0, 90, "the old ones have ended")
        cut = "weft_proxy_connections_cut_total"
        wait_until(lambda: self.weftd.metrics().sum(cut) == 1, what="one connection was cut")


HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend captured
  bind "${{WEFT_HAPROXY_BIND}}"
  http-request return status 200 content-type text/plain string haproxy if {{ path /haproxy }}
  default_backend web
backend web
{servers}
"""


class ThirdParty(NodeTest):
    START = False

    @classmethod
    def prepare(cls):
        cls.write_service("test/web", [WEB], ["a", "b", "c"])
        cls.mesh.write("routes.yaml", routes("test/web", "web"))
        servers = "\n".join(f"  server {n} {cls.node[n].v4}:8080" for n in cls.BACKENDS)
        config = f"{cls.node.dir}/haproxy.cfg"
        with open(config, "w", encoding="ascii") as file:
            file.write(HAPROXY.format(servers=servers))
        os.chmod(cls.node.dir, 0o755)
        cls.weftd.flags += ["--proxy", f"external:exec haproxy -db -f {config}"]

    def test_haproxy_serves_what_is_captured(self):
        self.weftd.start()
        self.weftd.wait_service("test/web", 3)
        wait_until(
            lambda: proxy_status(self.weftd)["state"] == "serving", what="HAProxy runs"
        )
        wait_until(
            lambda: self.client.run(client.http_get, WEB, 80, "/haproxy") == (200, "haproxy"),
            what="HAProxy itself answers",
        )
        self.assertEqual(set(self.names(WEB, 30)), {"a", "b", "c"})
        pid = proxy_status(self.weftd)["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: proxy_status(self.weftd)["pid"] not in (0, pid), what="another HAProxy runs"
        )
        self.assertEqual(set(self.names(WEB, 30)), {"a", "b", "c"})


if __name__ == "__main__":
    main()
