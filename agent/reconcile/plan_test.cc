#include "agent/reconcile/plan.h"

#include <gtest/gtest.h>

#include <deque>
#include <optional>

#include "agent/compile/compile.h"
#include "tests/fake_maps.h"
#include "tests/random_mesh.h"

namespace weft::reconcile {
namespace {

using compile::Ids;
using compile::Limits;
using compile::MapState;
using tests::FakeMaps;

constexpr int kRounds = 60;
constexpr int kSteps = 20;

std::string first_line(const std::vector<std::string>& lines) {
  return lines.empty() ? "" : lines[0];
}

// Maps that were filled with the state in one go.
FakeMaps filled(const MapState& state) {
  FakeMaps maps;
  const auto plan = diff({}, state);
  EXPECT_TRUE(plan.cleanup.empty());
  EXPECT_TRUE(plan.releases.empty());
  for (const auto& op : plan.ops) maps.apply(op);
  maps.apply(CommitGeneration{state.generation});
  return maps;
}

MapState deep_copy(const MapState& state) {
  MapState copy;
  copy.labels = std::make_shared<std::map<std::uint32_t, std::string>>(*state.labels);
  copy.generation = state.generation;
  state.services.for_each([&](const auto& service) {
    copy.set(service->key, std::make_shared<compile::PlacedService>(*service));
  });
  return copy;
}

std::set<tests::FrontendBytes> serving(const FakeMaps& maps) {
  std::set<tests::FrontendBytes> frontends;
  for (const auto& [frontend, index] : maps.frontends())
    if (weft_record_count(maps.record(index))) frontends.insert(frontend);
  return frontends;
}

// Applies one operation after the other and looks at the maps after each.
void apply_watched(FakeMaps& maps, const std::vector<MapOp>& ops,
                   const std::set<tests::FrontendBytes>& must_serve) {
  std::size_t done = 0;
  for (const auto& op : tests::in_pieces(ops)) {
    maps.apply(op);
    ++done;
    ASSERT_EQ(first_line(maps.broken()), "") << "after " << done << " operations";
    for (const auto& frontend : must_serve)
      ASSERT_NE(weft_record_count(maps.record(maps.service_at(frontend))), 0u)
          << tests::text_of(frontend) << " refuses after " << done << " operations";
  }
}

// Every number in use belongs to one holder, and none is about to be given away.
struct Holders {
  std::set<std::uint32_t> services, endpoints, slots;
  std::size_t frontends = 0;

  void add(const MapState& state) {
    state.services.for_each([&](const auto& service) {
      for (const auto& port : service->ports) {
        EXPECT_TRUE(port.index != 0 && services.insert(port.index).second)
            << "index " << port.index;
        frontends += port.frontends.size();
        for (const auto& endpoint : port.endpoints)
          EXPECT_TRUE(endpoint.id != 0 && endpoints.insert(endpoint.id).second)
              << "id " << endpoint.id;
        if (!port.slots.empty()) add_range(port.base, port.range_length());
      }
    });
  }
  void add(const compile::Releases& releases) {
    for (const auto index : releases.services)
      EXPECT_TRUE(services.insert(index).second) << "index " << index;
    for (const auto id : releases.endpoints)
      EXPECT_TRUE(endpoints.insert(id).second) << "id " << id;
    for (const auto& range : releases.ranges) add_range(range.base, range.length);
    frontends += releases.frontends;
  }
  void add_range(std::uint32_t base, std::uint32_t length) {
    for (std::uint32_t i = 0; i < length; ++i)
      EXPECT_TRUE(slots.insert(base + i).second) << "slot " << base + i;
  }
};

// A life of the reconciler in small: meshes come, plans are carried out, clean-up waits for a
// while.
class Story {
 public:
  Story(std::uint64_t seed, const Limits& limits) : mesh_(seed), ids_(limits) {}

  void step(bool allow_mass_removal) {
    plan_next(allow_mass_removal);
    carry_out();
    while (!waiting_.empty() && mesh_.below(3)) clean_up();
  }

  // Compiles the next mesh; nothing is written yet.
  void plan_next(bool allow_mass_removal, model::MeshPtr given = nullptr) {
    const auto mesh = given ? given : mesh_.next();
    compile::Input input{before_.get(), mesh.get(), &state_, pending_, allow_mass_removal};
    auto output = compile::compile(input, ids_, state_.generation + 1);
    before_ = mesh;
    pending_ = output.pending;
    desired_ = std::move(output.desired);
    desired_.generation = state_.generation + 1;
    plan_ = diff(state_, desired_);
  }

  void carry_out() {
    auto must_serve = serving(maps_);
    const auto after = serving(filled(desired_));
    std::erase_if(must_serve, [&](const auto& frontend) { return !after.contains(frontend); });
    apply_watched(maps_, plan_.ops, must_serve);
    finish_plan();
  }

  // As a plan that was carried out by somebody else.
  void finish_plan() {
    state_ = desired_;
    waiting_.push_back(std::move(plan_));
  }

  void clean_up() {
    apply_watched(maps_, waiting_.front().cleanup, serving(maps_));
    ids_.release(waiting_.front().releases);
    waiting_.pop_front();
  }
  void clean_up_all() {
    while (!waiting_.empty()) clean_up();
  }

  void expect_numbers_kept_apart() const {
    Holders holders;
    holders.add(state_);
    for (const auto& plan : waiting_) holders.add(plan.releases);
    EXPECT_EQ(ids_.services.used(), holders.services.size());
    EXPECT_EQ(ids_.endpoints.used(), holders.endpoints.size());
    EXPECT_EQ(ids_.slots.used(), holders.slots.size());
    EXPECT_EQ(ids_.frontends_used, holders.frontends);
  }
  void expect_maps_hold_the_state() const {
    FakeMaps maps = maps_;
    maps.apply(CommitGeneration{state_.generation});  // a step without operations does not commit
    EXPECT_EQ(maps.content(), filled(state_).content());
  }

  tests::RandomMesh mesh_;
  Ids ids_;
  MapState state_, desired_;
  FakeMaps maps_;
  Plan plan_;
  std::deque<Plan> waiting_;
  std::set<model::ServiceKey> pending_;
  model::MeshPtr before_;
};

TEST(Plan, IsEmptyBetweenEqualStates) {
  for (std::uint64_t seed = 1; seed <= kRounds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Story story(seed, Limits{});
    for (int step = 0; step < 5; ++step) story.step(true);
    EXPECT_TRUE(diff(story.state_, story.state_).empty());
    EXPECT_TRUE(diff(story.state_, deep_copy(story.state_)).empty());
    EXPECT_TRUE(diff(story.state_, deep_copy(story.state_)).releases.empty());
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Plan, LeadsFromOneStateToTheOtherAndIsSafeAfterEveryStep) {
  for (std::uint64_t seed = 1; seed <= kRounds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Story story(seed, Limits{});
    for (int step = 0; step < kSteps; ++step) {
      SCOPED_TRACE("step " + std::to_string(step));
      story.step(true);
      if (testing::Test::HasFailure()) return;
      story.expect_numbers_kept_apart();
      if (!story.waiting_.empty()) continue;
      story.expect_maps_hold_the_state();
    }
    story.clean_up_all();
    story.expect_maps_hold_the_state();
    story.expect_numbers_kept_apart();
    if (testing::Test::HasFailure()) return;
  }
}

// Refusals and hold-backs leave services behind whose addresses may have gone to others meanwhile.
TEST(Plan, StaysRightWhereServicesAreRefusedOrHeldBack) {
  std::size_t refused_or_held_back = 0;
  for (std::uint64_t seed = 1; seed <= 3 * kRounds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Story story(
        seed,
        Limits{.services = 16, .frontends = 20, .endpoints = 40, .slots = 3000, .labels = 12});
    for (int step = 0; step < kSteps; ++step) {
      SCOPED_TRACE("step " + std::to_string(step));
      if (step % 10 == 9) {
        story.plan_next(false, story.mesh_.collapse(2));
        story.carry_out();
      } else {
        story.step(false);
      }
      refused_or_held_back += story.pending_.size();
      if (testing::Test::HasFailure()) return;
      story.expect_numbers_kept_apart();
    }
    story.clean_up_all();
    story.expect_maps_hold_the_state();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(refused_or_held_back, 100u) << "the limits are not tight enough to test anything";
}

TEST(Plan, EndsTheSameWhereOneWriteInTenFails) {
  for (std::uint64_t seed = 1; seed <= kRounds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Story story(seed, Limits{});
    for (int step = 0; step < kSteps; ++step) {
      story.plan_next(true);
      story.maps_.make_fail(20, seed * 1000 + step);
      while (!story.maps_.write(story.plan_.ops).ok())
        ASSERT_EQ(first_line(story.maps_.broken()), "") << "step " << step;
      const auto cleanup = story.plan_.cleanup;
      while (!story.maps_.write(cleanup).ok())
        ASSERT_EQ(first_line(story.maps_.broken()), "") << "step " << step;
      story.maps_.make_fail(0, 0);
      story.ids_.release(story.plan_.releases);
      story.finish_plan();
      story.waiting_.clear();
      story.expect_maps_hold_the_state();
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(Plan, KeepsTheNumbersOfWhatStays) {
  using Where = std::tuple<model::ServiceKey, compile::PortKey, model::Address, std::uint16_t>;
  const auto numbers_of = [](const MapState& state) {
    std::map<Where, std::pair<std::uint32_t, std::uint32_t>> numbers;
    state.services.for_each([&](const auto& service) {
      for (const auto& port : service->ports)
        for (const auto& e : port.endpoints)
          numbers[{service->key, port.key, e.address, e.port}] = {port.index, e.id};
    });
    return numbers;
  };
  for (std::uint64_t seed = 1; seed <= kRounds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Story story(seed, Limits{});
    for (int step = 0; step < kSteps; ++step) {
      const auto before = numbers_of(story.state_);
      story.step(true);
      for (const auto& [where, numbers] : numbers_of(story.state_))
        if (const auto old = before.find(where); old != before.end()) {
          ASSERT_EQ(old->second, numbers);
        }
    }
  }
}

// The tests below name single rules of the order, so that a broken one has a name.

struct Fixed {
  Ids ids{Limits{}};

  static model::Service service(const std::string& name, const std::string& ip, int endpoints) {
    model::Service result;
    result.key = {"shop", name};
    result.addresses = {*model::Address::parse(ip)};
    result.ports.push_back({"http", 80, model::Protocol::kTcp, {}});
    for (int i = 1; i <= endpoints; ++i) {
      model::Endpoint endpoint;
      endpoint.address = *model::Address::parse("10.0.0." + std::to_string(i));
      endpoint.port = 8080;
      result.ports[0].endpoints.push_back(endpoint);
    }
    return result;
  }
  MapState state_of(const std::vector<model::Service>& services, const MapState& placed) {
    model::Mesh mesh;
    for (const auto& s : services)
      mesh.services.set(s.key, std::make_shared<const model::Service>(s));
    compile::Input input{nullptr, &mesh, &placed, {}, true};
    auto desired = compile::compile(input, ids, placed.generation + 1).desired;
    desired.generation = placed.generation + 1;
    return desired;
  }
};

template <class Op>
std::optional<std::size_t> first_of(const std::vector<MapOp>& ops) {
  for (std::size_t i = 0; i < ops.size(); ++i)
    if (std::holds_alternative<Op>(ops[i])) return i;
  return std::nullopt;
}
template <class Op>
std::size_t count_of(const std::vector<MapOp>& ops) {
  return std::count_if(ops.begin(), ops.end(),
                       [](const auto& op) { return std::holds_alternative<Op>(op); });
}

TEST(Plan, BeginsAndCommitsAGeneration) {
  Fixed fixed;
  const auto plan = diff({}, fixed.state_of({Fixed::service("a", "10.96.0.1", 2)}, {}));
  ASSERT_FALSE(plan.ops.empty());
  EXPECT_TRUE(std::holds_alternative<BeginGeneration>(plan.ops.front()));
  EXPECT_TRUE(std::holds_alternative<CommitGeneration>(plan.ops.back()));
}

TEST(Plan, MovesAnAddressWithoutAGap) {
  Fixed fixed;
  const auto a = fixed.state_of({Fixed::service("a", "10.96.0.1", 2)}, {});
  const auto b = fixed.state_of({Fixed::service("b", "10.96.0.1", 2)}, a);
  const auto plan = diff(a, b);
  const auto upsert = first_of<UpsertFrontend>(plan.ops), erase = first_of<EraseFrontend>(plan.ops);
  ASSERT_TRUE(upsert && erase);
  EXPECT_LT(*upsert, *erase);
  auto maps = filled(a);
  for (const auto& op : plan.ops) maps.apply(op);
  EXPECT_EQ(maps.frontends().size(), 1u) << "the erase took the new owner's entry";
}

TEST(Plan, ChangesOneEndpointInAFewWrites) {
  Fixed fixed;
  std::vector<model::Service> services;
  for (int i = 0; i < 50; ++i)
    services.push_back(
        Fixed::service("s" + std::to_string(i), "10.96.0." + std::to_string(i + 1), 3));
  const auto a = fixed.state_of(services, {});
  services[7].ports[0].endpoints[1].state = model::EndpointState::kNotReady;
  const auto size = size_of(diff(a, fixed.state_of(services, a)));
  EXPECT_EQ(size.endpoints, 1u);
  EXPECT_EQ(size.slots, 2u + WEFT_SLOT_HEADER);
  EXPECT_EQ(size.records, 1u);
  EXPECT_EQ(size.entries, 1u + 2u + WEFT_SLOT_HEADER + 1u);
}

TEST(Plan, NeverWritesIntoARangeThatIsPublished) {
  Fixed fixed;
  const auto a = fixed.state_of({Fixed::service("a", "10.96.0.1", 2)}, {});
  const auto b = fixed.state_of({Fixed::service("a", "10.96.0.1", 3)}, a);
  const auto& old = (*a.services.find({"shop", "a"}))->ports[0];
  for (const auto& op : diff(a, b).ops)
    if (const auto* range = std::get_if<WriteRange>(&op)) {
      EXPECT_GE(range->base, old.base + old.range_length());
    }
}

TEST(Plan, StartsCountersAfreshOnlyForNewOwners) {
  Fixed fixed;
  auto service = Fixed::service("a", "10.96.0.1", 2);
  const auto a = fixed.state_of({service}, {});
  service.ports[0].endpoints[0].state = model::EndpointState::kDraining;
  service.ports[0].endpoints.push_back(Fixed::service("a", "10.96.0.1", 3).ports[0].endpoints[2]);
  const auto plan = diff(a, fixed.state_of({service}, a));
  const auto old_id = (*a.services.find({"shop", "a"}))->ports[0].endpoints[0].id;
  EXPECT_EQ(count_of<WriteEndpoint>(plan.ops), 2u);
  for (const auto& op : plan.ops) {
    if (const auto* write = std::get_if<WriteEndpoint>(&op)) {
      EXPECT_EQ(write->fresh, write->id != old_id);
    }
    if (const auto* publish = std::get_if<PublishRecord>(&op)) {
      EXPECT_FALSE(publish->fresh);
    }
  }
}

TEST(Plan, LeavesWhatMayStillBeReadToTheCleanUp) {
  Fixed fixed;
  const auto a = fixed.state_of({Fixed::service("a", "10.96.0.1", 2)}, {});
  const auto plan = diff(a, fixed.state_of({}, a));
  EXPECT_EQ(count_of<EraseFrontend>(plan.ops), 1u);
  EXPECT_EQ(count_of<ClearEndpoint>(plan.ops) + count_of<ClearRecord>(plan.ops) +
                count_of<EraseInfo>(plan.ops),
            0u);
  EXPECT_EQ(count_of<ClearEndpoint>(plan.cleanup), 2u);
  EXPECT_EQ(count_of<ClearRecord>(plan.cleanup), 1u);
  EXPECT_EQ(count_of<EraseInfo>(plan.cleanup), 1u);
  EXPECT_EQ(plan.releases.ranges.size(), 1u);
}

}  // namespace
}  // namespace weft::reconcile
