// With real processes (tests/tools/test_proxy.cc) that behave, or do not, as weft-proxy does. Needs
// root, as weftd does.
#include "agent/proxy/supervisor.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "agent/proxy/test_cgroup.h"

namespace weft::proxy {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Looks often. Who is to be killed for being late has a shorter time of the test's own: a busy
// machine makes a proxy late that is well.
Timing patient() {
  Timing timing;
  timing.look = 50ms;
  timing.stalled = timing.start = timing.drain = 1h;
  return timing;
}

// A listening socket as a workload's, with the port it got.
struct Listener {
  base::Fd fd{socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  Listener() {
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(listen(fd.get(), 1024), 0);
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  }
  base::Fd connect() const {
    base::Fd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto* to = reinterpret_cast<const sockaddr*>(&address);
    return ::connect(client.get(), to, sizeof address) ? base::Fd() : std::move(client);
  }
  // The generation that answers; empty: nobody did.
  std::string ask() const {
    const auto client = connect();
    char answer[16];
    const auto n = client ? recv(client.get(), answer, sizeof answer, 0) : -1;
    return n > 0 ? std::string(answer, static_cast<std::size_t>(n)) : "";
  }
};

class SupervisorTest : public ::testing::Test {
 protected:
  void make(const std::string& behaviour = "") {
    program.argv = {binary};
    program.cgroup = cgroup.path();
    program.environment = {"WEFT_TEST_PROXY=" + behaviour};
    remake();
  }
  void remake() { supervisor.emplace(io, program, timing, hooks()); }

  Supervisor::Hooks hooks() {
    Supervisor::Hooks hooks;
    hooks.gifts = [this](std::uint32_t) -> absl::StatusOr<Supervisor::Hooks::Gifts> {
      if (no_gifts) return absl::UnavailableError("weft-sockets is not there");
      Supervisor::Hooks::Gifts gifts;
      if (program.external) {
        gifts.descriptors.emplace_back(dup(listener.fd.get()));
        gifts.environment.push_back("WEFT_LISTEN_FDS=1");
      }
      return gifts;
    };
    hooks.welcome = [this](Generation& one) {
      weft::v1::ToProxy message;
      message.mutable_config()->set_generation(5);
      one.send(message);
      one.serve_after(5);
      weft::v1::ToProxy workload;
      workload.mutable_workload()->set_listeners(1);
      one.send(workload, {listener.fd.get()});
    };
    hooks.up = [this](const Generation* serving) {
      told = serving ? serving->number() : 0;
      const bool up = serving;
      if (ups.empty() || ups.back() != up) ups.push_back(up);
    };
    hooks.clear = [this](std::uint32_t column) { cleared.push_back(column); };
    hooks.changed = [] {};
    return hooks;
  }

  template <class Condition>
  bool wait(Condition condition) {
    const auto until = Clock::now() + 60s;  // a hang, not a slow machine
    while (!condition() && Clock::now() < until) {
      io.restart();
      io.run_for(5ms);
    }
    return condition();
  }
  bool serves(std::uint32_t number) {
    return wait([&] { return supervisor->serving() && supervisor->serving()->number() == number; });
  }
  void run_for(std::chrono::milliseconds time) {
    io.restart();
    io.run_for(time);
  }

  static constexpr auto binary = WEFT_TEST_PROXY;
  boost::asio::io_context io{1};
  TestCgroup cgroup;
  Listener listener;
  Program program;
  Timing timing = patient();
  bool no_gifts = false;
  std::vector<bool> ups;
  std::uint32_t told = 0;  // who serves; 0: nobody
  std::vector<std::uint32_t> cleared;
  std::optional<Supervisor> supervisor;
};

TEST_F(SupervisorTest, ServesOnceTheFirstConfigurationIsApplied) {
  make();
  supervisor->start();
  EXPECT_EQ(supervisor->serving(), nullptr);
  EXPECT_TRUE(ups.empty());
  ASSERT_TRUE(serves(1));
  EXPECT_EQ(ups, std::vector<bool>{true});
  EXPECT_EQ(processes_in(cgroup.path()), std::vector<pid_t>{supervisor->serving()->pid()});
}

TEST_F(SupervisorTest, ClearsTheColumnsOfNobodyWhenItStarts) {
  make();
  supervisor->start();
  EXPECT_EQ(cleared, (std::vector<std::uint32_t>{0, 1, 2, 3}));
}

TEST_F(SupervisorTest, NoticesADeathAtOnceAndStartsAnother) {
  timing.look = 1h;  // so that it is told of it, and does not find it out
  make();
  supervisor->start();
  ASSERT_TRUE(serves(1));
  cleared.clear();
  ::kill(supervisor->serving()->pid(), SIGKILL);
  ASSERT_TRUE(wait([&] { return ups.size() >= 2; }));
  EXPECT_EQ(cleared, std::vector<std::uint32_t>{1});
  ASSERT_TRUE(serves(2));
  EXPECT_EQ(ups, (std::vector<bool>{true, false, true}));
  EXPECT_EQ(supervisor->restarts(), 1u);
}

TEST_F(SupervisorTest, LosesNoConnectionThatComesWhileNobodyAccepts) {
  make();
  supervisor->start();
  ASSERT_TRUE(serves(1));
  ::kill(supervisor->serving()->pid(), SIGKILL);
  const auto client = listener.connect();
  ASSERT_TRUE(client);
  ASSERT_TRUE(serves(2));
  char answer[16];
  EXPECT_EQ(recv(client.get(), answer, sizeof answer, 0), 1);
  EXPECT_EQ(answer[0], '2');
}

TEST_F(SupervisorTest, KillsAProxyThatStallsAfterItsTime) {
  timing.stalled = 400ms;
  make("stall");
  supervisor->start();
  // The next one stalls, too: where this thread itself is late, one of the next is killed in time.
  bool in_time = false;
  for (std::uint32_t number = 1; number <= 20 && !in_time; ++number) {
    ASSERT_TRUE(serves(number));
    const auto stalled = Clock::now();
    const auto pid = supervisor->serving()->pid();
    ASSERT_TRUE(wait([&] {
      const auto* one = supervisor->serving();
      return !one || one->number() != number;
    }));
    const auto lasted = Clock::now() - stalled;
    EXPECT_GE(lasted, timing.stalled - timing.look);
    EXPECT_NE(::kill(pid, 0), 0);
    in_time = lasted < timing.stalled + 500ms;
  }
  EXPECT_TRUE(in_time);
}

TEST_F(SupervisorTest, IsPatientWithAProxyThatHasHeardOfItLate) {
  timing.stalled = 400ms;
  make();
  supervisor->start();
  ASSERT_TRUE(serves(1));
  // This thread, which reads the heartbeats, is itself late: that is no stall of the proxy.
  std::this_thread::sleep_for(2 * timing.stalled);
  run_for(timing.stalled);
  ASSERT_TRUE(supervisor->serving());
  EXPECT_EQ(supervisor->serving()->number(), 1u);
}

TEST_F(SupervisorTest, KillsAProxyThatNeverSpeaks) {
  timing.start = 300ms;
  make("mute");
  supervisor->start();
  EXPECT_TRUE(wait([&] { return supervisor->restarts() >= 2; }));
  EXPECT_TRUE(ups.empty());
}

TEST_F(SupervisorTest, KillsAProxyThatSaysWhatIsNoMessage) {
  make("garbage");
  supervisor->start();
  EXPECT_TRUE(wait([&] { return supervisor->restarts() >= 2; }));
}

TEST_F(SupervisorTest, StartsAProxyThatKeepsDyingLaterAndLater) {
  make("die");
  const auto begun = Clock::now();
  supervisor->start();
  ASSERT_TRUE(wait([&] { return supervisor->restarts() >= 6; }));
  // The first six deaths are 0, 50, 100, 200, 400 ms apart, and the time it takes to start one.
  EXPECT_GE(Clock::now() - begun, 750ms);
}

TEST_F(SupervisorTest, ReloadsWithoutAMomentInWhichNobodyAnswers) {
  make();
  supervisor->start();
  ASSERT_TRUE(serves(1));
  std::atomic<bool> stop = false;
  std::atomic<int> asked = 0, failed = 0;
  std::thread client([&] {
    for (; !stop; ++asked) failed += listener.ask().empty();
  });
  for (std::uint32_t number = 2; number <= 21; ++number) {
    supervisor->reload("test");
    ASSERT_TRUE(serves(number));
  }
  EXPECT_TRUE(wait([&] { return supervisor->generations().size() == 1 && asked > 100; }));
  stop = true;
  client.join();
  EXPECT_EQ(failed, 0) << "of " << asked;
  EXPECT_GT(asked, 100);
  EXPECT_EQ(ups, std::vector<bool>{true});
  EXPECT_EQ(listener.ask(), "21");
  EXPECT_EQ(told, 21u);
}

TEST_F(SupervisorTest, KillsAnOldGenerationThatDoesNotEndByItsDeadline) {
  timing.drain = 500ms;
  make("deaf");
  supervisor->start();
  ASSERT_TRUE(serves(1));
  const auto begun = Clock::now();
  supervisor->reload("test");
  ASSERT_TRUE(serves(2));
  EXPECT_EQ(supervisor->generations().size(), 2u);
  ASSERT_TRUE(wait([&] { return supervisor->generations().size() == 1; }));
  EXPECT_GE(Clock::now() - begun, timing.drain);
  EXPECT_EQ(supervisor->serving()->number(), 2u);
}

TEST_F(SupervisorTest, GivesNoTwoLivingGenerationsOneColumn) {
  timing.crowded = 1h;
  make("deaf");
  supervisor->start();
  ASSERT_TRUE(serves(1));
  for (std::uint32_t number = 2; number <= 4; ++number) {
    supervisor->reload("test");
    ASSERT_TRUE(serves(number));
  }
  supervisor->reload("a fifth waits until one has gone");
  run_for(100ms);
  EXPECT_EQ(supervisor->generations().size(), 4u);
  EXPECT_EQ(supervisor->serving()->number(), 4u);
  ::kill(supervisor->generations().front()->pid(), SIGKILL);
  ASSERT_TRUE(serves(5));
  EXPECT_LE(supervisor->generations().size(), 4u);
  EXPECT_EQ(ups, std::vector<bool>{true});
}

TEST_F(SupervisorTest, CutsTheOldestThatDrainsWhereAReloadNeedsItsColumn) {
  timing.crowded = 100ms;
  make("deaf");
  supervisor->start();
  ASSERT_TRUE(serves(1));
  EXPECT_EQ(listener.ask(), "1");
  ASSERT_TRUE(wait([&] { return supervisor->serving()->connections() == 1; }));
  for (std::uint32_t number = 2; number <= 5; ++number) {
    EXPECT_EQ(supervisor->cut(), 0u);
    supervisor->reload("test");
    ASSERT_TRUE(serves(number));
  }
  EXPECT_EQ(supervisor->cut(), 1u);
  EXPECT_EQ(supervisor->generations().size(), 4u);
  EXPECT_EQ(supervisor->generations().front()->number(), 2u) << "the others drain on";
  EXPECT_EQ(ups, std::vector<bool>{true});
}

TEST_F(SupervisorTest, CutsNobodyWhoEndsInTime) {
  timing.crowded = 1h;
  make();
  supervisor->start();
  for (std::uint32_t number = 1; number <= 9; ++number) {
    ASSERT_TRUE(serves(number));
    supervisor->reload("test");
  }
  ASSERT_TRUE(serves(10));
  EXPECT_EQ(supervisor->cut(), 0u);
}

TEST_F(SupervisorTest, KeepsTheOldGenerationWhereTheNewOneCannotRun) {
  make();
  supervisor->start();
  ASSERT_TRUE(serves(1));
  no_gifts = true;
  supervisor->reload("test");
  run_for(300ms);
  EXPECT_EQ(supervisor->error(), "weft-sockets is not there");
  EXPECT_EQ(supervisor->serving()->number(), 1u);
  EXPECT_EQ(listener.ask(), "1");
  no_gifts = false;
  ASSERT_TRUE(serves(2));
  EXPECT_EQ(ups, std::vector<bool>{true});
}

TEST_F(SupervisorTest, ReloadsWhenTheBinaryIsAnother) {
  const auto directory = std::filesystem::temp_directory_path() / cgroup.name();
  std::filesystem::create_directory(directory);
  std::filesystem::permissions(directory, std::filesystem::perms(0755));
  const auto path = directory / "proxy";
  std::filesystem::copy_file(binary, path);
  make();
  program.argv = {path};
  remake();
  supervisor->start();
  ASSERT_TRUE(serves(1));
  supervisor->reload_if_changed();
  EXPECT_EQ(supervisor->generations().size(), 1u);
  std::filesystem::copy_file(binary, directory / "new");
  std::filesystem::rename(directory / "new", path);
  supervisor->reload_if_changed();
  EXPECT_TRUE(serves(2));
  std::filesystem::remove_all(directory);
}

TEST_F(SupervisorTest, ReplacesWhatAnEarlierAgentLeftServing) {
  make();
  supervisor->start();
  ASSERT_TRUE(serves(1));
  const auto left = supervisor->serving()->pid();
  supervisor.reset();  // as when weftd dies
  EXPECT_EQ(listener.ask(), "1");
  ups.clear();
  cleared.clear();
  remake();
  supervisor->start();
  EXPECT_EQ(ups, std::vector<bool>{true}) << "it serves all the time";
  EXPECT_EQ(cleared, (std::vector<std::uint32_t>{0, 2, 3})) << "not its column";
  ASSERT_TRUE(serves(2));
  ASSERT_TRUE(wait([&] { return supervisor->generations().size() == 1; }));
  EXPECT_EQ(ups, std::vector<bool>{true});
  EXPECT_NE(supervisor->serving()->pid(), left);
  EXPECT_EQ(listener.ask(), "2");
}

TEST_F(SupervisorTest, EndsWhatRunsWhenThereIsToBeNoProxy) {
  make();
  supervisor->start();
  ASSERT_TRUE(serves(1));
  supervisor.reset();
  remake();
  supervisor->drain_all();
  EXPECT_TRUE(wait([&] { return supervisor->generations().empty(); }));
  EXPECT_TRUE(processes_in(cgroup.path()).empty());
}

TEST_F(SupervisorTest, RunsAThirdPartysProxyWithWhatItIsGiven) {
  make();
  program.external = true;
  program.argv = {
      "/bin/sh", "-c",
      "trap 'exit 0' TERM; test -S /dev/fd/3 && test $WEFT_LISTEN_FDS = 1 && sleep 60 & wait"};
  remake();
  supervisor->start();
  ASSERT_TRUE(serves(1));
  supervisor->reload("its listeners have changed");
  ASSERT_TRUE(serves(2));
  EXPECT_TRUE(wait([&] { return supervisor->generations().size() == 1; }));
  run_for(200ms);
  EXPECT_EQ(supervisor->restarts(), 0u);
  supervisor->drain_all();
  EXPECT_TRUE(wait([&] { return processes_in(cgroup.path()).empty(); }));
}

}  // namespace
}  // namespace weft::proxy
