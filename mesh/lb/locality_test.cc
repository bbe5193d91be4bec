#include "mesh/lb/locality.h"

#include <gtest/gtest.h>

#include "mesh/lb/policy.h"
#include "mesh/lb/priority.h"

namespace weft::lb {
namespace {

using model::Endpoint;
using model::EndpointState;
using model::LocalityPolicy;
using Prefer = LocalityPolicy::Prefer;

const Where kHere = {"eu", "eu-a", "n1"};

Endpoint at(const std::string& region, const std::string& zone, const std::string& node = "") {
  static unsigned host = 0;
  Endpoint endpoint;
  endpoint.address = *model::Address::parse("10.0.0." + std::to_string(1 + host++ % 250));
  endpoint.region = region;
  endpoint.zone = zone;
  endpoint.node = node;
  return endpoint;
}

std::vector<Endpoint> everywhere() {
  return {at("us", "us-a", "n4"), at("eu", "eu-b", "n3"), at("eu", "eu-a", "n2"),
          at("eu", "eu-a", "n1"), at("ap", "ap-a", "n5")};
}

// "2 1 0 ..."
std::string priorities(const LocalityPolicy& policy, std::vector<Endpoint> endpoints,
                       const Where& here = kHere) {
  apply(policy, here, endpoints);
  std::string text;
  for (const auto& e : endpoints) text += (text.empty() ? "" : " ") + std::to_string(e.priority);
  return text;
}
std::string weights(const LocalityPolicy& policy, std::vector<Endpoint> endpoints,
                    const Where& here = kHere) {
  apply(policy, here, endpoints);
  std::string text;
  for (const auto& e : endpoints) text += (text.empty() ? "" : " ") + std::to_string(e.weight);
  return text;
}

LocalityPolicy enabled() {
  LocalityPolicy policy;
  policy.enabled = true;
  return policy;
}
LocalityPolicy preferring(Prefer prefer) {
  LocalityPolicy policy;
  policy.prefer = prefer;
  return policy;
}

TEST(Locality, LeavesEndpointsAloneWhereNobodyAsks) {
  auto all = everywhere();
  all[2].priority = 7;
  const auto before = all;
  apply({}, kHere, all);
  EXPECT_EQ(all, before);
}

TEST(Locality, OrdersByZoneThenRegionThenTheRest) {
  EXPECT_EQ(priorities(enabled(), everywhere()), "2 1 0 0 2");
  // Nobody in the zone: numbers have no gaps.
  EXPECT_EQ(priorities(enabled(), everywhere(), {"eu", "eu-c", "n9"}), "1 0 0 0 1");
  EXPECT_EQ(priorities(enabled(), everywhere(), {"", "", ""}), "0 0 0 0 0");
}

TEST(Locality, ComparesZonesWhereRegionsAreNotKnown) {
  EXPECT_EQ(priorities(enabled(), {at("", "eu-a"), at("", "eu-b")}), "0 1");
  EXPECT_EQ(priorities(enabled(), {at("us", "eu-a"), at("eu", "eu-a")}), "1 0");
}

// eu-a/r1, eu-a/r2, eu-a without one, eu-b/r1, us-a/r1.
std::vector<Endpoint> subzones() {
  std::vector<Endpoint> all = {at("eu", "eu-a"), at("eu", "eu-a"), at("eu", "eu-a"),
                               at("eu", "eu-b"), at("us", "us-a")};
  all[0].subzone = all[3].subzone = all[4].subzone = "r1";
  all[1].subzone = "r2";
  return all;
}
const Where kInSubzone = {"eu", "eu-a", "n1", "r1"};

TEST(Locality, TheOwnSubzoneIsNearestAndANodeWithoutOneTellsNoneApart) {
  EXPECT_EQ(priorities(enabled(), subzones(), kInSubzone), "0 1 1 2 3");
  EXPECT_EQ(priorities(enabled(), subzones(), kHere), "0 0 0 1 2");
  EXPECT_EQ(priorities(preferring(Prefer::kZone), subzones(), kInSubzone), "0 0 0 1 1");
  auto policy = enabled();
  policy.failover_priority = {"topology.istio.io/subzone"};
  EXPECT_EQ(priorities(policy, subzones(), kInSubzone), "0 1 1 0 0");
  EXPECT_EQ(priorities(policy, subzones(), kHere), "0 0 0 0 0");
  policy.failover_priority = {"topology.istio.io/subzone=r2"};
  EXPECT_EQ(priorities(policy, subzones(), kHere), "1 0 1 1 1");
}

TEST(Locality, SharesGoToSubzonesThatEntriesName) {
  LocalityPolicy policy;
  policy.distribute.push_back({"eu/eu-a/r1", {{"eu/eu-a/r1", 50}, {"eu/eu-a/r2", 50}}});
  EXPECT_EQ(weights(policy, subzones(), kInSubzone), "1000 1000 0 0 0");
  EXPECT_EQ(weights(policy, subzones(), kHere), "1 1 1 1 1") << "no entry is for this node";
  policy.distribute[0].from = "eu/*";
  policy.distribute[0].to = {{"eu/eu-a/*", 75}, {"eu/eu-b", 25}};
  EXPECT_EQ(weights(policy, subzones(), kHere), "1000 1000 1000 1000 0");
}

TEST(Locality, FailsOverToTheRegionThatIsNamedFirst) {
  auto policy = enabled();
  policy.failover = {{"us", "eu"}, {"eu", "ap"}};
  EXPECT_EQ(priorities(policy, everywhere()), "3 1 0 0 2");
}

TEST(Locality, CountsLabelsThatMatchFromTheFront) {
  auto policy = enabled();
  policy.failover_priority = {"topology.kubernetes.io/region", "topology.kubernetes.io/zone",
                              "kubernetes.io/hostname"};
  EXPECT_EQ(priorities(policy, everywhere()), "3 2 1 0 3");
  policy.failover_priority = {"topology.kubernetes.io/region=us"};
  EXPECT_EQ(priorities(policy, everywhere()), "0 1 1 1 1");
  policy.failover = {{"eu", "ap"}};  // among those that the labels leave equal
  EXPECT_EQ(priorities(policy, everywhere()), "0 2 1 1 3");
}

TEST(Locality, ComparesLabelsOfPodsWithTheValuesThatAreWritten) {
  auto all = everywhere();
  all[0].labels = {{"version", "v1"}, {"tier", "gold"}};
  all[1].labels = {{"version", "v1"}};
  all[2].labels = {{"version", "v2"}, {"tier", "gold"}};
  auto policy = enabled();
  policy.failover_priority = {"version=v1"};
  EXPECT_EQ(priorities(policy, all), "0 0 1 1 1");
  policy.failover_priority = {"version=v1", "tier=gold"};
  EXPECT_EQ(priorities(policy, all), "0 1 2 2 2") << "what comes after a mismatch does not count";
  policy.failover_priority = {"tier="};
  EXPECT_EQ(priorities(policy, all), "1 0 1 0 0") << "no label is an empty one";
  policy.failover_priority = {"version=v1", "topology.kubernetes.io/region"};
  EXPECT_EQ(priorities(policy, all), "1 0 2 2 2");
  policy.enabled = false;
  EXPECT_EQ(priorities(policy, all), "0 0 0 0 0");
}

TEST(Locality, OrdersALabelsFailoverForTheKernelsSlots) {
  auto all = everywhere();
  for (const std::size_t i : {1u, 3u}) all[i].labels = {{"version", "v1"}};
  auto policy = enabled();
  policy.failover_priority = {"version=v1"};
  apply(policy, kHere, all);
  EXPECT_EQ(choose(all, {}, 71).rotation, (std::vector<std::uint32_t>{1, 3}));
  const std::vector<bool> healthy = {true, false, true, false, true};
  EXPECT_EQ(choose(all, healthy, 71).rotation.size(), 5u) << "the others stand in; v1 is probed";
}

TEST(Locality, KeepsStandbyEndpointsBehindHoweverNearTheyAre) {
  std::vector<Endpoint> all = {at("eu", "eu-a"), at("us", "us-a")};
  all[0].priority = 1;
  EXPECT_EQ(priorities(enabled(), all), "1 0");
}

TEST(Locality, PrefersTheZoneWhileSomebodyIsReadyThere) {
  const auto policy = preferring(Prefer::kZone);
  EXPECT_EQ(priorities(policy, everywhere()), "1 1 0 0 1");
  auto all = everywhere();
  all[2].state = all[3].state = EndpointState::kNotReady;
  apply(policy, kHere, all);
  EXPECT_EQ(choose(all, {}, 71).rotation, (std::vector<std::uint32_t>{0, 1, 4}));
}

TEST(Locality, PrefersTheNodeThenTheZone) {
  EXPECT_EQ(priorities(preferring(Prefer::kNode), everywhere()), "2 2 1 0 2");
}

TEST(Locality, DropsEndpointsOfOtherNodesOnDemandOnly) {
  LocalityPolicy policy;
  policy.only_local = true;
  auto all = everywhere();
  apply(policy, kHere, all);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].node, "n1");
  all = everywhere();
  apply(policy, {"eu", "eu-a", "n9"}, all);
  EXPECT_TRUE(all.empty());
  all = {at("eu", "eu-a", "")};
  apply(policy, {"", "", ""}, all);
  EXPECT_TRUE(all.empty());
}

TEST(Locality, FollowsHintsThatAllCandidatesHave) {
  auto all = everywhere();
  for (auto& endpoint : all) endpoint.for_zones = {"eu-b"};
  all[0].for_zones = {"us-a", "eu-a"};
  EXPECT_EQ(priorities({}, all), "0 1 1 1 1");
  all[4].for_zones.clear();
  EXPECT_EQ(priorities({}, all), "0 0 0 0 0");
  EXPECT_EQ(priorities(preferring(Prefer::kZone), all), "1 1 0 0 1");
  all[4].state = EndpointState::kNotReady;  // no candidate: its hints do not count
  EXPECT_EQ(priorities({}, all), "0 1 1 1 1");
  EXPECT_EQ(priorities({}, all, {"ap", "ap-a", "n5"}), "0 0 0 0 0");  // none names our zone
}

LocalityPolicy shares() {
  LocalityPolicy policy;
  policy.distribute = {{"us", {{"us", 100}}}, {"eu/eu-a/*", {{"eu/eu-a", 80}, {"eu/eu-b/*", 20}}}};
  return policy;
}

TEST(Locality, SharesByPercentAndWithinALocalityByWeight) {
  // 40 and 40 of a hundred in eu-a, 20 in eu-b, nothing elsewhere.
  EXPECT_EQ(weights(shares(), everywhere()), "0 500 1000 1000 0");
  auto all = everywhere();
  all[3].weight = 3;
  EXPECT_EQ(weights(shares(), all), "0 333 333 1000 0");
  EXPECT_EQ(weights(shares(), everywhere(), {"ap", "ap-a", "n5"}), "1 1 1 1 1");
}

TEST(Locality, GivesAnEmptyLocalitysShareToTheOthers) {
  auto all = everywhere();
  all[2].state = all[3].state = EndpointState::kNotReady;
  EXPECT_EQ(weights(shares(), all), "0 1000 1 1 0");
  all[1].state = EndpointState::kNotReady;  // nobody where the shares go: all that there is
  EXPECT_EQ(weights(shares(), all), "1 1 1 1 1");
}

TEST(Locality, SharesAmongStandbyEndpointsApart) {
  auto all = everywhere();
  all[1].priority = 1;
  EXPECT_EQ(weights(shares(), all), "0 1000 1000 1000 0");
}

}  // namespace
}  // namespace weft::lb
