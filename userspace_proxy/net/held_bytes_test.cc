#include "userspace_proxy/net/held_bytes.h"

#include <gtest/gtest.h>

#include <random>
#include <utility>

namespace weft::net {
namespace {

// Counts from outside: whatever is left behind a call at another place than before was moved there.
struct Counted {
  HeldBytes bytes;
  std::size_t moved = 0;

  void take(std::size_t count) {
    const auto* next = bytes.view().data() + count;
    bytes.take(count);
    if (!bytes.empty() && bytes.view().data() != next) moved += bytes.size();
  }
  void append(std::string_view more) {
    const auto* first = bytes.view().data();
    const auto before = bytes.size();
    bytes.append(more);
    if (bytes.view().data() != first) moved += before;
  }
};

TEST(HeldBytes, TakingAThousandRequestsMovesNothing) {
  Counted held;
  held.append(std::string(64 * 1024, 'x'));
  for (int i = 0; i < 1000; ++i) held.take(65);
  EXPECT_EQ(held.bytes.size(), 64u * 1024 - 65000);
  EXPECT_EQ(held.moved, 0u);
}

// As a client does that pipelines without end: up to 64 KB are held, another read comes on top.
TEST(HeldBytes, MovesNoMoreThanCameHoweverItIsAppendedAndTaken) {
  constexpr std::size_t kHeldMost = 64 * 1024;
  for (const std::size_t taken : {1u, 65u, 4000u, 60000u}) {
    Counted held;
    std::size_t came = 0;
    std::mt19937 random(7);
    while (came < 4 * 1024 * 1024) {
      if (held.bytes.size() < kHeldMost) {
        const std::string more(1 + random() % kHeldMost, 'x');
        held.append(more);
        came += more.size();
      }
      for (int i = 0; i < 100 && held.bytes.size() > taken; ++i) held.take(taken);
    }
    // Twice: what was taken makes room, and the text grows by doubling until it is large enough.
    EXPECT_LE(held.moved, 2 * came) << taken;
  }
}

TEST(HeldBytes, KeepTheirOrderAcrossMoves) {
  HeldBytes held;
  std::string came, taken;
  std::mt19937 random(11);
  for (int i = 0; i < 10000; ++i) {
    const auto more = std::to_string(i) + " ";
    held.append(more);
    came += more;
    const auto count = random() % (held.size() + 1);
    taken += held.view().substr(0, count);
    held.take(count);
  }
  EXPECT_EQ(taken + std::string(held.view()), came);
}

}  // namespace
}  // namespace weft::net
