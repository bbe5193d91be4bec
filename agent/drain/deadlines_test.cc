#include "agent/drain/deadlines.h"

#include <gtest/gtest.h>

namespace weft::drain {
namespace {

using model::EndpointState;
using model::Protocol;
using namespace std::chrono_literals;

constexpr auto kReady = EndpointState::kReady;
constexpr auto kDraining = EndpointState::kDraining;
constexpr auto kNotReady = EndpointState::kNotReady;

// One service port as the maps hold it, and the mesh beside it.
class DeadlinesTest : public testing::Test {
 protected:
  using Endpoints = std::vector<std::pair<std::uint32_t, EndpointState>>;

  void deadline(std::optional<std::chrono::milliseconds> deadline) { deadline_ = deadline; }
  void protocol(Protocol protocol) { protocol_ = protocol; }

  void set(const Endpoints& endpoints) {
    placed_.set(key_, std::make_shared<const compile::PlacedService>(place(endpoints)));
    auto service = std::make_shared<model::Service>();
    service->key = key_;
    service->traffic.drain_deadline = deadline_;
    auto& port = service->ports.emplace_back();
    port.port = 80;
    port.protocol = protocol_;
    for (const auto& [id, state] : endpoints) {
      auto& endpoint = port.endpoints.emplace_back();
      endpoint.address = *model::Address::parse("10.0.0." + std::to_string(id));
      endpoint.port = 8080;
      endpoint.state = state;
      endpoint.terminating = terminating_.contains(id);
    }
    mesh_.services.set(key_, std::move(service));
    deadlines_.update(mesh_, placed_, now_);
  }

  void remove_service() {
    placed_.set(key_, nullptr);
    mesh_.services.set(key_, nullptr);
    deadlines_.update(mesh_, placed_, now_);
  }

  compile::PlacedService place(const Endpoints& endpoints) const {
    compile::PlacedService service;
    service.key = key_;
    auto& port = service.ports.emplace_back();
    port.key = {80, protocol_, model::Family::kIpv4};
    for (const auto& [id, state] : endpoints) {
      compile::PlacedEndpoint endpoint;
      endpoint.id = id;
      endpoint.address = *model::Address::parse("10.0.0." + std::to_string(id));
      endpoint.port = 8080;
      endpoint.state = state;
      port.endpoints.push_back(endpoint);
    }
    return service;
  }

  // Ids of what is due, "-" before those that are gone.
  std::string due() {
    std::string text;
    for (const auto& doomed : deadlines_.take_due(now_))
      text += (text.empty() ? "" : " ") + std::string(doomed.gone ? "-" : "") +
              std::to_string(doomed.id) + "@" + std::to_string(doomed.incarnation);
    return text;
  }

  const model::ServiceKey key_{"shop", "web"};
  std::optional<std::chrono::milliseconds> deadline_ = 30s;
  Protocol protocol_ = Protocol::kTcp;
  std::set<std::uint32_t> terminating_;  // beside those that are draining
  std::uint32_t life_ = 7;               // what the next endpoint has for an incarnation
  compile::MapState placed_;
  model::Mesh mesh_;
  Clock::time_point now_{1h};
  Deadlines deadlines_{[this](std::uint32_t) { return life_; }, {}};
};

TEST_F(DeadlinesTest, TerminatingEndpointIsDueAfterTheDeadlineAndTold) {
  set({{1, kReady}, {2, kReady}});
  EXPECT_FALSE(deadlines_.next());
  set({{1, kReady}, {2, kDraining}});
  EXPECT_EQ(deadlines_.next(), now_ + 30s);
  now_ += 29s;
  EXPECT_EQ(due(), "");
  now_ += 1s;
  EXPECT_EQ(due(), "2@7");
  EXPECT_FALSE(deadlines_.next());
  EXPECT_EQ(due(), "");
}

TEST_F(DeadlinesTest, OneThatIsNotReadyIsDueOnlyWhereItTerminates) {
  set({{1, kReady}, {2, kNotReady}, {3, kNotReady}});
  EXPECT_FALSE(deadlines_.next());
  terminating_ = {3};
  set({{1, kReady}, {2, kNotReady}, {3, kNotReady}});
  now_ += 30s;
  EXPECT_EQ(due(), "3@7");
}

TEST_F(DeadlinesTest, NobodyIsDueWithoutADeadline) {
  deadline({});
  set({{1, kReady}, {2, kDraining}});
  set({{1, kReady}});
  EXPECT_FALSE(deadlines_.next());
}

TEST_F(DeadlinesTest, EndpointThatIsGoneIsDueByItsDeadlineAndThatCountsFromWhenItTerminated) {
  set({{1, kReady}, {2, kReady}, {3, kReady}});
  set({{1, kReady}, {2, kDraining}, {3, kReady}});
  now_ += 10s;
  set({{1, kReady}});
  now_ += 20s;
  EXPECT_EQ(due(), "-2@7");
  now_ += 10s;
  EXPECT_EQ(due(), "-3@7");
}

TEST_F(DeadlinesTest, EndpointThatWasToldOfWhileTerminatingIsNotToldOfAgainWhenItGoes) {
  set({{1, kReady}, {2, kDraining}});
  now_ += 30s;
  EXPECT_EQ(due(), "2@7");
  set({{1, kReady}});
  now_ += 1h;
  EXPECT_EQ(due(), "");
}

TEST_F(DeadlinesTest, ItsNumberMayBeAnothersBeforeItIsDue) {
  set({{1, kReady}, {2, kReady}});
  set({{1, kReady}});
  life_ = 8;
  set({{1, kReady}, {2, kReady}});
  now_ += 30s;
  EXPECT_EQ(due(), "-2@7");
  set({{1, kReady}});
  now_ += 30s;
  EXPECT_EQ(due(), "-2@8");
}

TEST_F(DeadlinesTest, NothingIsClosedWhileOnlyTerminatingEndpointsServe) {
  set({{1, kDraining}, {2, kNotReady}});
  EXPECT_FALSE(deadlines_.next());
  now_ += 1h;
  EXPECT_EQ(due(), "");
  set({{1, kDraining}, {2, kReady}});
  EXPECT_EQ(due(), "1@7");
}

TEST_F(DeadlinesTest, EndpointThatIsReadyAgainHasAllItsTime) {
  set({{1, kReady}, {2, kDraining}});
  now_ += 20s;
  set({{1, kReady}, {2, kReady}});
  EXPECT_FALSE(deadlines_.next());
  set({{1, kReady}, {2, kDraining}});
  EXPECT_EQ(deadlines_.next(), now_ + 30s);
  now_ += 30s;
  EXPECT_EQ(due(), "2@7");
  set({{1, kReady}, {2, kReady}});
  set({{1, kReady}, {2, kDraining}});
  now_ += 30s;
  EXPECT_EQ(due(), "2@7");
}

TEST_F(DeadlinesTest, AnotherDeadlineCountsFromTheSameMoment) {
  set({{1, kReady}, {2, kDraining}});
  now_ += 10s;
  deadline(5s);
  set({{1, kReady}, {2, kDraining}});
  EXPECT_EQ(due(), "2@7");
}

TEST_F(DeadlinesTest, ServiceThatIsGoneHasTheDeadlineThatItHad) {
  set({{1, kReady}});
  remove_service();
  EXPECT_EQ(deadlines_.next(), now_ + 30s);
  now_ += 30s;
  EXPECT_EQ(due(), "-1@7");
  EXPECT_FALSE(deadlines_.next());
}

TEST_F(DeadlinesTest, DeadlineThatNobodyWantsAnyMoreIsForgotten) {
  set({{1, kReady}, {2, kReady}});
  set({{1, kReady}});
  deadline({});
  set({{1, kReady}});
  EXPECT_FALSE(deadlines_.next());
}

TEST_F(DeadlinesTest, UdpEndpointThatIsGoneIsDueAtOnceWithoutADeadline) {
  protocol(Protocol::kUdp);
  deadline({});
  set({{1, kReady}, {2, kReady}});
  set({{1, kReady}, {2, kDraining}});
  EXPECT_FALSE(deadlines_.next());
  set({{1, kReady}});
  EXPECT_EQ(due(), "-2@7");
}

TEST_F(DeadlinesTest, UdpEndpointIsToldOfAgainWhenItIsGone) {
  protocol(Protocol::kUdp);
  set({{1, kReady}, {2, kDraining}});
  now_ += 30s;
  EXPECT_EQ(due(), "2@7");
  set({{1, kReady}});
  EXPECT_EQ(due(), "-2@7");
}

TEST_F(DeadlinesTest, UdpEndpointThatWentWhileNoAgentRanIsDue) {
  protocol(Protocol::kUdp);
  compile::MapState before;
  before.set(key_, std::make_shared<const compile::PlacedService>(
                       place({{1, kReady}, {2, kReady}, {3, kDraining}})));
  deadlines_ = Deadlines([this](std::uint32_t) { return life_; }, before);
  EXPECT_FALSE(deadlines_.next());
  set({{1, kReady}, {3, kDraining}});
  EXPECT_EQ(due(), "-2@7");
  EXPECT_EQ(deadlines_.next(), now_ + 30s);
}

}  // namespace
}  // namespace weft::drain
