// A captured connection reaches the proxy's listener in its caller's namespace, and the proxy
// learns where it was meant to go: this connection, not another with the same ports.
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>

#include <fstream>
#include <map>
#include <mutex>
#include <thread>

#include "agent/kernel/pins.h"
#include "tests/bpf/capture_fixture.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace weft::tests {
namespace {

void set_sysctl(const std::string& name, const std::string& value) {
  std::ofstream file("/proc/sys/net/" + name);
  file << value;
  file.flush();
  EXPECT_TRUE(file.good()) << name;
}

TEST_F(Capture, TellsTheProxyWhatAnIpv4SocketDialled) {
  const auto client = connected(AF_INET, kWeb);
  const auto accepted = accept_one(v4_);
  EXPECT_EQ(original_of(accepted), kWeb + " port 80");
  EXPECT_EQ(original_of(accepted, SOL_IPV6), "ENOENT");
  EXPECT_EQ(peer_of(client).text(), kWeb + " port 80") << "the caller sees what it dialled";
  EXPECT_EQ(peer_of(accepted).port(), own_port(client));
  EXPECT_EQ(waiting(), 0u);
}

TEST_F(Capture, TellsTheProxyWhatAnIpv6SocketDialled) {
  const auto client = connected(AF_INET6, kWeb6);
  const auto accepted = accept_one(v6_);
  EXPECT_EQ(original_of(accepted, SOL_IPV6), kWeb6 + " port 80");
  EXPECT_EQ(original_of(accepted), "ENOENT");
  EXPECT_EQ(peer_of(client).text(), kWeb6 + " port 80");
}

TEST_F(Capture, OfAnIpv6SocketThatDialsIpv4IsIpv4) {
  const auto client = connected(AF_INET6, "::ffff:" + kWeb);
  const auto accepted = accept_one(v4_);
  EXPECT_EQ(original_of(accepted), kWeb + " port 80");
  EXPECT_EQ(peer_of(client).text(), "::ffff:" + kWeb + " port 80");
}

TEST_F(Capture, TellsServiceAndCallerByItsOwnOption) {
  const auto client = connected(AF_INET, kWeb);
  const auto accepted = accept_one(v4_);
  weft_origin origin{};
  ASSERT_EQ(origin_of(accepted, origin), 0);
  EXPECT_EQ(compile::from_abi(origin.addr).to_text(), kWeb);
  EXPECT_EQ(ntohs(origin.port), 80);
  EXPECT_EQ(origin.service, node_.index_of("web"));
  EXPECT_EQ(origin.netns_cookie, cookie_);
  EXPECT_EQ(origin.cgroup_id, kernel::cgroup_id(node_.cgroup()));
}

TEST_F(Capture, HoldsNoReservationAndIsCounted) {
  const auto client = connected(AF_INET, kWeb);
  EXPECT_EQ(total().captured, 1u);
  EXPECT_EQ(total().opened, 0u);
  EXPECT_EQ(total().active, 0u);
  for (auto& endpoint : node_.maps().endpoint_states.values()) EXPECT_EQ(endpoint.active, 0u);
}

TEST_F(Capture, OfASocketThatConnectsAgainTellsTheLastOne) {
  apply({with_rules(make_service("web", {kWeb}, {"127.0.0.9"})),
         with_rules(make_service("other", {"10.96.0.2"}, {"127.0.0.9"}))});
  auto client = connected(AF_INET, kWeb);
  const auto first = accept_one(v4_);
  const sockaddr nobody{};
  ASSERT_EQ(connect(client.get(), &nobody, sizeof nobody), 0) << "AF_UNSPEC: disconnects";
  ASSERT_EQ(connect_to(client, {AF_INET, "10.96.0.2", 80}), 0);
  const auto second = accept_one(v4_);
  EXPECT_EQ(original_of(first), kWeb + " port 80");
  EXPECT_EQ(original_of(second), "10.96.0.2 port 80");
  EXPECT_EQ(connect(client.get(), &nobody, sizeof nobody), 0);
  ASSERT_EQ(connect_to(client, {AF_INET, "127.0.0.1", WEFT_CAPTURE_PORT}), 0);
  EXPECT_EQ(original_of(accept_one(v4_)), "ENOENT") << "what it was before is not told any more";
}

TEST_F(Capture, IsToldFromAConnectionThatWasMadeToTheListenerItself) {
  const auto client = connected(AF_INET, "127.0.0.1", WEFT_CAPTURE_PORT);
  const auto accepted = accept_one(v4_);
  weft_origin origin{};
  EXPECT_EQ(original_of(accepted), "ENOENT");
  EXPECT_EQ(original_of(accepted, SOL_IPV6), "ENOENT");
  EXPECT_EQ(origin_of(accepted, origin), ENOENT);
}

TEST_F(Capture, AnswersNothingIntoABufferThatIsTooShort) {
  const auto client = connected(AF_INET, kWeb), client6 = connected(AF_INET6, kWeb6);
  const auto accepted = accept_one(v4_), accepted6 = accept_one(v6_);
  char room[64];
  const auto ask = [&](const base::Fd& fd, int level, int option, socklen_t length) {
    return getsockopt(fd.get(), level, option, room, &length) ? errno : 0;
  };
  EXPECT_EQ(ask(accepted, SOL_IP, 80, sizeof(sockaddr_in) - 1), EINVAL);
  EXPECT_EQ(ask(accepted, SOL_IP, 80, 0), EINVAL);
  EXPECT_EQ(ask(accepted6, SOL_IPV6, 80, sizeof(sockaddr_in6) - 1), EINVAL);
  EXPECT_EQ(ask(accepted, WEFT_SOL, WEFT_SO_ORIGIN, sizeof(weft_origin) - 1), EINVAL);
  EXPECT_EQ(ask(accepted, SOL_IP, 80, sizeof room), 0);
}

// Every option of four levels, on a socket of the proxy and on one that no program looks at.
TEST_F(Capture, ChangesNoOtherOption) {
  const auto client = connected(AF_INET6, kWeb6);
  const auto ours = accept_one(v6_);
  const auto plain_listener = listen_at(AF_INET6, "::1", 8080);
  const auto plain_client = connected(AF_INET6, "::1", 8080);
  const auto plain = accept_one(plain_listener);
  int compared = 0;
  for (const int level :
       {SOL_SOCKET, int{IPPROTO_IP}, int{IPPROTO_TCP}, int{IPPROTO_IPV6}, WEFT_SOL})
    for (int option = 0; option < 128; ++option) {
      if (option == 80 && (level == SOL_IP || level == SOL_IPV6)) continue;
      if (option == WEFT_SO_ORIGIN && level == WEFT_SOL) continue;
      char a[64], b[64];
      socklen_t length_a = sizeof a, length_b = sizeof b;
      const int error_a = getsockopt(ours.get(), level, option, a, &length_a) ? errno : 0;
      const int error_b = getsockopt(plain.get(), level, option, b, &length_b) ? errno : 0;
      EXPECT_EQ(error_a, error_b) << level << " " << option;
      EXPECT_EQ(length_a, length_b) << level << " " << option;
      ++compared;
    }
  EXPECT_GT(compared, 600);
}

TEST_F(Capture, IsNotAnsweredForAListenerThatIsNotTheProxys) {
  v4_ = base::Fd();
  v4_ = listen_at(AF_INET, "127.0.0.1", WEFT_CAPTURE_PORT);
  const auto client = connected(AF_INET, kWeb);
  const auto accepted = accept_one(v4_);
  // What the kernel says of any socket; netfilter answers SO_ORIGINAL_DST where it is loaded.
  EXPECT_EQ(original_of(accepted), original_of(client));
  weft_origin origin{};
  EXPECT_EQ(origin_of(accepted, origin), origin_of(client, origin));
  EXPECT_NE(origin_of(client, origin), 0);
}

TEST_F(Capture, SurvivesSynCookies) {
  set_sysctl("ipv4/tcp_syncookies", "2");
  const auto client = connected(AF_INET, kWeb);
  EXPECT_EQ(original_of(accept_one(v4_)), kWeb + " port 80");
}

TEST_F(Capture, SurvivesDataInTheSyn) {
  set_sysctl("ipv4/tcp_fastopen", "5");  // as a client, also without a cookie
  for (const char* address : {"10.96.0.1", "10.96.0.1"}) {
    const auto client = tcp(AF_INET);
    const SocketAddress to(AF_INET, address, 80);
    ASSERT_EQ(sendto(client.get(), "hello", 5, MSG_FASTOPEN, to.get(), to.length), 5)
        << std::strerror(errno);
    const auto accepted = accept_one(v4_);
    EXPECT_EQ(original_of(accepted), kWeb + " port 80");
    char room[16];
    EXPECT_EQ(recv(accepted.get(), room, sizeof room, 0), 5);
  }
}

TEST_F(Capture, SurvivesADelayedAck) {
  const auto client = tcp(AF_INET);
  const int off = 0;
  setsockopt(client.get(), IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off);
  ASSERT_EQ(connect_to(client, {AF_INET, kWeb, 80}), 0);
  ASSERT_EQ(send(client.get(), "hello", 5, 0), 5);
  EXPECT_EQ(original_of(accept_one(v4_)), kWeb + " port 80");
}

TEST_F(Capture, OfMptcpIsOfItsSubflow) {
  const base::Fd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP));
  if (!client) {
    std::cout << "not run: no MPTCP in this kernel" << std::endl;
    return;
  }
  ASSERT_EQ(connect_to(client, {AF_INET, kWeb, 80}), 0);
  EXPECT_EQ(original_of(accept_one(v4_)), kWeb + " port 80");
}

TEST_F(Capture, ReachesItsListenerFromAnyLocalAddress) {
  const auto client = tcp(AF_INET);
  const SocketAddress own(AF_INET, "127.0.0.77", 0);
  ASSERT_EQ(bind(client.get(), own.get(), own.length), 0);
  ASSERT_EQ(connect_to(client, {AF_INET, kWeb, 80}), 0);
  EXPECT_EQ(original_of(accept_one(v4_)), kWeb + " port 80");
}

// Ports and addresses of both are the same; the namespaces are not.
TEST_F(Capture, InTwoNamespacesWithEqualTuplesIsNeverMixed) {
  apply({with_rules(make_service("web", {kWeb}, {"127.0.0.9"})),
         with_rules(make_service("other", {"10.96.0.2"}, {"127.0.0.9"}))});
  const auto from_one_port = [](const std::string& address) {
    auto client = tcp(AF_INET);
    const SocketAddress own(AF_INET, "127.0.0.1", 40000);
    EXPECT_EQ(bind(client.get(), own.get(), own.length), 0) << std::strerror(errno);
    EXPECT_EQ(connect_to(client, {AF_INET, address, 80}), 0) << address;
    return client;
  };
  std::thread elsewhere([&] {
    const Namespace other;
    base::Fd listener;
    as_proxy([&] { listener = listen_at(AF_INET, "127.0.0.1", WEFT_CAPTURE_PORT); });
    const auto cookie = netns_cookie();
    EXPECT_NE(cookie, cookie_);
    capture(cookie, WEFT_LISTENING_V4);
    const auto there = from_one_port("10.96.0.2");
    std::thread([&] {
      ASSERT_EQ(setns(other.home(), CLONE_NEWNET), 0);
      const auto here = from_one_port(kWeb);
      EXPECT_EQ(original_of(accept_one(v4_)), kWeb + " port 80");
    }).join();
    const auto accepted = accept_one(listener);
    weft_origin origin{};
    ASSERT_EQ(origin_of(accepted, origin), 0);
    EXPECT_EQ(compile::from_abi(origin.addr).to_text(), "10.96.0.2");
    EXPECT_EQ(origin.netns_cookie, cookie);
  });
  elsewhere.join();
  EXPECT_EQ(waiting(), 0u);
}

TEST_F(Capture, OfAThousandAtOnceTellsEachItsOwn) {
  constexpr int kServices = 50, kThreads = 8, kEach = 125;
  std::vector<model::Service> services;
  const auto address = [](int i) { return "10.96.1." + std::to_string(i + 1); };
  for (int i = 0; i < kServices; ++i)
    services.push_back(
        with_rules(make_service("s" + std::to_string(i), {address(i)}, {"127.0.0.9"})));
  apply(services);
  std::mutex mutex;
  std::map<std::uint16_t, std::string> dialled;
  std::vector<base::Fd> clients;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const auto to = address((t * kEach + i * 7) % kServices);
        auto client = connected(AF_INET, to);
        const std::lock_guard lock(mutex);
        dialled[own_port(client)] = to + " port 80";
        clients.push_back(std::move(client));
      }
    });
  std::map<std::uint16_t, std::string> told;
  for (int i = 0; i < kThreads * kEach; ++i) {
    const auto accepted = accept_one(v4_);
    told[peer_of(accepted).port()] = original_of(accepted);
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(told.size(), std::size_t{kThreads * kEach});
  EXPECT_EQ(told, dialled);
  EXPECT_EQ(waiting(), 0u);
}

// The last ACK of a handshake that finds no room is dropped: the caller is connected, the proxy has
// never heard of it.
TEST_F(Capture, LeavesNoEntryBehindForConnectionsThatWereNeverAccepted) {
  listen_here(/*backlog=*/0);
  std::vector<base::Fd> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(tcp(AF_INET, SOCK_NONBLOCK));
    connect_to(clients.back(), {AF_INET, kWeb, 80});
  }
  const auto left = waiting();
  clients.clear();
  EXPECT_EQ(waiting(), left) << "a client's end removes nothing";
  EXPECT_EQ(kernel::sweep_originals(node_.maps()).value_or(99), 0u) << "they are young";
  EXPECT_EQ(kernel::sweep_originals(node_.maps(), std::chrono::seconds(0)).value_or(99), left);
  EXPECT_EQ(waiting(), 0u);
}

TEST_F(Capture, WithoutRoomForTheDestinationIsCountedAndHasNone) {
  for (std::uint32_t i = 0; i < node_.maps().originals.max_entries(); ++i) {
    weft_origin_key key{};
    key.netns_cookie = 1;
    key.client_seq = i;
    ASSERT_TRUE(node_.maps().originals.update(key, {}).ok());
  }
  const auto client = connected(AF_INET, kWeb);
  EXPECT_EQ(original_of(accept_one(v4_)), "ENOENT");
  EXPECT_EQ(node_.events(WEFT_EVENT_ORIGIN_LOST), 1u);
}

TEST_F(Capture, GoesOnWhileTheAgentIsGoneAndAfterItsRestart) {
  const auto before = kernel::read_proxy_hook(node_.pins());
  auto client = connected(AF_INET, kWeb);
  const auto accepted = accept_one(v4_);
  node_.kill();
  EXPECT_EQ(original_of(accepted), kWeb + " port 80");
  client = connected(AF_INET, kWeb);
  EXPECT_EQ(original_of(accept_one(v4_)), kWeb + " port 80");
  node_.start();
  ASSERT_TRUE(node_.datapath().attach_proxy(proxy_cgroup_).ok());
  kernel::store(node_.maps().meta.at(0).agent_tgid, 0);
  const auto after = kernel::read_proxy_hook(node_.pins());
  EXPECT_EQ(before.link_id, after.link_id) << "replaced in place";
  EXPECT_NE(before.program_id, after.program_id);
  EXPECT_EQ(original_of(accepted), kWeb + " port 80") << "connections from before are known";
  client = connected(AF_INET, kWeb);
  EXPECT_EQ(original_of(accept_one(v4_)), kWeb + " port 80");
}

}  // namespace
}  // namespace weft::tests
