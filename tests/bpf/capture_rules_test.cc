// Who is captured, and who is not: other services and protocols, the proxy's own sockets, callers
// whose namespace has no listener, a proxy that is down.
#include <bpf/bpf.h>
#include <sched.h>

#include <cstdlib>
#include <thread>

#include "agent/kernel/own_socket.h"
#include "agent/kernel/pins.h"
#include "tests/bpf/capture_fixture.h"

namespace weft::tests {
namespace {

using namespace std::chrono_literals;

class CaptureRules : public Capture {
 protected:
  // The policy as the kernel has it, with the flag for "refuse" where it is wanted.
  void refuse_without_proxy() {
    node_.maps().policies.at(node_.index_of("web")).flags &= ~unsigned{WEFT_POLICY_PROXY_DIRECT};
  }
  // As weft-proxy does, so long ago. One that is to live beats ahead, however long the test takes.
  void beat(std::uint32_t column, std::chrono::nanoseconds ago) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();  // CLOCK_MONOTONIC
    const auto at = std::chrono::duration_cast<std::chrono::nanoseconds>(now - ago).count();
    kernel::store(node_.maps().proxy_state.at(0).beat_ns[column], static_cast<std::uint64_t>(at));
  }
  void mark_own(const base::Fd& socket) {
    const base::Fd map(bpf_obj_get(node_.pins().map("weft_own_sockets").c_str()));
    const auto status = kernel::mark_own_socket(map.get(), socket.get());
    ASSERT_TRUE(status.ok()) << status;
  }
  void SetUp() override {
    Capture::SetUp();
    endpoint_ = listen_on("127.0.0.9");
  }
  base::Fd endpoint_;
};

TEST_F(CaptureRules, AServiceWithoutRulesIsBalanced) {
  apply({make_service("web", {kWeb}, {"127.0.0.9"})});
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_FALSE(anybody_came());
  EXPECT_EQ(total().opened, 1u);
}

TEST_F(CaptureRules, AServiceWithNobodyReadyIsTheProxysAllTheSame) {
  apply({with_rules(make_service("web", {kWeb}, {}))});
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_EQ(original_of(accept_one(v4_)), kWeb + " port 80");
  kernel::set_proxy_up(node_.maps(), false);
  EXPECT_EQ(dial(kWeb), ECONNREFUSED);
  EXPECT_EQ(total().refused_no_endpoint, 1u);
}

TEST_F(CaptureRules, DatagramsAreNeverCaptured) {
  auto dns = make_service("web", {kWeb}, {"127.0.0.9"});
  dns.ports.push_back(dns.ports[0]);
  dns.ports[0].protocol = model::Protocol::kTcp;
  dns.ports[1].protocol = model::Protocol::kUdp;
  dns.ports[1].http = dns.ports[0].http = std::make_shared<const model::HttpRoutes>();
  apply({dns});
  const base::Fd udp(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect_to(udp, {AF_INET, kWeb, 80}), 0);
  EXPECT_EQ(send(udp.get(), "x", 1, 0), 1);
  EXPECT_EQ(peer_of(udp).text(), kWeb + " port 80");
  const base::Fd unconnected(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const SocketAddress to(AF_INET, kWeb, 80);
  EXPECT_EQ(sendto(unconnected.get(), "x", 1, 0, to.get(), to.length), 1);
  EXPECT_EQ(node_.events(WEFT_EVENT_SEND_TRANSLATED), 1u);
  EXPECT_FALSE(anybody_came());
}

TEST_F(CaptureRules, TheProxysOwnSocketsAreLeftAlone) {
  base::Fd own = tcp(AF_INET);
  mark_own(own);
  EXPECT_EQ(connect_to(own, {AF_INET, kWeb, 80}), ENETUNREACH)
      << "nobody routes a service address in this namespace, and nobody translated it";
  own = tcp(AF_INET);
  mark_own(own);
  EXPECT_EQ(connect_to(own, {AF_INET, "127.0.0.9", 8080}), 0);
  apply({make_service("web", {kWeb}, {})});
  own = tcp(AF_INET);
  mark_own(own);
  EXPECT_EQ(connect_to(own, {AF_INET, kWeb, 80}), ENETUNREACH) << "nor refused";
  EXPECT_EQ(total().refused_no_endpoint, 0u);
  EXPECT_FALSE(anybody_came());
}

TEST_F(CaptureRules, AMarkIsNoWayAroundTheProxy) {
  const auto client = tcp(AF_INET);
  const int mark = WEFT_OWN_UPSTREAM;
  setsockopt(client.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark);
  ASSERT_EQ(connect_to(client, {AF_INET, kWeb, 80}), 0);
  EXPECT_EQ(original_of(accept_one(v4_)), kWeb + " port 80");
}

TEST_F(CaptureRules, WithoutAProxyConnectionsAreBalancedWhereTheServiceAllowsIt) {
  kernel::set_proxy_up(node_.maps(), false);
  EXPECT_FALSE(kernel::proxy_is_up(node_.maps()));
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_EQ(total().opened, 1u);
  EXPECT_FALSE(anybody_came());
  kernel::set_proxy_up(node_.maps(), true);
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_TRUE(anybody_came()) << "the very next one";
}

TEST_F(CaptureRules, WithoutAProxyConnectionsAreRefusedWhereItDoesNot) {
  refuse_without_proxy();
  kernel::set_proxy_up(node_.maps(), false);
  EXPECT_EQ(dial(kWeb), ECONNREFUSED);
  EXPECT_EQ(total().refused_proxy_down, 1u);
  EXPECT_EQ(node_.events(WEFT_EVENT_REFUSED_PROXY_DOWN), 1u);
  EXPECT_EQ(total().opened, 0u);
  EXPECT_EQ(total().active, 0u);
  kernel::set_proxy_up(node_.maps(), true);
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_TRUE(anybody_came());
}

// As when weftd and the proxy are both gone: nobody is left to say that it is down.
TEST_F(CaptureRules, AProxyWhoseHeartStandsStillIsDownThoughNobodySaysSo) {
  beat(3, 2s);
  kernel::set_proxy_up_by(node_.maps(), 3);
  EXPECT_FALSE(kernel::proxy_is_up(node_.maps()));
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_EQ(total().opened, 1u) << "balanced: the service allows it";
  refuse_without_proxy();
  EXPECT_EQ(dial(kWeb), ECONNREFUSED);
  EXPECT_EQ(total().refused_proxy_down, 1u);
  EXPECT_FALSE(anybody_came());
  beat(3, -1min);
  EXPECT_TRUE(kernel::proxy_is_up(node_.maps()));
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_TRUE(anybody_came()) << "the very next one";
}

TEST_F(CaptureRules, OnlyTheHeartOfTheGenerationThatServesIsAskedFor) {
  beat(1, 1h);
  beat(2, -1min);
  kernel::set_proxy_up_by(node_.maps(), 2);
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_TRUE(anybody_came());
  refuse_without_proxy();
  kernel::set_proxy_up_by(node_.maps(), 5);  // column 1
  EXPECT_EQ(dial(kWeb), ECONNREFUSED);
}

TEST_F(CaptureRules, AProxyThatHasNotBeatenYetServes) {
  beat(1, 1h);
  kernel::clear_generation(node_.maps(), 1);
  kernel::set_proxy_up_by(node_.maps(), 1);
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_TRUE(anybody_came());
}

TEST_F(CaptureRules, AThirdPartysProxyNeedsNoHeart) {
  for (const auto column : {0u, 1u, 2u, 3u}) beat(column, 1h);
  kernel::set_proxy_up(node_.maps(), true);
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_TRUE(anybody_came());
}

TEST_F(CaptureRules, ANamespaceWithoutAListenerFollowsTheSameRule) {
  ASSERT_TRUE(kernel::erase_capture(node_.maps(), cookie_).ok());
  EXPECT_EQ(dial(kWeb), 0);
  EXPECT_EQ(total().opened, 1u);
  refuse_without_proxy();
  EXPECT_EQ(dial(kWeb), ECONNREFUSED);
  capture(cookie_ + 1);
  EXPECT_EQ(dial(kWeb), ECONNREFUSED) << "a neighbour's listener is not ours";
  EXPECT_FALSE(anybody_came());
}

TEST_F(CaptureRules, EachFamilyHasItsOwnListener) {
  refuse_without_proxy();
  node_.maps().policies.at(node_.index_of("web") + 1).flags &= ~unsigned{WEFT_POLICY_PROXY_DIRECT};
  capture(cookie_, WEFT_LISTENING_V4);
  EXPECT_EQ(connect_to(tcp(AF_INET), {AF_INET, kWeb, 80}), 0);
  EXPECT_EQ(connect_to(tcp(AF_INET6), {AF_INET6, "::ffff:" + kWeb, 80}), 0);
  EXPECT_EQ(connect_to(tcp(AF_INET6), {AF_INET6, kWeb6, 80}), ECONNREFUSED);
  capture(cookie_, WEFT_LISTENING_V6);
  EXPECT_EQ(connect_to(tcp(AF_INET), {AF_INET, kWeb, 80}), ECONNREFUSED);
  EXPECT_EQ(connect_to(tcp(AF_INET6), {AF_INET6, "::ffff:" + kWeb, 80}), ECONNREFUSED);
  EXPECT_EQ(connect_to(tcp(AF_INET6), {AF_INET6, kWeb6, 80}), 0);
}

TEST_F(CaptureRules, AV6onlySocketIsCapturedByIpv6) {
  const auto client = tcp(AF_INET6);
  const int on = 1;
  setsockopt(client.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  ASSERT_EQ(connect_to(client, {AF_INET6, kWeb6, 80}), 0);
  EXPECT_EQ(original_of(accept_one(v6_), SOL_IPV6), kWeb6 + " port 80");
}

TEST_F(CaptureRules, LimitsOfTheServiceAreTheProxysToKeep) {
  auto web = with_rules(make_service("web", {kWeb}, {"127.0.0.9"}));
  web.traffic.limits.max_connections = 1;
  apply({web});
  std::vector<base::Fd> sockets(5);
  for (auto& socket : sockets) EXPECT_EQ(dial(kWeb, &socket), 0);
  EXPECT_EQ(total().refused_limit, 0u);
}

TEST_F(CaptureRules, ASocketBoundToADeviceFollowsTheSameRule) {
  ASSERT_EQ(std::system("ip link add v0 type veth peer name v1 && ip link set v0 up && "
                        "ip link set v1 up"),
            0);
  refuse_without_proxy();
  const auto through = [&](const std::string& device) {
    const auto client = tcp(AF_INET);
    EXPECT_EQ(setsockopt(client.get(), SOL_SOCKET, SO_BINDTODEVICE, device.data(), device.size()),
              0);
    return connect_to(client, {AF_INET, kWeb, 80});
  };
  EXPECT_EQ(through("v0"), ECONNREFUSED) << "turned to the loopback it would hang for two minutes";
  EXPECT_EQ(total().refused_proxy_down, 1u);
  EXPECT_EQ(through("lo"), 0);
  EXPECT_EQ(original_of(accept_one(v4_)), kWeb + " port 80");
}

TEST_F(CaptureRules, WhereTheLoopbackIsDownConnectFails) {
  std::thread([&] {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    capture(netns_cookie());
    EXPECT_EQ(connect_to(tcp(AF_INET), {AF_INET, kWeb, 80}), ENETUNREACH);
    EXPECT_EQ(connect_to(tcp(AF_INET6), {AF_INET6, kWeb6, 80}), EADDRNOTAVAIL);
  }).join();
}

TEST_F(CaptureRules, TheQuestionWhyIsAnsweredAlike) {
  EXPECT_EQ(text_of(node_.ask(kWeb, 80, cookie_)), "127.0.0.1:15001");
  EXPECT_EQ(text_of(node_.ask(kWeb6, 80, cookie_)), "::1:15001");
  EXPECT_EQ(node_.ask(kWeb, 80, cookie_, WEFT_REACH_V4, /*dry=*/true).verdict,
            WEFT_VERDICT_CAPTURE);
  EXPECT_EQ(text_of(node_.ask(kWeb, 80, cookie_ + 1)), "127.0.0.9:8080");
  refuse_without_proxy();
  EXPECT_EQ(text_of(node_.ask(kWeb, 80, cookie_ + 1, 3, /*dry=*/true)), "refuse: proxy down");
  EXPECT_EQ(total().refused_proxy_down, 0u) << "a question counts nothing";
}

TEST_F(CaptureRules, ANodeWithoutAProxyCapturesNothingAndHasNoSuchHook) {
  KernelNode plain;
  plain.start();
  plain.apply(make_mesh({with_rules(make_service("web", {kWeb}, {"127.0.0.9"}))}));
  EXPECT_EQ(plain.maps().policies.at(plain.index_of("web")).flags, 0u);
  kernel::set_proxy_up(plain.maps(), true);
  ASSERT_TRUE(kernel::set_capture(plain.maps(), cookie_, WEFT_LISTENING_V4).ok());
  plain.maps().policies.at(plain.index_of("web")).flags = WEFT_POLICY_PROXY;
  EXPECT_EQ(text_of(plain.ask(kWeb, 80, cookie_)), "127.0.0.9:8080");
  EXPECT_FALSE(kernel::read_proxy_hook(plain.pins()).attached);
}

TEST_F(CaptureRules, TheProxysCgroupMustBeBelowTheDataPaths) {
  const auto status = node_.datapath().attach_proxy(node_.cgroup() + "/..");
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_TRUE(kernel::read_proxy_hook(node_.pins()).effective);
}

}  // namespace
}  // namespace weft::tests
