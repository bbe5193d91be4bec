// Connection limits and exact counts, by real connects that race and die.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <cerrno>
#include <csignal>
#include <random>
#include <thread>

#include "agent/kernel/breaker.h"
#include "agent/kernel/capture.h"
#include "tests/bpf/caller.h"

namespace weft::tests {
namespace {

using namespace std::chrono_literals;

const std::string kService = "10.96.0.1";

class Limits : public testing::Test {
 protected:
  explicit Limits(bool proxy = false) : node_(proxy) {}
  void SetUp() override {
    node_.start();
    caller_.emplace(node_);
  }
  void TearDown() override { caller_.reset(); }
  void apply(const model::Service& made) { node_.apply(make_mesh({made})); }
  weft_service_state& total() { return node_.maps().service_states.at(node_.index_of("web")); }
  weft_endpoint_state& state(const std::string& address) {
    const auto* placed = node_.placed().services.find({"default", "web"});
    for (const auto& endpoint : (*placed)->ports[0].endpoints)
      if (endpoint.address.to_text() == address)
        return node_.maps().endpoint_states.at(endpoint.id);
    ADD_FAILURE() << address << " is no endpoint";
    return node_.maps().endpoint_states.at(0);
  }
  // All connections at once, from many threads: how many there are.
  static std::size_t storm(int threads, int each, std::vector<std::vector<base::Fd>>& sockets,
                           std::atomic<int>& refused) {
    sockets.resize(threads);
    std::barrier start(threads);
    std::vector<std::thread> running;
    for (int t = 0; t < threads; ++t)
      running.emplace_back([&, t] {
        start.arrive_and_wait();
        for (int i = 0; i < each; ++i) {
          base::Fd socket;
          if (dial(kService, &socket) == 0)
            sockets[t].push_back(std::move(socket));
          else
            ++refused;
        }
      });
    for (auto& thread : running) thread.join();
    std::size_t open = 0;
    for (const auto& list : sockets) open += list.size();
    return open;
  }

  KernelNode node_;
  std::optional<Caller> caller_;
};

TEST_F(Limits, AreNotExceededByOneHoweverManyRace) {
  const auto one = listen_on("127.0.0.1"), two = listen_on("127.0.0.2");
  auto made = make_service("web", {kService}, {"127.0.0.1", "127.0.0.2"});
  made.traffic.limits.max_connections = 100;
  apply(made);
  std::vector<std::vector<base::Fd>> sockets;
  std::atomic<int> refused{0};
  const auto open = storm(8, 100, sockets, refused);
  EXPECT_LE(open, 100u);
  EXPECT_GE(open, 93u) << "reservations under way may refuse a few more, one a thread at most";
  EXPECT_EQ(total().active, open);
  EXPECT_EQ(total().refused_limit, static_cast<std::uint64_t>(refused.load()));
  while (dial(kService, &sockets[0].emplace_back()) == 0) {
  }
  EXPECT_EQ(total().active, 100u) << "without a race it is exact";
  sockets[0].clear();
  sockets.clear();
  EXPECT_EQ(total().active, 0u);
  EXPECT_EQ(dial(kService), 0);
}

TEST_F(Limits, OfAnEndpointMoveConnectionsToTheOthers) {
  const auto one = listen_on("127.0.0.1"), two = listen_on("127.0.0.2");
  auto made = make_service("web", {kService}, {"127.0.0.1", "127.0.0.2"});
  made.traffic.limits.max_per_endpoint = 5;
  apply(made);
  std::vector<base::Fd> sockets(11);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(dial(kService, &sockets[i]), 0) << i;
  EXPECT_EQ(dial(kService, &sockets[10]), ECONNREFUSED);
  EXPECT_EQ(total().refused_limit, 1u);
  sockets[3] = base::Fd();
  EXPECT_EQ(dial(kService, &sockets[3]), 0) << "whoever leaves makes room";
}

TEST_F(Limits, FollowChangesWhileConnectionsAreOpen) {
  const auto one = listen_on("127.0.0.1");
  auto made = make_service("web", {kService}, {"127.0.0.1"});
  apply(made);
  std::vector<base::Fd> sockets(10);
  for (auto& socket : sockets) EXPECT_EQ(dial(kService, &socket), 0);
  made.traffic.limits.max_connections = 5;
  apply(made);
  EXPECT_EQ(dial(kService), ECONNREFUSED) << "those from before count";
  sockets.resize(4);
  EXPECT_EQ(dial(kService), 0);
}

TEST_F(Limits, ASocketThatConnectsAgainHoldsOne) {
  auto made = make_service("web", {kService}, {"127.0.0.1"});
  made.traffic.limits.max_connections = 1;
  apply(made);
  const base::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(80);
  address.sin_addr.s_addr = htonl(0x0a600001);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), -1);
    EXPECT_EQ(errno, ECONNREFUSED);
  }
  EXPECT_EQ(total().refused_limit, 0u) << "the endpoint refused, not the limit";
  const auto listener = listen_on("127.0.0.1");
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(total().active, 1u);
}

// A node with a proxy, for which the test counts: ports without rules are connect()'s all the same.
class BesideAProxy : public Limits {
 protected:
  BesideAProxy() : Limits(true) {}
};

TEST_F(BesideAProxy, ConnectionsOfAllItsGenerationsCountTowardsTheServicesLimit) {
  const auto one = listen_on("127.0.0.1");
  auto made = make_service("web", {kService}, {"127.0.0.1"});
  made.traffic.limits.max_connections = 5;
  apply(made);
  total().connections[0] = 1;
  total().connections[3] = 2;
  std::vector<base::Fd> sockets(3);
  EXPECT_EQ(dial(kService, &sockets[0]), 0);
  EXPECT_EQ(dial(kService, &sockets[1]), 0);
  EXPECT_EQ(dial(kService, &sockets[2]), ECONNREFUSED);
  EXPECT_EQ(total().active, 2u);
  kernel::clear_generation(node_.maps(), 3);
  EXPECT_EQ(total().connections[0], 1u) << "the other generation lives";
  EXPECT_EQ(dial(kService, &sockets[2]), 0) << "what a dead proxy held is given back";
}

TEST_F(BesideAProxy, ConnectionsThatItHasToAnEndpointMoveOthersAway) {
  const auto one = listen_on("127.0.0.1"), two = listen_on("127.0.0.2");
  auto made = make_service("web", {kService}, {"127.0.0.1", "127.0.0.2"});
  made.traffic.limits.max_per_endpoint = 3;
  apply(made);
  state("127.0.0.1").connections[2] = 3;
  std::vector<base::Fd> sockets(4);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(dial(kService, &sockets[i]), 0) << i;
  EXPECT_EQ(state("127.0.0.2").active, 3u);
  EXPECT_EQ(dial(kService, &sockets[3]), ECONNREFUSED);
  kernel::clear_generation(node_.maps(), 2);
  EXPECT_EQ(dial(kService, &sockets[3]), 0);
  EXPECT_EQ(state("127.0.0.1").active, 1u);
}

TEST_F(BesideAProxy, TheLighterEndpointIsTheOneWithFewerOfBoth) {
  const auto one = listen_on("127.0.0.1"), two = listen_on("127.0.0.2");
  auto made = make_service("web", {kService}, {"127.0.0.1", "127.0.0.2"});
  made.balancer = model::Balancer::kLeastRequest;
  apply(made);
  state("127.0.0.1").connections[0] = 50;
  std::vector<base::Fd> sockets(20);
  for (auto& socket : sockets) EXPECT_EQ(dial(kService, &socket), 0);
  EXPECT_EQ(state("127.0.0.2").active, 20u);
}

// Whatever sockets do, in any order, and wherever their process is killed: with all of them closed
// nothing is in flight.
TEST_F(Limits, AreExactAfterAnyMixture) {
  const auto one = listen_on("127.0.0.1");
  const BlackHole hole("127.0.0.2");
  auto made = make_service("web", {kService}, {"127.0.0.1", "127.0.0.2", "127.0.0.3", "192.0.2.1"});
  made.traffic.limits.max_connections = 50;
  made.traffic.outlier.emplace();
  made.traffic.outlier->base_ejection = 1ms;
  made.traffic.outlier->consecutive_failures = 1;
  made.traffic.outlier->max_ejection_percent = 75;
  apply(made);
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  const auto mixture = [&](unsigned of) {
    std::mt19937 random(of);
    std::vector<base::Fd> sockets(80);
    sockaddr nobody{};
    for (int i = 0; i < 4000; ++i) {
      auto& socket = sockets[random() % sockets.size()];
      switch (random() % 6) {
        case 0:
          socket = base::Fd();
          break;
        case 1:
          if (socket) connect(socket.get(), &nobody, sizeof nobody);  // AF_UNSPEC: disconnects
          break;
        case 2:
          if (socket) close_with_reset(socket);
          break;
        case 3:
          if (socket) shutdown(socket.get(), SHUT_RDWR);
          break;
        default:
          if (socket)
            dial_now(kService, socket);
          else
            dial_now("127.0.0.1", socket, 8080);  // no service: nothing is counted
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) threads.emplace_back(mixture, seed + t);
  for (auto& thread : threads) thread.join();
  const pid_t child = fork();
  if (child == 0) {
    mixture(seed + 9);
    raise(SIGKILL);
  }
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(eventually([&] { return total().active == 0; })) << total().active;
  for (auto& endpoint : node_.maps().endpoint_states.values()) EXPECT_EQ(endpoint.active, 0u);
  EXPECT_TRUE(kernel::miscounted(node_.maps()).empty());
  EXPECT_GT(total().opened, 0u);
}

}  // namespace
}  // namespace weft::tests
