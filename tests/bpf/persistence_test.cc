// What the maps hold outlives who wrote it: read back, restarted, killed half way, damaged,
// removed.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <random>

#include "agent/kernel/pins.h"
#include "tests/bpf/kernel_node.h"
#include "tests/random_mesh.h"

namespace weft::tests {
namespace {

std::string in_lines(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

// Equal to the last field; where they are not, the texts say what differs.
void expect_equal(const compile::MapState& a, const compile::MapState& b) {
  EXPECT_EQ(compile::to_text(a), compile::to_text(b));
  EXPECT_EQ(*a.labels, *b.labels);
  EXPECT_EQ(a.generation, b.generation);
  EXPECT_EQ(a.endpoint_count, b.endpoint_count);
  a.services.for_each([&](const auto& service) {
    const auto* other = b.services.find(service->key);
    EXPECT_TRUE(other && **other == *service) << compile::to_text(*service);
  });
}

TEST(Maps, ReadBackAsTheyWereWritten) {
  KernelNode node;
  node.start();
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomMesh random(seed);
    for (int step = 0; step < 5; ++step) {
      node.apply(*random.next());
      expect_equal(node.read(), node.placed());
      EXPECT_EQ(in_lines(kernel::inconsistencies(node.maps())), "");
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(Restart, WritesNothingWhereNothingChanged) {
  KernelNode node;
  node.start();
  RandomMesh random(1);
  model::MeshPtr mesh;
  for (int step = 0; step < 10; ++step) node.apply(*(mesh = random.next()));
  const auto before = kernel::read_hooks(node.pins(), node.cgroup());
  node.kill();

  node.start();
  EXPECT_FALSE(node.datapath().fresh_maps());
  EXPECT_EQ(node.datapath().migration(), "");
  const auto plan = node.plan(*mesh);
  EXPECT_EQ(plan.ops.size() + plan.cleanup.size(), 0u);
  const auto after = kernel::read_hooks(node.pins(), node.cgroup());
  ASSERT_EQ(before.size(), after.size());
  for (std::size_t i = 0; i < after.size(); ++i) {
    EXPECT_TRUE(after[i].attached && after[i].effective) << after[i].name;
    EXPECT_EQ(after[i].link_id, before[i].link_id) << after[i].name << " was attached anew";
    EXPECT_NE(after[i].program_id, before[i].program_id)
        << after[i].name << " kept the old program";
  }
}

TEST(Restart, GoesOnDecidingMeanwhile) {
  KernelNode node;
  node.start();
  node.apply(make_mesh({make_service("web", {"10.96.0.1"}, {"10.0.0.1", "10.0.0.2"})}));
  EXPECT_EQ(text_of(node.ask("10.96.0.1", 80)), "10.0.0.1:8080");
  node.kill();
  EXPECT_EQ(text_of(node.ask("10.96.0.1", 80)), "10.0.0.2:8080");
  node.start();
  EXPECT_EQ(text_of(node.ask("10.96.0.1", 80)), "10.0.0.1:8080") << "the turn began anew";
}

// A service that serves nobody and is sticky has no range to keep its timeout in.
TEST(Restart, WritesNothingForAStickyServiceWithNobodyReady) {
  KernelNode node;
  node.start();
  auto web = make_service("web", {"10.96.0.1"}, {"10.0.0.1 not-ready"});
  web.affinity = std::chrono::seconds(30);
  node.apply(make_mesh({web}));
  node.start();
  EXPECT_TRUE(node.plan(make_mesh({web})).empty());
}

// Killed in a plan whose change was taken back before the next start, which has nothing to write.
TEST(Kill, InAPlanThatNobodyWantsAnyMoreIsSettledByTheNextWriter) {
  KernelNode node;
  node.start();
  const auto mesh = make_mesh({make_service("web", {"10.96.0.1"}, {"10.0.0.1"})});
  node.apply(mesh);
  EXPECT_TRUE(kernel::look_at(node.maps()).value().settled);
  auto plan = node.plan(make_mesh({}));
  plan.ops.resize(1);  // the number of the next generation
  node.write(plan.ops);
  EXPECT_FALSE(kernel::look_at(node.maps()).value().settled);
  node.resume();
  node.apply(mesh);
  kernel::settle(node.maps());
  EXPECT_TRUE(kernel::look_at(node.maps()).value().settled);
}

// Killed anywhere in a plan or its clean-up, the next start makes the maps right and then has
// nothing to do.
TEST(Kill, AtAnyStepIsMendedByTheNextStart) {
  KernelNode node;
  node.start();
  std::mt19937_64 rng(1);
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomMesh random(seed);
    for (int step = 0; step < 4; ++step) {
      const auto mesh = random.next();
      auto plan = node.plan(*mesh);
      auto all = plan.ops;
      all.insert(all.end(), plan.cleanup.begin(), plan.cleanup.end());
      all.resize(all.empty() ? 0 : rng() % all.size());
      node.write(all);
      ASSERT_EQ(in_lines(kernel::inconsistencies(node.maps())), "")
          << "after " << all.size() << " operations";

      node.resume();
      const auto after = rng() % 2 ? mesh : random.next();
      node.apply(*after);
      ASSERT_EQ(in_lines(kernel::inconsistencies(node.maps())), "");
      EXPECT_EQ(node.read().services.size(), after->services.size());
      expect_equal(node.read(), node.placed());
      node.resume();
      EXPECT_TRUE(node.plan(*after).empty()) << "a second start found something to do";
      if (testing::Test::HasFailure()) return;
    }
  }
}

// As if somebody had scribbled on the maps: the next start repairs what it reads.
TEST(Damage, OfARangeIsRepairedByTheNextStart) {
  const auto mesh = make_mesh({make_service("web", {"10.96.0.1"}, {"10.0.0.1", "10.0.0.2"}),
                               make_service("down", {"10.96.0.2"}, {})});
  for (const std::uint32_t word : {0u, 2u, 3u}) {  // the header, the slots
    SCOPED_TRACE("word " + std::to_string(word));
    KernelNode node;
    node.start();
    node.apply(mesh);
    const auto& port = (*node.placed().services.find({"default", "web"}))->ports[0];
    auto& slot = node.maps().slots.at(port.base + word);
    kernel::store(slot, weft_slot_make(port.index + 1, weft_slot_low(slot)));
    ASSERT_NE(in_lines(kernel::inconsistencies(node.maps())), "");
    node.resume();
    node.apply(mesh);
    EXPECT_EQ(in_lines(kernel::inconsistencies(node.maps())), "");
  }
}

TEST(Damage, OfARecordIsRepairedByTheNextStart) {
  const auto mesh = make_mesh({make_service("web", {"10.96.0.1"}, {"10.0.0.1", "10.0.0.2"}),
                               make_service("down", {"10.96.0.2"}, {})});
  for (const char* name : {"web", "down"}) {
    SCOPED_TRACE(name);
    KernelNode node;
    node.start();
    node.apply(mesh);
    kernel::store(node.maps().services.at(node.index_of(name)), 0);
    node.resume();
    node.apply(mesh);
    EXPECT_EQ(in_lines(kernel::inconsistencies(node.maps())), "");
  }
}

TEST(Maps, OpenWithoutAnAgentAndWithoutWriting) {
  KernelNode node;
  node.start();
  node.apply(make_mesh({make_service("web", {"10.96.0.1"}, {"10.0.0.1"})}));
  node.kill();
  const auto maps = kernel::Maps::open(node.pins(), kernel::Access::kReadOnly);
  ASSERT_TRUE(maps.ok()) << maps.status();
  const auto state = kernel::read_state(*maps);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_NE(state->services.find({"default", "web"}), nullptr);
  EXPECT_EQ(maps->limits().endpoints, KernelNode::small_limits().endpoints);

  const auto absent = kernel::Maps::open({node.pins().root + "-absent"}, kernel::Access::kReadOnly);
  EXPECT_TRUE(absl::IsNotFound(absent.status())) << absent.status();
}

TEST(Maps, OfAnotherLayoutAreRefused) {
  KernelNode node;
  node.start();
  node.maps().meta.at(0).layout = WEFT_ABI_LAYOUT + 1;
  const auto maps = kernel::Maps::open(node.pins(), kernel::Access::kReadOnly);
  EXPECT_TRUE(absl::IsFailedPrecondition(maps.status())) << maps.status();
}

TEST(Maps, SayWhichOneIsFull) {
  KernelNode node;
  node.start();
  std::vector<reconcile::MapOp> ops;
  for (std::uint32_t i = 1; i <= 600; ++i) {
    model::Address address = *model::Address::parse("10.96.0.0");
    address.bytes[14] = i >> 8;
    address.bytes[15] = i & 255;
    ops.push_back(reconcile::UpsertFrontend{compile::frontend_key(address, {80}), i});
  }
  const auto status = kernel::MapWriter(node.maps()).write(ops);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_NE(std::string(status.message()).find("weft_frontends"), std::string::npos) << status;
}

std::size_t attached_to(const std::string& cgroup) {
  const base::Fd fd(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::size_t programs = 0;
  for (const auto type :
       {BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT, BPF_CGROUP_UDP4_SENDMSG,
        BPF_CGROUP_SOCK_OPS, BPF_CGROUP_INET_SOCK_RELEASE}) {
    std::uint32_t ids[8], count = 8;
    if (bpf_prog_query(fd.get(), type, 0, nullptr, ids, &count) == 0) programs += count;
  }
  return programs;
}

TEST(Uninstall, LeavesNothing) {
  KernelNode node;
  node.start();
  node.apply(make_mesh({make_service("web", {"10.96.0.1"}, {"10.0.0.1"})}));
  node.kill();
  EXPECT_EQ(attached_to(node.cgroup()), 5u);
  ASSERT_TRUE(kernel::uninstall(node.pins()).ok());
  EXPECT_EQ(attached_to(node.cgroup()), 0u);
  EXPECT_FALSE(kernel::exists(node.pins().root));
  EXPECT_TRUE(kernel::uninstall(node.pins()).ok()) << "twice is once";
}

TEST(Hooks, AreSeenWhereTheyHangAndNowhereElse) {
  KernelNode node;
  node.start();
  for (const auto& hook : kernel::read_hooks(node.pins(), node.cgroup()))
    EXPECT_TRUE(hook.attached && hook.effective) << hook.name;
  for (const auto& hook : kernel::read_hooks(node.pins(), node.cgroup() + "/.."))
    EXPECT_TRUE(hook.attached && !hook.effective)
        << hook.name << " is said to hang on a cgroup it does not";
}

}  // namespace
}  // namespace weft::tests
