// Against real servers on loopback, with intervals of milliseconds. Conditions are waited for;
// nothing is said of how long they take.
#include "agent/health/checker.h"

#include <gtest/gtest.h>

#include <list>

#include "agent/health/test_mesh.h"
#include "agent/health/test_servers.h"

namespace weft::health {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using namespace std::chrono_literals;
using model::EndpointState;
using model::Protocol;
using test::address;
using test::endpoint;
using test::mesh_of;
using test::port_of;
using test::says;
using test::Server;
using test::service;
using Kind = model::HealthCheck::Kind;

const model::ServiceKey kWeb{"shop", "web"};
const std::string kOk = "HTTP/1.1 200 OK\r\n\r\n", kNotNow = "HTTP/1.1 503 Not Now\r\n\r\n";

class CheckerTest : public testing::Test {
 protected:
  asio::io_context io;
  std::list<test::RefusedPort> refused;
  int told = 0;
  Checker checker{io, {{1000, 16}, 1}, [this] { ++told; }};

  static model::HealthCheck often(Kind kind = Kind::kHttp) {
    model::HealthCheck check;
    check.kind = kind;
    check.interval = 5ms;
    check.timeout = test::kGuard;
    return check;
  }

  static model::Service web(const std::vector<std::uint16_t>& ports,
                            std::optional<model::HealthCheck> check = often()) {
    std::vector<model::Endpoint> endpoints;
    for (const auto port : ports) endpoints.push_back(endpoint("127.0.0.1", port));
    auto result = service("web", {port_of(80, std::move(endpoints))});
    result.traffic.health_check = std::move(check);
    return result;
  }

  void follow(const model::Service& one) { checker.follow(*mesh_of({one})); }
  bool healthy(std::uint16_t port) { return checker.healthy(kWeb, address("127.0.0.1"), port); }
  Row row(std::uint16_t port) {
    for (auto& one : checker.list())
      if (one.port == port) return one;
    ADD_FAILURE() << "no target at " << port;
    return {};
  }
  void until(const std::function<bool()>& holds) { test::run_until(io, holds); }
  // So many checks more are answered, whoever is asked.
  void checks(std::uint64_t more) {
    const auto sum = [this] {
      const auto counts = checker.counts();
      return counts.ok + counts.failed + counts.not_asked;
    };
    const auto end = sum() + more;
    until([&] { return sum() >= end; });
  }
  std::uint16_t closed_port() { return refused.emplace_back(io).port(); }
};

TEST_F(CheckerTest, WhatAnEarlierAgentLeftUnhealthyBeginsSoAndIsAskedAtOnce) {
  Server server(io, says(kOk));
  auto check = often();
  check.interval = 1h;
  const auto closed = closed_port(), ready = closed_port();
  checker.inherit(
      {{kWeb, {{address("127.0.0.1"), server.port()}, {address("127.0.0.1"), closed}}}});
  follow(web({server.port(), closed, ready}, check));
  EXPECT_FALSE(healthy(server.port()));
  EXPECT_FALSE(healthy(closed));
  EXPECT_TRUE(healthy(ready)) << "it was not cut off";
  EXPECT_EQ(row(closed).reason, "it was not ready when this agent started");
  until([&] { return healthy(server.port()); });
  until([&] { return row(closed).reason == "connection refused"; });
  EXPECT_FALSE(healthy(closed));
}

TEST_F(CheckerTest, WhatIsInheritedIsForgottenWhereNobodyIsChecked) {
  const auto port = closed_port();
  checker.inherit({{kWeb, {{address("127.0.0.1"), port}}}});
  follow(web({port}, std::nullopt));
  auto check = often();
  check.interval = 1h;
  follow(web({port}, check));
  EXPECT_TRUE(healthy(port));
}

TEST_F(CheckerTest, NobodyIsCheckedUnasked) {
  Server server(io, says(kNotNow));
  follow(web({server.port()}, std::nullopt));
  EXPECT_TRUE(checker.list().empty());
  EXPECT_TRUE(healthy(server.port()));
  io.poll();
  EXPECT_EQ(server.connections(), 0);
}

TEST_F(CheckerTest, ANewEndpointIsHealthyUntilItsFirstVerdict) {
  const auto port = closed_port();
  follow(web({port}));
  EXPECT_TRUE(healthy(port));
  EXPECT_EQ(row(port).verdict.state, State::kUnknown);
  checks(2);
  EXPECT_TRUE(healthy(port));
  EXPECT_EQ(row(port).reason, "connection refused");
  checks(1);
  EXPECT_FALSE(healthy(port));
  EXPECT_EQ(told, 0) << "told from within";
  until([&] { return told == 1; });
  EXPECT_EQ(checker.unhealthy(), (Unhealthy{{kWeb, {{address("127.0.0.1"), port}}}}));
}

TEST_F(CheckerTest, AnEndpointComesBackWhenItAnswersAgain) {
  Server server(io, says(kNotNow));
  follow(web({server.port()}));
  until([&] { return !healthy(server.port()); });
  EXPECT_EQ(row(server.port()).reason, "HTTP 503");
  server.set_talk(says(kOk));
  until([&] { return healthy(server.port()); });
  until([&] { return told == 2; });
  EXPECT_EQ(row(server.port()).reason, "HTTP 200");
  EXPECT_TRUE(checker.unhealthy().empty());
  EXPECT_EQ(checker.counts().flips, 2u);
}

TEST_F(CheckerTest, OneAmongManyIsTakenOut) {
  Server good(io, says(kOk)), bad(io, says(kNotNow));
  follow(web({good.port(), bad.port()}));
  until([&] { return !healthy(bad.port()) && row(good.port()).verdict.state == State::kHealthy; });
  EXPECT_TRUE(healthy(good.port()));
  EXPECT_EQ(checker.counts().unhealthy, 1u);
  EXPECT_EQ(checker.counts().targets, 2u);
}

TEST_F(CheckerTest, OnlyReadyTcpEndpointsOfBothFamiliesAreTargetsAndEachOnce) {
  auto one = service(
      "web", {port_of(80, {endpoint("127.0.0.1", 1), endpoint("127.0.0.1", 2),
                           endpoint("127.0.0.1", 3, EndpointState::kDraining),
                           endpoint("127.0.0.1", 4, EndpointState::kNotReady), endpoint("::1", 1)}),
              port_of(81, {endpoint("127.0.0.1", 1)}),
              port_of(82, {endpoint("127.0.0.1", 5)}, Protocol::kUdp)});
  one.traffic.health_check = often();
  one.traffic.health_check->interval = 1h;
  follow(one);
  std::string targets;
  for (const auto& row : checker.list())
    targets += row.address.to_text() + " " + std::to_string(row.port) + ",";
  EXPECT_EQ(targets, "::1 1,127.0.0.1 1,127.0.0.1 2,");
}

TEST_F(CheckerTest, AnUnchangedMeshCostsNothingAndKeepsTheRow) {
  const auto port = closed_port();
  auto check = often();
  check.unhealthy_after = 1000;
  const auto mesh = mesh_of({web({port}, check)});
  checker.follow(*mesh);
  checks(3);
  const auto before = row(port).verdict.in_a_row;
  EXPECT_GE(before, 3u);
  checker.follow(*mesh);
  checker.follow(*mesh_of({web({port, 1}, check)}));  // another endpoint joins
  EXPECT_EQ(row(port).verdict.in_a_row, before);
  EXPECT_EQ(row(1).verdict.in_a_row, 0u);
}

TEST_F(CheckerTest, TheListIsAnotherOnlyWhereItShowsSomethingElse) {
  Server server(io, says(kOk));
  follow(web({server.port()}));
  until([&] { return row(server.port()).verdict.state == State::kHealthy; });
  const auto before = checker.changes();
  checks(5);
  EXPECT_EQ(checker.changes(), before) << "the same answer again";
  server.set_talk(says(kNotNow));
  until([&] { return row(server.port()).reason == "HTTP 503"; });
  const auto failed = checker.changes();
  EXPECT_NE(failed, before);
  until([&] { return !healthy(server.port()); });
  EXPECT_NE(checker.changes(), failed);
  const auto unhealthy = checker.changes();
  follow(web({}));
  EXPECT_NE(checker.changes(), unhealthy);
}

TEST_F(CheckerTest, OtherThresholdsWeighTheSameRow) {
  const auto port = closed_port();
  auto check = often();
  check.unhealthy_after = 1000;
  follow(web({port}, check));
  checks(5);
  const auto before = row(port).verdict.in_a_row;
  check.unhealthy_after = 2;
  follow(web({port}, check));
  EXPECT_EQ(row(port).verdict.in_a_row, before);
  EXPECT_TRUE(healthy(port));
  checks(1);
  EXPECT_FALSE(healthy(port));
}

TEST_F(CheckerTest, AnotherQuestionKeepsTheVerdictUntilItIsAnswered) {
  const auto port = closed_port();
  follow(web({port}));
  until([&] { return !healthy(port); });
  Server server(io, says(kOk));
  auto check = often(Kind::kTcp);
  check.port = server.port();
  follow(web({port}, check));
  EXPECT_FALSE(healthy(port));
  EXPECT_EQ(row(port).verdict.in_a_row, 0u);
  until([&] { return healthy(port); });
  EXPECT_EQ(row(port).reason, "connected");
}

TEST_F(CheckerTest, WhatGoesIsForgotten) {
  const auto port = closed_port();
  follow(web({port}));
  until([&] { return !healthy(port); });
  follow(web({}));
  EXPECT_TRUE(healthy(port));
  EXPECT_TRUE(checker.unhealthy().empty());
  follow(web({port}));
  EXPECT_EQ(row(port).verdict.state, State::kUnknown);
  until([&] { return !healthy(port); });
  follow(web({port}, std::nullopt));  // switched off
  EXPECT_TRUE(healthy(port));
  EXPECT_TRUE(checker.list().empty());
  follow(web({port}));
  checker.follow(model::Mesh{});
  EXPECT_EQ(checker.counts().targets, 0u);
}

TEST_F(CheckerTest, AnAnswerForOneThatIsGoneIsLost) {
  asio::steady_timer gate(io, Clock::time_point::max());
  Server server(io, [&](tcp::socket&) -> asio::awaitable<void> {
    co_await gate.async_wait(test::kAwait);  // then it hangs up
  });
  auto check = often();
  check.unhealthy_after = 1;
  follow(web({server.port()}, check));
  until([&] { return server.connections() == 1; });
  follow(web({}, check));
  check.interval = 1h;
  follow(web({server.port()}, check));
  EXPECT_EQ(checker.counts().in_flight, 1u);
  gate.cancel();
  checks(1);
  EXPECT_EQ(checker.counts().failed, 1u);
  EXPECT_EQ(checker.counts().in_flight, 0u);
  EXPECT_EQ(row(server.port()).verdict, Verdict{});
}

TEST_F(CheckerTest, EveryFlipIsToldAndNoneTwice) {
  std::vector<std::uint16_t> ports;
  while (ports.size() < 40) ports.push_back(closed_port());
  std::sort(ports.begin(), ports.end());
  follow(web(ports));
  until([&] { return checker.counts().unhealthy == 40 && told; });
  EXPECT_LE(told, 40);
  EXPECT_EQ(checker.counts().flips, 40u);
}

TEST_F(CheckerTest, TheOverlayFollows) {
  Server good(io, says(kOk)), bad(io, says(kNotNow));
  const auto mesh = mesh_of({web({good.port(), bad.port()})});
  Overlay overlay;
  checker.follow(*mesh);
  EXPECT_EQ(overlay.apply(mesh, checker.unhealthy()), mesh);
  until([&] { return told == 1; });
  const auto result = overlay.apply(mesh, checker.unhealthy());
  for (const auto& one : (*result->services.find(kWeb))->ports[0].endpoints)
    EXPECT_EQ(one.state == EndpointState::kReady, one.port == good.port());
}

TEST_F(CheckerTest, TenThousandTargetsAreFollowed) {
  std::vector<model::Service> services;
  for (int s = 0; s < 100; ++s) {
    std::vector<model::Endpoint> endpoints;
    for (int e = 0; e < 100; ++e)
      endpoints.push_back(endpoint("10.1." + std::to_string(s) + "." + std::to_string(e + 1), 80));
    services.push_back(service("s" + std::to_string(s), {port_of(80, std::move(endpoints))}));
    services.back().traffic.health_check = often();
    services.back().traffic.health_check->interval = 1h;
  }
  checker.follow(*mesh_of(services));
  EXPECT_EQ(checker.counts().targets, 10'000u);
  EXPECT_EQ(checker.list().size(), 10'000u);
  checker.follow(model::Mesh{});
  EXPECT_EQ(checker.counts().targets, 0u);
}

TEST_F(CheckerTest, ItMayGoWhileProbesAreUnderWay) {
  Server server(io, test::silent());
  auto other = std::make_unique<Checker>(io, Options{}, [] { FAIL(); });
  other->follow(*mesh_of({web({server.port()})}));
  until([&] { return other->counts().in_flight == 1 && server.connections() == 1; });
  other.reset();
  server.set_talk(says(kOk));
  io.poll();
}

}  // namespace
}  // namespace weft::health
