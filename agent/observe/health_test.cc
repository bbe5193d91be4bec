#include "agent/observe/health.h"

#include <gtest/gtest.h>

namespace weft::observe {
namespace {

TEST(Health, AHangingControlThreadIsNamed) {
  Heartbeat heartbeat;
  const auto now = Clock::now();
  heartbeat.beat(now);
  EXPECT_EQ(why_unhealthy(heartbeat, now + std::chrono::seconds(10)), "");
  EXPECT_EQ(why_unhealthy(heartbeat, now + std::chrono::seconds(12)),
            "the control thread has not moved for 12 s");
  heartbeat.beat(now + std::chrono::seconds(12));
  EXPECT_EQ(why_unhealthy(heartbeat, now + std::chrono::seconds(13)), "");
}

TEST(Health, NotReadySaysWhichSource) {
  Snapshot snapshot;
  snapshot.sources = {{.uri = "dir:a", .state = "synced"},
                      {.uri = "dir:b", .state = "error", .error = "no such directory"}};
  EXPECT_EQ(why_not_ready(snapshot), "source dir:b is not ready: error: no such directory");
}

TEST(Health, NotReadySaysWhatStandsInTheWay) {
  Snapshot snapshot;
  EXPECT_EQ(why_not_ready(snapshot), "the first configuration is not in the kernel yet");
  snapshot.apply.last_error = "cannot write weft_names: E";
  EXPECT_EQ(why_not_ready(snapshot),
            "the configuration cannot be written: cannot write weft_names: E");
  snapshot.held_back = true;
  snapshot.held_back_text = "9 of 10 endpoints would go";
  EXPECT_EQ(why_not_ready(snapshot), "held back: 9 of 10 endpoints would go");
}

TEST(Health, ASourceInErrorDoesNotMakeAReadyAgentUnready) {
  Snapshot snapshot;
  snapshot.ready = true;
  snapshot.held_back = true;
  snapshot.sources = {{.uri = "dir:b", .state = "error"}};
  EXPECT_EQ(why_not_ready(snapshot), "");
}

}  // namespace
}  // namespace weft::observe
