#include "agent/health/schedule.h"

#include <gtest/gtest.h>

#include <map>
#include <queue>
#include <random>
#include <vector>

namespace weft::health {
namespace {

using namespace std::chrono_literals;
using Time = Clock::time_point;

constexpr Time kBegin{1000s};

// Time that runs as the schedule and the answers want it, with no clock behind it.
struct Simulation {
  explicit Simulation(Limits limits) : schedule(limits, 7) {}

  Schedule schedule;
  Time now = kBegin;
  std::function<Clock::duration()> takes = [] { return 5ms; };
  std::map<Schedule::Id, std::vector<Time>> starts;
  std::vector<Time> all;
  std::size_t most_in_flight = 0;

  // The agent wakes when something can be done, or `slack` later.
  void run_for(Clock::duration duration, Clock::duration slack = 0ms) {
    const Time end = now + duration;
    while (true) {
      while (const auto id = schedule.take(now)) {
        starts[*id].push_back(now);
        all.push_back(now);
        most_in_flight = std::max(most_in_flight, schedule.in_flight());
        answers_.emplace(now + takes(), *id);
      }
      auto wake = schedule.next();
      if (!answers_.empty() && (!wake || answers_.top().first < *wake)) wake = answers_.top().first;
      if (!wake || *wake + slack > end) break;
      now = std::max(now, *wake + slack);
      for (; !answers_.empty() && answers_.top().first <= now; answers_.pop())
        schedule.finished(answers_.top().second, now);
    }
    now = end;
  }

  // Of any window of one second, wherever it begins.
  std::size_t most_in_a_second() const {
    std::size_t most = 0;
    for (std::size_t from = 0, to = 0; to < all.size(); ++to) {
      while (all[to] - all[from] >= 1s) ++from;
      most = std::max(most, to - from + 1);
    }
    return most;
  }

 private:
  using Answer = std::pair<Time, Schedule::Id>;
  std::priority_queue<Answer, std::vector<Answer>, std::greater<>> answers_;
};

TEST(Schedule, FirstChecksSpreadOverTheInterval) {
  Schedule schedule({1e6, 100'000}, 1);
  std::map<Schedule::Id, int> tenth;
  for (std::uint64_t i = 0; i < 1000; ++i) schedule.add(i, 10s, kBegin);
  int taken = 0;
  for (int second = 1; second <= 10; ++second) {
    int now_due = 0;
    for (Time now = kBegin + (second - 1) * 1s; now < kBegin + second * 1s; now += 1ms)
      while (schedule.take(now)) ++now_due;
    EXPECT_GT(now_due, 50) << second;
    EXPECT_LT(now_due, 160) << second;
    taken += now_due;
  }
  while (schedule.take(kBegin + 10s)) ++taken;
  EXPECT_EQ(taken, 1000);
}

TEST(Schedule, TheSameSeedGivesTheSameTimesAndAnotherDoesNot) {
  const auto first_of = [](std::uint64_t seed) {
    Schedule schedule({}, seed);
    schedule.add(42, 1h, kBegin);
    return *schedule.next();
  };
  EXPECT_EQ(first_of(1), first_of(1));
  EXPECT_NE(first_of(1), first_of(2));
}

TEST(Schedule, LaterChecksComeEveryIntervalGiveOrTakeATenth) {
  Simulation simulation({});
  const auto id = simulation.schedule.add(3, 10s, kBegin);
  simulation.run_for(1000s);
  const auto& starts = simulation.starts[id];
  ASSERT_GT(starts.size(), 90u);
  std::set<Clock::duration> gaps;
  for (std::size_t i = 1; i < starts.size(); ++i) {
    EXPECT_GE(starts[i] - starts[i - 1], 9s);
    EXPECT_LE(starts[i] - starts[i - 1], 11s);
    gaps.insert(starts[i] - starts[i - 1]);
  }
  EXPECT_GT(gaps.size(), 80u) << "no jitter";
}

TEST(Schedule, AnAnswerSlowerThanTheIntervalIsWaitedFor) {
  Simulation simulation({});
  simulation.takes = [] { return 3s; };
  const auto id = simulation.schedule.add(3, 1s, kBegin);
  simulation.run_for(60s);
  EXPECT_EQ(simulation.most_in_flight, 1u);
  EXPECT_GE(simulation.starts[id].size(), 19u);
}

TEST(Schedule, NeverMoreThanTheBoundBeginInAnySecond) {
  std::mt19937_64 random(11);
  for (const double bound : {1.0, 3.0, 7.0, 100.0, 333.0}) {
    Simulation simulation({bound, 10'000});
    simulation.takes = [&] { return std::chrono::microseconds(random() % 2'000'000); };
    for (int round = 0; round < 20; ++round) {
      for (int i = 0; i < 50; ++i)
        simulation.schedule.add(random(), std::chrono::milliseconds(1 + random() % 3000),
                                simulation.now);
      simulation.run_for(std::chrono::milliseconds(random() % 2000),
                         std::chrono::microseconds(random() % 3000));
      simulation.now += std::chrono::milliseconds(random() % 3000);  // the thread was held up
    }
    EXPECT_LE(simulation.most_in_a_second(), bound) << bound;
    EXPECT_GT(simulation.all.size(), bound * 5) << bound;
  }
}

TEST(Schedule, NeverMoreThanTheBoundAreUnderWay) {
  Simulation simulation({1e6, 8});
  simulation.takes = [] { return 1s; };
  for (std::uint64_t i = 0; i < 100; ++i) simulation.schedule.add(i, 1s, kBegin);
  simulation.run_for(60s);
  EXPECT_EQ(simulation.most_in_flight, 8u);
  EXPECT_EQ(simulation.starts.size(), 100u);
}

// 10,000 targets every 10 s are ten times what the bound allows: each is served every 100 s.
TEST(Schedule, NoneOfTenThousandOverdueTargetsStarves) {
  Simulation simulation({100, 64});
  for (std::uint64_t i = 0; i < 10'000; ++i) simulation.schedule.add(i, 10s, kBegin);
  simulation.run_for(1000s);
  ASSERT_EQ(simulation.starts.size(), 10'000u);
  EXPECT_LE(simulation.most_in_a_second(), 100u);
  EXPECT_GT(simulation.all.size(), 99'000u) << "the bound is not made use of";
  for (const auto& [id, starts] : simulation.starts) {
    EXPECT_GE(starts.size(), 9u) << id;
    EXPECT_LE(starts.front() - kBegin, 111s) << id;
    for (std::size_t i = 1; i < starts.size(); ++i)
      EXPECT_LE(starts[i] - starts[i - 1], 112s) << id;
  }
  EXPECT_GT(simulation.schedule.late_by(simulation.now), 80s);
}

// One that wants to be checked all the time does not push aside the one that is due.
TEST(Schedule, TheLongestOverdueGoesFirst) {
  Schedule schedule({1, 64}, 1);
  const auto eager = schedule.add(1, 1ms, kBegin);
  const auto patient = schedule.add(2, 10s, kBegin);
  Time now = kBegin + 10s;
  std::vector<Schedule::Id> order;
  for (int i = 0; i < 3; ++i, now += 1s) {
    const auto id = schedule.take(now);
    ASSERT_TRUE(id);
    order.push_back(*id);
    schedule.finished(*id, now);
  }
  EXPECT_EQ(order, (std::vector{eager, patient, eager}));
}

TEST(Schedule, WhatIsRemovedIsNotTakenAndItsAnswerFreesThePlace) {
  Schedule schedule({1000, 1}, 1);
  const auto a = schedule.add(1, 1s, kBegin);
  ASSERT_EQ(schedule.take(kBegin + 1s), a);
  const auto b = schedule.add(2, 1s, kBegin);
  schedule.remove(a);
  EXPECT_EQ(schedule.size(), 1u);
  EXPECT_EQ(schedule.in_flight(), 1u);
  EXPECT_FALSE(schedule.take(kBegin + 2s));
  EXPECT_FALSE(schedule.next());
  schedule.finished(a, kBegin + 2s);
  EXPECT_EQ(schedule.take(kBegin + 2s), b);
  schedule.finished(b, kBegin + 2s);
  schedule.remove(b);
  schedule.remove(b);
  EXPECT_FALSE(schedule.next());
  EXPECT_EQ(schedule.size(), 0u);
}

TEST(Schedule, TenThousandTargetsComeAndGo) {
  Schedule schedule({}, 1);
  for (int round = 0; round < 10; ++round) {
    std::vector<Schedule::Id> ids;
    for (std::uint64_t i = 0; i < 10'000; ++i) ids.push_back(schedule.add(i, 10s, kBegin));
    EXPECT_EQ(schedule.size(), 10'000u);
    for (const auto id : ids) schedule.remove(id);
  }
  EXPECT_EQ(schedule.size(), 0u);
  EXPECT_FALSE(schedule.next());
}

}  // namespace
}  // namespace weft::health
