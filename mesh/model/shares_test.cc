#include "mesh/model/shares.h"

#include <gtest/gtest.h>

#include "mesh/model/test_objects.h"

namespace weft::model {
namespace {

Endpoint endpoint(const std::string& ip, unsigned weight = 1,
                  EndpointState state = EndpointState::kReady, unsigned priority = 0) {
  Endpoint result;
  result.address = test::address(ip);
  result.port = 8080;
  result.weight = static_cast<std::uint16_t>(weight);
  result.state = state;
  result.priority = static_cast<std::uint8_t>(priority);
  return result;
}

std::vector<Endpoint> endpoints(const std::string& net, int count) {
  std::vector<Endpoint> all;
  for (int i = 1; i <= count; ++i) all.push_back(endpoint(net + std::to_string(i)));
  return all;
}

// "10.0.0.1=21 ...", with "/1" behind it where the priority is 1.
std::string weights(const std::vector<Endpoint>& endpoints) {
  std::string text;
  for (const auto& e : endpoints)
    text += (text.empty() ? "" : " ") + e.address.to_text() + "=" + std::to_string(e.weight) +
            (e.priority ? "/" + std::to_string(e.priority) : "");
  return text;
}

TEST(Shares, HoldWhateverTheNumberOfEndpoints) {
  EXPECT_EQ(weights(share_out({{endpoints("10.0.0.", 3), 90}, {endpoints("10.0.1.", 2), 10}})),
            "10.0.0.1=6 10.0.0.2=6 10.0.0.3=6 10.0.1.1=1 10.0.1.2=1");
  EXPECT_EQ(weights(share_out({{endpoints("10.0.0.", 1), 90}, {endpoints("10.0.1.", 2), 10}})),
            "10.0.0.1=18 10.0.1.1=1 10.0.1.2=1");
}

TEST(Shares, OfOneGroupAreItsOwnWeightsInTheSmallestNumbers) {
  EXPECT_EQ(weights(share_out({{endpoints("10.0.0.", 2), 7}})), "10.0.0.1=1 10.0.0.2=1");
  EXPECT_EQ(weights(share_out({{{endpoint("10.0.0.1", 4), endpoint("10.0.0.2", 2)}, 1}})),
            "10.0.0.1=2 10.0.0.2=1");
}

TEST(Shares, EndpointsOwnWeightsCountWithinTheirGroup) {
  EXPECT_EQ(weights(share_out({{{endpoint("10.0.0.1", 3), endpoint("10.0.0.2", 1)}, 50},
                               {{endpoint("10.0.1.1", 100)}, 50}})),
            "10.0.0.1=3 10.0.0.2=1 10.0.1.1=4");
}

TEST(Shares, GoByReadyEndpoints) {
  EXPECT_EQ(weights(share_out({{{endpoint("10.0.0.1"), endpoint("10.0.0.2"),
                                 endpoint("10.0.0.3", 1, EndpointState::kNotReady)},
                                50},
                               {endpoints("10.0.1.", 1), 50}})),
            "10.0.0.1=1 10.0.0.2=1 10.0.0.3=1 10.0.1.1=2");
}

TEST(Shares, GoByDrainingEndpointsWhereNoneIsReady) {
  const auto draining = EndpointState::kDraining;
  EXPECT_EQ(weights(share_out(
                {{{endpoint("10.0.0.1", 1, draining), endpoint("10.0.0.2", 1, draining)}, 50},
                 {endpoints("10.0.1.", 1), 50}})),
            "10.0.0.1=1 10.0.0.2=1 10.0.1.1=2");
}

TEST(Shares, OfNothingLeaveEndpointsWithWeightZero) {
  EXPECT_EQ(weights(share_out({{endpoints("10.0.0.", 2), 100}, {endpoints("10.0.1.", 1), 0}})),
            "10.0.0.1=1 10.0.0.2=1 10.0.1.1=0");
  EXPECT_EQ(weights(share_out({{{}, 100}, {endpoints("10.0.1.", 1), 0}})), "10.0.1.1=0");
  EXPECT_EQ(weights(share_out({{{endpoint("10.0.0.1", 0)}, 1}})), "10.0.0.1=0");
  EXPECT_EQ(weights(share_out({})), "");
}

TEST(Shares, OfEachFamilyAreKeptByItself) {
  EXPECT_EQ(weights(share_out({{{endpoint("10.0.0.1"), endpoint("fd00::1")}, 50},
                               {{endpoint("10.0.1.1"), endpoint("10.0.1.2")}, 50}})),
            "10.0.0.1=2 10.0.1.1=1 10.0.1.2=1 fd00::1=1");
}

TEST(Shares, PrioritiesCountWithinTheirGroup) {
  // The second group's standby serves, as its better endpoint is not ready.
  EXPECT_EQ(weights(share_out({{{endpoint("10.0.0.1"), endpoint("10.0.0.2", 1, {}, 1)}, 75},
                               {{endpoint("10.0.1.1", 1, EndpointState::kNotReady),
                                 endpoint("10.0.1.2", 1, {}, 2), endpoint("10.0.1.3", 1, {}, 3)},
                                25}})),
            "10.0.0.1=3 10.0.0.2=3/1 10.0.1.1=1 10.0.1.2=1 10.0.1.3=1/1");
}

TEST(Shares, OfAnEndpointInTwoGroupsAddUp) {
  EXPECT_EQ(weights(share_out({{endpoints("10.0.0.", 2), 50}, {{endpoint("10.0.0.2")}, 50}})),
            "10.0.0.1=1 10.0.0.2=3");
}

TEST(Shares, ThatDoNotFitInSixteenBitsAreRoundedAndNeverToNobody) {
  const auto shared = share_out({{endpoints("10.0.0.", 1), 2147483647},
                                 {endpoints("10.0.1.", 1), 2147483646},
                                 {endpoints("10.0.2.", 1), 1}});
  EXPECT_EQ(weights(shared), "10.0.0.1=65535 10.0.1.1=65535 10.0.2.1=1");
}

}  // namespace
}  // namespace weft::model
