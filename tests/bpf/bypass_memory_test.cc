// What a hundred readers that do not read cost the kernel, against the same by plain TCP: pages of
// tcp_mem, and the slab that tcp_mem does not see.
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "tests/bpf/bypass_shared.h"

namespace weft::tests {
namespace {

// Both are of the whole machine, so differences count, and in them what others do meanwhile.
struct Held {
  std::int64_t tcp_mem = 0, slab = 0;
  std::int64_t sum() const { return tcp_mem + slab; }
};

std::int64_t tcp_pages() {
  std::ifstream file("/proc/net/sockstat");
  for (std::string line; std::getline(file, line);)
    if (const auto at = line.find(" mem "); line.starts_with("TCP:") && at != std::string::npos)
      return std::stoll(line.substr(at + 5));
  return -1;
}

// Of what a queued message takes a struct sk_msg of: the general caches.
std::int64_t slab_bytes() {
  std::ifstream file("/proc/slabinfo");
  std::int64_t bytes = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    std::int64_t active = 0, all = 0, size = 0;
    if (!line.starts_with("kmalloc-") || !(words >> name >> active >> all >> size)) continue;
    bytes += active * size;
  }
  return bytes;
}

Held held_now() { return {tcp_pages() * getpagesize(), slab_bytes()}; }

struct Load {
  int connections;
  std::size_t size;  // of a message
  int messages;      // at most; until the writer may no more
};

class BypassMemory : public SharedBypassTest {
 protected:
  void SetUp() override {
    SharedBypassTest::SetUp();
    settle();
  }

  // What was held before goes in its own time.
  static void settle() {
    static const auto idle = held_now();
    EXPECT_TRUE(eventually([] {
      const auto now = held_now();
      return now.tcp_mem < idle.tcp_mem + (4 << 20) && now.slab < idle.slab + (4 << 20);
    }));
  }

  Held stall(weft_bypass_mode mode, const Load& load) {
    maps_->set_mode(mode);
    const auto listener = listen_here();
    std::vector<Connection> all;
    for (int i = 0; i < load.connections; ++i) all.push_back(connect_to(listener));
    const auto before = held_now();
    const std::string piece(load.size, 'x');
    for (const auto& [client, server] : all)
      for (int i = 0; i < load.messages; ++i)
        if (send(client.get(), piece.data(), load.size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) break;
    const auto after = held_now();
    return {after.tcp_mem - before.tcp_mem, after.slab - before.slab};
  }

  std::pair<Held, Held> compare(const Load& load) {
    const auto plain = stall(WEFT_BYPASS_OFF, load);
    settle();
    const auto bypass = stall(WEFT_BYPASS_ON, load);
    EXPECT_GT(messages_now(WEFT_BYPASS_REDIRECTED), 0u);
    std::printf(
        "%d readers, messages of %zu bytes: plain TCP holds %ld of tcp_mem and %ld of slab,"
        " the bypass %ld and %ld\n",
        load.connections, load.size, plain.tcp_mem, plain.slab, bypass.tcp_mem, bypass.slab);
    return {plain, bypass};
  }
};

constexpr int kUntilFull = 1 << 30;

TEST_F(BypassMemory, AHundredStalledReadersOfLargeMessagesHoldAtMostTwiceOfPlainTcp) {
  const auto [plain, bypass] = compare({100, 64 << 10, kUntilFull});
  EXPECT_LE(bypass.sum(), 2 * plain.sum());
}

// By plain TCP four million messages of one byte fill a connection: those only with --long.
TEST_F(BypassMemory, StalledReadersOfTinyMessagesHoldAtMostTwiceOfPlainTcp) {
  const auto [plain, bypass] =
      compare(is_long() ? Load{8, 1, kUntilFull} : Load{10, 64, kUntilFull});
  EXPECT_LE(bypass.sum(), 2 * plain.sum());
}

// Before that, TCP merges them, and a queue of messages does not: its credit bounds it.
TEST_F(BypassMemory, AHundredStalledReadersOfSomeBytesHoldNoMoreThanTheirCreditMore) {
  const auto [plain, bypass] = compare({100, 1, 5000});
  EXPECT_LE(bypass.sum() - plain.sum(),
            100 * static_cast<std::int64_t>(kernel::kBypassCredit) * 5 / 4);
}

}  // namespace
}  // namespace weft::tests
