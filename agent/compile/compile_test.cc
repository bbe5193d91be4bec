#include <gtest/gtest.h>

#include <random>
#include <set>

#include "agent/compile/test_compiles.h"
#include "tests/random_mesh.h"

namespace weft::compile {
namespace {

using model::EndpointState;
using model::Family;
using test::compile_all;
using test::endpoint;
using test::many;
using test::mesh_of;
using test::placed;
using test::service;

struct Use {
  std::uint32_t services, endpoints, slots, frontends;
  auto operator<=>(const Use&) const = default;
};
Use use_of(const Ids& ids) {
  return {ids.services.used(), ids.endpoints.used(), ids.slots.used(), ids.frontends_used};
}

TEST(LayOut, KeepsFamiliesApart) {
  const auto layouts = lay_out(
      service("web", {"10.96.0.1", "fd00::1"}, {endpoint("10.0.0.1"), endpoint("fd01::1")}));
  ASSERT_EQ(layouts.size(), 2u);
  EXPECT_EQ(layouts[0].key.family, Family::kIpv4);
  EXPECT_EQ(layouts[0].endpoints, (std::vector{endpoint("10.0.0.1")}));
  EXPECT_EQ(layouts[1].key.family, Family::kIpv6);
  EXPECT_EQ(layouts[1].endpoints, (std::vector{endpoint("fd01::1")}));
}

TEST(LayOut, FallsBackToTheOtherFamilysEndpoints) {
  const auto layouts = lay_out(service("web", {"fd00::1"}, {endpoint("10.0.0.1")}));
  ASSERT_EQ(layouts.size(), 1u);
  EXPECT_EQ(layouts[0].key.family, Family::kIpv6);
  EXPECT_EQ(layouts[0].endpoints.size(), 1u);
  EXPECT_EQ(layouts[0].slots.size(), 1u);
}

TEST(LayOut, ListsServicesWithoutAddresses) {
  const auto layouts = lay_out(service("web", {}, {endpoint("fd01::1")}));
  ASSERT_EQ(layouts.size(), 1u);
  EXPECT_EQ(layouts[0].key.family, Family::kIpv6);
  EXPECT_TRUE(layouts[0].frontends.empty());
}

TEST(LayOut, LeavesNotReadyEndpointsOutOfTheSlots) {
  const auto layouts =
      lay_out(service("web", {"10.96.0.1"},
                      {endpoint("10.0.0.1"), endpoint("10.0.0.2", EndpointState::kNotReady)}));
  EXPECT_EQ(layouts[0].endpoints.size(), 2u);
  EXPECT_EQ(layouts[0].slots, std::vector<std::uint32_t>{0});
}

TEST(LayOut, GivesAPortItsOwnBalancerAndLocality) {
  auto near = endpoint("10.0.0.1"), far = endpoint("10.0.0.2");
  near.zone = "here";
  far.zone = "there";
  auto made = service("web", {"10.96.0.1"}, {near, far});
  made.ports.push_back({"other", 81, model::Protocol::kTcp, {near, far}});
  model::PortPolicy own;
  own.balancer = model::Balancer::kLeastRequest;
  own.traffic.limits.max_connections = 3;
  own.traffic.locality.prefer = model::LocalityPolicy::Prefer::kZone;
  made.ports[1].policy = std::make_shared<const model::PortPolicy>(own);
  View view;
  view.here.zone = "here";
  const auto layouts = lay_out(made, view);
  ASSERT_EQ(layouts.size(), 2u);
  EXPECT_EQ(layouts[0].selector, WEFT_SELECT_ROTATE);
  EXPECT_EQ(layouts[0].slots.size(), 2u);
  EXPECT_EQ(layouts[0].policy.max_connections, 0u);
  EXPECT_EQ(layouts[1].selector, WEFT_SELECT_LEAST);
  EXPECT_EQ(layouts[1].slots, std::vector<std::uint32_t>{0});
  EXPECT_EQ(layouts[1].spares, std::vector<std::uint32_t>{1});
  EXPECT_EQ(layouts[1].policy.max_connections, 3u);
}

TEST(Compile, KeepsNumbersOfWhatStays) {
  Ids ids{Limits{}};
  const auto first = compile_all(mesh_of({service("a", {"10.96.0.1"}, many(3))}), {}, ids).desired;
  auto changed = service("a", {"10.96.0.1"}, many(4));
  changed.ports[0].endpoints[1].state = EndpointState::kNotReady;
  const auto second = compile_all(mesh_of({changed}), first, ids).desired;
  const auto &before = placed(first, "a").ports[0], &after = placed(second, "a").ports[0];
  EXPECT_EQ(after.index, before.index);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(after.endpoints[i].id, before.endpoints[i].id);
  EXPECT_NE(after.base, before.base) << "a published range is never written again";
  EXPECT_NE(after.publication, before.publication);
}

TEST(Compile, DoesNotTouchWhatDidNotChange) {
  Ids ids{Limits{}};
  const auto mesh =
      mesh_of({service("a", {"10.96.0.1"}, many(3)), service("b", {"10.96.0.2"}, many(2))});
  const auto first = compile_all(mesh, {}, ids).desired;
  const auto used = use_of(ids);
  const auto again = compile_all(mesh, first, ids).desired;
  EXPECT_EQ(again.services.find({"shop", "a"})->get(), first.services.find({"shop", "a"})->get());
  EXPECT_EQ(again.labels, first.labels);
  EXPECT_EQ(use_of(ids), used);
}

TEST(Compile, PublishesAnewOnlyWhereSlotsOrSelectionChange) {
  Ids ids{Limits{}};
  auto web = service("a", {"10.96.0.1"}, many(3));
  const auto first = compile_all(mesh_of({web}), {}, ids).desired;
  web.ports[0].endpoints[0].node = "n1";
  const auto named = compile_all(mesh_of({web}), first, ids).desired;
  EXPECT_EQ(placed(named, "a").ports[0].record(), placed(first, "a").ports[0].record());
  web.affinity = std::chrono::seconds(30);
  const auto sticky = compile_all(mesh_of({web}), named, ids).desired;
  EXPECT_NE(placed(sticky, "a").ports[0].record(), placed(first, "a").ports[0].record());
}

TEST(Compile, KeepsAServiceWithNobodyReadyAsRefusing) {
  Ids ids{Limits{}};
  const auto state =
      compile_all(
          mesh_of({service("a", {"10.96.0.1"}, {endpoint("10.0.0.1", EndpointState::kNotReady)})}),
          {}, ids)
          .desired;
  const auto& port = placed(state, "a").ports[0];
  EXPECT_EQ(weft_record_count(port.record()), 0u);
  EXPECT_NE(port.record(), 0u) << "0 is what an unused record reads";
  EXPECT_EQ(ids.slots.used(), 0u);
}

// Every limit in turn is one too small; the refusal names the flag, and nobody else is touched.
struct Tight {
  const char* name;
  Limits limits;
  const char* flag;
};
class Capacity : public testing::TestWithParam<Tight> {};

TEST_P(Capacity, RefusesByNameAndTakesNothing) {
  Ids ids(GetParam().limits);
  const auto small = service("a", {"10.96.0.1"}, many(2));
  const auto first = compile_all(mesh_of({small}), {}, ids);
  ASSERT_TRUE(first.refused.empty()) << first.refused[0];
  const auto used = use_of(ids);

  const auto large = service("b", {"10.96.0.2", "10.96.0.3"}, many(3, 1));
  const auto second = compile_all(mesh_of({small, large}), first.desired, ids);
  ASSERT_EQ(second.refused.size(), 1u);
  EXPECT_TRUE(second.refused[0].starts_with("shop/b: ")) << second.refused[0];
  EXPECT_NE(second.refused[0].find(GetParam().flag), std::string::npos) << second.refused[0];
  EXPECT_EQ(second.pending, (std::set<model::ServiceKey>{{"shop", "b"}}));
  EXPECT_EQ(second.desired.services.find({"shop", "b"}), nullptr);
  EXPECT_EQ(second.desired.services.find({"shop", "a"})->get(),
            first.desired.services.find({"shop", "a"})->get());
  EXPECT_EQ(use_of(ids), used) << "a refused service took something";
}

TEST_P(Capacity, LeavesAServiceThatOutgrowsItsPlaceWhereItIs) {
  Ids ids(GetParam().limits);
  const auto first = compile_all(mesh_of({service("a", {"10.96.0.1"}, many(2))}), {}, ids);
  const auto used = use_of(ids);
  auto grown = service("a", {"10.96.0.1", "10.96.0.2", "10.96.0.3"}, many(5));
  grown.ports.push_back({"more", 81, model::Protocol::kTcp, many(5)});
  const auto second = compile_all(mesh_of({grown}), first.desired, ids);
  ASSERT_EQ(second.refused.size(), 1u);
  EXPECT_EQ(placed(second.desired, "a"), placed(first.desired, "a"));
  EXPECT_EQ(use_of(ids), used);
}

// "a" takes 1 service, 1 frontend, 2 endpoints (ids from 1 up), 4 slots.
INSTANTIATE_TEST_SUITE_P(All, Capacity,
                         testing::Values(Tight{"Services", {.services = 2}, "--max-services"},
                                         Tight{"Frontends", {.frontends = 2}, "--max-services"},
                                         Tight{"Endpoints", {.endpoints = 5}, "--max-endpoints"},
                                         Tight{"Slots", {.slots = 8}, "--max-endpoints"}),
                         [](const auto& tight) { return tight.param.name; });

TEST(Compile, PlacesARefusedServiceOnceThereIsRoom) {
  Ids ids(Limits{.endpoints = 5});
  const auto a = service("a", {"10.96.0.1"}, many(3));
  const auto b = service("b", {"10.96.0.2"}, many(3, 1));
  const auto both = mesh_of({a, b});
  const auto first = compile_all(both, {}, ids);
  ASSERT_EQ(first.pending.size(), 1u);

  const auto smaller = mesh_of({service("a", {"10.96.0.1"}, {})});
  auto only_b = smaller;
  only_b.services.set(b.key, *both.services.find(b.key));  // the same pointer: "unchanged"
  Input input{&both, &only_b, &first.desired, first.pending, true};
  const auto second = compile(input, ids, 2);
  EXPECT_FALSE(second.pending.empty())
      << "the endpoints of a are still held: no grace period has passed";
  Releases releases;
  for (const auto& e : placed(first.desired, "a").ports[0].endpoints)
    releases.endpoints.push_back(e.id);
  ids.release(releases);
  Input again{&only_b, &only_b, &second.desired, second.pending, true};
  const auto third = compile(again, ids, 3);
  EXPECT_TRUE(third.pending.empty());
  EXPECT_NE(third.desired.services.find(b.key), nullptr);
}

model::Service hashed(model::Balancer balancer, std::vector<model::Endpoint> endpoints) {
  auto result = service("a", {"10.96.0.1"}, std::move(endpoints));
  result.balancer = balancer;
  return result;
}

// Keys that go elsewhere, as the kernel takes them: a hash modulo the table's size.
double moved(const MapState& before, const MapState& after) {
  const auto &a = placed(before, "a").ports[0].slots, &b = placed(after, "a").ports[0].slots;
  std::mt19937_64 keys(1);
  int count = 0;
  for (int i = 0; i < 4000; ++i) {
    const auto key = keys();
    count += a[key % a.size()] != b[key % b.size()];
  }
  return count / 4000.0;
}

TEST(Compile, MovesLittleOfAHashedPortAsOneLeavesAndComesBack) {
  for (const auto balancer : {model::Balancer::kSourceHash, model::Balancer::kRingHash})
    for (int count = 2; count <= 40; ++count) {
      Ids ids{Limits{}};
      const auto first = compile_all(mesh_of({hashed(balancer, many(count))}), {}, ids).desired;
      const auto all = mesh_of({hashed(balancer, many(count))});
      const auto fewer = mesh_of({hashed(balancer, many(count - 1))});
      const auto second = compile_all(fewer, first, ids, true).desired;
      EXPECT_LE(moved(first, second), 2.0 / count + 0.02) << count;
      const auto third = compile_all(all, second, ids).desired;
      EXPECT_LE(moved(second, third), 2.0 / count + 0.02) << count;
    }
}

// After a restart `placed` is what was read from the maps: the same value in another place.
TEST(Compile, KeepsTheTableOfAHashedPortOverARestart) {
  for (const auto balancer : {model::Balancer::kSourceHash, model::Balancer::kRingHash}) {
    Ids ids{Limits{}};
    auto state = compile_all(mesh_of({hashed(balancer, many(60))}), {}, ids).desired;
    const auto size = placed(state, "a").ports[0].slots.size();
    const auto mesh = mesh_of({hashed(balancer, many(3))});
    state = compile_all(mesh, state, ids, true).desired;
    EXPECT_EQ(placed(state, "a").ports[0].slots.size(), size);
    MapState read_back;
    read_back.set({"shop", "a"}, std::make_shared<PlacedService>(placed(state, "a")));
    Ids restarted{Limits{}, read_back};
    const auto after = compile_all(mesh, read_back, restarted).desired;
    EXPECT_EQ(after.services.find({"shop", "a"})->get(),
              read_back.services.find({"shop", "a"})->get())
        << "nothing is written";
  }
}

TEST(Compile, TakesNoTableFromSlotsThatWereNotHashed) {
  Ids ids{Limits{}};
  const auto turns =
      compile_all(mesh_of({service("a", {"10.96.0.1"}, many(251))}), {}, ids).desired;
  EXPECT_EQ(placed(turns, "a").ports[0].slots.size(), 251u);
  const auto two = mesh_of({hashed(model::Balancer::kSourceHash, many(2))});
  const auto after = compile_all(two, turns, ids, true).desired;
  EXPECT_EQ(placed(after, "a").ports[0].slots.size(), 509u);
}

// Who stands by has no part in the table until it serves.
TEST(Compile, HashesIntoThoseInRotationOnly) {
  Ids ids{Limits{}};
  auto endpoints = many(12);
  for (int i = 6; i < 12; ++i) endpoints[i].priority = 1;
  const auto both = hashed(model::Balancer::kSourceHash, endpoints);
  const auto state = compile_all(mesh_of({both}), {}, ids).desired;
  const auto& port = placed(state, "a").ports[0];
  EXPECT_EQ(std::set<std::uint32_t>(port.slots.begin(), port.slots.end()).size(), 6u);
  ASSERT_EQ(port.spares.size(), 12u) << "a search of so long a table finds all of it listed";
  for (int i = 6; i < 12; ++i) EXPECT_EQ(port.spares[i], port.endpoints[i].id);
  const auto alone =
      compile_all(mesh_of({hashed(model::Balancer::kSourceHash, many(6))}), state, ids, true)
          .desired;
  EXPECT_EQ(placed(alone, "a").ports[0].slots, port.slots) << "spares that go change nothing";
}

// The mesh tells all there is to say: whether it came in one step or in many, the layout is the
// same but for the numbers, and comparing everything finds nothing that following the changes
// missed.
TEST(Compile, FindsTheSameStepByStepAsAllAtOnce) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    tests::RandomMesh random(seed);
    Ids ids{Limits{}};
    MapState state;
    model::MeshPtr before;
    for (int step = 0; step < 20; ++step) {
      const auto mesh = random.next();
      Input input{before.get(), mesh.get(), &state, {}, true};
      state = compile(input, ids, step + 1).desired;
      before = mesh;
    }
    auto everything = compile_all(*before, state, ids, true).desired;
    state.services.for_each([&](const auto& s) {
      const auto* other = everything.services.find(s->key);
      ASSERT_NE(other, nullptr);
      EXPECT_EQ(other->get(), s.get()) << to_text(*s) << to_text(**other);
    });
    EXPECT_EQ(everything.services.size(), state.services.size());
    EXPECT_EQ(everything.endpoint_count, state.endpoint_count);
    before->services.for_each([&](const auto& s) {
      // ... but for the sizes of tables, which remember how many there were.
      View view;
      view.table_size = [&](const PortKey& key) {
        for (const auto& port : (*state.services.find(s->key))->ports)
          if (port.key == key && port.selector == WEFT_SELECT_HASH)
            return static_cast<std::uint32_t>(port.slots.size());
        return 0u;
      };
      const auto layouts = lay_out(*s, view);
      const auto& ports = (*state.services.find(s->key))->ports;
      ASSERT_EQ(ports.size(), layouts.size());
      for (std::size_t i = 0; i < ports.size(); ++i) {
        EXPECT_EQ(ports[i].frontends, layouts[i].frontends);
        ASSERT_EQ(ports[i].slots.size(), layouts[i].slots.size());
        for (std::size_t n = 0; n < ports[i].slots.size(); ++n)
          EXPECT_EQ(ports[i].slots[n], ports[i].endpoints[layouts[i].slots[n]].id);
      }
    });
  }
}

}  // namespace
}  // namespace weft::compile
