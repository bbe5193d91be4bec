#include "userspace_proxy/net/timers.h"

#include <gtest/gtest.h>

#include <random>

namespace weft::net {
namespace {

struct Wheel {
  Timers timers;
  std::uint64_t now = 1000000;
  Wheel() { timers.advance(now); }
  void pass(std::uint64_t ms) { timers.advance(now += ms); }
};

TEST(Timers, FireOnceAtTheirDeadlineOrATickLater) {
  Wheel wheel;
  int fired = 0;
  Timer timer([&] { ++fired; });
  wheel.timers.set(timer, wheel.now + 100);
  wheel.pass(99);
  EXPECT_EQ(fired, 0);
  wheel.pass(1 + 2 * Timers::kTickMs);
  EXPECT_EQ(fired, 1);
  wheel.pass(100000);
  EXPECT_EQ(fired, 1);
  EXPECT_FALSE(timer.armed());
}

TEST(Timers, MovingOneOnPutsItOff) {
  Wheel wheel;
  int fired = 0;
  Timer timer([&] { ++fired; });
  for (int i = 0; i < 50; ++i) {
    wheel.timers.set(timer, wheel.now + 100);
    wheel.pass(50);
  }
  EXPECT_EQ(fired, 0);
  wheel.pass(200);
  EXPECT_EQ(fired, 1);
}

TEST(Timers, MovingOneForwardCounts) {
  Wheel wheel;
  int fired = 0;
  Timer timer([&] { ++fired; });
  wheel.timers.set(timer, wheel.now + 60000);
  wheel.timers.set(timer, wheel.now + 100);
  wheel.pass(150);
  EXPECT_EQ(fired, 1);
}

TEST(Timers, BeyondOneTurnOfTheWheelWait) {
  Wheel wheel;
  int fired = 0;
  Timer timer([&] { ++fired; });
  wheel.timers.set(timer, wheel.now + 3600000);
  for (int i = 0; i < 3599; ++i) wheel.pass(1000);
  EXPECT_EQ(fired, 0);
  wheel.pass(2000);
  EXPECT_EQ(fired, 1);
}

TEST(Timers, AfterALongSleepWhatIsDueFires) {
  Wheel wheel;
  int fired = 0;
  Timer timer([&] { ++fired; });
  wheel.timers.set(timer, wheel.now + 5000);
  wheel.pass(100000000);
  EXPECT_EQ(fired, 1);
}

TEST(Timers, CallbacksMaySetAndCancelOthers) {
  Wheel wheel;
  int fired = 0;
  Timer other([&] { ADD_FAILURE() << "it was cancelled"; });
  Timer again([&] { ++fired; });
  Timer first([&] {
    other.cancel();
    wheel.timers.set(again, wheel.now);
  });
  wheel.timers.set(other, wheel.now + 50);
  wheel.timers.set(first, wheel.now + 50);  // in front of it in the same slot
  wheel.pass(100);
  wheel.pass(Timers::kTickMs * 3);
  EXPECT_EQ(fired, 1);
}

TEST(Timers, OneThatIsDestroyedIsGone) {
  Wheel wheel;
  auto timer = std::make_unique<Timer>([] { ADD_FAILURE(); });
  wheel.timers.set(*timer, wheel.now + 50);
  timer.reset();
  wheel.pass(1000);
}

TEST(Timers, TellHowLongNothingIsToBeDone) {
  Wheel wheel;
  EXPECT_EQ(wheel.timers.idle_ms(wheel.now, 1000), 1000u);
  Timer timer([] {});
  wheel.timers.set(timer, wheel.now + 300);
  const auto idle = wheel.timers.idle_ms(wheel.now, 1000);
  EXPECT_GE(idle, 290u);
  EXPECT_LE(idle, 300u + 2 * Timers::kTickMs);
}

TEST(Timers, AgreeWithASortedListUnderRandomUse) {
  Wheel wheel;
  std::mt19937 random(7);
  struct One {
    std::uint64_t due = 0;  // 0: not set
    std::uint64_t fired_at = 0;
    std::unique_ptr<Timer> timer;
  };
  std::vector<One> all(200);
  for (auto& one : all) one.timer = std::make_unique<Timer>([&] { one.fired_at = wheel.now; });
  for (int step = 0; step < 20000; ++step) {
    auto& one = all[random() % all.size()];
    if (random() % 4) {
      one.due = wheel.now + random() % 40000;
      one.fired_at = 0;
      wheel.timers.set(*one.timer, one.due);
    } else {
      one.due = one.fired_at = 0;
      one.timer->cancel();
    }
    wheel.pass(random() % 30);
    for (auto& each : all) {
      if (each.fired_at) {
        ASSERT_LE(each.due, each.fired_at);
        each.due = each.fired_at = 0;
      }
      ASSERT_TRUE(!each.due || each.due + 2 * Timers::kTickMs >= wheel.now) << "one was forgotten";
    }
  }
}

}  // namespace
}  // namespace weft::net
