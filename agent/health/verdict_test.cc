#include "agent/health/verdict.h"

#include <gtest/gtest.h>

namespace weft::health {
namespace {

const Result kOk{true, "connected"}, kBad{false, "connection refused"};
const Thresholds kThreeAndTwo{3, 2};

struct VerdictTest : testing::Test {
  Verdict verdict;
  Thresholds thresholds = kThreeAndTwo;

  // '+' and '-' are results; the answer has '!' where the verdict flipped.
  std::string after(std::string_view results) {
    std::string flips;
    for (const char c : results)
      flips += verdict.record(c == '+' ? kOk : kBad, thresholds) ? '!' : '.';
    return flips;
  }
};

TEST_F(VerdictTest, UnknownCountsAsHealthyUntilThreeFailuresInARow) {
  EXPECT_TRUE(verdict.healthy());
  EXPECT_EQ(after("--"), "..");
  EXPECT_EQ(verdict.state, State::kUnknown);
  EXPECT_TRUE(verdict.healthy());
  EXPECT_EQ(after("-"), "!");
  EXPECT_EQ(verdict.state, State::kUnhealthy);
}

TEST_F(VerdictTest, ASuccessBetweenBeginsTheCountAnew) {
  EXPECT_EQ(after("--+--+---"), "........!");
}

TEST_F(VerdictTest, UnknownTurnsHealthyWithoutAFlip) {
  EXPECT_EQ(after("+"), ".");
  EXPECT_EQ(verdict.state, State::kUnknown);
  EXPECT_EQ(after("+"), ".");
  EXPECT_EQ(verdict.state, State::kHealthy);
}

TEST_F(VerdictTest, AnUnhealthyOneComesBackAfterSuccessesInARow) {
  EXPECT_EQ(after("---+-+-++"), "..!.....!");
  EXPECT_EQ(verdict.state, State::kHealthy);
}

TEST_F(VerdictTest, NothingFlipsTwice) { EXPECT_EQ(after("------++++"), "..!....!.."); }

TEST_F(VerdictTest, ThresholdsOfNoughtAreTakenForOne) {
  thresholds = {0, 0};
  EXPECT_EQ(after("-+-"), "!!!");
}

TEST_F(VerdictTest, WhatCouldNotBeAskedChangesNothing) {
  after("--");
  const Verdict before = verdict;
  EXPECT_FALSE(verdict.record({false, "too many open files", false}, thresholds));
  EXPECT_EQ(verdict, before);
  EXPECT_EQ(after("-"), "!");
}

TEST_F(VerdictTest, AnotherQuestionKeepsTheVerdictAndNotTheRow) {
  after("--");
  verdict.forget_row();
  EXPECT_EQ(after("--"), "..");
  EXPECT_EQ(after("-"), "!");
  verdict.forget_row();
  EXPECT_FALSE(verdict.healthy());
}

}  // namespace
}  // namespace weft::health
