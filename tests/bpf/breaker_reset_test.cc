// What an endpoint that accepts connections and resets them has answered: nothing.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>

#include "abi/ewma.h"
#include "tests/bpf/breaker_fixture.h"

namespace weft::tests {
namespace {

using namespace std::chrono_literals;

const std::string kOne = "127.0.0.1";

class Resets : public Breaker {
 protected:
  void SetUp() override {
    Breaker::SetUp();
    listener_ = listen_on(kOne);
  }
  // One endpoint that may be out.
  void serve(std::uint32_t threshold, std::chrono::milliseconds failing_for = {}) {
    auto made = service({kOne});
    made.traffic.outlier->consecutive_failures = threshold;
    made.traffic.outlier->failing_for = failing_for;
    made.traffic.outlier->max_ejection_percent = 100;
    apply(made);
  }
  struct Pair {
    base::Fd client, server;
  };
  Pair connect() {
    Pair pair;
    const int error = dial(kService, &pair.client);
    EXPECT_EQ(error, 0);
    if (!error) pair.server = accept_one(listener_);
    return pair;
  }
  static int read_error(const base::Fd& socket) {
    char byte;
    return recv(socket.get(), &byte, 1, 0) < 0 ? errno : 0;
  }
  void be_reset() {
    auto pair = connect();
    close_with_reset(pair.server);
    EXPECT_EQ(read_error(pair.client), ECONNRESET);
  }
  // The server says something, and the connection stays open.
  Pair greeted() {
    auto pair = connect();
    EXPECT_EQ(send(pair.server.get(), "x", 1, 0), 1);
    EXPECT_EQ(read_error(pair.client), 0);
    return pair;
  }
  // ... after it was asked.
  Pair answered() {
    auto pair = connect();
    EXPECT_EQ(send(pair.client.get(), "?", 1, 0), 1);
    EXPECT_EQ(read_error(pair.server), 0);
    EXPECT_EQ(send(pair.server.get(), "!", 1, 0), 1);
    EXPECT_EQ(read_error(pair.client), 0);
    return pair;
  }

  base::Fd listener_;
};

TEST_F(Resets, ARunEndsWithAConnectionThatIsAnsweredAlsoWhereItStaysOpen) {
  serve(2);
  be_reset();
  ASSERT_EQ(state(kOne).consecutive, 1u);
  // Seen when it is acknowledged, which may take its time.
  const auto greeting = greeted();
  EXPECT_TRUE(eventually([&] { return state(kOne).consecutive == 0; }));
  be_reset();
  const auto answer = answered();
  EXPECT_TRUE(eventually([&] { return state(kOne).consecutive == 0; }));
  be_reset();
  EXPECT_EQ(breaker(kOne), WEFT_BREAKER_CLOSED);
  be_reset();
  EXPECT_EQ(breaker(kOne), WEFT_BREAKER_OPEN);
}

TEST_F(Resets, TimeFailingDoesNotRunOnWhileConnectionsAreAnswered) {
  serve(0, 1ms);
  be_reset();
  const auto answer = answered();
  EXPECT_TRUE(eventually([&] { return state(kOne).consecutive == 0; }));
  be_reset();
  EXPECT_EQ(breaker(kOne), WEFT_BREAKER_CLOSED) << "a run of one takes no time";
}

TEST_F(Resets, AreSeenOfCallersThatHaveSaidAllTheyHad) {
  serve(1);
  auto pair = connect();
  EXPECT_EQ(send(pair.client.get(), "?", 1, 0), 1);
  EXPECT_EQ(shutdown(pair.client.get(), SHUT_WR), 0);
  EXPECT_EQ(read_error(pair.server), 0);
  close_with_reset(pair.server);
  EXPECT_EQ(read_error(pair.client), ECONNRESET);
  EXPECT_EQ(breaker(kOne), WEFT_BREAKER_OPEN);
  EXPECT_EQ(reason(kOne), WEFT_BREAKER_RESET);
}

TEST_F(Resets, AcceptingAProbeIsNoAnswer) {
  serve(1);
  be_reset();
  ASSERT_EQ(breaker(kOne), WEFT_BREAKER_OPEN);
  end_ejection(kOne);
  auto probe = connect();
  EXPECT_EQ(breaker(kOne), WEFT_BREAKER_HALF_OPEN);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(dial(kService), ECONNREFUSED) << "nobody else passes";
  close_with_reset(probe.server);
  EXPECT_EQ(read_error(probe.client), ECONNRESET);
  EXPECT_EQ(breaker(kOne), WEFT_BREAKER_OPEN);
  EXPECT_EQ(weft_breaker_ejections(state(kOne).breaker), 2u) << "for longer";
}

TEST_F(Resets, AProbesFirstByteClosesTheBreaker) {
  for (const bool asked : {false, true}) {
    serve(1);
    be_reset();
    end_ejection(kOne);
    const auto probe = asked ? answered() : greeted();
    EXPECT_TRUE(eventually([&] { return breaker(kOne) == WEFT_BREAKER_CLOSED; })) << asked;
    // A moment after the word: an acknowledgement may close it on another CPU.
    EXPECT_TRUE(eventually([&] { return total().ejected == 0; })) << asked;
    EXPECT_EQ(dial(kService), 0);
    base::Fd other = accept_one(listener_);
  }
}

TEST_F(Resets, AProbeThatIsClosedWithoutAResetClosesTheBreaker) {
  for (const bool by_the_server : {false, true}) {
    serve(1);
    be_reset();
    end_ejection(kOne);
    auto probe = connect();
    if (by_the_server) {
      probe.server = base::Fd();
      EXPECT_EQ(read_error(probe.client), 0);
    }
    probe.client = base::Fd();
    EXPECT_EQ(breaker(kOne), WEFT_BREAKER_CLOSED) << by_the_server;
  }
  expect_nothing_in_flight();
}

TEST_F(Resets, AnAnsweredProbeIsNotHeldAgainstALaterOne) {
  serve(1);
  be_reset();
  end_ejection(kOne);
  auto first = answered();
  EXPECT_TRUE(eventually([&] { return breaker(kOne) == WEFT_BREAKER_CLOSED; }));
  EXPECT_TRUE(eventually([&] { return total().ejected == 0; })) << "or nobody may be ejected";
  be_reset();
  ASSERT_EQ(breaker(kOne), WEFT_BREAKER_OPEN);
  end_ejection(kOne);
  auto second = connect();
  ASSERT_EQ(breaker(kOne), WEFT_BREAKER_HALF_OPEN);
  first.client = base::Fd();
  EXPECT_EQ(breaker(kOne), WEFT_BREAKER_HALF_OPEN) << "its end says nothing of the second";
}

// --- what ICMP says of a connect ---

// Of both families; a rule in this namespace rejects the SYN.
TEST_F(Breaker, AdministrativelyProhibitedIsUnreachable) {
  const struct {
    const char *endpoint, *service, *reject;
  } kFamilies[] = {{"127.0.0.1", "10.96.0.1",
                    "iptables -w -A INPUT -p tcp --dport 8080 -j REJECT --reject-with "
                    "icmp-admin-prohibited"},
                   {"::1", "fd00:96::1",
                    "ip6tables -w -A INPUT -p tcp --dport 8080 -j REJECT --reject-with "
                    "icmp6-adm-prohibited"}};
  for (const auto& family : kFamilies) {
    ASSERT_EQ(std::system(family.reject), 0) << family.reject;
    auto made = make_service("web", {family.service}, {family.endpoint});
    made.traffic.outlier.emplace().consecutive_failures = 1;
    made.traffic.outlier->max_ejection_percent = 100;
    apply(made);
    // Of its own: dial() makes IPv4 sockets.
    const bool v4 = family.service == kService;
    sockaddr_in6 to{};
    to.sin6_family = AF_INET6;
    to.sin6_port = htons(80);
    inet_pton(AF_INET6, family.service, &to.sin6_addr);
    const base::Fd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_NE(v4 ? dial(family.service)
                 : connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof to),
              0);
    EXPECT_EQ(breaker(family.endpoint), WEFT_BREAKER_OPEN) << family.endpoint;
    EXPECT_EQ(reason(family.endpoint), WEFT_BREAKER_UNREACHABLE) << family.endpoint;
  }
}

// --- the smoothed RTT, by which peak-EWMA chooses ---

class Ewma : public Breaker {
 protected:
  void serve(const std::vector<std::string>& endpoints) {
    auto made = make_service("web", {kService}, endpoints);
    made.balancer = model::Balancer::kPeakEwma;
    apply(made);
  }
  void set(const std::string& address, std::uint32_t rtt_us, std::chrono::milliseconds ago,
           std::uint32_t active = 0) {
    state(address).rtt_us = rtt_us;
    state(address).rtt_at_ms = static_cast<std::uint32_t>(kernel::now_ms() - ago.count());
    state(address).active = active;
  }
  int share_of(const std::string& address, int of = 1000) {
    int chosen = 0;
    for (int i = 0; i < of; ++i) chosen += text_of(ask()) == address + ":8080";
    return chosen;
  }
  weft_answer ask() { return node_.ask(kService, 80, 1, WEFT_REACH_V4, /*dry=*/true); }
};

TEST_F(Ewma, ASlowSampleIsForgottenWithTime) {
  serve({"127.0.0.1", "127.0.0.2"});
  set("127.0.0.1", 1000, 0ms, 9);
  set("127.0.0.2", 50'000, 0ms, 9);
  EXPECT_EQ(share_of("127.0.0.2"), 0);
  set("127.0.0.2", 50'000, 60s, 9);
  EXPECT_EQ(share_of("127.0.0.2"), 1000) << "it is asked again";
  set("127.0.0.1", 1000, 0ms, 9);
  set("127.0.0.2", 50'000, 7s, 9);
  EXPECT_EQ(share_of("127.0.0.2"), 0) << "half of it is still too much";
}

TEST_F(Ewma, BelowTheFloorOnlyConnectionsCount) {
  serve({"127.0.0.1", "127.0.0.2"});
  set("127.0.0.1", 20, 0ms, 3);
  set("127.0.0.2", WEFT_EWMA_FLOOR_US, 0ms, 2);
  EXPECT_EQ(share_of("127.0.0.2"), 1000);
  set("127.0.0.2", 2 * WEFT_EWMA_FLOOR_US, 0ms, 2);
  EXPECT_EQ(share_of("127.0.0.2"), 0);
}

TEST_F(Ewma, OneThatNeverAnsweredIsAskedByOneAtATime) {
  serve({"127.0.0.1", "127.0.0.2"});
  set("127.0.0.1", 300, 0ms, 5);
  set("127.0.0.2", 0, 0ms, 0);
  EXPECT_EQ(share_of("127.0.0.2"), 1000);
  set("127.0.0.2", 0, 0ms, 1);
  EXPECT_EQ(share_of("127.0.0.2"), 0);
}

TEST_F(Ewma, SamplesOfRealConnectionsSayWhenTheyWere) {
  const auto listener = listen_on("127.0.0.1");
  serve({"127.0.0.1"});
  const auto before = static_cast<std::uint32_t>(kernel::now_ms());
  ASSERT_EQ(dial(kService), 0);
  EXPECT_GT(state("127.0.0.1").rtt_us, 0u);
  EXPECT_LE(state("127.0.0.1").rtt_at_ms - before, 60'000u);
}

}  // namespace
}  // namespace weft::tests
