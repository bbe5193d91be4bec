// What compile() does not take away at once: a loss of more than half, the API server's last
// endpoint, what a source that has not spoken may still bring.
#include <gtest/gtest.h>

#include <set>

#include "agent/compile/test_compiles.h"

namespace weft::compile {
namespace {

using test::compile_all;
using test::many;
using test::mesh_of;
using test::placed;
using test::service;

TEST(Hold, HoldsBackALossOfMoreThanHalfAndAppliesTheRest) {
  Ids ids{Limits{}};
  const auto a = service("a", {"10.96.0.1"}, many(4)), b = service("b", {"10.96.0.2"}, many(4, 1));
  const auto first = compile_all(mesh_of({a, b}), {}, ids);
  const auto c = service("c", {"10.96.0.3"}, many(1, 2));
  auto sticky = b;
  sticky.ports[0].endpoints.resize(2);
  const auto second = compile_all(mesh_of({sticky, c}), first.desired, ids);
  EXPECT_TRUE(second.held_back);
  EXPECT_EQ(second.endpoints_before, 8u);
  EXPECT_EQ(second.endpoints_after, 3u);
  EXPECT_EQ(placed(second.desired, "a"), placed(first.desired, "a"));
  EXPECT_EQ(placed(second.desired, "b"), placed(first.desired, "b"));
  EXPECT_NE(second.desired.services.find({"shop", "c"}), nullptr);
  EXPECT_EQ(second.pending, (std::set<model::ServiceKey>{{"shop", "a"}, {"shop", "b"}}));

  const auto confirmed = compile_all(mesh_of({sticky, c}), second.desired, ids, true);
  EXPECT_FALSE(confirmed.held_back);
  EXPECT_EQ(confirmed.desired.endpoint_count, 3u);
}

TEST(Hold, MeasuresALossAgainstTheMostThereWereOfLate) {
  Ids ids{Limits{}};
  const auto a = service("a", {"10.96.0.1"}, many(3)), b = service("b", {"10.96.0.2"}, many(2, 1));
  const auto first = compile_all(mesh_of({a, b}), {}, ids);
  const auto mesh = mesh_of({a});
  Input input;
  input.after = &mesh;
  input.placed = &first.desired;
  input.recent_peak = 7;
  const auto second = compile(input, ids, 2);
  EXPECT_TRUE(second.held_back) << "3 of 7 are left, though 3 of 5";
  EXPECT_EQ(second.endpoints_before, 7u);
  EXPECT_NE(second.desired.services.find(b.key), nullptr);
}

TEST(Hold, GoesOnHoldingBackWhateverIsAddedElsewhere) {
  Ids ids{Limits{}};
  const auto a = service("a", {"10.96.0.1"}, many(4));
  const auto first = compile_all(mesh_of({a}), {}, ids);
  const auto mesh = mesh_of({service("big", {"10.96.0.9"}, many(9, 1))});
  Input input;
  input.after = &mesh;
  input.placed = &first.desired;
  input.allowance = 2;
  const auto second = compile(input, ids, 2);
  EXPECT_TRUE(second.held_back);
  EXPECT_NE(second.desired.services.find(a.key), nullptr);
  EXPECT_NE(second.desired.services.find({"shop", "big"}), nullptr);

  const auto whole = mesh_of({a, service("big", {"10.96.0.9"}, many(9, 1))});
  input.after = &whole;
  input.placed = &second.desired;
  EXPECT_FALSE(compile(input, ids, 3).held_back) << "what was held is there again";
}

TEST(Hold, EndsTheHoldWhereAlmostAllIsThereAgain) {
  Ids ids{Limits{}};
  const auto a = service("a", {"10.96.0.1"}, many(4)), b = service("b", {"10.96.0.2"}, many(4, 1));
  const auto first = compile_all(mesh_of({a, b}), {}, ids);
  const auto empty = mesh_of({});
  Input input;
  input.after = &empty;
  input.placed = &first.desired;
  const auto second = compile(input, ids, 2);
  ASSERT_TRUE(second.held_back);
  EXPECT_EQ(second.allowance, 4u);

  // A directory that came back and was edited before anybody looked.
  const auto back = mesh_of({service("a", {"10.96.0.1"}, many(3)), b});
  input.after = &back;
  input.placed = &second.desired;
  input.allowance = second.allowance;
  const auto third = compile(input, ids, 3);
  EXPECT_FALSE(third.held_back);
  EXPECT_EQ(third.desired.endpoint_count, 7u);
}

TEST(Hold, NeverTakesTheApiServersLastEndpoint) {
  Ids ids{Limits{}};
  auto api = service("kubernetes", {"10.96.0.1"}, many(2));
  api.key = {"default", "kubernetes"};
  const auto big = service("big", {"10.96.0.9"}, many(9, 1));
  const auto first = compile_all(mesh_of({api, big}), {}, ids);
  const auto second = compile_all(mesh_of({big}), first.desired, ids);
  EXPECT_FALSE(second.held_back);
  ASSERT_NE(second.desired.services.find(api.key), nullptr);
  EXPECT_TRUE(second.pending.contains(api.key));
  EXPECT_TRUE(second.kept_api_server);
  EXPECT_NE(compile_all(mesh_of({big}), second.desired, ids, true).desired.services.find(api.key),
            nullptr)
      << "also where a hold-back of others is over";
  const auto mesh = mesh_of({big});
  Input input;
  input.after = &mesh;
  input.placed = &second.desired;
  input.allow_mass_removal = input.confirmed = true;
  EXPECT_EQ(compile(input, ids, 3).desired.services.find(api.key), nullptr)
      << "unless somebody says so";
}

TEST(Hold, WhatTheApiServerKeepsIsNoLossToOthers) {
  Ids ids{Limits{}};
  auto api = service("kubernetes", {"10.96.0.1"}, many(3));
  api.key = {"default", "kubernetes"};
  const auto first =
      compile_all(mesh_of({api, service("web", {"10.96.0.9"}, many(3, 1))}), {}, ids);
  const auto second =
      compile_all(mesh_of({service("web", {"10.96.0.9"}, many(2, 1))}), first.desired, ids);
  EXPECT_FALSE(second.held_back);
  EXPECT_EQ(second.desired.endpoint_count, 5u);
}

TEST(Hold, AppliesALossOfHalf) {
  Ids ids{Limits{}};
  const auto a = service("a", {"10.96.0.1"}, many(4)), b = service("b", {"10.96.0.2"}, many(4, 1));
  const auto first = compile_all(mesh_of({a, b}), {}, ids);
  const auto second = compile_all(mesh_of({b}), first.desired, ids);
  EXPECT_FALSE(second.held_back);
  EXPECT_EQ(second.desired.services.find({"shop", "a"}), nullptr);
}

TEST(Hold, GivesAnAddressOfAHeldBackServiceToItsNewOwnerOnly) {
  Ids ids{Limits{}};
  const auto a = service("a", {"10.96.0.1"}, many(4));
  const auto first = compile_all(mesh_of({a}), {}, ids);
  const auto second =
      compile_all(mesh_of({service("b", {"10.96.0.1"}, many(1, 1))}), first.desired, ids);
  ASSERT_TRUE(second.held_back);
  EXPECT_EQ(placed(second.desired, "b").ports[0].frontends.size(), 1u);
  EXPECT_TRUE(placed(second.desired, "a").ports[0].frontends.empty())
      << "two services claim one frontend";
}

// Not every source has spoken yet.
TEST(Hold, TakesNothingAwayWhileWhatIsAbsentMayStillCome) {
  Ids ids{Limits{}};
  const auto first = compile_all(
      mesh_of({service("a", {"10.96.0.1"}, many(4)), service("b", {"10.96.0.2"}, many(2, 1)),
               service("c", {"10.96.0.3"}, many(2, 2))}),
      {}, ids);
  const auto mesh =
      mesh_of({service("a", {"10.96.0.1"}, many(1)), service("c", {"10.96.0.3"}, many(3, 2)),
               service("d", {"10.96.0.4"}, many(1, 3))});
  Input input;
  input.after = &mesh;
  input.placed = &first.desired;
  input.keep_absent = true;
  const auto second = compile(input, ids, 2);
  EXPECT_EQ(placed(second.desired, "a"), placed(first.desired, "a"));
  EXPECT_EQ(placed(second.desired, "b"), placed(first.desired, "b"));
  EXPECT_EQ(placed(second.desired, "c").ports[0].endpoints.size(), 3u);
  EXPECT_EQ(placed(second.desired, "d").ports[0].endpoints.size(), 1u);
  EXPECT_FALSE(second.held_back);
  EXPECT_EQ(second.pending, (std::set<model::ServiceKey>{{"shop", "a"}, {"shop", "b"}}));
}

}  // namespace
}  // namespace weft::compile
