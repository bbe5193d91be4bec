// The bypass's fixture with one node for all tests of a suite (loading programs takes a second and
// a half), and what must be true after each of them: no pair left, and nobody charged.
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "agent/kernel/bypass_pins.h"
#include "tests/bpf/bypass_fixture.h"

namespace weft::tests {

// scripts/test --long
inline bool is_long() {
  const char* word = std::getenv("WEFT_LONG");
  return word && std::string_view(word) == "1";
}

class SharedBypassTest : public BypassTest {
 protected:
  static void SetUpTestSuite() {
    shared_ = new Shared;
    shared_->node.start();
    const auto maps = kernel::load_bypass(shared_->node.pins(), shared_->node.cgroup());
    ASSERT_TRUE(maps.ok()) << maps.status();
    shared_->caller.emplace(shared_->node);
  }

  static void TearDownTestSuite() {
    shared_->caller.reset();
    const auto status =
        kernel::uninstall_bypass(shared_->node.pins(), [](const auto&) { return true; });
    EXPECT_TRUE(status.ok()) << status;
    delete shared_;
    shared_ = nullptr;
  }

  void SetUp() override {
    auto maps = kernel::BypassMaps::open(pins(), kernel::Access::kReadWrite);
    ASSERT_TRUE(maps.ok()) << maps.status();
    maps_.emplace(*std::move(maps));
    maps_->set_limits(kernel::kBypassCredit, kernel::kBypassNodeLimit);
    maps_->set_mode(WEFT_BYPASS_ON);
    before_ = maps_->counts();
  }

  void TearDown() override {
    EXPECT_TRUE(eventually([&] { return maps_->pairs()->empty(); })) << maps_->pairs()->size();
    EXPECT_EQ(charged(), 0);
  }

  static const kernel::Pins& pins() { return shared_->node.pins(); }
  static const std::string& cgroup() { return shared_->node.cgroup(); }
  static int home() { return shared_->caller->home(); }

  // Since the test began.
  std::uint64_t messages_now(weft_bypass_path path) const {
    return maps_->counts()[path].messages - before_[path].messages;
  }
  std::uint64_t bytes_now(weft_bypass_path path) const {
    return maps_->counts()[path].bytes - before_[path].bytes;
  }

  // Of the whole node, with what lies in the CPUs' shares.
  std::int64_t charged() const {
    struct Share {
      std::int64_t charged;
      std::uint64_t next_id;
    };
    const base::Fd map(
        bpf_obj_get((kernel::bypass_directory(pins()) + "/weft_bypass_shares").c_str()));
    std::vector<Share> shares(libbpf_num_possible_cpus());
    const std::uint32_t zero = 0;
    EXPECT_EQ(bpf_map_lookup_elem(map.get(), &zero, shares.data()), 0);
    std::int64_t sum = maps_->totals().charged;
    for (const auto& share : shares) sum += share.charged;
    return sum;
  }

 private:
  struct Shared {
    KernelNode node;
    std::optional<Caller> caller;
  };
  static inline Shared* shared_ = nullptr;
  kernel::BypassCounts before_{};
};

}  // namespace weft::tests
