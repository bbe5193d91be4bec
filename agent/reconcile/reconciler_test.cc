#include "agent/reconcile/reconciler.h"

#include <gtest/gtest.h>

#include "tests/fake_maps.h"
#include "tests/random_mesh.h"

namespace weft::reconcile {
namespace {

using compile::Limits;
using compile::MapState;
using tests::FakeMaps;

const Reconciler::Caution kAllow{.allow_mass_removal = true};

std::string content_of(const MapState& state) {
  FakeMaps maps;
  for (const auto& op : diff({}, state).ops) maps.apply(op);
  maps.apply(CommitGeneration{state.generation});
  return maps.content();
}

void finish_all(Reconciler& reconciler) {
  while (reconciler.failed()) (void)reconciler.retry();
  while (const auto cleanup = reconciler.take_cleanup())
    while (!reconciler.finish(*cleanup).ok()) continue;
}

TEST(Reconciler, MakesTheMapsEqualToTheMeshThoughWritesFail) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    tests::RandomMesh random(seed);
    FakeMaps maps;
    Reconciler reconciler(maps, Limits{}, {}, {});
    for (int step = 0; step < 20; ++step) {
      maps.make_fail(random.below(30), seed * 1000 + step);
      const auto result = reconciler.apply(random.next(), kAllow);
      EXPECT_EQ(result.status.ok(), !reconciler.failed());
      EXPECT_EQ(maps.broken(), std::vector<std::string>{});
      if (random.below(3) == 0) finish_all(reconciler);
    }
    finish_all(reconciler);
    const auto mesh = random.snapshot();
    ASSERT_TRUE(reconciler.apply(mesh, kAllow).status.ok());
    finish_all(reconciler);
    EXPECT_TRUE(reconciler.settled());
    EXPECT_EQ(reconciler.placed().services.size(), mesh->services.size());
    EXPECT_EQ(maps.content(), content_of(reconciler.placed()));
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Reconciler, WritesNothingWhereNothingChanged) {
  tests::RandomMesh random(1);
  FakeMaps maps;
  Reconciler first(maps, Limits{}, {}, {});
  const auto mesh = random.next();
  ASSERT_TRUE(first.apply(mesh, kAllow).status.ok());
  finish_all(first);
  const auto writes = maps.writes();
  const auto generation = first.placed().generation;

  EXPECT_EQ(first.apply(mesh, kAllow).written.entries, 0u);
  Reconciler restarted(maps, Limits{}, first.placed(), first.placed());
  const auto result = restarted.apply(mesh, kAllow);
  EXPECT_EQ(result.written.entries, 0u);
  EXPECT_EQ(result.generation, generation);
  EXPECT_EQ(maps.writes(), writes);
}

TEST(Reconciler, KeepsOnlyTheNewestMeshThatWaitsBehindAFailedPlan) {
  tests::RandomMesh random(2);
  FakeMaps maps;
  Reconciler reconciler(maps, Limits{}, {}, {});
  maps.make_fail(1, 3);
  for (int tries = 0; tries < 100 && !reconciler.failed(); ++tries)
    (void)reconciler.apply(random.next(), kAllow);
  ASSERT_TRUE(reconciler.failed());
  (void)reconciler.apply(random.next(), kAllow);
  const auto newest = random.next();
  (void)reconciler.apply(newest, kAllow);
  finish_all(reconciler);
  EXPECT_EQ(reconciler.apply(newest, kAllow).written.entries, 0u)
      << "the newest mesh was not applied";
  EXPECT_EQ(reconciler.placed().services.size(), newest->services.size());
}

model::MeshPtr mesh_of(const std::vector<std::string>& names) {
  auto mesh = std::make_shared<model::Mesh>();
  for (std::size_t i = 0; i < names.size(); ++i) {
    auto service = std::make_shared<model::Service>();
    service->key = {"shop", names[i]};
    service->addresses = {*model::Address::parse("10.96.0." + std::to_string(i + 1))};
    service->ports.push_back({"http", 80, model::Protocol::kTcp, {}});
    for (const char* ip : {"10.0.0.1", "10.0.0.2"}) {
      model::Endpoint endpoint;
      endpoint.address = *model::Address::parse(ip);
      endpoint.port = 8080;
      service->ports[0].endpoints.push_back(endpoint);
    }
    mesh->services.set(service->key, service);
  }
  return mesh;
}

// Maps that are rebuilt (another size) are filled anew under the old numbers. Whatever only the
// maps left behind used must fall free all the same.
TEST(Reconciler, GivesBackTheNumbersThatARebuildLeftBehind) {
  // Room for two services: numbers begin at 1.
  const Limits limits{.services = 3, .frontends = 2, .endpoints = 5, .slots = 10};
  FakeMaps small;
  Reconciler before(small, limits, {}, {});
  ASSERT_TRUE(before.apply(mesh_of({"a", "b"}), kAllow).refused.empty());

  FakeMaps large;
  Reconciler rebuilt(large, limits, {}, before.placed());
  const auto mesh = mesh_of({"a", "c"});
  (void)rebuilt.apply(mesh, kAllow);
  finish_all(rebuilt);
  const auto result = rebuilt.apply(mesh, kAllow);
  EXPECT_TRUE(result.refused.empty()) << result.refused[0];
  EXPECT_EQ(large.broken(), std::vector<std::string>{});
  EXPECT_EQ(large.content(), content_of(rebuilt.placed()));
}

TEST(Reconciler, KeepsCountersOfWhatARebuildCarriesOver) {
  tests::RandomMesh random(5);
  FakeMaps small;
  Reconciler before(small, Limits{}, {}, {});
  const auto mesh = random.next();
  ASSERT_TRUE(before.apply(mesh, kAllow).status.ok());

  struct Watch : kernel::MapSink {
    std::size_t fresh = 0, all = 0;
    absl::Status write(std::span<const MapOp> ops) override {
      for (const auto& op : ops) {
        if (const auto* write = std::get_if<WriteEndpoint>(&op)) ++all, fresh += write->fresh;
        if (const auto* publish = std::get_if<PublishRecord>(&op)) ++all, fresh += publish->fresh;
      }
      return absl::OkStatus();
    }
  } watch;
  Reconciler rebuilt(watch, Limits{}, {}, before.placed());
  ASSERT_TRUE(rebuilt.apply(mesh, kAllow).status.ok());
  EXPECT_GT(watch.all, 0u);
  EXPECT_EQ(watch.fresh, 0u);
}

}  // namespace
}  // namespace weft::reconcile
