// The real weft-sockets, started as weftd starts it: whose sockets it makes, where, and what it
// may.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <thread>

#include "agent/kernel/pins.h"
#include "agent/sockets/datagram.h"
#include "agent/sockets/protocol.h"
#include "tests/bpf/capture_fixture.h"

namespace weft::tests {
namespace {

using sockets::Answer;
using sockets::Ask;
using sockets::ControlAnswer;
using sockets::ControlRequest;
using sockets::Order;

struct Pair {
  base::Fd near, far;
};
Pair seqpacket_pair(int flags = 0) {
  int fds[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, fds), 0);
  return {base::Fd(fds[0]), base::Fd(fds[1])};
}

class Sockets : public Capture {
 protected:
  void SetUp() override {
    Capture::SetUp();
    v4_ = base::Fd();
    v6_ = base::Fd();
    start();
  }
  void TearDown() override {
    proxy_.clear();
    const bool runs = pid_ > 0;
    EXPECT_EQ(runs ? stop() : 0, 0);
    Capture::TearDown();
  }

  // In the proxy's cgroup and the node's namespace, as weftd does.
  void start() {
    auto pair = seqpacket_pair();
    const base::Fd map(bpf_obj_get(node_.pins().map("weft_own_sockets").c_str()));
    ASSERT_TRUE(map);
    ASSERT_TRUE(enter_cgroup(proxy_cgroup_));
    pid_ = fork();
    if (pid_ == 0) {
      setns(caller_->home(), CLONE_NEWNET);
      const int control = fcntl(pair.far.get(), F_DUPFD, 10);
      const int own = fcntl(map.get(), F_DUPFD, 10);
      dup2(control, sockets::kControlDescriptor);
      dup2(own, sockets::kOwnSocketsDescriptor);
      close_range(sockets::kOwnSocketsDescriptor + 1, ~0u, 0);
      execl(WEFT_SOCKETS_PATH, "weft-sockets", nullptr);
      _exit(127);
    }
    EXPECT_TRUE(enter_cgroup(node_.cgroup()));
    control_ = std::move(pair.near);
  }
  // Its exit status once descriptor 3 is closed.
  int stop() {
    control_ = base::Fd();
    int status = -1;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    pid_ = 0;
    return status;
  }

  ControlAnswer order(Order order, std::uint64_t cookie, std::vector<base::Fd> descriptors = {},
                      std::vector<base::Fd>* got = nullptr) {
    ControlRequest request{static_cast<std::uint32_t>(order), ++tag_, cookie, 1};
    EXPECT_EQ(sockets::send_datagram(control_.get(), sockets::bytes_of(request), descriptors), 0);
    sockets::Datagram datagram;
    EXPECT_EQ(sockets::receive_datagram(control_.get(), datagram), 0);
    ControlAnswer answer;
    EXPECT_TRUE(datagram.read(answer));
    EXPECT_EQ(answer.tag, tag_);
    if (got) *got = std::move(datagram.descriptors);
    return answer;
  }
  int add_netns(std::uint64_t cookie) {
    std::vector<base::Fd> netns;
    netns.emplace_back(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    return order(Order::kAddNetns, cookie, std::move(netns)).error;
  }
  // Our end of a new generation's socket.
  base::Fd add_proxy() {
    auto pair = seqpacket_pair();
    std::vector<base::Fd> end;
    end.push_back(std::move(pair.far));
    EXPECT_EQ(order(Order::kAddProxy, 0, std::move(end)).error, 0);
    return std::move(pair.near);
  }
  static Answer ask(const base::Fd& proxy, std::uint64_t cookie, std::uint16_t count,
                    std::vector<base::Fd>& got, std::uint16_t family = AF_INET) {
    const Ask question{cookie, family, count, 77};
    EXPECT_EQ(sockets::send_datagram(proxy.get(), sockets::bytes_of(question)), 0);
    sockets::Datagram datagram;
    EXPECT_EQ(sockets::receive_datagram(proxy.get(), datagram), 0);
    Answer answer;
    EXPECT_TRUE(datagram.read(answer));
    EXPECT_EQ(answer.tag, 77u);
    EXPECT_EQ(answer.count, datagram.descriptors.size());
    got = std::move(datagram.descriptors);
    return answer;
  }
  std::string status_of(const std::string& key) const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/status");
    for (std::string line; std::getline(file, line);)
      if (line.starts_with(key + ":"))
        return line.substr(line.find_first_not_of("\t ", key.size() + 1));
    return "";
  }

  base::Fd control_;
  std::vector<base::Fd> proxy_;
  pid_t pid_ = 0;
  std::uint32_t tag_ = 0;
};

std::uint64_t cookie_of(const base::Fd& fd) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  EXPECT_EQ(getsockopt(fd.get(), SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &cookie, &length), 0);
  return cookie;
}

int option_of(const base::Fd& fd, int level, int option) {
  int value = -1;
  socklen_t length = sizeof value;
  EXPECT_EQ(getsockopt(fd.get(), level, option, &value, &length), 0);
  return value;
}

TEST_F(Sockets, ListenersTakeCapturedConnectionsAndKnowTheirDestination) {
  ASSERT_EQ(add_netns(cookie_), 0);
  std::vector<base::Fd> got;
  const auto answer = order(Order::kListen, cookie_, {}, &got);
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.listening, WEFT_LISTENING_V4 | WEFT_LISTENING_V6);
  ASSERT_EQ(got.size(), 2u);
  for (const auto& fd : got) {
    EXPECT_TRUE(fcntl(fd.get(), F_GETFL) & O_NONBLOCK);
    EXPECT_EQ(cookie_of(fd), cookie_);
    EXPECT_EQ(option_of(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
  }
  const auto client = connected(AF_INET, kWeb), client6 = connected(AF_INET6, kWeb6);
  ASSERT_TRUE(eventually([&] {
    pollfd ready[] = {{got[0].get(), POLLIN, 0}, {got[1].get(), POLLIN, 0}};
    return poll(ready, 2, 0) == 2;
  }));
  EXPECT_EQ(original_of(accept_one(got[0])), kWeb + " port 80");
  EXPECT_EQ(original_of(accept_one(got[1]), SOL_IPV6), kWeb6 + " port 80");
}

TEST_F(Sockets, ListenersOfOldHandsSayThatTheAddressIsTaken) {
  ASSERT_EQ(add_netns(cookie_), 0);
  std::vector<base::Fd> first, second;
  order(Order::kListen, cookie_, {}, &first);
  const auto answer = order(Order::kListen, cookie_, {}, &second);
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.listening, 0);
  EXPECT_EQ(answer.error_v4, EADDRINUSE);
  EXPECT_EQ(answer.error_v6, EADDRINUSE);
  EXPECT_TRUE(second.empty());
}

TEST_F(Sockets, ANamespaceWithoutIpv6HasAListenerAllTheSame) {
  std::ofstream("/proc/sys/net/ipv6/conf/all/disable_ipv6") << 1 << std::flush;
  ASSERT_EQ(add_netns(cookie_), 0);
  std::vector<base::Fd> got;
  const auto answer = order(Order::kListen, cookie_, {}, &got);
  EXPECT_EQ(answer.listening, WEFT_LISTENING_V4);
  EXPECT_EQ(answer.error_v6, EADDRNOTAVAIL);
  EXPECT_EQ(got.size(), 1u);
}

TEST_F(Sockets, ListenersTakeNoDataInTheSynWhateverTheSysctlSays) {
  std::ofstream("/proc/sys/net/ipv4/tcp_fastopen") << 0x607 << std::flush;  // all, without a cookie
  ASSERT_EQ(add_netns(cookie_), 0);
  std::vector<base::Fd> got;
  order(Order::kListen, cookie_, {}, &got);
  const auto client = tcp(AF_INET);
  const SocketAddress to(AF_INET, kWeb, 80);
  ASSERT_EQ(sendto(client.get(), "hello", 5, MSG_FASTOPEN, to.get(), to.length), 5);
  pollfd ready{got[0].get(), POLLIN, 0};
  ASSERT_EQ(poll(&ready, 1, 60'000), 1);
  EXPECT_EQ(original_of(accept_one(got[0])), kWeb + " port 80");
}

TEST_F(Sockets, UpstreamSocketsAreOfTheCallersNamespaceAndTheProxysOwn) {
  ASSERT_EQ(add_netns(cookie_), 0);
  const auto proxy = add_proxy();
  for (const auto family : {AF_INET, AF_INET6}) {
    std::vector<base::Fd> got;
    const auto answer = ask(proxy, cookie_, 16, got, family);
    EXPECT_EQ(answer.error, 0);
    ASSERT_EQ(got.size(), 16u);
    for (const auto& fd : got) {
      EXPECT_EQ(cookie_of(fd), cookie_);
      EXPECT_EQ(option_of(fd, SOL_SOCKET, SO_DOMAIN), family);
      EXPECT_TRUE(fcntl(fd.get(), F_GETFL) & O_NONBLOCK);
      EXPECT_EQ(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 1);
      EXPECT_EQ(option_of(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 1);
    }
  }
  std::vector<base::Fd> got;
  ask(proxy, cookie_, 1, got);
  EXPECT_EQ(connect_to(got[0], {AF_INET, kWeb, 80}), ENETUNREACH)
      << "neither captured nor translated";
}

TEST_F(Sockets, EachQuestionIsAnsweredInItsOwnNamespace) {
  ASSERT_EQ(add_netns(cookie_), 0);
  std::uint64_t other = 0;
  std::thread([&] {
    const Namespace elsewhere;
    other = netns_cookie();
    ASSERT_EQ(add_netns(other), 0);
  }).join();
  const auto proxy = add_proxy();
  const auto in = [&](std::uint64_t cookie) {
    std::vector<base::Fd> got;
    EXPECT_EQ(ask(proxy, cookie, 2, got).error, 0);
    return got.empty() ? 0 : cookie_of(got[0]);
  };
  const auto nodes = in(sockets::kOwnNamespace);
  EXPECT_NE(nodes, cookie_);
  EXPECT_NE(nodes, other);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(in(cookie_), cookie_);
    EXPECT_EQ(in(other), other);
    EXPECT_EQ(in(sockets::kOwnNamespace), nodes);
  }
  EXPECT_EQ(order(Order::kDropNetns, other).error, 0);
  EXPECT_EQ(order(Order::kDropNetns, other).error, 0) << "twice is once";
  std::vector<base::Fd> got;
  EXPECT_EQ(ask(proxy, other, 1, got).error, ENONET);
  EXPECT_EQ(order(Order::kListen, other).error, ENONET);
}

TEST_F(Sockets, QuestionsThatMakeNoSenseAreAnsweredWithWhy) {
  const auto proxy = add_proxy();
  std::vector<base::Fd> got;
  EXPECT_EQ(ask(proxy, 0, 0, got).error, EINVAL);
  EXPECT_EQ(ask(proxy, 0, 17, got).error, EINVAL);
  EXPECT_EQ(ask(proxy, 0, 1, got, AF_UNIX).error, EAFNOSUPPORT);
  EXPECT_EQ(ask(proxy, 12345, 1, got).error, ENONET);
  EXPECT_EQ(ask(proxy, 0, 1, got).error, 0) << "and it goes on";
  EXPECT_EQ(order(static_cast<Order>(99), 0).error, EINVAL);
  EXPECT_EQ(order(Order::kAddNetns, cookie_).error, EBADF) << "without a descriptor";
  EXPECT_EQ(order(Order::kAddNetns, 0, {}).error, EBADF);
  std::vector<base::Fd> file;
  file.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(order(Order::kAddProxy, 0, std::move(file)).error, EPROTOTYPE);
}

TEST_F(Sockets, AProxyThatSendsNonsenseIsCutOffAlone) {
  const auto good = add_proxy(), bad = add_proxy();
  ASSERT_EQ(send(bad.get(), "xyz", 3, 0), 3);
  sockets::Datagram datagram;
  EXPECT_EQ(sockets::receive_datagram(bad.get(), datagram), ECONNRESET);
  std::vector<base::Fd> got;
  EXPECT_EQ(ask(good, 0, 3, got).error, 0);
  EXPECT_EQ(got.size(), 3u);
}

TEST_F(Sockets, AProxyThatDoesNotReadHoldsNobodyUp) {
  const auto slow = add_proxy(), quick = add_proxy();
  ASSERT_EQ(fcntl(slow.get(), F_SETFL, O_NONBLOCK), 0);
  const Ask question{0, AF_INET, 16, 1};
  std::vector<base::Fd> got;
  int asked = 0;
  // Until it takes no more questions: not because it is busy, for it answers another one meanwhile,
  // but because its answers have no room.
  for (int idle = 0; idle < 100 && asked < 100000;) {
    if (sockets::send_datagram(slow.get(), sockets::bytes_of(question)) == 0) {
      ++asked;
      idle = 0;
    } else {
      ++idle;
      EXPECT_EQ(ask(quick, 0, 1, got).error, 0);
    }
  }
  for (int i = 0; i < 50; ++i) EXPECT_EQ(ask(quick, 0, 1, got).error, 0);
  int whole = 0, said = 0;
  ASSERT_TRUE(eventually([&] {  // it reads again: what found no room says so
    sockets::Datagram datagram;
    Answer answer;
    while (sockets::receive_datagram(slow.get(), datagram) == 0) {
      EXPECT_TRUE(datagram.read(answer));
      (answer.error == EAGAIN ? said : whole)++;
    }
    return whole + said >= asked;
  })) << whole
      << " whole, " << said << " of " << asked;
  EXPECT_GT(said, 0);
}

TEST_F(Sockets, HoldsOneCapabilityAndNoMore) {
  add_proxy();  // it has answered: it is past its start
  EXPECT_EQ(status_of("CapEff"), "0000000000200000") << "CAP_SYS_ADMIN";
  EXPECT_EQ(status_of("CapPrm"), "0000000000200000");
  EXPECT_EQ(status_of("CapBnd"), "0000000000200000");
  EXPECT_EQ(status_of("CapInh"), "0000000000000000");
  EXPECT_EQ(status_of("CapAmb"), "0000000000000000");
  EXPECT_EQ(status_of("NoNewPrivs"), "1");
}

TEST_F(Sockets, EndsWhenWeftdDoes) { EXPECT_EQ(stop(), 0); }

TEST_F(Sockets, ServesTheProxiesThatAreLeftWhenWeftdHasGone) {
  auto proxy = add_proxy();
  control_ = base::Fd();
  std::vector<base::Fd> got;
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(ask(proxy, sockets::kOwnNamespace, 2, got).count, 2) << "question " << i;
  proxy = base::Fd();
  EXPECT_EQ(stop(), 0) << "and ends with the last";
}

TEST_F(Sockets, EndsAtOnceWithoutItsDescriptors) {
  const pid_t child = fork();
  if (child == 0) {
    close_range(3, ~0u, 0);
    const int null = open("/dev/null", O_RDWR);
    dup2(null, 2);
    execl(WEFT_SOCKETS_PATH, "weft-sockets", nullptr);
    _exit(127);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

// From a namespace that is seen to one whose connections are captured: what weftd adds to the time
// it takes to see it.
TEST_F(Sockets, TheWindowOfANewNamespaceIsMeasured) {
  std::vector<double> micros;
  for (int i = 0; i < 50; ++i)
    std::thread([&] {
      const Namespace fresh;
      const auto cookie = netns_cookie();
      const auto begin = std::chrono::steady_clock::now();
      std::vector<base::Fd> got;
      EXPECT_EQ(add_netns(cookie), 0);
      EXPECT_NE(order(Order::kListen, cookie, {}, &got).listening, 0);
      capture(cookie);
      const std::chrono::duration<double, std::micro> took =
          std::chrono::steady_clock::now() - begin;
      micros.push_back(took.count());
      EXPECT_EQ(connect_to(tcp(AF_INET), {AF_INET, kWeb, 80}), 0);
      EXPECT_EQ(original_of(accept_one(got.at(0))), kWeb + " port 80");
      EXPECT_EQ(order(Order::kDropNetns, cookie).error, 0);
    }).join();
  std::sort(micros.begin(), micros.end());
  std::cout << "listeners of a namespace: p50 " << micros[micros.size() / 2] << " us, most "
            << micros.back() << " us" << std::endl;
}

TEST_F(Sockets, ManyInOneRowLeakNothingAndAreMeasured) {
  ASSERT_EQ(add_netns(cookie_), 0);
  const auto proxy = add_proxy();
  const auto open_files = [&] {
    std::size_t count = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator("/proc/" + std::to_string(pid_) + "/fd")) {
      (void)entry;
      ++count;
    }
    return count;
  };
  const auto before = open_files();
  constexpr int kBatches = 500;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kBatches; ++i) {
    std::vector<base::Fd> got;
    ASSERT_EQ(ask(proxy, cookie_, 16, got).error, 0);
  }
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  std::cout << "a socket of a batch of 16: " << took.count() / kBatches / 16 << " us" << std::endl;
  EXPECT_TRUE(eventually([&] { return open_files() == before; })) << open_files();
}

}  // namespace
}  // namespace weft::tests
