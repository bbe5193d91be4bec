#include "userspace_proxy/net/place.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace weft::net {
namespace {

// One service; its endpoints are in the kernel's table.
struct Table {
  weft_policy policy{};
  weft_service_state total{};
  std::vector<std::unique_ptr<weft_endpoint_state>> states;

  SharesPtr add(std::uint32_t column = 0) {
    auto shares = std::make_shared<Shares>();
    shares->state = states.emplace_back(std::make_unique<weft_endpoint_state>()).get();
    shares->state->incarnation = shares->incarnation = 7;
    shares->policy = &policy;
    shares->total = &total;
    shares->column = column;
    return shares;
  }
};

TEST(Place, IsCountedInTheColumnOfItsGenerationAndGivenBackOnce) {
  Table table;
  const auto shares = table.add(2);
  Place place;
  EXPECT_EQ(place.take(shares), Room::kYes);
  EXPECT_EQ(shares->state->connections[2], 1u);
  EXPECT_EQ(table.total.connections[2], 1u);
  EXPECT_EQ(shares->state->active, 0u) << "that is the kernel's";
  Place moved(std::move(place));
  place.give_back();
  EXPECT_EQ(shares->state->connections[2], 1u);
  moved.give_back();
  moved.give_back();
  EXPECT_EQ(shares->state->connections[2], 0u);
  EXPECT_EQ(table.total.connections[2], 0u);
}

TEST(Place, SocketsAndOtherGenerationsTakePlacesToo) {
  Table table;
  const auto shares = table.add(1);
  table.policy.max_connections = 4;
  table.total.active = 2;
  table.total.connections[3] = 1;
  Place first, second;
  EXPECT_EQ(first.take(shares), Room::kYes);
  EXPECT_FALSE(Place::is_free(*shares));
  EXPECT_EQ(second.take(shares), Room::kServiceFull);
  EXPECT_EQ(table.total.connections[1], 1u);
  table.total.active = 1;
  EXPECT_EQ(second.take(shares), Room::kYes);
}

TEST(Place, AnEndpointThatIsFullTakesNoneOfTheService) {
  Table table;
  const auto shares = table.add(), other = table.add();
  table.policy.max_per_endpoint = 1;
  shares->state->active = 1;
  Place place;
  EXPECT_EQ(place.take(shares), Room::kEndpointFull);
  EXPECT_EQ(table.total.connections[0], 0u);
  EXPECT_EQ(place.take(other), Room::kYes);
}

TEST(Place, AnotherLifeOfAnIdIsNotChargedForTheLast) {
  Table table;
  const auto shares = table.add();
  Place place;
  EXPECT_EQ(place.take(shares), Room::kYes);
  *shares->state = {};
  shares->state->incarnation = 8;
  shares->state->connections[0] = 5;
  place.give_back();
  EXPECT_EQ(shares->state->connections[0], 5u);
  EXPECT_EQ(table.total.connections[0], 0u);
  EXPECT_EQ(place.take(shares), Room::kYes) << "nobody counts what goes to one that has left";
  EXPECT_EQ(shares->state->connections[0], 5u);
}

TEST(Place, AWordThatWasZeroedMeanwhileStaysZero) {
  std::uint32_t word = 1;
  one_less(word);
  one_less(word);
  EXPECT_EQ(word, 0u);
}

TEST(Place, HoweverManyRaceNeverOneTooManyIsTaken) {
  Table table;
  const auto shares = table.add();
  table.policy.max_connections = 3;
  std::atomic<int> held{0}, most{0}, taken{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        Place place;
        if (place.take(shares) != Room::kYes) continue;
        ++taken;
        const int now = ++held;
        int seen = most;
        while (now > seen && !most.compare_exchange_weak(seen, now)) continue;
        --held;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_LE(most, 3);
  EXPECT_GT(taken, 0);
  EXPECT_EQ(table.total.connections[0], 0u);
  EXPECT_EQ(shares->state->connections[0], 0u);
}

}  // namespace
}  // namespace weft::net
