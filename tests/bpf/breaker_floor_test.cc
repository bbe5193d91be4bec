// Who may be out at once, and who serves where more are: readiness that flips, services that
// shrink, standby endpoints that somebody remembers.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <map>

#include "tests/bpf/breaker_fixture.h"

namespace weft::tests {
namespace {

TEST_F(Breaker, OneThatIsReadyAgainIsClosedAndDoesNotTakeAnothersPlace) {
  const auto two = service({"127.0.0.1", "127.0.0.2"});
  auto second_away = two;
  second_away.ports[0].endpoints[1].state = model::EndpointState::kNotReady;
  apply(two);
  auto first = listen_on("127.0.0.1");
  for (int i = 0; i < 2; ++i) dial(kService);
  ASSERT_EQ(breaker("127.0.0.2"), WEFT_BREAKER_OPEN);
  // It is started anew: not ready, then ready.
  apply(second_away);
  const auto second = listen_on("127.0.0.2");
  apply(two);
  EXPECT_EQ(breaker("127.0.0.2"), WEFT_BREAKER_CLOSED);
  EXPECT_EQ(total().ejected, 0u);
  EXPECT_EQ(weft_breaker_ejections(state("127.0.0.2").breaker), 1u)
      << "that it was out stays known";
  // Now the first one goes, and there is room for it to be out.
  first = base::Fd();
  int refused = 0;
  for (int i = 0; i < 20; ++i) refused += dial(kService) == ECONNREFUSED;
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_OPEN);
}

TEST_F(Breaker, OneThatAPersonOpenedStaysOutThroughReadiness) {
  const auto two = service({"127.0.0.1", "127.0.0.2"});
  auto second_away = two;
  second_away.ports[0].endpoints[1].state = model::EndpointState::kNotReady;
  apply(two);
  kernel::carry_out(node_.maps(), id("127.0.0.2"),
                    {kernel::Verdict::Action::kOpen, std::chrono::minutes(1)});
  apply(second_away);
  apply(two);
  EXPECT_EQ(breaker("127.0.0.2"), WEFT_BREAKER_OPEN);
  EXPECT_EQ(reason("127.0.0.2"), WEFT_BREAKER_OPERATOR);
}

TEST_F(Breaker, ComingBackIsTold) {
  auto made = service({"127.0.0.1", "127.0.0.2"});
  const auto first = listen_on("127.0.0.1");
  apply(made);
  for (int i = 0; i < 2; ++i) dial(kService);
  const auto endpoint = id("127.0.0.2");
  made.ports[0].endpoints[1].state = model::EndpointState::kNotReady;
  apply(made);
  made.ports[0].endpoints[1].state = model::EndpointState::kReady;
  const auto plan = node_.plan(make_mesh({made}));
  std::vector<weft_transition> told;
  kernel::MapWriter writer(
      node_.maps(), [&](const weft_transition& t, const weft_endpoint&) { told.push_back(t); });
  ASSERT_TRUE(writer.write(plan.ops).ok());
  node_.planned_is_done(plan);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].endpoint, endpoint);
  EXPECT_EQ(told[0].reason, WEFT_BREAKER_READY);
  EXPECT_EQ(weft_breaker_state(told[0].from), WEFT_BREAKER_OPEN);
  EXPECT_EQ(weft_breaker_state(told[0].to), WEFT_BREAKER_CLOSED);
}

TEST_F(Breaker, AServiceThatShrinksDoesNotCallItsBrokenEndpointsBack) {
  auto made = service({"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"});
  made.traffic.outlier->max_ejection_percent = 50;
  const auto third = listen_on("127.0.0.3"), fourth = listen_on("127.0.0.4");
  apply(made);
  for (int i = 0; i < 4; ++i) dial(kService);
  ASSERT_EQ(total().ejected, 2u);
  made.ports[0].endpoints.pop_back();  // of three only one may be out
  apply(made);
  ASSERT_EQ(node_.maps().policies.at(node_.index_of("web")).max_ejected, 1u);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(dial(kService), 0) << i;
  EXPECT_EQ(state("127.0.0.3").opened, 41u) << "one before, all since";
}

TEST_F(Breaker, WhereNobodyElseIsLeftThoseBeyondTheFloorServe) {
  auto made = service({"127.0.0.1", "127.0.0.2", "127.0.0.3"});
  made.traffic.outlier->max_ejection_percent = 67;
  auto third = listen_on("127.0.0.3");
  apply(made);
  for (int i = 0; i < 3; ++i) dial(kService);
  ASSERT_EQ(total().ejected, 2u);
  made.ports[0].endpoints.pop_back();
  apply(made);
  const auto first = listen_on("127.0.0.1");
  int served = 0;
  for (int i = 0; i < 10; ++i) served += dial(kService) == 0;
  EXPECT_GE(served, 3);
}

// A client in a namespace of its own that keeps its endpoint, by test-run.
TEST_F(Breaker, AClientThatWasSentToAStandbyComesBackWithThePrimaries) {
  auto made = service({"127.0.0.1", "127.0.0.2"});
  made.affinity = std::chrono::seconds(60);
  made.ports[0].endpoints[1].priority = 1;
  apply(made);
  constexpr std::uint64_t kClient = 77;
  kernel::carry_out(node_.maps(), id("127.0.0.1"),
                    {kernel::Verdict::Action::kOpen, std::chrono::minutes(1)});
  EXPECT_EQ(text_of(node_.ask(kService, 80, kClient)), "127.0.0.2:8080");
  kernel::carry_out(node_.maps(), id("127.0.0.1"), {kernel::Verdict::Action::kReset});
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(text_of(node_.ask(kService, 80, kClient)), "127.0.0.1:8080");
}

TEST_F(Breaker, AClientLeavesAnEndpointWhoseWeightIsNoughtByNow) {
  auto made = service({"127.0.0.1", "127.0.0.2"});
  made.affinity = std::chrono::seconds(60);
  apply(made);
  constexpr std::uint64_t kClient = 77;
  const auto kept = text_of(node_.ask(kService, 80, kClient));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(text_of(node_.ask(kService, 80, kClient)), kept);
  made.ports[0].endpoints[kept == "127.0.0.1:8080" ? 0 : 1].weight = 0;
  apply(made);
  for (int i = 0; i < 5; ++i) EXPECT_NE(text_of(node_.ask(kService, 80, kClient)), kept);
}

TEST_F(Breaker, AConversationLeavesAnEndpointThatAPersonOpened) {
  auto made = make_service("web", {kService}, {"127.0.0.1", "127.0.0.2"});
  made.ports[0].protocol = model::Protocol::kUdp;
  apply(made);
  std::map<std::string, base::Fd> servers;
  for (const std::string address : {"127.0.0.1", "127.0.0.2"}) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(8080);
    inet_pton(AF_INET, address.c_str(), &at.sin_addr);
    auto& server = servers[address];
    server = base::Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ASSERT_EQ(bind(server.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  }
  const base::Fd client(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(80);
  inet_pton(AF_INET, kService.c_str(), &to.sin_addr);
  const auto ask = [&]() -> std::string {
    EXPECT_EQ(sendto(client.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&to), sizeof to), 1);
    std::string asked = "nobody";
    eventually([&] {
      char byte;
      for (const auto& [address, server] : servers)
        if (recv(server.get(), &byte, 1, 0) == 1) asked = address;
      return asked != "nobody";
    });
    return asked;
  };
  const auto kept = ask();
  ASSERT_NE(kept, "nobody");
  EXPECT_EQ(ask(), kept);
  kernel::carry_out(node_.maps(), id(kept),
                    {kernel::Verdict::Action::kOpen, std::chrono::minutes(1)});
  const auto other = kept == "127.0.0.1" ? "127.0.0.2" : "127.0.0.1";
  EXPECT_EQ(ask(), other);
  EXPECT_EQ(ask(), other);
}

TEST_F(Breaker, TheOnlyOneThatAdmitsIsFoundHoweverLightItIs) {
  auto made = service({"127.0.0.1", "127.0.0.2"});
  made.ports[0].endpoints[0].weight = 1000;
  apply(made);
  kernel::carry_out(node_.maps(), id("127.0.0.1"),
                    {kernel::Verdict::Action::kOpen, std::chrono::minutes(1)});
  for (int i = 0; i < 200; ++i)
    ASSERT_EQ(text_of(node_.ask(kService, 80, i)), "127.0.0.2:8080") << i;
}

}  // namespace
}  // namespace weft::tests
