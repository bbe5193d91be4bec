// Against real servers on loopback. Answers are waited for; the only timeouts that pass are those
// of probes that nobody answers.
#include "agent/health/probe.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include <cstdlib>
#include <list>

#include "agent/health/test_servers.h"
#include "mesh/base/fd.h"

namespace weft::health {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using namespace std::chrono_literals;
using Kind = model::HealthCheck::Kind;
using test::answers_grpc;
using test::says;
using test::Server;
using test::serving;

class ProbeTest : public testing::Test {
 protected:
  asio::io_context io;
  std::list<test::RefusedPort> refused;

  static Question question(std::uint16_t port, Kind kind = Kind::kTcp) {
    Question question;
    question.address = *model::Address::parse("127.0.0.1");
    question.port = port;
    question.check.kind = kind;
    question.check.timeout = test::kGuard;
    return question;
  }

  Result ask(const Question& question) {
    std::optional<Result> result;
    probe(io, question, [&](Result found) { result = std::move(found); });
    EXPECT_FALSE(result) << "answered before it was asked";
    test::run_until(io, [&] { return result.has_value(); });
    return result.value_or(Result{});
  }

  // Of what never answers. On a machine that stands still for a while, once more.
  Result ask_in_vain(Question question) {
    question.check.timeout = 20ms;
    Result result;
    do result = ask(question);
    while (!result.asked && !HasFailure());
    return result;
  }

  Result http(const std::string& answer, bool hang_up = false) {
    Server server(io, says(answer, hang_up));
    return ask(question(server.port(), Kind::kHttp));
  }

  Result grpc(test::GrpcAnswer answer) {
    Server server(io, answers_grpc(std::move(answer)));
    return ask(question(server.port(), Kind::kGrpc));
  }

  std::uint16_t closed_port() { return refused.emplace_back(io).port(); }
};

TEST_F(ProbeTest, AConnectionIsEnoughForTcp) {
  Server server(io, test::silent());
  EXPECT_EQ(ask(question(server.port())), (Result{true, "connected"}));
}

TEST_F(ProbeTest, Ipv6IsAsked) {
  Server server(io, says("HTTP/1.1 204 No Content\r\n\r\n"), "::1");
  auto asked = question(server.port(), Kind::kHttp);
  asked.address = *model::Address::parse("::1");
  EXPECT_EQ(ask(asked), (Result{true, "HTTP 204"}));
}

TEST_F(ProbeTest, ARefusedPortIsSaid) {
  for (const auto kind : {Kind::kTcp, Kind::kHttp, Kind::kGrpc})
    EXPECT_EQ(ask(question(closed_port(), kind)), (Result{false, "connection refused"}));
}

TEST_F(ProbeTest, ThePortOfTheCheckGoesBeforeTheEndpoints) {
  Server server(io, test::silent());
  auto asked = question(closed_port());
  asked.check.port = server.port();
  EXPECT_TRUE(ask(asked).ok);
}

// Its backlog is full and nobody accepts: the kernel drops what comes.
TEST_F(ProbeTest, ABlackHoleTimesOut) {
  tcp::acceptor hole(io, tcp::v4());
  hole.bind({asio::ip::address_v4::loopback(), 0});
  hole.listen(0);
  std::list<tcp::socket> fillers;
  bool full = false;
  for (int i = 0; i < 4; ++i)
    fillers.emplace_back(io).async_connect(hole.local_endpoint(),
                                           [&](auto error) { full = full || !error; });
  test::run_until(io, [&] { return full; });
  EXPECT_EQ(ask_in_vain(question(hole.local_endpoint().port())),
            (Result{false, "no answer within 20ms"}));
}

TEST_F(ProbeTest, ASilentServerTimesOut) {
  Server server(io, test::silent());
  for (const auto kind : {Kind::kHttp, Kind::kGrpc})
    EXPECT_EQ(ask_in_vain(question(server.port(), kind)), (Result{false, "no answer within 20ms"}));
}

TEST_F(ProbeTest, AHeaderThatStopsHalfWayTimesOut) {
  Server server(io, says("HTTP/1.1 200 OK\r\nContent-"));
  EXPECT_EQ(ask_in_vain(question(server.port(), Kind::kHttp)),
            (Result{false, "no answer within 20ms"}));
}

TEST_F(ProbeTest, TheStatusDecides) {
  EXPECT_EQ(http("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), (Result{true, "HTTP 200"}));
  EXPECT_EQ(http("HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n"), (Result{true, "HTTP 302"}));
  EXPECT_EQ(http("HTTP/1.1 404 Not Found\r\n\r\n"), (Result{false, "HTTP 404"}));
  EXPECT_EQ(http("HTTP/1.1 503 Service Unavailable\r\n\r\n"), (Result{false, "HTTP 503"}));
  EXPECT_EQ(http("HTTP/1.1 101 Switching Protocols\r\n\r\n"), (Result{false, "HTTP 101"}));
}

TEST_F(ProbeTest, TheBodyIsNotWaitedFor) {
  EXPECT_EQ(http("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
            (Result{true, "HTTP 200"}));
  EXPECT_EQ(http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (Result{true, "HTTP 200"}));
}

TEST_F(ProbeTest, AnswersBeforeTheAnswerArePassedOver) {
  const std::string hint = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
  EXPECT_EQ(http(hint + hint + "HTTP/1.1 200 OK\r\n\r\n"), (Result{true, "HTTP 200"}));
  std::string hints;
  for (int i = 0; i < 20; ++i) hints += hint;
  EXPECT_EQ(http(hints), (Result{false, "HTTP answers that are not final"}));
}

TEST_F(ProbeTest, WhatIsNotHttpIsSaid) {
  EXPECT_EQ(http("SSH-2.0-OpenSSH_9.2\r\n\r\n").reason.substr(0, 10), "not HTTP: ");
  EXPECT_EQ(http("", true), (Result{false, "closed without an answer"}));
  EXPECT_EQ(http("HTTP/1.1 200 OK\r\n", true), (Result{false, "closed without an answer"}));
}

TEST_F(ProbeTest, AHeaderHasABound) {
  const Result too_large{false, "HTTP header over 16 KiB"};
  EXPECT_EQ(http("HTTP/1.1 200 OK\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n"), too_large);
  EXPECT_EQ(http("HTTP/1.1 200 OK\r\nX: " + std::string(200'000, 'x')), too_large);
  EXPECT_TRUE(http("HTTP/1.1 200 OK\r\nX: " + std::string(14'000, 'x') + "\r\n\r\n").ok);
}

TEST_F(ProbeTest, TheRequestIsOfOneLineAndItsHeader) {
  std::string heard;
  Server server(io, says("HTTP/1.1 200 OK\r\n\r\n", false, &heard));
  auto asked = question(server.port(), Kind::kHttp);
  asked.check.path = "healthz?full=1\r\nX: y";
  EXPECT_TRUE(ask(asked).ok);
  EXPECT_EQ(heard, "GET /healthz?full=1%0D%0AX:%20y HTTP/1.1\r\nHost: 127.0.0.1:" +
                       std::to_string(server.port()) +
                       "\r\nUser-Agent: weftd/" WEFT_VERSION
                       "\r\nAccept: */*\r\nConnection: close\r\n\r\n");
}

TEST_F(ProbeTest, GrpcIsAsked) {
  EXPECT_EQ(grpc({serving(1)}), (Result{true, "gRPC SERVING"}));
  EXPECT_EQ(grpc({serving(2)}), (Result{false, "gRPC NOT_SERVING"}));
  EXPECT_EQ(grpc({"", "12"}), (Result{false, "gRPC UNIMPLEMENTED"}));
}

TEST_F(ProbeTest, GrpcThatIsNoneIsSaid) {
  Server http1(io, [](tcp::socket& socket) {
    return test::hear_and_say(socket, "HTTP/1.1 400 Bad Request\r\n\r\n", true, nullptr);
  });
  EXPECT_EQ(ask(question(http1.port(), Kind::kGrpc)), (Result{false, "not HTTP/2"}));
  Server gone(io, says("", true));
  EXPECT_EQ(ask(question(gone.port(), Kind::kGrpc)), (Result{false, "closed without an answer"}));
}

// This node's want of descriptors is not the endpoint's fault.
TEST_F(ProbeTest, WithoutADescriptorNobodyIsBlamed) {
  Server server(io, test::silent());
  io.poll();
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  setrlimit(RLIMIT_NOFILE, &none);
  const auto result = ask(question(server.port()));
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_FALSE(result.ok);
  EXPECT_FALSE(result.asked) << result.reason;
}

// This thread in a network namespace of its own, as long as it lives; `ip` in it is this thread's.
class OwnNetwork {
 public:
  OwnNetwork() : home_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    EXPECT_EQ(unshare(CLONE_NEWNET), 0) << "needs root: routes are taken away";
  }
  ~OwnNetwork() { EXPECT_EQ(setns(home_.get(), CLONE_NEWNET), 0); }
  void ip(const std::string& words) { EXPECT_EQ(std::system(("ip " + words).c_str()), 0) << words; }

 private:
  base::Fd home_;
};

// A route flap, or an administrator's rule: all endpoints at once, and none of them has failed.
TEST_F(ProbeTest, WithoutARouteNobodyIsBlamed) {
  OwnNetwork network;
  network.ip("link set lo up");
  auto asked = question(80);
  const auto expect_not_asked = [&](const char* address, const char* why) {
    asked.address = *model::Address::parse(address);
    EXPECT_EQ(ask(asked), (Result{false, std::string("this node cannot ask: ") + why, false}))
        << address;
  };
  expect_not_asked("10.9.0.2", "Network is unreachable");
  expect_not_asked("fd09::2", "Network is unreachable");
  network.ip("route add unreachable 10.9.0.0/24");
  network.ip("route add prohibit 10.9.1.0/24");
  network.ip("route add blackhole 10.9.2.0/24");
  expect_not_asked("10.9.0.2", "No route to host");
  expect_not_asked("10.9.1.2", "Permission denied");
  expect_not_asked("10.9.2.2", "Invalid argument");
}

// The same EHOSTUNREACH, but said of a SYN that was sent: the endpoint's node has gone.
TEST_F(ProbeTest, AnEndpointThatNoNeighbourAnswersForIsUnhealthy) {
  OwnNetwork network;
  network.ip("link set lo up");  // the kernel's own ICMP comes by it
  network.ip("link add here type veth peer name there");
  network.ip("link set there up");
  network.ip("link set here up");
  network.ip("addr add 10.9.0.1/24 dev here");
  network.ip("ntable change name arp_cache dev here retrans 10");
  auto asked = question(80);
  asked.address = *model::Address::parse("10.9.0.2");
  EXPECT_EQ(ask(asked), (Result{false, "no route to host"}));
}

TEST_F(ProbeTest, AnEndBeforeTheAnswerIsNoCallAndNoLeak) {
  auto here = std::make_shared<int>(0);
  {
    asio::io_context own;
    Server server(own, test::silent());
    probe(own, question(server.port(), Kind::kHttp), [here](Result) { FAIL(); });
    test::run_until(own, [&] { return server.connections() > 0; });
    EXPECT_GT(here.use_count(), 1);
  }
  EXPECT_EQ(here.use_count(), 1);
}

}  // namespace
}  // namespace weft::health
