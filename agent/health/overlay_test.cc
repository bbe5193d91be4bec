#include "agent/health/overlay.h"

#include <gtest/gtest.h>

#include "agent/health/test_mesh.h"

namespace weft::health {
namespace {

using model::EndpointState;
using model::Protocol;
using test::address;
using test::endpoint;
using test::mesh_of;
using test::port_of;
using test::service;

const model::ServiceKey kWeb{"shop", "web"}, kApi{"shop", "api"};
const Spot kOne{address("10.1.0.1"), 80}, kTwo{address("10.1.0.2"), 80};

model::Service web() {
  return service("web", {port_of(80, {endpoint("10.1.0.1", 80), endpoint("10.1.0.2", 80)})});
}
model::Service api() { return service("api", {port_of(90, {endpoint("10.1.0.1", 80)})}); }

std::vector<EndpointState> states(const model::MeshPtr& mesh, const model::ServiceKey& key,
                                  std::size_t port = 0) {
  std::vector<EndpointState> result;
  for (const auto& one : (*mesh->services.find(key))->ports[port].endpoints)
    result.push_back(one.state);
  return result;
}

int changes(const model::MeshPtr& before, const model::MeshPtr& after) {
  int count = 0;
  model::BucketTable<model::Service>::for_each_change(before->services, after->services,
                                                      [&](auto, auto) { ++count; });
  return count;
}

constexpr auto kReady = EndpointState::kReady, kNotReady = EndpointState::kNotReady;
using States = std::vector<EndpointState>;

TEST(Overlay, WithNobodyUnhealthyTheMeshIsItself) {
  Overlay overlay;
  const auto mesh = mesh_of({web()});
  EXPECT_EQ(overlay.apply(mesh, {}), mesh);
  EXPECT_EQ(overlay.apply(mesh, {{{"shop", "gone"}, {kOne}}}), mesh);
  EXPECT_EQ(overlay.apply(mesh, {{kWeb, {{address("10.9.9.9"), 80}}}}), mesh);
}

TEST(Overlay, OnlyTheServiceThatIsConcernedChanges) {
  Overlay overlay;
  const auto mesh = mesh_of({web(), api()});
  const auto result = overlay.apply(mesh, {{kWeb, {kOne}}});
  EXPECT_EQ(states(result, kWeb), (States{kNotReady, kReady}));
  EXPECT_EQ(*result->services.find(kApi), *mesh->services.find(kApi));
  EXPECT_EQ(changes(mesh, result), 1);
  EXPECT_EQ(result->notices, mesh->notices);
  EXPECT_EQ(states(mesh, kWeb), (States{kReady, kReady})) << "the original was written to";
}

TEST(Overlay, AllMayBeUnhealthy) {
  Overlay overlay;
  const auto result = overlay.apply(mesh_of({web()}), {{kWeb, {kOne, kTwo}}});
  EXPECT_EQ(states(result, kWeb), (States{kNotReady, kNotReady}));
}

TEST(Overlay, UdpAndDrainingEndpointsStayAsTheyAre) {
  Overlay overlay;
  const auto mesh =
      mesh_of({service("web", {port_of(80, {endpoint("10.1.0.1", 80, EndpointState::kDraining)}),
                               port_of(80, {endpoint("10.1.0.1", 80)}, Protocol::kUdp)})});
  EXPECT_EQ(overlay.apply(mesh, {{kWeb, {kOne}}}), mesh);
}

TEST(Overlay, EveryPortThatLeadsToItLosesIt) {
  Overlay overlay;
  const auto mesh = mesh_of({service(
      "web", {port_of(80, {endpoint("10.1.0.1", 80)}), port_of(81, {endpoint("10.1.0.1", 80)}),
              port_of(82, {endpoint("10.1.0.1", 82)})})});
  const auto result = overlay.apply(mesh, {{kWeb, {kOne}}});
  EXPECT_EQ(states(result, kWeb, 0), States{kNotReady});
  EXPECT_EQ(states(result, kWeb, 1), States{kNotReady});
  EXPECT_EQ(states(result, kWeb, 2), States{kReady});
}

TEST(Overlay, TheSameInputGivesTheSamePointers) {
  Overlay overlay;
  const auto mesh = mesh_of({web(), api()});
  const auto first = overlay.apply(mesh, {{kWeb, {kOne}}});
  EXPECT_EQ(overlay.apply(mesh, {{kWeb, {kOne}}}), first);
  const auto next = mesh_of({service("api", {})}, mesh);
  const auto second = overlay.apply(next, {{kWeb, {kOne}}});
  EXPECT_EQ(*second->services.find(kWeb), *first->services.find(kWeb));
  EXPECT_EQ(changes(first, second), 1);
  const auto third = overlay.apply(next, {{kWeb, {kOne}}, {kApi, {kOne}}});
  EXPECT_EQ(changes(second, third), 0) << "api has no such endpoint any more";
}

TEST(Overlay, AServiceMadeAnewWithoutADifferenceIsNoChange) {
  Overlay overlay;
  const auto mesh = mesh_of({web()});
  const auto first = overlay.apply(mesh, {{kWeb, {kOne}}});
  const auto second = overlay.apply(mesh_of({web()}, mesh), {{kWeb, {kOne}}});
  EXPECT_EQ(changes(first, second), 0);
}

TEST(Overlay, ItFollowsVerdictsBothWays) {
  Overlay overlay;
  const auto mesh = mesh_of({web(), api()});
  const auto one = overlay.apply(mesh, {{kWeb, {kOne}}});
  const auto both = overlay.apply(mesh, {{kWeb, {kOne, kTwo}}, {kApi, {kOne}}});
  EXPECT_EQ(changes(one, both), 2);
  const auto other = overlay.apply(mesh, {{kWeb, {kTwo}}});
  EXPECT_EQ(states(other, kWeb), (States{kReady, kNotReady}));
  EXPECT_EQ(*other->services.find(kApi), *mesh->services.find(kApi));
  EXPECT_EQ(overlay.apply(mesh, {}), mesh);
  EXPECT_EQ(states(overlay.apply(mesh, {{kWeb, {kOne}}}), kWeb), (States{kNotReady, kReady}));
}

TEST(Overlay, AServiceThatGoesIsForgotten) {
  Overlay overlay;
  const auto mesh = mesh_of({web(), api()});
  overlay.apply(mesh, {{kWeb, {kOne}}, {kApi, {kOne}}});
  auto fewer = std::make_shared<model::Mesh>(*mesh);
  fewer->services.set(kWeb, nullptr);
  const auto result = overlay.apply(fewer, {{kWeb, {kOne}}, {kApi, {kOne}}});
  EXPECT_EQ(result->services.find(kWeb), nullptr);
  EXPECT_EQ(states(result, kApi), States{kNotReady});
}

}  // namespace
}  // namespace weft::health
