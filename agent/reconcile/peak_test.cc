#include "agent/reconcile/peak.h"

#include <gtest/gtest.h>

namespace weft::reconcile {
namespace {

using std::chrono::seconds;

TEST(Peak, IsTheMostWithinTheWindow) {
  Peak peak(seconds(30));
  const Peak::Time start{};
  EXPECT_EQ(peak.value(start), 0u);
  peak.observe(start, 100);
  EXPECT_EQ(peak.value(start + seconds(1000)), 100u) << "the count that still holds never leaves";
  peak.observe(start + seconds(1000), 70);
  peak.observe(start + seconds(1010), 40);
  EXPECT_EQ(peak.value(start + seconds(1029)), 100u);
  EXPECT_EQ(peak.value(start + seconds(1031)), 70u);
  EXPECT_EQ(peak.value(start + seconds(1041)), 40u);
}

TEST(Peak, RisesAtOnce) {
  Peak peak(seconds(30));
  const Peak::Time start{};
  peak.observe(start, 10);
  peak.observe(start + seconds(1), 20);
  EXPECT_EQ(peak.value(start + seconds(1)), 20u);
}

TEST(Peak, ForgetsWhatWasConfirmed) {
  Peak peak(seconds(30));
  const Peak::Time start{};
  peak.observe(start, 100);
  peak.forget();
  peak.observe(start, 10);
  EXPECT_EQ(peak.value(start), 10u);
}

}  // namespace
}  // namespace weft::reconcile
