// Limits that hold for the process, whichever workers requests come to.
#include "userspace_proxy/net/workers_fixture.h"

namespace weft::net {
namespace {

using tests::at;

weft::v1::Config service_at(const tests::Backend& backend) {
  return one_service(at("10.96.0.1:80"), {backend.address()}, 0, "exact");
}
bool is_overflow(const std::string& answer) {
  return answer.starts_with("503 weft: ") && answer.find("as many") != answer.npos;
}

TEST(Reserve, NeverGivesMoreThanThereAreHoweverManyAskAtOnce) {
  std::atomic<std::uint32_t> count{0}, held{0}, most_seen{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        if (!reserve(count, 2)) continue;
        const auto now = ++held;
        auto seen = most_seen.load();
        while (now > seen && !most_seen.compare_exchange_weak(seen, now)) continue;
        --held;
        count.fetch_sub(1);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_LE(most_seen, 2u);
  EXPECT_EQ(count, 0u);
}

TEST(Workers, RequestsOfAllWorkersCountTowardsHttp2MaxRequests) {
  tests::Backend backend([](int) { return 0; });
  auto config = service_at(backend);
  config.mutable_clusters(0)->set_max_requests(3);
  tests::Workers workers(2, config);
  auto a = workers.caller(0), b = workers.caller(0), c = workers.caller(1);
  for (auto* caller : {&a, &b, &c}) caller->ask();
  backend.wait_arrived(3);
  EXPECT_TRUE(is_overflow(workers.get(0)));
  EXPECT_TRUE(is_overflow(workers.get(1)));
  backend.let_go();
  for (auto* caller : {&a, &b, &c}) EXPECT_EQ(caller->answer(), "200");
  EXPECT_EQ(workers.get(0), "200");
  EXPECT_EQ(workers.get(1), "200");
}

TEST(Workers, WhatIsUnderWayCountsTowardsTheLimitOfALaterConfiguration) {
  tests::Backend backend([](int) { return 0; });
  auto config = service_at(backend);
  tests::Workers workers(2, config);
  auto a = workers.caller(0);
  a.ask();
  backend.wait_arrived(1);
  config.mutable_clusters(0)->set_max_requests(1);
  workers.apply(config);
  EXPECT_TRUE(is_overflow(workers.get(1)));
  backend.let_go();
  EXPECT_EQ(a.answer(), "200");
  EXPECT_EQ(workers.get(1), "200");
}

TEST(Workers, RetriesOfAllWorkersCountTowardsMaxRetries) {
  // The first request fails, its retry is kept; then the second request fails.
  tests::Backend backend([](int arrival) { return arrival == 2 ? 0 : 500; });
  auto config = service_at(backend);
  config.mutable_clusters(0)->set_max_retries(1);
  auto& rule = *config.mutable_services(0)->mutable_routes()->add_rules();
  rule.mutable_forward()->add_destinations()->set_weight(1);
  rule.mutable_retries()->set_attempts(1);
  rule.mutable_retries()->set_on(static_cast<std::uint32_t>(model::RetryOn::k5xx));
  tests::Workers workers(2, config);
  auto a = workers.caller(0);
  a.ask();
  backend.wait_arrived(2);
  EXPECT_EQ(workers.get(1), "500");
  workers.on(1, [](Worker& worker) { EXPECT_EQ(worker.metrics().retry_overflow, 1u); });
  backend.let_go();
  EXPECT_EQ(a.answer(), "200");
}

// --- tcp.maxConnections, http1MaxPendingRequests ---

class Pending : public ::testing::Test {
 protected:
  Pending() { config = service_at(backend); }
  void start(std::uint32_t max_connections, std::uint32_t max_pending = 0) {
    tables.policy.max_connections = max_connections;
    config.mutable_clusters(0)->set_max_pending(max_pending);
    workers.emplace(2, config, &tables);
  }

  tests::Tables tables;
  tests::Backend backend{[](int) { return 0; }};
  weft::v1::Config config;
  std::optional<tests::Workers> workers;
};

TEST_F(Pending, RequestsOfAllWorkersWaitForAConnectionWhereMaxConnectionsIsReached) {
  start(2);
  auto a = workers->caller(0), b = workers->caller(1), c = workers->caller(0),
       d = workers->caller(1);
  a.ask(), b.ask();
  backend.wait_arrived(2);
  c.ask(), d.ask();
  workers->wait_pending(2);
  EXPECT_EQ(tables.held(), 2u);
  backend.let_go();
  for (auto* caller : {&a, &b, &c, &d}) EXPECT_EQ(caller->answer(), "200");
  workers->wait_pending(0);
  EXPECT_EQ(*tables.waiting, 0u);
  EXPECT_LE(tables.held(), 2u);
  workers.reset();
  EXPECT_EQ(tables.held(), 0u);
}

TEST_F(Pending, MoreThanHttp1MaxPendingRequestsAreRefusedWithUo) {
  start(1, 1);
  auto a = workers->caller(0), b = workers->caller(1);
  a.ask();
  backend.wait_arrived(1);
  b.ask();
  workers->wait_pending(1);
  EXPECT_EQ(workers->get(0), "503 weft: as many requests wait for a connection as may (UO)\n");
  EXPECT_TRUE(is_overflow(workers->get(1)));
  backend.let_go();
  EXPECT_EQ(a.answer(), "200");
  EXPECT_EQ(b.answer(), "200");
}

TEST_F(Pending, WhoGoesAwayWaitsNoLonger) {
  start(1, 1);
  auto a = workers->caller(0), b = workers->caller(1);
  a.ask();
  backend.wait_arrived(1);
  b.ask();
  workers->wait_pending(1);
  b.leave();
  workers->wait_pending(0);
  EXPECT_EQ(*tables.waiting, 0u);
  auto c = workers->caller(0);
  c.ask();
  workers->wait_pending(1);
  backend.let_go();
  EXPECT_EQ(c.answer(), "200");
}

TEST_F(Pending, ARuleIsNotWaitedForLongerThanItAllows) {
  auto& rule = *config.mutable_services(0)->mutable_routes()->add_rules();
  rule.mutable_forward()->add_destinations()->set_weight(1);
  rule.set_timeout_ms(20);
  tables.total.active = 1;
  start(1);
  EXPECT_TRUE(workers->get(0).starts_with("504"));
  workers->wait_pending(0);
}

TEST_F(Pending, AnIdleConnectionOfAnotherWorkerMakesRoom) {
  start(1);
  backend.let_go();
  EXPECT_EQ(workers->get(0), "200");
  EXPECT_EQ(tables.held(), 1u);
  EXPECT_EQ(workers->get(1), "200");
  EXPECT_EQ(workers->get(0), "200");
  EXPECT_EQ(backend.connections(), 3);
  EXPECT_EQ(tables.held(), 1u);
}

TEST_F(Pending, ASocketThatTheKernelSentDirectlyMakesRoomWhenItCloses) {
  backend.let_go();
  tables.total.active = 1;
  start(1);
  auto a = workers->caller(0);
  a.ask();
  workers->wait_pending(1);
  __atomic_store_n(&tables.total.active, 0, __ATOMIC_SEQ_CST);
  EXPECT_EQ(a.answer(), "200");
}

TEST_F(Pending, AWorkerThatIsNeverIdleStarvesNobody) {
  start(1);
  backend.let_go();
  auto busy = workers->caller(0);
  ASSERT_EQ(busy.ask().answer(), "200");
  auto other = std::async(std::launch::async, [&] { return workers->get(1); });
  int asked = 0;
  while (other.wait_for(std::chrono::seconds(0)) != std::future_status::ready && ++asked < 100000)
    ASSERT_EQ(busy.ask().answer(), "200");
  EXPECT_LT(asked, 100000);
  EXPECT_EQ(other.get(), "200");
}

TEST_F(Pending, AnEndpointThatIsFullIsPassedOver) {
  tests::Backend second([](int) { return 0; });
  config = one_service(at("10.96.0.1:80"), {backend.address(), second.address()}, 0, "exact");
  tables.policy.max_per_endpoint = 1;
  start(0);
  auto a = workers->caller(0), b = workers->caller(0), c = workers->caller(0);
  a.ask(), b.ask();
  backend.wait_arrived(1);
  second.wait_arrived(1);
  c.ask();
  workers->wait_pending(1);
  second.let_go();
  EXPECT_EQ(c.answer(), "200");
  backend.let_go();
  EXPECT_EQ(a.answer(), "200");
  EXPECT_EQ(b.answer(), "200");
}

TEST_F(Pending, ASubsetWhoseEndpointIsFullHoldsUpNoOther) {
  tests::Backend second([](int) { return 200; });
  config = one_service(at("10.96.0.1:80"), {backend.address(), second.address()}, 0, "exact");
  // Cluster 1 has the first endpoint alone, cluster 2 the second.
  auto& routes = *config.mutable_services(0)->mutable_routes();
  for (int i = 0; i < 2; ++i) {
    auto& subset = *config.add_clusters() = config.clusters(0);
    subset.mutable_name()->set_subset("v" + std::to_string(i + 1));
    subset.mutable_endpoints()->DeleteSubrange(1 - i, 1);
    *routes.add_clusters() = subset.name();
    auto& rule = *routes.add_rules();
    if (i == 0) rule.add_matches()->mutable_path()->set_text("/first");
    auto& to = *rule.mutable_forward()->add_destinations();
    to.set_weight(1);
    to.set_cluster(static_cast<std::uint32_t>(i + 1));
  }
  tables.policy.max_per_endpoint = 1;
  start(0);
  static constexpr char kFirst[] = "GET /first HTTP/1.1\r\nHost: service\r\n\r\n";
  auto a = workers->caller(0), b = workers->caller(0);
  a.ask(kFirst);
  backend.wait_arrived(1);
  b.ask(kFirst);
  workers->wait_pending(1, "v1");
  EXPECT_EQ(workers->get(0), "200");
  EXPECT_EQ(workers->get(0), "200");
  backend.let_go();
  EXPECT_EQ(a.answer(), "200");
  EXPECT_EQ(b.answer(), "200");
}

// --- what is not answered in time ---

class Timeouts : public Pending {
 protected:
  // Two in a row open the breaker.
  Timeouts() {
    rule().mutable_forward()->add_destinations()->set_weight(1);
    tables.policy.max_ejected = 1;
    tables.policy.base_ejection_ms = tables.policy.max_ejection_ms = 60000;
    tables.policy.threshold_gateway = 2;
    tables.policy.threshold = 3;
  }
  weft::v1::HttpRule& rule() {
    auto& rules = *config.mutable_services(0)->mutable_routes()->mutable_rules();
    return rules.empty() ? *rules.Add() : rules[0];
  }
  void start_with_try_timeout() {
    rule().mutable_retries()->set_per_try_timeout_ms(100);
    start(0);
  }
  void expect_timeouts(int count) {
    for (int i = 0; i < count; ++i) EXPECT_TRUE(workers->get(i % 2).starts_with("504")) << i;
  }
  // Of the breaker when the workers have come to rest: "open gateway 2".
  std::string breaker() {
    for (std::size_t i = 0; i < 2; ++i) workers->on(i, [](Worker&) {});
    const std::uint64_t word = __atomic_load_n(&workers->state(0).breaker, __ATOMIC_SEQ_CST);
    const char* states[] = {"closed", "open", "half-open"};
    return std::string(states[weft_breaker_state(word)]) + " " +
           std::to_string(weft_breaker_reason(word));
  }
};

TEST_F(Timeouts, OfATryCountAsA504) {
  start_with_try_timeout();
  expect_timeouts(1);
  EXPECT_EQ(breaker(), "closed 0");
  expect_timeouts(1);
  EXPECT_EQ(breaker(), "open " + std::to_string(WEFT_BREAKER_GATEWAY));
  EXPECT_TRUE(workers->get(0).starts_with("503 weft: every endpoint's circuit breaker is open"));
  EXPECT_EQ(workers->state(0).consecutive, 0u);
}

TEST_F(Timeouts, OfTheWholeRequestCountTheSame) {
  rule().set_timeout_ms(100);
  start(0);
  expect_timeouts(2);
  EXPECT_EQ(breaker(), "open " + std::to_string(WEFT_BREAKER_GATEWAY));
}

TEST_F(Timeouts, AreOfLocalOriginWhereThatIsCountedApart) {
  tables.policy.flags = WEFT_POLICY_SPLIT_LOCAL;
  start_with_try_timeout();
  expect_timeouts(2);
  EXPECT_EQ(breaker(), "closed 0");
  expect_timeouts(1);
  EXPECT_EQ(breaker(), "open " + std::to_string(WEFT_BREAKER_TIMEOUT));
  EXPECT_EQ(workers->state(0).consecutive_gateway, 0u);
}

TEST_F(Timeouts, AreNotTheEndpointsWhileTheClientStillSends) {
  start_with_try_timeout();
  for (int i = 0; i < 3; ++i) {
    auto slow = workers->caller(0);
    slow.ask("POST / HTTP/1.1\r\nHost: service\r\nContent-Length: 10\r\n\r\nhalf");
    EXPECT_TRUE(slow.answer().starts_with("504"));
  }
  EXPECT_EQ(breaker(), "closed 0");
  EXPECT_EQ(workers->state(0).consecutive_gateway, 0u);
}

TEST_F(Timeouts, OfAProbeOpenTheBreakerForLonger) {
  start_with_try_timeout();
  expect_timeouts(2);
  const std::uint64_t due = weft_breaker_make(WEFT_BREAKER_OPEN, WEFT_BREAKER_GATEWAY, 1, 1, 1);
  __atomic_store_n(&workers->state(0).breaker, due, __ATOMIC_SEQ_CST);
  expect_timeouts(1);
  EXPECT_EQ(breaker(), "open " + std::to_string(WEFT_BREAKER_GATEWAY));
  EXPECT_EQ(weft_breaker_ejections(workers->state(0).breaker), 2u);
}

}  // namespace
}  // namespace weft::net
