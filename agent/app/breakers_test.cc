// On maps of the running kernel; what programs tell is told by hand. Needs root.
#include "agent/app/breakers.h"

#include "tests/bpf/breaker_fixture.h"

namespace weft::app {
namespace {

class BreakersTest : public tests::Breaker {
 protected:
  void SetUp() override {
    tests::Breaker::SetUp();
    apply(service({"127.0.0.1", "127.0.0.2"}));
    breakers_.emplace(io_, node_.maps(), node_.pins(), [this](const auto& services) {
      for (const auto& key : services) touched_.push_back(key.to_text());
    });
  }
  void TearDown() override {
    breakers_.reset();
    tests::Breaker::TearDown();
  }

  // As a program tells of the endpoint's breaker having opened.
  weft_transition opened(const std::string& address) {
    weft_transition told{};
    told.at_ns = kernel::now_ms() * 1000000;
    told.to =
        weft_breaker_make(WEFT_BREAKER_OPEN, WEFT_BREAKER_REFUSED, 1, 1, kernel::now_ms() + 60000);
    told.service = node_.index_of("web");
    told.endpoint = id(address);
    told.incarnation = state(address).incarnation;
    told.reason = WEFT_BREAKER_REFUSED;
    kernel::store(state(address).breaker, told.to);
    return told;
  }
  std::vector<observe::BreakerEvent> told() { return breakers_->log().after(0); }

  boost::asio::io_context io_;
  std::vector<std::string> touched_;
  std::optional<Breakers> breakers_;
};

TEST_F(BreakersTest, WhatIsToldIsSaidWithNames) {
  breakers_->hear(opened("127.0.0.2"));
  ASSERT_EQ(told().size(), 1u);
  EXPECT_EQ(told()[0].service_text(), "default/web");
  EXPECT_EQ(told()[0].endpoint, "127.0.0.2:8080");
  EXPECT_EQ(breakers_->ejected(), std::set<std::uint32_t>{id("127.0.0.2")});
  EXPECT_EQ(touched_, std::vector<std::string>{"default/web"});
}

// It opened and then left the mesh, both before this agent read of it.
TEST_F(BreakersTest, ATransitionOfAnEndpointThatHasLeftIsCountedAndTold) {
  const auto late = opened("127.0.0.2");
  apply(service({"127.0.0.1"}));
  breakers_->hear(late);
  ASSERT_EQ(told().size(), 1u);
  EXPECT_EQ(told()[0].service_text(), "default/web");
  EXPECT_EQ(told()[0].endpoint, "gone");
  EXPECT_STREQ(told()[0].to, "open");
  EXPECT_EQ(breakers_->ejected(), std::set<std::uint32_t>{});
  EXPECT_EQ(breakers_->log().counts()->at({"default", "web", 80, "open", "refused"}), 1u);
}

TEST_F(BreakersTest, SoIsOneOfAServiceThatHasLeft) {
  const auto late = opened("127.0.0.2");
  node_.apply(tests::make_mesh({}));
  breakers_->hear(late);
  ASSERT_EQ(told().size(), 1u);
  EXPECT_EQ(told()[0].service_text(), "gone");
  EXPECT_EQ(told()[0].endpoint, "gone");
  EXPECT_EQ(touched_, std::vector<std::string>{});
}

// Writers call it from within a plan: who is touched would begin another one there.
TEST_F(BreakersTest, WhatAPlanMovesTouchesNobodyBeforeThePlanIsOver) {
  const auto told_of = opened("127.0.0.2");
  breakers_->moved(told_of, node_.maps().endpoints.at(id("127.0.0.2")));
  EXPECT_EQ(told().size(), 1u);
  EXPECT_EQ(touched_, std::vector<std::string>{});
  io_.poll();
  EXPECT_EQ(touched_, std::vector<std::string>{"default/web"});
}

}  // namespace
}  // namespace weft::app
