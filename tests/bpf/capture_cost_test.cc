// What capture costs a connect(), in turns so that the machine's moods are everybody's. Prints; the
// one thing it insists on is that all of them arrive. docs/kernel.md has the figures.
#include <algorithm>
#include <chrono>
#include <iostream>

#include "tests/bpf/capture_fixture.h"

namespace weft::tests {
namespace {

constexpr int kRounds = 60, kEach = 100;

struct Kind {
  const char* name;
  std::string cgroup, address;
  std::uint16_t port;
  const base::Fd* listener;
  std::vector<double> micros = {};
};

void run(Kind& kind) {
  EXPECT_TRUE(enter_cgroup(kind.cgroup));
  for (int i = 0; i < kEach; ++i) {
    auto client = tcp(AF_INET);
    const SocketAddress to(AF_INET, kind.address, kind.port);
    const auto begin = std::chrono::steady_clock::now();
    const int error = connect_to(client, to);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    ASSERT_EQ(error, 0) << kind.name;
    kind.micros.push_back(took.count());
    const auto accepted = accept_one(*kind.listener);
    ASSERT_TRUE(accepted) << kind.name;
    close_with_reset(client);
  }
}

TEST_F(Capture, IsMeasuredAgainstPlainAndBalancedConnects) {
  const auto endpoint = listen_on("127.0.0.9");
  const auto services = std::vector{with_rules(make_service("web", {kWeb}, {"127.0.0.9"})),
                                    make_service("plain", {"10.96.0.2"}, {"127.0.0.9"})};
  apply(services);
  KernelNode without;
  without.start();
  kernel::store(without.maps().meta.at(0).agent_tgid, 0);
  without.apply(make_mesh(services));
  Kind kinds[] = {
      {"no service, a proxy configured", node_.cgroup(), "127.0.0.9", 8080, &endpoint},
      {"no service, no proxy", without.cgroup(), "127.0.0.9", 8080, &endpoint},
      {"balanced, a proxy configured", node_.cgroup(), "10.96.0.2", 80, &endpoint},
      {"balanced, no proxy", without.cgroup(), "10.96.0.2", 80, &endpoint},
      {"captured", node_.cgroup(), kWeb, 80, &v4_},
  };
  for (int round = 0; round < kRounds; ++round)
    for (auto& kind : kinds) run(kind);
  for (auto& kind : kinds) {
    auto& all = kind.micros;
    std::nth_element(all.begin(), all.begin() + all.size() / 2, all.end());
    std::cout << kind.name << ": connect() p50 " << all[all.size() / 2] << " us of " << all.size()
              << std::endl;
  }
  enter_cgroup(node_.cgroup());
}

}  // namespace
}  // namespace weft::tests
