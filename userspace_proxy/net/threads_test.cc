// Several workers at once, with everything that other threads do to them: tables swapped, listeners
// that come and go, questions, the end. What ThreadSanitizer is run over (scripts/test); without it
// the same rules hold.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "userspace_proxy/net/threads_fixture.h"

namespace weft::net {
namespace {

constexpr unsigned kWorkers = 4, kCallers = 4, kSwaps = 200;

void set_field(weft::v1::HeaderEdits& edits, std::uint64_t value) {
  auto& header = *edits.add_set();
  header.set_name("x-table");
  header.set_value(std::to_string(value));
}

void add_endpoint(weft::v1::Cluster& cluster, const Dialled& at, std::uint32_t id) {
  auto& endpoint = *cluster.add_endpoints();
  endpoint.set_address(std::string(reinterpret_cast<const char*>(at.address.bytes.data()), 16));
  endpoint.set_port(at.port);
  endpoint.set_weight(1);
  endpoint.set_id(id);
}

// Table N writes N into requests and into answers; its endpoints are one of the two or both.
weft::v1::ToProxy table(std::uint64_t number, const Dialled& serves,
                        const std::vector<Dialled>& endpoints) {
  weft::v1::ToProxy message;
  auto& config = *message.mutable_config();
  config.set_generation(number);
  config.set_whole(number % 2);
  auto& service = *config.add_services();
  service.set_namespace_name("test");
  service.set_name("web");
  service.set_port(serves.port);
  service.add_addresses(
      std::string(reinterpret_cast<const char*>(serves.address.bytes.data()), 16));
  auto& routes = *service.mutable_routes();
  auto& rule = *routes.add_rules();
  auto& path = *rule.add_matches()->mutable_path();
  path.set_kind(static_cast<std::uint32_t>(model::PathMatch::Kind::kRegex));
  path.set_text("/[a-z]*");
  auto& destination = *rule.mutable_forward()->add_destinations();
  destination.set_weight(1);
  set_field(*rule.mutable_request_headers(), number);
  set_field(*rule.mutable_response_headers(), number);
  auto& cluster = *config.add_clusters();
  for (auto* name : {cluster.mutable_name(), routes.add_clusters()}) {
    name->set_namespace_name("test");
    name->set_service("web");
    name->set_port(serves.port);
  }
  for (std::size_t i = 0; i < endpoints.size(); ++i)
    if (number % 3 != i) add_endpoint(cluster, endpoints[i], static_cast<std::uint32_t>(i + 1));
  cluster.set_connect_timeout_ms(10000);
  cluster.set_idle_timeout_ms(3600000);
  cluster.set_consecutive_5xx(2);
  cluster.set_balancer(static_cast<std::uint32_t>(model::Balancer::kPeakEwma));
  return message;
}

weft::v1::ToProxy workload(const std::string& name, std::uint32_t listeners) {
  weft::v1::ToProxy message;
  auto& told = *message.mutable_workload();
  told.set_netns_cookie(kCookie);
  told.set_namespace_name("test");
  told.set_name(name);
  told.set_listeners(listeners);
  return message;
}

struct Calls {
  std::atomic<std::uint64_t> answered{0}, failed{0}, torn{0};
  std::atomic<bool> stopping{false};

  // A connection for 20 requests, then another.
  void run(const Dialled& at) {
    while (!stopping) {
      Conversation peer(at);
      for (int i = 0; i < 20 && !stopping; ++i) {
        if (!peer.say("GET /path HTTP/1.1\r\nHost: web\r\n\r\n")) break;
        const auto answer = peer.hear();
        if (answer.empty()) break;
        if (!answer.starts_with("HTTP/1.1 200")) {
          ++failed;
          continue;
        }
        ++answered;
        // The endpoint was told the table's number on the way there, the caller on the way back.
        torn += !answer.ends_with("\r\n\r\n" + field_of(answer, "x-table"));
      }
    }
  }
};

struct Fleet {
  Door door = open_door(SOCK_NONBLOCK);
  Calls calls;
  std::vector<std::thread> callers;

  void call() {
    for (unsigned i = 0; i < kCallers; ++i) callers.emplace_back([this] { calls.run(door.at); });
  }
  void stop_calling() {
    calls.stopping = true;
    for (auto& caller : callers) caller.join();
  }
};

TEST(Workers, RequestsKeepTheTableThatTheyBeganWith) {
  const Echo one, other;
  Fleet fleet;
  RunningProxy proxy(kWorkers, fleet.door.at);
  proxy.tell(table(1, fleet.door.at, {one.at(), other.at()}));
  proxy.tell(workload("caller", 1), fleet.door.fd.get());
  fleet.call();
  for (std::uint64_t number = 2; number <= kSwaps; ++number) {
    proxy.tell(table(number, fleet.door.at, {one.at(), other.at()}));
    proxy.wait_for([&] { return proxy.heard().applied == number; });
    const auto before = fleet.calls.answered.load();
    proxy.wait_for([&] { return fleet.calls.answered > before; });
  }
  fleet.stop_calling();
  EXPECT_EQ(fleet.calls.failed, 0u);
  EXPECT_EQ(fleet.calls.torn, 0u);
  EXPECT_EQ(proxy.heard().rejected, 0u);
}

TEST(Workers, ServeWhileWorkloadsAreRenamedAndForgottenAndQuestionsAreAsked) {
  const Echo one, other;
  Fleet fleet;
  RunningProxy proxy(kWorkers, fleet.door.at);
  proxy.tell(table(1, fleet.door.at, {one.at(), other.at()}));
  proxy.tell(workload("caller", 1), fleet.door.fd.get());
  fleet.call();
  for (std::uint64_t number = 1; number <= kSwaps / 2; ++number) {
    weft::v1::ToProxy message;
    message.mutable_ask()->set_number(number);
    proxy.tell(message);
    proxy.tell(workload("caller-" + std::to_string(number), 0));
    if (number % 10 == 0) {
      message.mutable_workload_gone()->set_netns_cookie(kCookie);
      proxy.tell(message);
      proxy.tell(workload("again", 1), fleet.door.fd.get());
    }
    const auto before = fleet.calls.answered.load();
    proxy.wait_for(
        [&] { return proxy.heard().reports == number && fleet.calls.answered > before; });
  }
  fleet.stop_calling();
  EXPECT_EQ(fleet.calls.failed, 0u);
  EXPECT_GT(proxy.heard().beats, 0u);
}

TEST(Workers, KeepConnectionsToEndpointsForAWorkloadThatCameBack) {
  const Echo echo;
  Fleet fleet;
  RunningProxy proxy(1, fleet.door.at);
  proxy.tell(table(1, fleet.door.at, {echo.at()}));
  proxy.tell(workload("caller", 1), fleet.door.fd.get());
  const auto ask = [&] {
    Conversation caller(fleet.door.at);
    for (int i = 0; i < 10; ++i) {
      ASSERT_TRUE(caller.say("GET /path HTTP/1.1\r\nHost: web\r\n\r\n"));
      ASSERT_TRUE(caller.hear().starts_with("HTTP/1.1 200"));
    }
  };
  ask();
  EXPECT_EQ(echo.connections(), 1u);
  weft::v1::ToProxy gone;
  gone.mutable_workload_gone()->set_netns_cookie(kCookie);
  proxy.tell(gone);
  proxy.tell(workload("caller", 1), fleet.door.fd.get());
  // A report comes when workers have done what was told before it.
  weft::v1::ToProxy question;
  question.mutable_ask()->set_number(1);
  proxy.tell(question);
  proxy.wait_for([&] { return proxy.heard().reports == 1; });
  ask();
  EXPECT_EQ(echo.connections(), 2u);
}

TEST(Workers, ShareBreakersWhoseTransitionsAreToldOnceEach) {
  const Echo good, bad(true);
  Fleet fleet;
  RunningProxy proxy(kWorkers, fleet.door.at);
  // Tables are swapped in which the bad one is another endpoint: its breaker is new and opens
  // again.
  proxy.tell(workload("caller", 1), fleet.door.fd.get());
  auto message = table(1, fleet.door.at, {});
  auto& cluster = *message.mutable_config()->mutable_clusters(0);
  add_endpoint(cluster, good.at(), 1);
  add_endpoint(cluster, bad.at(), 2);
  proxy.tell(message);
  proxy.wait_for([&] { return proxy.heard().applied == 1; });
  fleet.call();
  constexpr std::uint32_t kTimes = 50;
  for (std::uint32_t i = 1; i <= kTimes; ++i) {
    proxy.wait_for([&] { return proxy.heard().transitions == i; });
    cluster.mutable_endpoints(1)->set_incarnation(i);
    message.mutable_config()->set_generation(i + 1);
    if (i < kTimes) proxy.tell(message);
  }
  fleet.stop_calling();
  EXPECT_EQ(proxy.heard().transitions, kTimes);
  EXPECT_GT(fleet.calls.failed, 0u);
}

TEST(Workers, EndInTheMiddleOfEverything) {
  const Echo one, other;
  for (int i = 0; i < 5; ++i) {
    Fleet fleet;
    RunningProxy proxy(kWorkers, fleet.door.at);
    proxy.tell(table(1, fleet.door.at, {one.at(), other.at()}));
    proxy.tell(workload("caller", 1), fleet.door.fd.get());
    fleet.call();
    proxy.wait_for([&] { return fleet.calls.answered > 100; });
    weft::v1::ToProxy drain;
    drain.mutable_drain()->set_deadline_ms(300000);  // nobody is cut off
    proxy.tell(table(2, fleet.door.at, {one.at(), other.at()}));
    proxy.tell(drain);
    fleet.calls.stopping = true;
    // Nobody accepts from here on: who waits in the backlog is told so.
    proxy.wait_for([&] { return proxy.heard().drained.load(); });
    shutdown(fleet.door.fd.get(), SHUT_RDWR);
    fleet.door.fd = base::Fd();
    fleet.stop_calling();
    EXPECT_EQ(fleet.calls.failed, 0u);
    EXPECT_EQ(fleet.calls.torn, 0u);
  }
}

}  // namespace
}  // namespace weft::net
