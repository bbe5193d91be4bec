#!/usr/bin/python3
"""One weftd takes the node over from another that lives: an upgrade between pods, and its roll-back."""

import signal

from harness import PORT, NodeTest, Weftd, client, main, wait_until

WEB = "10.96.0.10"


def links(weftd):
    return {hook["name"]: hook["link_id"] for hook in weftd.ctl("status")["hooks"]}


def agent_pid(weftd):
    return weftd.ctl("status")["agent"]["pid"]


class TakeOver(NodeTest):
    PODS = ["client", "a", "b", "c"]
    START = False

    @classmethod
    def prepare(cls):
        cls.write_ballast()
        cls.write_service("test/web", [WEB], ["a", "b", "c"])

    def setUp(self):
        self.agents = []
        self.first = self.agent("--take-over")
        self.first.start()
        self.first.wait_service("test/web", 3)

    def tearDown(self):
        for agent in self.agents:
            if agent.running():
                agent.stop()
        self.write_service("test/web", [WEB], ["a", "b", "c"])

    def agent(self, *flags, sources=None):
        agent = Weftd(self.node, *flags, sources=sources)
        agent.log_path = f"{self.node.dir}/weftd-{self.id()}-{len(self.agents)}.log"
        self.agents.append(agent)
        return agent

    def serves(self, agent):
        """Its own process answers, has the whole state in force, and follows changes."""
        wait_until(lambda: agent_pid(agent) == agent.process.pid, what="the admin socket is its own")
        wait_until(lambda: agent.page("/readyz")[0] == 200, what="it is ready")
        for pods in (["a"], ["a", "b", "c"]):
            self.write_service("test/web", [WEB], pods)
            agent.wait_service("test/web", len(pods))

    def test_no_connection_fails_and_no_link_changes_there_and_back(self):
        before = links(self.first)
        traffic = self.client.start(client.traffic, WEB, 80)
        traffic.receive()
        second = self.agent("--take-over")
        second.start(wait=False)
        second.wait_log("taken over")
        self.serves(second)
        self.first.wait_log("standing by")
        self.assertEqual(links(second), before)
        self.assertTrue(self.first.running())
        back = self.agent("--take-over")  # the old version again
        back.start(wait=False)
        self.serves(back)
        second.wait_log("standing by")
        self.assertEqual(links(back), before)
        told = traffic.stop()
        self.assertEqual(told["failures"], [])
        self.assertGreater(told["requests"], 0)

    def test_what_did_not_change_is_not_written(self):
        second = self.agent("--take-over")
        second.start(wait=False)
        second.wait_log("ready writes=0")

    def test_an_open_breaker_stays_open_for_the_same_time(self):
        endpoint = f"{self.node['c'].v4}:{PORT}"
        self.first.ctl("breaker", "open", endpoint, "--for", "1h")
        before = self.ejection_ends(self.first, "test/web", endpoint)
        asked = self.client.start(client.traffic, WEB, 80)
        asked.receive()
        second = self.agent("--take-over")
        second.start(wait=False)
        second.wait_log("taken over")
        wait_until(lambda: agent_pid(second) == second.process.pid, what="the admin socket is its own")
        wait_until(lambda: second.page("/readyz")[0] == 200, what="it is ready")
        self.assertEqual(asked.stop()["failures"], [])
        self.assert_same_moment(self.ejection_ends(second, "test/web", endpoint), before)
        self.assertEqual(set(self.names(WEB, 12)), {"a", "b"})
        second.ctl("breaker", "close", endpoint)
        self.assertEqual(set(self.names(WEB, 12)), {"a", "b", "c"})

    def test_the_metrics_port_never_refuses(self):
        second = self.agent("--take-over")
        second.start(wait=False)
        pages = 0
        while agent_pid(second) != second.process.pid or pages < 200:
            self.assertIn(self.first.page("/healthz")[0], (200, 503))
            pages += 1
        self.assertIn('metrics_port="handed on"', second.log())

    def test_the_first_takes_back_where_the_second_dies(self):
        second = self.agent("--take-over")
        second.start(wait=False)
        self.serves(second)
        self.first.wait_log("standing by")
        second.kill9()
        self.first.wait_log("taking the node back")
        self.serves(self.first)

    def test_who_stands_by_ends_by_sigterm_and_touches_nothing(self):
        second = self.agent("--take-over")
        second.start(wait=False)
        self.serves(second)
        self.first.wait_log("standing by")
        self.assertEqual(self.first.stop(), 0)
        self.assertEqual(second.ctl_raw("audit").returncode, 0)
        self.serves(second)

    def test_who_was_not_started_to_stand_by_ends(self):
        self.first.stop()
        plain = self.agent()
        plain.start()
        second = self.agent("--take-over")
        second.start(wait=False)
        self.serves(second)
        self.assertEqual(plain.process.wait(30), 0)

    def test_an_agent_whose_sources_say_nothing_takes_nothing_over(self):
        blind = self.agent("--take-over", sources=[f"dir:{self.node.dir}/not-there"])
        blind.start(wait=False)
        blind.wait_log("reading the sources")
        blind.wait_log("is gone")
        self.serves(self.first)
        self.assertEqual(blind.stop(), 0)
        self.assertEqual(agent_pid(self.first), self.first.process.pid)

    def test_an_agent_that_dies_while_another_waits_is_replaced_at_once(self):
        blind = self.agent("--take-over", sources=[f"dir:{self.node.dir}/late"])
        blind.start("--source-timeout", "100ms", wait=False)
        blind.wait_log("reading the sources")
        self.first.kill9()
        blind.wait_log("start version=")
        self.assertEqual({self.ask(WEB)["name"] for _ in range(6)}, {"a", "b", "c"})

    def test_another_address_of_metrics_is_opened_anew(self):
        second = self.agent("--take-over", "--metrics", "127.0.0.1:15021")
        command = second.command()
        at = command.index("--metrics")
        del command[at : at + 2]
        second._spawn(command)
        wait_until(lambda: agent_pid(second) == second.process.pid, what="it took over")
        page = ("127.0.0.1", 15021, "/readyz")
        outside = self.node.outside
        wait_until(lambda: outside.run(client.http_get, *page)[0] == 200, what="it is ready there")
        self.assertEqual(second.stop(), 0)

    def test_without_the_flag_the_second_is_refused_with_what_to_do(self):
        done = self.agent().run_to_end()
        self.assertEqual(done.returncode, 1)
        self.assertIn("--take-over", done.stderr)

    def test_a_takeover_that_is_interrupted_leaves_the_first_serving(self):
        blind = self.agent("--take-over", sources=[f"dir:{self.node.dir}/never"])
        blind.start(wait=False)
        blind.wait_log("reading the sources")
        blind.process.send_signal(signal.SIGINT)
        self.assertEqual(blind.process.wait(30), 0)
        self.serves(self.first)


if __name__ == "__main__":
    main()
