// The breaker where readiness, policies, people and sockets that are used again meet it: each of
// these was a defect that a review found.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "tests/bpf/breaker_fixture.h"

namespace weft::tests {
namespace {

using namespace std::chrono_literals;
using Action = kernel::Verdict::Action;

// The ordinary sequence in Kubernetes: it fails, is ejected, and then its readiness fails.
TEST_F(Breaker, AnEndpointThatIsNotReadyAnyMoreLeavesItsPlaceToOthers) {
  const auto good = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2", "127.0.0.3"}));
  int failed = 0;
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN && breaker("127.0.0.3") != WEFT_BREAKER_OPEN)
    failed += dial(kService) != 0;
  const std::string first = breaker("127.0.0.2") == WEFT_BREAKER_OPEN ? "127.0.0.2" : "127.0.0.3";
  const std::string other = first == "127.0.0.2" ? "127.0.0.3" : "127.0.0.2";
  apply(service({"127.0.0.1", first + " not-ready", other}));
  EXPECT_EQ(total().ejected, 0u);
  for (int i = 0; i < 10; ++i) dial(kService);
  EXPECT_EQ(breaker(other), WEFT_BREAKER_OPEN);
  EXPECT_EQ(total().ejected, 1u);
  EXPECT_TRUE(kernel::miscounted(node_.maps()).empty());
}

// A route takes all traffic from it: nobody probes it, so it must not take the others' room for
// ever.
TEST_F(Breaker, AnEndpointThatHasNoWeightAnyMoreLeavesItsPlaceToOthers) {
  const auto good = listen_on("127.0.0.1");
  auto made = service({"127.0.0.1", "127.0.0.2", "127.0.0.3"});
  apply(made);
  int failed = 0;
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN && breaker("127.0.0.3") != WEFT_BREAKER_OPEN)
    failed += dial(kService) != 0;
  const int first = breaker("127.0.0.2") == WEFT_BREAKER_OPEN ? 1 : 2;
  made.ports[0].endpoints[first].weight = 0;
  apply(made);
  EXPECT_EQ(total().ejected, 0u);
  for (int i = 0; i < 10; ++i) dial(kService);
  EXPECT_EQ(breaker(first == 1 ? "127.0.0.3" : "127.0.0.2"), WEFT_BREAKER_OPEN);
  EXPECT_EQ(total().ejected, 1u);
  EXPECT_TRUE(kernel::miscounted(node_.maps()).empty());
}

TEST_F(Breaker, OnesThatAreOutBeyondTheFloorAreProbedAndClose) {
  const auto good = listen_on("127.0.0.1");
  auto made = service({"127.0.0.1", "127.0.0.2"});
  made.balancer = model::Balancer::kLeastRequest;
  apply(made);
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN) dial(kService);
  made.traffic.outlier.reset();  // now nobody may be out
  apply(made);
  const auto back = listen_on("127.0.0.2");
  end_ejection("127.0.0.2");
  for (int i = 0; i < 40; ++i) EXPECT_EQ(dial(kService), 0);
  EXPECT_EQ(breaker("127.0.0.2"), WEFT_BREAKER_CLOSED);
  EXPECT_EQ(total().ejected, 0u);
  EXPECT_GT(state("127.0.0.1").opened, 5u) << "not all went to the one that was out";
}

TEST_F(Breaker, AFailedProbeOfOneOpenedByHandIsUnderTheFloor) {
  apply(service({"127.0.0.1", "127.0.0.2"}));
  kernel::carry_out(node_.maps(), id("127.0.0.1"), {.action = Action::kOpen, .expires = 60s});
  end_ejection("127.0.0.1");
  for (int i = 0; i < 40; ++i) EXPECT_EQ(dial(kService), ECONNREFUSED);
  const int out =
      (breaker("127.0.0.1") != WEFT_BREAKER_CLOSED) + (breaker("127.0.0.2") != WEFT_BREAKER_CLOSED);
  EXPECT_EQ(out, 1);
  EXPECT_EQ(total().ejected, 1u);
}

TEST_F(Breaker, OfADatagramEndpointEndsByItsTime) {
  auto dns = make_service("web", {kService}, {"127.0.0.1"});
  dns.ports[0].protocol = model::Protocol::kUdp;
  apply(dns);
  kernel::carry_out(node_.maps(), id("127.0.0.1"), {.action = Action::kOpen, .expires = 60s});
  const auto connect_udp = [] {
    const base::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(80);
    address.sin_addr.s_addr = htonl(0x0a600001);
    return connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) ? errno : 0;
  };
  EXPECT_EQ(connect_udp(), ECONNREFUSED);
  end_ejection("127.0.0.1");
  EXPECT_EQ(connect_udp(), 0);
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_CLOSED);
  expect_nothing_in_flight();
}

TEST_F(Breaker, AProbeThatHasNoPlaceUnderTheLimitIsNotLent) {
  const auto one = listen_on("127.0.0.1"), two = listen_on("127.0.0.2");
  auto made = service({"127.0.0.1", "127.0.0.2"});
  made.traffic.limits.max_per_endpoint = 2;
  apply(made);
  std::vector<base::Fd> sockets(4);
  for (auto& socket : sockets) EXPECT_EQ(dial(kService, &socket), 0);
  kernel::carry_out(node_.maps(), id("127.0.0.1"), {.action = Action::kOpen, .expires = 60s});
  end_ejection("127.0.0.1");
  auto transitions = kernel::Transitions::open(node_.pins());
  ASSERT_TRUE(transitions.ok());
  transitions->take();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(dial(kService), ECONNREFUSED);
  EXPECT_TRUE(transitions->take().empty()) << "it would be lent and taken back at every connect";
}

TEST_F(Breaker, AStickyClientRemembersWhoAdmittedIt) {
  const auto one = listen_on("127.0.0.1"), two = listen_on("127.0.0.2"),
             three = listen_on("127.0.0.3");
  auto made = make_service("web", {kService}, {"127.0.0.1", "127.0.0.2", "127.0.0.3"});
  made.affinity = 600s;
  apply(made);
  // Whoever would be first in turn is cut off.
  kernel::carry_out(node_.maps(), id("127.0.0.1"), {.action = Action::kOpen, .expires = 600s});
  for (int i = 0; i < 9; ++i) EXPECT_EQ(dial(kService), 0);
  EXPECT_EQ(state("127.0.0.1").opened, 0u);
  EXPECT_EQ(std::max(state("127.0.0.2").opened, state("127.0.0.3").opened), 9u);
}

TEST_F(Breaker, AnOldErrorOfASocketThatIsUsedAgainIsNobodys) {
  const auto listener = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2"}));
  const auto other = listen_on("127.0.0.2");
  base::Fd socket;
  EXPECT_EQ(dial(kService, &socket), 0);
  sockaddr nobody{};
  EXPECT_EQ(connect(socket.get(), &nobody, sizeof nobody), 0);  // leaves ECONNRESET behind
  EXPECT_EQ(dial_now(kService, socket) == 0 || errno == EINPROGRESS, true);
  socket = base::Fd();
  EXPECT_EQ(state("127.0.0.1").failed + state("127.0.0.2").failed, 0u);
  expect_nothing_in_flight();
}

// The hook runs for the subflow, a socket of the kernel, whose release no program sees: it holds
// nothing, so it cannot leak.
TEST_F(Breaker, MultipathSocketsLeakNothing) {
  const auto listener = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2", "192.0.2.1"}));  // answers, refuses, has no route
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(80);
  address.sin_addr.s_addr = htonl(0x0a600001);
  for (int i = 0; i < 12; ++i) {
    const base::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP));
    ASSERT_TRUE(fd) << "this kernel has no MPTCP, or net.mptcp.enabled is 0";
    connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  }
  expect_nothing_in_flight();
  EXPECT_EQ(state("127.0.0.1").failed + state("192.0.2.1").failed, 0u);
}

TEST_F(Breaker, TimeFailingBeginsAnewAfterASuccess) {
  auto made = service({"127.0.0.1"});
  made.traffic.outlier->consecutive_failures = 0;
  made.traffic.outlier->failing_for = 5s;
  made.traffic.outlier->max_ejection_percent = 100;
  apply(made);
  EXPECT_EQ(dial(kService), ECONNREFUSED);
  EXPECT_NE(state("127.0.0.1").failing_since_ms, 0u);
  {
    const auto well = listen_on("127.0.0.1");
    EXPECT_EQ(dial(kService), 0);
  }
  EXPECT_EQ(state("127.0.0.1").failing_since_ms, 0u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(dial(kService), ECONNREFUSED);
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_CLOSED);
}

}  // namespace
}  // namespace weft::tests
