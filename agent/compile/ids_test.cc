#include "agent/compile/ids.h"

#include <gtest/gtest.h>

#include <random>

namespace weft::compile {
namespace {

TEST(RangeAllocator, GivesRangesThatNeverOverlap) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 rng(seed);
    RangeAllocator allocator(500);
    std::vector<Releases::Range> held;
    std::vector<bool> taken(500);
    std::uint32_t used = 0;
    for (int step = 0; step < 400; ++step) {
      if (held.empty() || rng() % 2) {
        const std::uint32_t length = 1 + rng() % 40;
        const auto base = allocator.take(length);
        if (!base) continue;
        ASSERT_LE(*base + length, 500u);
        for (std::uint32_t i = 0; i < length; ++i) {
          ASSERT_FALSE(taken[*base + i]) << "slot " << *base + i << " was given twice";
          taken[*base + i] = true;
        }
        held.push_back({*base, length});
        used += length;
      } else {
        std::swap(held[rng() % held.size()], held.back());
        const auto [base, length] = held.back();
        held.pop_back();
        allocator.release(base, length);
        for (std::uint32_t i = 0; i < length; ++i) taken[base + i] = false;
        used -= length;
      }
      ASSERT_EQ(allocator.used(), used);
    }
    for (const auto& [base, length] : held) allocator.release(base, length);
    EXPECT_EQ(allocator.take(500), 0u) << "neighbours were not joined on release";
  }
}

TEST(RangeAllocator, RefusesWhatDoesNotFit) {
  RangeAllocator allocator(10);
  EXPECT_EQ(allocator.take(11), std::nullopt);
  EXPECT_EQ(allocator.take(6), 0u);
  EXPECT_EQ(allocator.take(5), std::nullopt);
  EXPECT_EQ(allocator.take(4), 6u);
  EXPECT_EQ(RangeAllocator(0).take(1), std::nullopt);
}

TEST(RangeAllocator, TakesTheSmallestGapThatFits) {
  RangeAllocator allocator(100);
  const auto a = allocator.take(20), b = allocator.take(10), c = allocator.take(5);
  const auto d = allocator.take(10);
  ASSERT_TRUE(a && b && c && d);
  allocator.release(*a, 20);
  allocator.release(*c, 5);
  EXPECT_EQ(allocator.take(4), c);
}

TEST(RangeAllocator, KeepsAwayFromRangesThatTheMapsHold) {
  RangeAllocator allocator(30);
  allocator.take_at(10, 10);
  allocator.take_at(15, 10);  // overlaps: ignored, nothing is counted twice
  EXPECT_EQ(allocator.used(), 10u);
  EXPECT_EQ(allocator.take(10), 0u);
  EXPECT_EQ(allocator.take(10), 20u);
  EXPECT_EQ(allocator.take(1), std::nullopt);
}

TEST(NumberAllocator, BeginsAtOneAndStaysBelowItsSize) {
  NumberAllocator allocator(4);
  EXPECT_EQ(allocator.take(), 1u);
  EXPECT_EQ(allocator.take(), 2u);
  EXPECT_EQ(allocator.take(), 3u);
  EXPECT_EQ(allocator.take(), std::nullopt);
  allocator.release(2);
  EXPECT_EQ(allocator.take(), 2u);
}

TEST(NumberAllocator, FillsTheGapsLeftByTakeAt) {
  NumberAllocator allocator(8);
  allocator.take_at(5);
  allocator.take_at(5);  // twice is once
  allocator.take_at(2);
  EXPECT_EQ(allocator.used(), 2u);
  std::vector<std::uint32_t> rest;
  while (const auto number = allocator.take()) rest.push_back(*number);
  EXPECT_EQ(rest, (std::vector<std::uint32_t>{1, 3, 4, 6, 7}));
}

TEST(NumberAllocator, CountsADoubleReleaseOnce) {
  NumberAllocator allocator(8);
  allocator.take();
  allocator.take();
  allocator.release(1);
  allocator.release(1);
  EXPECT_EQ(allocator.used(), 1u);
}

TEST(Ids, GivesOneLabelOneNumber) {
  Ids ids{Limits{}};
  EXPECT_EQ(ids.label(""), 0u);
  const auto zone = ids.label("zone-a");
  EXPECT_NE(zone, 0u);
  EXPECT_EQ(ids.label("zone-a"), zone);
  EXPECT_NE(ids.label("zone-b"), zone);
}

TEST(Ids, RunsOutOfLabelsWithoutStoppingAnything) {
  Limits limits;
  limits.labels = 2;
  Ids ids(limits);
  EXPECT_EQ(ids.label("a"), 1u);
  EXPECT_EQ(ids.label("b"), 0u);
  EXPECT_EQ(ids.label("a"), 1u);
}

TEST(Limits, FollowTheFlags) {
  const auto limits = Limits::of(1000, 5000);
  EXPECT_EQ(limits.services, 1000u);
  EXPECT_EQ(limits.frontends, 2000u);
  EXPECT_EQ(limits.endpoints, 5000u);
  EXPECT_EQ(limits.slots, 20000u);
  EXPECT_EQ(Limits::of(1, 4000000000u).slots, WEFT_MAX_SLOTS) << "a record has 28 bits for a base";
}

}  // namespace
}  // namespace weft::compile
