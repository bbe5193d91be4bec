// The circuit breaker, by real connects through the programs of connect(), sockops and
// sock_release.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <barrier>
#include <cerrno>
#include <thread>

#include "tests/bpf/breaker_fixture.h"

namespace weft::tests {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

TEST_F(Breaker, CutsAnEndpointOffAtItsFirstFailureForTheVeryNextConnect) {
  const auto good = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2"}));
  int failed = 0;
  for (int i = 0; i < 50; ++i) failed += dial(kService) != 0;
  EXPECT_EQ(failed, 1);
  EXPECT_EQ(breaker("127.0.0.2"), WEFT_BREAKER_OPEN);
  EXPECT_EQ(reason("127.0.0.2"), WEFT_BREAKER_REFUSED);
  EXPECT_EQ(state("127.0.0.2").last_error, unsigned{ECONNREFUSED});
  EXPECT_EQ(total().ejected, 1u);
  EXPECT_EQ(state("127.0.0.1").opened, 49u);
  expect_nothing_in_flight();
}

TEST_F(Breaker, NeverEjectsTheLastOneUnlessAsked) {
  apply(service({"127.0.0.1"}));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(dial(kService), ECONNREFUSED);
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_CLOSED);
  apply(service({"127.0.0.1", "127.0.0.2"}));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(dial(kService), ECONNREFUSED);
  EXPECT_EQ(
      (breaker("127.0.0.1") == WEFT_BREAKER_OPEN) + (breaker("127.0.0.2") == WEFT_BREAKER_OPEN), 1);
  auto asked = service({"127.0.0.1", "127.0.0.2", "127.0.0.3"});
  asked.traffic.outlier->max_ejection_percent = 100;
  apply(asked);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(dial(kService), ECONNREFUSED);
  for (const auto* each : {"127.0.0.1", "127.0.0.2", "127.0.0.3"})
    EXPECT_EQ(breaker(each), WEFT_BREAKER_OPEN) << each;
  EXPECT_EQ(total().ejected, 3u);
  EXPECT_GT(total().refused_ejected, 0u) << "the rest was refused without asking anybody";
}

TEST_F(Breaker, ServesFromEjectedOnesWhereMoreAreOutThanMayBe) {
  const auto good = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2"}));
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN) dial(kService);
  const auto back = listen_on("127.0.0.2");
  apply(service({"127.0.0.2"}));  // the healthy one leaves the mesh
  EXPECT_EQ(dial(kService), 0);
  EXPECT_EQ(dial(kService), 0) << "also as more than a probe";
}

TEST_F(Breaker, CountsFailuresOnlyInARow) {
  auto made = service({"127.0.0.1"});
  made.traffic.outlier->consecutive_failures = 3;
  made.traffic.outlier->max_ejection_percent = 100;
  apply(made);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 2; ++i) EXPECT_EQ(dial(kService), ECONNREFUSED);
    const auto well = listen_on("127.0.0.1");
    EXPECT_EQ(dial(kService), 0);
  }
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_CLOSED);
  EXPECT_EQ(state("127.0.0.1").failed, 6u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(dial(kService), ECONNREFUSED);
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_OPEN);
}

TEST_F(Breaker, SeesResetsBeforeTheFirstByte) {
  const auto listener = listen_on("127.0.0.1");
  auto made = service({"127.0.0.1"});
  made.traffic.outlier->consecutive_failures = 2;
  made.traffic.outlier->max_ejection_percent = 100;
  apply(made);
  const auto be_reset = [&] {
    base::Fd socket;
    EXPECT_EQ(dial(kService, &socket), 0);
    auto accepted = accept_one(listener);
    close_with_reset(accepted);
    char byte;
    EXPECT_EQ(recv(socket.get(), &byte, 1, 0), -1);
  };
  be_reset();
  EXPECT_EQ(state("127.0.0.1").consecutive, 1u);
  {  // a byte came first: no failure, and the run is over
    base::Fd socket;
    EXPECT_EQ(dial(kService, &socket), 0);
    auto accepted = accept_one(listener);
    EXPECT_EQ(send(accepted.get(), "x", 1, 0), 1);
    char byte;
    EXPECT_EQ(recv(socket.get(), &byte, 1, 0), 1);
    close_with_reset(accepted);
    EXPECT_EQ(recv(socket.get(), &byte, 1, 0), -1);
  }
  EXPECT_EQ(state("127.0.0.1").consecutive, 0u);
  be_reset();
  be_reset();
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_OPEN);
  EXPECT_EQ(reason("127.0.0.1"), WEFT_BREAKER_RESET);
  expect_nothing_in_flight();
}

TEST_F(Breaker, ChargesNobodyForACallerThatGivesUpEarly) {
  const BlackHole hole("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2"}));
  const auto good = listen_on("127.0.0.2");
  for (int i = 0; i < 10; ++i) {
    base::Fd socket;
    dial_now(kService, socket);
  }
  EXPECT_EQ(state("127.0.0.1").consecutive, 0u);
  EXPECT_EQ(state("127.0.0.1").failed, 0u);
  expect_nothing_in_flight();
}

TEST_F(Breaker, ChargesACallerThatGivesUpAfterConnectTimeout) {
  const BlackHole hole("127.0.0.1");
  auto made = service({"127.0.0.1"});
  made.traffic.outlier->max_ejection_percent = 100;
  made.traffic.limits.connect_timeout = 1ms;
  apply(made);
  base::Fd socket;
  EXPECT_EQ(dial_now(kService, socket), EINPROGRESS);
  const auto begun = kernel::now_ms();
  eventually([&] { return kernel::now_ms() > begun + 2; });
  socket = base::Fd();
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_OPEN);
  EXPECT_EQ(reason("127.0.0.1"), WEFT_BREAKER_TIMEOUT);
}

TEST_F(Breaker, NoticesATimeoutWhileTheCallerStillWaits) {
  const BlackHole hole("127.0.0.1");
  auto made = service({"127.0.0.1"});
  made.traffic.outlier->max_ejection_percent = 100;
  made.traffic.limits.connect_timeout = 500ms;
  apply(made);
  base::Fd socket;
  EXPECT_EQ(dial_now(kService, socket), EINPROGRESS);
  EXPECT_TRUE(eventually([&] { return breaker("127.0.0.1") == WEFT_BREAKER_OPEN; }));
  EXPECT_EQ(reason("127.0.0.1"), WEFT_BREAKER_TIMEOUT);
  EXPECT_EQ(state("127.0.0.1").active, 1u) << "the caller may still be answered";
  socket = base::Fd();
  EXPECT_EQ(state("127.0.0.1").failed, 1u) << "and is counted once";
  expect_nothing_in_flight();
}

TEST_F(Breaker, ChargesNobodyWhereThereIsNoRoute) {
  apply(service({"192.0.2.1", "192.0.2.2"}));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(dial(kService), ENETUNREACH);
  EXPECT_EQ(state("192.0.2.1").consecutive + state("192.0.2.2").consecutive, 0u);
  expect_nothing_in_flight();
}

TEST_F(Breaker, OpensByTimeWhereAsked) {
  auto made = service({"127.0.0.1"});
  made.traffic.outlier->consecutive_failures = 0;
  made.traffic.outlier->failing_for = 5s;
  made.traffic.outlier->max_ejection_percent = 100;
  apply(made);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(dial(kService), ECONNREFUSED);
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_CLOSED);
  // As if the first of them had been 5 s ago.
  kernel::store(state("127.0.0.1").failing_since_ms, state("127.0.0.1").failing_since_ms - 5000);
  EXPECT_EQ(dial(kService), ECONNREFUSED);
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_OPEN);
}

TEST_F(Breaker, LetsOneProbeThroughAndClosesOnItsSuccess) {
  const auto good = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2"}));
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN) dial(kService);
  const auto back = listen_on("127.0.0.2");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(dial(kService), 0);
  EXPECT_EQ(state("127.0.0.2").opened, 0u) << "not before its time";
  end_ejection("127.0.0.2");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(dial(kService), 0);
  EXPECT_EQ(breaker("127.0.0.2"), WEFT_BREAKER_CLOSED);
  EXPECT_GT(state("127.0.0.2").opened, 3u);
  EXPECT_EQ(total().ejected, 0u);
  expect_nothing_in_flight();
}

TEST_F(Breaker, ReopensForLongerWhereTheProbeFails) {
  auto made = service({"127.0.0.1", "127.0.0.2"});
  made.traffic.outlier->base_ejection = 10s;
  made.traffic.outlier->max_ejection = 25s;
  apply(made);
  const auto good = listen_on("127.0.0.1");
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN) dial(kService);
  for (const std::uint64_t expected : {20000u, 25000u, 25000u}) {
    end_ejection("127.0.0.2");
    int failed = 0;
    for (int i = 0; i < 10; ++i) failed += dial(kService) != 0;
    EXPECT_EQ(failed, 1) << "the probe";
    const auto left = weft_breaker_until_ms(state("127.0.0.2").breaker) - kernel::now_ms();
    EXPECT_LE(left, expected);
    EXPECT_GT(left, expected - 9000);
  }
  EXPECT_EQ(weft_breaker_ejections(state("127.0.0.2").breaker), 4u);
  EXPECT_EQ(total().ejected, 1u);
}

TEST_F(Breaker, LetsExactlyOneOfAThousandRacingConnectsProbe) {
  const auto good = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2"}));
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN) dial(kService);
  const BlackHole hole("127.0.0.2");  // a probe's answer does not come while the others race
  end_ejection("127.0.0.2");
  constexpr int kThreads = 8, kEach = 125;
  std::vector<std::vector<base::Fd>> sockets(kThreads);
  std::barrier start(kThreads);
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      start.arrive_and_wait();
      for (int i = 0; i < kEach; ++i) {
        const int error = dial_now(kService, sockets[t].emplace_back());
        refused += error != 0 && error != EINPROGRESS;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(state("127.0.0.2").active, 1u);
  EXPECT_EQ(state("127.0.0.1").active, 999u);
  EXPECT_EQ(refused, 0);
  EXPECT_EQ(breaker("127.0.0.2"), WEFT_BREAKER_HALF_OPEN);
  sockets.clear();
  EXPECT_EQ(breaker("127.0.0.2"), WEFT_BREAKER_OPEN) << "the probe gave up: nothing is known";
  EXPECT_LE(weft_breaker_until_ms(state("127.0.0.2").breaker), kernel::now_ms()) << "and due again";
  expect_nothing_in_flight();
}

TEST_F(Breaker, DoesNotWaitForAProbeBeyondItsLease) {
  const auto good = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2"}));
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN) dial(kService);
  const BlackHole hole("127.0.0.2");
  end_ejection("127.0.0.2");
  std::vector<base::Fd> sockets;
  for (int i = 0; i < 4; ++i) dial_now(kService, sockets.emplace_back());
  EXPECT_EQ(state("127.0.0.2").active, 1u);
  end_ejection("127.0.0.2");  // the lease is over, and its holder says nothing
  for (int i = 0; i < 4; ++i) dial_now(kService, sockets.emplace_back());
  EXPECT_EQ(state("127.0.0.2").active, 2u);
  EXPECT_EQ(breaker("127.0.0.2"), WEFT_BREAKER_HALF_OPEN);
}

TEST_F(Breaker, ForgetsAnEjectionForEveryQuietInterval) {
  // It did not close before this machine was booted, and the fourth interval is not over soon.
  const auto interval = std::min<std::uint64_t>(kernel::now_ms() / 4, 100'000);
  auto made = service({"127.0.0.1", "127.0.0.2"});
  made.traffic.outlier->interval = milliseconds(interval);
  apply(made);
  const auto good = listen_on("127.0.0.1");
  kernel::store(state("127.0.0.2").breaker,
                weft_breaker_make(WEFT_BREAKER_CLOSED, WEFT_BREAKER_REFUSED, 0, 5,
                                  kernel::now_ms() - 3 * interval));
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN) dial(kService);
  EXPECT_EQ(weft_breaker_ejections(state("127.0.0.2").breaker), 3u);  // 5 - 3 + 1
}

TEST_F(Breaker, ObeysPeopleAndForgetsThemInTime) {
  const auto one = listen_on("127.0.0.1"), two = listen_on("127.0.0.2");
  auto made = make_service("web", {kService}, {"127.0.0.1", "127.0.0.2"});
  apply(made);
  using Action = kernel::Verdict::Action;
  kernel::carry_out(node_.maps(), id("127.0.0.1"), {.action = Action::kOpen, .expires = 60s});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(dial(kService), 0);
  EXPECT_EQ(state("127.0.0.1").opened, 0u);
  kernel::carry_out(node_.maps(), id("127.0.0.2"), {.action = Action::kOpen, .expires = 60s});
  EXPECT_EQ(dial(kService), ECONNREFUSED) << "a person may take the last one";
  EXPECT_EQ(total().ejected, 0u) << "and it is no failure";
  end_ejection("127.0.0.2");
  EXPECT_EQ(dial(kService), 0) << "its time is over: a probe";
  EXPECT_EQ(breaker("127.0.0.2"), WEFT_BREAKER_CLOSED);
  kernel::carry_out(node_.maps(), id("127.0.0.1"), {.action = Action::kClose});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(dial(kService), 0);
  EXPECT_GT(state("127.0.0.1").opened, 0u);
  kernel::carry_out(node_.maps(), id("127.0.0.1"), {.action = Action::kReset});
  EXPECT_EQ(state("127.0.0.1").breaker, 0u);
}

// Else its share would begin small again, and people would read of transitions that were none.
TEST_F(Breaker, ClosingWhatIsClosedIsNoTransition) {
  apply(make_service("web", {kService}, {"127.0.0.1", "127.0.0.2"}));
  using Action = kernel::Verdict::Action;
  const auto say = [&](Action action) {
    return kernel::carry_out(node_.maps(), id("127.0.0.1"), {.action = action, .expires = 60s});
  };
  const auto before = kernel::load(state("127.0.0.1").breaker);
  kernel::store(state("127.0.0.1").failing_since_ms, 1);
  EXPECT_FALSE(say(Action::kClose));
  EXPECT_EQ(kernel::load(state("127.0.0.1").breaker), before);
  EXPECT_EQ(kernel::load(state("127.0.0.1").failing_since_ms), 0u) << "failures are forgotten";
  EXPECT_FALSE(say(Action::kReset));
  EXPECT_TRUE(say(Action::kOpen));
  EXPECT_TRUE(say(Action::kOpen)) << "for longer: that is one";
  EXPECT_TRUE(say(Action::kClose));
  EXPECT_FALSE(say(Action::kReset)) << "ejections are forgotten, nothing moves";
  EXPECT_EQ(state("127.0.0.1").breaker, 0u);
  EXPECT_TRUE(say(Action::kOpen));
  EXPECT_TRUE(say(Action::kReset));
}

TEST_F(Breaker, IgnoresVerdictsThatAreOlderThanTheNewest) {
  apply(make_service("web", {kService}, {"127.0.0.1", "127.0.0.2"}));
  using Action = kernel::Verdict::Action;
  const auto say = [&](Action action, std::uint32_t epoch) {
    return kernel::carry_out(
        node_.maps(), id("127.0.0.1"),
        {.action = action, .expires = 60s, .reason = WEFT_BREAKER_CLUSTER, .epoch = epoch});
  };
  EXPECT_TRUE(say(Action::kOpen, 7));
  EXPECT_FALSE(say(Action::kClose, 6));
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_OPEN);
  EXPECT_TRUE(say(Action::kClose, 8));
  EXPECT_EQ(breaker("127.0.0.1"), WEFT_BREAKER_CLOSED);
}

TEST_F(Breaker, TellsOfEveryTransition) {
  const auto good = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2"}));
  auto transitions = kernel::Transitions::open(node_.pins());
  ASSERT_TRUE(transitions.ok()) << transitions.status();
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN) dial(kService);
  const auto back = listen_on("127.0.0.2");
  end_ejection("127.0.0.2");
  while (breaker("127.0.0.2") != WEFT_BREAKER_CLOSED) dial(kService);
  const auto told = transitions->take();
  ASSERT_EQ(told.size(), 3u);
  const unsigned to[] = {WEFT_BREAKER_OPEN, WEFT_BREAKER_HALF_OPEN, WEFT_BREAKER_CLOSED};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(weft_breaker_state(told[i].to), to[i]) << i;
    EXPECT_EQ(told[i].endpoint, id("127.0.0.2"));
    EXPECT_EQ(told[i].service, node_.index_of("web"));
  }
  EXPECT_EQ(told[0].reason, unsigned{WEFT_BREAKER_REFUSED});
}

TEST_F(Breaker, IsKeptWhenTheAgentIsReplaced) {
  const auto good = listen_on("127.0.0.1");
  const auto made = service({"127.0.0.1", "127.0.0.2"});
  apply(made);
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN) dial(kService);
  const auto word = kernel::load(state("127.0.0.2").breaker);
  node_.kill();
  EXPECT_EQ(dial(kService), 0) << "and keeps working without one";
  node_.start();
  kernel::store(node_.maps().meta.at(0).agent_tgid, 0);
  EXPECT_TRUE(node_.plan(make_mesh({made})).empty()) << "nothing has changed";
  EXPECT_EQ(kernel::load(state("127.0.0.2").breaker), word);
  EXPECT_EQ(total().ejected, 1u);
}

TEST_F(Breaker, ForgetsAnEndpointThatLeaves) {
  const auto good = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2", "127.0.0.3"}));
  while (total().ejected == 0) dial(kService);
  apply(service({"127.0.0.1"}));
  EXPECT_EQ(total().ejected, 0u);
  EXPECT_TRUE(kernel::miscounted(node_.maps()).empty());
}

TEST_F(Breaker, TellsOfAnEndpointThatLeavesWhileItsBreakerIsOpen) {
  const auto good = listen_on("127.0.0.1");
  apply(service({"127.0.0.1", "127.0.0.2", "127.0.0.3"}));
  while (breaker("127.0.0.2") != WEFT_BREAKER_OPEN) dial(kService);
  const auto open = id("127.0.0.2"), closed = id("127.0.0.1");
  std::vector<weft_transition> all;
  kernel::MapWriter writer(node_.maps(), [&](const auto& told, const auto& was) {
    all.push_back(told);
    EXPECT_EQ(compile::from_abi(was.addr).to_text(), "127.0.0.2");
    EXPECT_EQ(weft_endpoint_port(was.word), htons(8080));
  });
  const std::vector<reconcile::MapOp> ops{reconcile::ClearEndpoint{closed},
                                          reconcile::ClearEndpoint{open}};
  ASSERT_TRUE(writer.write(ops).ok());
  ASSERT_TRUE(writer.write(ops).ok()) << "as a plan that is tried again";
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(weft_breaker_state(all[0].from), unsigned{WEFT_BREAKER_OPEN});
  EXPECT_EQ(weft_breaker_state(all[0].to), unsigned{WEFT_BREAKER_CLOSED});
  EXPECT_EQ(all[0].reason, unsigned{WEFT_BREAKER_REMOVED});
  EXPECT_EQ(all[0].endpoint, open);
}

TEST_F(Breaker, FindsAndMendsAWrongCount) {
  apply(service({"127.0.0.1", "127.0.0.2"}));
  total().ejected = 7;
  EXPECT_EQ(kernel::miscounted(node_.maps()).size(), 1u);
  EXPECT_EQ(kernel::recount_ejected(node_.maps()), 1u);
  EXPECT_EQ(total().ejected, 0u);
}

}  // namespace
}  // namespace weft::tests
