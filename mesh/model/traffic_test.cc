#include "mesh/model/traffic.h"

#include <gtest/gtest.h>

namespace weft::model {
namespace {

using std::chrono::milliseconds;

TrafficRule with_outlier() {
  TrafficRule rule;
  rule.outlier.emplace();
  return rule;
}

TEST(JoinTraffic, IsTheDefaultWhereNobodySaysAnything) {
  EXPECT_EQ(join_traffic({}, nullptr).policy, TrafficPolicy{});
  const TrafficRule silent;
  EXPECT_EQ(join_traffic({}, &silent).policy, TrafficPolicy{});
}

TEST(JoinTraffic, TakesTheRulesLimitsAndTheServicesBesideThem) {
  TrafficRule rule;
  rule.max_connections = 7;
  rule.connect_timeout = milliseconds(300);
  rule.warmup = Warmup{milliseconds(1000), 20};
  TrafficWishes wishes;
  wishes.max_per_endpoint = 3;
  wishes.failover_below = 50;
  const auto policy = join_traffic(wishes, &rule).policy;
  EXPECT_EQ(policy.limits, (ConnectionLimits{7, 3, milliseconds(300)}));
  EXPECT_EQ(policy.warmup, *rule.warmup);
  EXPECT_EQ(policy.failover_below_percent, 50);
}

TEST(JoinTraffic, TimeAloneOpensABreakerThatOnlyTheServiceAskedFor) {
  TrafficWishes wishes;
  wishes.failing_for = milliseconds(5000);
  const auto alone = join_traffic(wishes, nullptr).policy.outlier.value();
  EXPECT_EQ(alone.failing_for, milliseconds(5000));
  EXPECT_EQ(alone.consecutive_failures + alone.consecutive_5xx + alone.consecutive_gateway, 0u);
  const auto rule = with_outlier();
  const auto both = join_traffic(wishes, &rule).policy.outlier.value();
  EXPECT_EQ(both.failing_for, milliseconds(5000));
  EXPECT_EQ(both.consecutive_failures, 5u);
}

TEST(JoinTraffic, TheServicesBaseEjectionBeatsTheRules) {
  TrafficWishes wishes;
  wishes.base_ejection = milliseconds(400'000);
  const auto rule = with_outlier();
  const auto joined = join_traffic(wishes, &rule);
  EXPECT_EQ(joined.policy.outlier->base_ejection, milliseconds(400'000));
  EXPECT_EQ(joined.policy.outlier->max_ejection, milliseconds(400'000));
  EXPECT_FALSE(joined.base_ejection_without_outlier);
  EXPECT_TRUE(join_traffic(wishes, nullptr).base_ejection_without_outlier);
}

TEST(JoinTraffic, LocalityNeedsOutlierDetectionAndSharesDoNot) {
  auto rule = with_outlier();
  rule.locality.emplace().enabled = true;
  EXPECT_TRUE(join_traffic({}, &rule).policy.locality.enabled);
  rule.outlier.reset();
  const auto vain = join_traffic({}, &rule);
  EXPECT_FALSE(vain.policy.locality.enabled);
  EXPECT_TRUE(vain.locality_without_outlier);
  rule.locality->distribute = {{"eu", {{"eu", 100}}}};
  const auto shares = join_traffic({}, &rule);
  EXPECT_EQ(shares.policy.locality.distribute.size(), 1u);
  EXPECT_FALSE(shares.locality_without_outlier);
  rule.locality->enabled = false;
  EXPECT_EQ(join_traffic({}, &rule).policy.locality, LocalityPolicy{});
}

TEST(TrafficText, IsEmptyForTheDefaultAndShowsWhatDiffers) {
  EXPECT_EQ(to_text(TrafficPolicy{}), "");
  TrafficPolicy policy;
  policy.limits = {7, 3, milliseconds(300)};
  policy.outlier.emplace().max_ejection_percent = 50;
  policy.warmup = {milliseconds(1000), 20};
  policy.drain_deadline = milliseconds(5000);
  policy.health_check.emplace();
  policy.locality.enabled = policy.locality.only_local = true;
  policy.locality.prefer = LocalityPolicy::Prefer::kNode;
  policy.locality.failover = {{"eu", "us"}};
  policy.locality.distribute = {{"eu", {{"eu/a", 80}, {"eu/b", 20}}}};
  policy.failover_below_percent = 50;
  EXPECT_EQ(to_text(policy),
            " max_connections=7 max_per_endpoint=3 connect_timeout=300ms outlier(failures=5 5xx=5 "
            "gateway=0 interval=10000ms base_ejection=30000ms max_percent=50) warmup=1000ms "
            "from=20% drain_deadline=5000ms health_check(tcp interval=10000ms timeout=1000ms "
            "unhealthy=3 healthy=1) locality failover=eu>us distribute(eu: eu/a=80% eu/b=20%) "
            "prefer=node only_local "
            "failover_below=50%");
}

}  // namespace
}  // namespace weft::model
