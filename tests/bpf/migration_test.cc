// Maps of another size: built beside the old, filled, and put in force without a hook ever being
// detached.
#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <map>

#include "agent/kernel/pins.h"
#include "agent/reconcile/reconciler.h"
#include "tests/bpf/kernel_node.h"
#include "tests/random_mesh.h"

namespace weft::tests {
namespace {

using kernel::Access;
using kernel::Maps;

compile::Limits larger() {
  auto limits = KernelNode::small_limits();
  limits.services *= 2;
  limits.frontends *= 2;
  limits.endpoints *= 2;
  limits.slots *= 2;
  return limits;
}

// As weftd does it: fills new maps under the old numbers, then puts them in force.
void fill_and_attach(KernelNode& node, const model::MeshPtr& mesh) {
  auto numbering = node.datapath().actual();
  ASSERT_TRUE(numbering.ok()) << numbering.status();
  kernel::MapWriter writer(node.maps());
  reconcile::Reconciler reconciler(writer, node.maps().limits(),
                                   node.datapath().fresh_maps() ? compile::MapState{} : *numbering,
                                   *numbering);
  const auto result = reconciler.apply(mesh, {.allow_mass_removal = true});
  ASSERT_TRUE(result.status.ok()) << result.status;
  const auto status = node.datapath().attach();
  ASSERT_TRUE(status.ok()) << status;
}

class Migration : public testing::Test {
 protected:
  void SetUp() override {
    node_.start();
    RandomMesh random(3);
    for (int step = 0; step < 6; ++step) node_.apply(*(mesh_ = random.next()));
    before_ = node_.placed();
    hooks_ = kernel::read_hooks(node_.pins(), node_.cgroup());
  }

  void expect_hooks_stayed() {
    const auto now = kernel::read_hooks(node_.pins(), node_.cgroup());
    for (std::size_t i = 0; i < now.size(); ++i) {
      EXPECT_TRUE(now[i].attached && now[i].effective) << now[i].name;
      EXPECT_EQ(now[i].link_id, hooks_[i].link_id) << now[i].name << " was attached anew";
    }
  }
  void expect_no_directories_left() {
    EXPECT_TRUE(kernel::exists(node_.pins().maps()));
    EXPECT_FALSE(kernel::exists(node_.pins().root + "/maps_next"));
    EXPECT_FALSE(kernel::exists(node_.pins().root + "/maps_old"));
  }
  const compile::PlacedPort& some_port() {
    const compile::PlacedPort* found = nullptr;
    before_.services.for_each([&](const auto& service) {
      for (const auto& port : service->ports)
        if (!port.endpoints.empty() && !port.frontends.empty()) found = &port;
    });
    return *found;
  }

  KernelNode node_;
  model::MeshPtr mesh_;
  compile::MapState before_;
  std::vector<kernel::Hook> hooks_;
};

TEST_F(Migration, KeepsNumbersAndLinks) {
  node_.load(larger());
  EXPECT_TRUE(node_.datapath().fresh_maps());
  EXPECT_NE(node_.datapath().migration(), "");
  EXPECT_EQ(compile::to_text(*node_.datapath().actual()), compile::to_text(before_));
  ASSERT_NO_FATAL_FAILURE(fill_and_attach(node_, mesh_));

  expect_hooks_stayed();
  expect_no_directories_left();
  EXPECT_EQ(compile::to_text(node_.read()), compile::to_text(before_));
  const auto pinned = Maps::open(node_.pins(), Access::kReadOnly);
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  EXPECT_EQ(pinned->limits(), larger());
  EXPECT_EQ(kernel::inconsistencies(*pinned), std::vector<std::string>{});

  node_.start(larger());
  EXPECT_FALSE(node_.datapath().fresh_maps());
  EXPECT_TRUE(node_.plan(*mesh_).empty());
}

TEST_F(Migration, LeavesTheOldMapsInForceUntilItIsDone) {
  node_.load(larger());
  const auto pinned = Maps::open(node_.pins(), Access::kReadOnly);
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  EXPECT_EQ(pinned->limits(), KernelNode::small_limits());
  EXPECT_EQ(kernel::inconsistencies(*pinned), std::vector<std::string>{});
  expect_hooks_stayed();
}

TEST_F(Migration, KilledBeforeTheSwitchBeginsAgain) {
  node_.load(larger());
  node_.kill();
  node_.load(larger());
  EXPECT_TRUE(node_.datapath().fresh_maps());
  EXPECT_EQ(compile::to_text(*node_.datapath().actual()), compile::to_text(before_));
  ASSERT_NO_FATAL_FAILURE(fill_and_attach(node_, mesh_));
  expect_hooks_stayed();
  expect_no_directories_left();
  EXPECT_EQ(compile::to_text(node_.read()), compile::to_text(before_));
}

TEST_F(Migration, KilledBetweenTheRenamesGoesOnWithTheNewMaps) {
  node_.load(larger());
  ASSERT_NO_FATAL_FAILURE(fill_and_attach(node_, mesh_));
  node_.kill();
  // The moment between the two: the old maps are aside, the new ones not yet in their place.
  const auto& pins = node_.pins();
  ASSERT_TRUE(kernel::move_pins(pins.maps(), pins.root + "/maps_next").ok());
  node_.start(larger());
  EXPECT_FALSE(node_.datapath().fresh_maps());
  EXPECT_EQ(compile::to_text(node_.placed()), compile::to_text(before_));
  expect_no_directories_left();
  expect_hooks_stayed();
}

// The links already run the new programs, the pins still name the old maps: what is in force
// counts.
TEST_F(Migration, KilledBeforeTheRenamesGoesOnWithTheNewMaps) {
  const auto& pins = node_.pins();
  std::map<std::string, base::Fd> old;
  for (const auto& name : kernel::list_pins(pins.maps()))
    old[name] = base::Fd(bpf_obj_get(pins.map(name).c_str()));
  node_.load(larger());
  ASSERT_NO_FATAL_FAILURE(fill_and_attach(node_, mesh_));
  node_.kill();
  ASSERT_TRUE(kernel::move_pins(pins.maps(), pins.root + "/maps_next").ok());
  ASSERT_TRUE(kernel::make_directory(pins.maps()).ok());
  for (const auto& [name, fd] : old)
    ASSERT_EQ(bpf_obj_pin(fd.get(), pins.map(name).c_str()), 0) << name;

  node_.start(larger());
  EXPECT_FALSE(node_.datapath().fresh_maps()) << node_.datapath().migration();
  EXPECT_EQ(node_.maps().limits(), larger());
  EXPECT_EQ(compile::to_text(node_.placed()), compile::to_text(before_));
  expect_no_directories_left();
  expect_hooks_stayed();
}

TEST_F(Migration, KeepsTheClientsOfStickyServicesAndTheEvents) {
  auto web = make_service("web", {"10.96.7.1"}, {"10.0.7.1", "10.0.7.2", "10.0.7.3"});
  web.affinity = std::chrono::seconds(60);
  mesh_ = std::make_shared<const model::Mesh>(
      make_mesh({web, make_service("none", {"10.96.7.2"}, {})}));
  node_.apply(*mesh_);
  const auto kept = text_of(node_.ask("10.96.7.1", 80, 7));
  (void)node_.ask("10.96.7.2", 80);
  node_.load(larger());
  ASSERT_NO_FATAL_FAILURE(fill_and_attach(node_, mesh_));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(text_of(node_.ask("10.96.7.1", 80, 7)), kept);
  EXPECT_EQ(node_.events(WEFT_EVENT_REFUSED_NO_ENDPOINT), 1u);
}

TEST_F(Migration, CarriesCountersOverAlsoThoseThatMoveMeanwhile) {
  const auto kOpen = weft_breaker_make(WEFT_BREAKER_OPEN, WEFT_BREAKER_REFUSED, 1, 1, 1u << 30);
  const auto kHalfOpen =
      weft_breaker_make(WEFT_BREAKER_HALF_OPEN, WEFT_BREAKER_REFUSED, 1, 1, 1u << 30);
  const auto& port = some_port();
  const std::uint32_t id = port.endpoints[0].id;
  node_.maps().endpoint_states.at(id).opened = 100;
  node_.maps().endpoint_states.at(id).active = 7;
  node_.maps().endpoint_states.at(id).breaker = kOpen;
  node_.maps().service_states.at(port.index).opened = 200;
  const std::uint32_t incarnation = node_.maps().endpoint_states.at(id).incarnation;

  node_.load(larger());
  const auto old = Maps::open(node_.pins(), Access::kReadWrite);
  ASSERT_TRUE(old.ok()) << old.status();
  old->endpoint_states.at(id).opened += 3;  // what the old programs go on counting
  old->endpoint_states.at(id).active -= 2;
  old->endpoint_states.at(id).breaker = kHalfOpen;
  old->service_states.at(port.index).refused_family += 5;
  ASSERT_NO_FATAL_FAILURE(fill_and_attach(node_, mesh_));

  const auto& state = node_.maps().endpoint_states.at(id);
  EXPECT_EQ(state.opened, 103u);
  EXPECT_EQ(state.active, 5u);
  EXPECT_EQ(state.breaker, kHalfOpen) << "the newest transition";
  EXPECT_EQ(state.incarnation, incarnation);
  EXPECT_EQ(node_.maps().service_states.at(port.index).opened, 200u);
  EXPECT_EQ(node_.maps().service_states.at(port.index).refused_family, 5u);
}

// Smaller maps: the same where everything fits under its old number ...
TEST_F(Migration, ToSmallerMapsKeepsNumbersThatFit) {
  auto limits = KernelNode::small_limits();
  limits.endpoints /= 2;
  node_.load(limits);
  EXPECT_TRUE(node_.datapath().fresh_maps());
  ASSERT_NO_FATAL_FAILURE(fill_and_attach(node_, mesh_));
  EXPECT_EQ(compile::to_text(node_.read()), compile::to_text(before_));
  expect_hooks_stayed();
}

// ... and fresh numbers where it does not: never a write beyond the end of a map.
TEST_F(Migration, ToMapsTooSmallForTheNumbersTakesFreshOnes) {
  compile::Limits limits{.services = 3, .frontends = 6, .endpoints = 4, .slots = 600, .labels = 64};
  node_.load(limits);
  EXPECT_TRUE(node_.datapath().fresh_maps());
  const auto mesh = std::make_shared<const model::Mesh>(
      make_mesh({make_service("web", {"10.96.0.1"}, {"10.0.0.1", "10.0.0.2"})}));
  ASSERT_NO_FATAL_FAILURE(fill_and_attach(node_, mesh));
  EXPECT_EQ(node_.read().services.size(), 1u);
  EXPECT_EQ(kernel::inconsistencies(node_.maps()), std::vector<std::string>{});
  EXPECT_EQ(text_of(node_.ask("10.96.0.1", 80)), "10.0.0.1:8080");
  expect_hooks_stayed();
  expect_no_directories_left();
}

TEST_F(Migration, FromAnotherLayoutTakesFreshNumbers) {
  node_.maps().meta.at(0).layout = WEFT_ABI_LAYOUT + 1;
  node_.load(KernelNode::small_limits());
  EXPECT_TRUE(node_.datapath().fresh_maps());
  EXPECT_NE(node_.datapath().migration().find("layout"), std::string::npos)
      << node_.datapath().migration();
  EXPECT_EQ(node_.datapath().actual()->services.size(), 0u);
  ASSERT_NO_FATAL_FAILURE(fill_and_attach(node_, mesh_));
  EXPECT_EQ(node_.read().services.size(), mesh_->services.size());
  expect_hooks_stayed();
  expect_no_directories_left();
}

TEST_F(Migration, FromMapsWithOneMissingBuildsAllAnew) {
  node_.kill();
  ASSERT_EQ(unlink(node_.pins().map("weft_labels").c_str()), 0);
  node_.load(KernelNode::small_limits());
  EXPECT_NE(node_.datapath().migration().find("weft_labels"), std::string::npos)
      << node_.datapath().migration();
  ASSERT_NO_FATAL_FAILURE(fill_and_attach(node_, mesh_));
  EXPECT_EQ(node_.read().services.size(), mesh_->services.size());
  expect_hooks_stayed();
}

}  // namespace
}  // namespace weft::tests
