// On the real kernel: what the self-test says of it, and that nothing is left of it.
#include "agent/bypass/self_test.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "agent/bypass/checks.h"
#include "agent/kernel/pins.h"
#include "tests/bpf/bypass_fixture.h"

namespace weft::tests {
namespace {

constexpr std::chrono::seconds kLimit{120};  // a hang, not a slow machine

// A node whose cgroup and pins stand for the agent's.
class SelfTestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char dir[] = "/tmp/weft-self-test-XXXXXX";
    ASSERT_NE(mkdtemp(dir), nullptr);
    dir_ = dir;
    ASSERT_TRUE(kernel::make_directory(node_.pins().root).ok());
  }
  void TearDown() override {
    // One by one: below "view" may be the machine's cgroups.
    umount2((dir_ + "/view").c_str(), MNT_DETACH);
    rmdir((dir_ + "/view").c_str());
    unlink((dir_ + "/child").c_str());
    EXPECT_EQ(rmdir(dir_.c_str()), 0) << std::strerror(errno);
    rmdir(node_.pins().root.c_str());
  }

  // A program that is started with the word of tests/tools/test_self_test.cc before all others.
  std::string child(const std::string& word) const {
    return script("exec " WEFT_TEST_SELF_TEST " " + word + " \"$@\"");
  }
  std::string script(const std::string& line) const {
    const std::string path = dir_ + "/child";
    std::ofstream(path) << "#!/bin/sh\n" << line << "\n";
    chmod(path.c_str(), 0755);
    return path;
  }
  bypass::SelfTest run(const std::string& program, std::chrono::milliseconds limit = kLimit) const {
    return bypass::run_self_test(program, node_.pins().root, node_.cgroup(), limit);
  }

  // A process that lives would keep the cgroup.
  void expect_nothing_left() const {
    EXPECT_EQ(kernel::list_pins(node_.pins().root), std::vector<std::string>{});
    EXPECT_FALSE(kernel::exists(scratch_cgroup()));
  }
  std::string scratch_cgroup() const {
    return std::filesystem::path(node_.cgroup()).parent_path().string() + "/weft-self-test-" +
           std::to_string(getpid());
  }

  KernelNode node_;
  std::string dir_;
};

TEST_F(SelfTestTest, ThisKernelPassesAndItsDifferencesAreNamed) {
  const auto result = run(child("run"));
  EXPECT_TRUE(result.ok) << result.reason;
  EXPECT_EQ(result.reason, "");
  EXPECT_GT(result.seconds, 0);
  std::string all;
  for (const auto& difference : result.differences) all += difference + "\n";
  for (const char* what : {"splice(2) as reader: Resource temporarily unavailable, then end of "
                           "file; plain TCP: 6 bytes\n",
                           "MSG_WAITALL: returns what is there; plain TCP: waits for the rest\n"})
    EXPECT_NE(all.find(what), std::string::npos) << all;
  EXPECT_EQ(all.find("not observed"), std::string::npos) << all;
  expect_nothing_left();
}

TEST_F(SelfTestTest, AChildThatDiesIsReportedWithItsPlaceAndLeavesNothing) {
  const auto result = run(child("die"));
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(result.reason, "it died at \"in the middle\": killed by signal 9");
  expect_nothing_left();
}

TEST_F(SelfTestTest, AChildThatHangsIsKilledReportedWithItsPlaceAndLeavesNothing) {
  // Until it has come to the middle it loads programs.
  const auto result = run(child("hang"), std::chrono::milliseconds(5000));
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(result.reason, "it hung at \"in the middle\" and was killed after 5000 ms");
  expect_nothing_left();
}

TEST_F(SelfTestTest, AProcessThatTheChildStartedGoesWithIt) {
  const auto result = run(script("sleep 1000 & exit 0"), std::chrono::milliseconds(300));
  EXPECT_FALSE(result.ok);
  expect_nothing_left();
}

TEST_F(SelfTestTest, AChildThatSaysSomethingElseHasNotPassed) {
  const auto result = run(script("echo '{\"ok\": true}'"));
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(result.reason, "it died at \"child\": exited with 0");
  expect_nothing_left();
}

// As in a pod: attaching needs no more, but a cgroup of one's own does.
TEST_F(SelfTestTest, ItRunsBelowItsOwnCgroupWhereTheAgentsIsMountedReadOnly) {
  const std::filesystem::path cgroup = node_.cgroup();
  const std::string view = dir_ + "/view", parent = cgroup.parent_path();
  ASSERT_EQ(unshare(CLONE_NEWNS), 0) << std::strerror(errno);
  ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  ASSERT_EQ(mkdir(view.c_str(), 0755), 0);
  ASSERT_EQ(mount(parent.c_str(), view.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(mount(nullptr, view.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), 0);
  const auto seen = view + "/" + cgroup.filename().string();
  const auto result = bypass::run_self_test(child("run"), node_.pins().root, seen, kLimit);
  EXPECT_EQ(umount(view.c_str()), 0) << std::strerror(errno);
  EXPECT_TRUE(result.ok) << result.reason;
  expect_nothing_left();
}

// Its parent was killed before it could ask to go with it; its directories may be gone already.
TEST_F(SelfTestTest, AChildThatNobodyListensToMakesNothing) {
  const auto gone = node_.pins().root + "/gone";
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  close(ends[0]);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execl(WEFT_TEST_SELF_TEST, "test", "run", bypass::kSelfTestWord, gone.c_str(),
          node_.cgroup().c_str(), nullptr);
    _exit(9);
  }
  close(ends[1]);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 1);
  EXPECT_FALSE(kernel::exists(gone));
}

TEST_F(SelfTestTest, AProgramThatIsNotThereIsSaidToBe) {
  const auto result = run(dir_ + "/nothing");
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(result.reason,
            "it could not run: cannot run " + dir_ + "/nothing: No such file or directory");
  expect_nothing_left();
}

// For an agent one level further down: every weftd that starts sweeps what is dead beside its own
// cgroup, and there are others on the machine beside this node's.
class KilledTest : public SelfTestTest {
 protected:
  void SetUp() override {
    SelfTestTest::SetUp();
    agent_ = node_.cgroup() + "/agent";
    ASSERT_EQ(mkdir(agent_.c_str(), 0755), 0);
    cgroup_ = node_.cgroup() + "/weft-self-test-" + dead_;
    ASSERT_EQ(mkdir(cgroup_.c_str(), 0755), 0);
    const kernel::Pins pins{node_.pins().root + "/self_test_" + dead_};
    ASSERT_TRUE(kernel::load_bypass(pins, cgroup_).ok());
  }
  void TearDown() override {
    EXPECT_EQ(rmdir(agent_.c_str()), 0) << std::strerror(errno);
    SelfTestTest::TearDown();
  }

  const std::string dead_ = "4194305";  // beyond the kernel's largest process number
  std::string agent_, cgroup_;
};

TEST_F(KilledTest, WhatItLeftGoesWithTheNextTest) {
  bypass::run_self_test(dir_ + "/nothing", node_.pins().root, agent_, kLimit);
  EXPECT_FALSE(kernel::exists(cgroup_));
  EXPECT_FALSE(kernel::exists(node_.cgroup() + "/weft-self-test-" + std::to_string(getpid())));
  expect_nothing_left();
}

TEST_F(KilledTest, WhatItLeftGoesWithUninstall) {
  bypass::sweep_self_tests(node_.pins().root, "");
  expect_nothing_left();
  EXPECT_TRUE(kernel::exists(cgroup_)) << "whose it is was not said";
  bypass::sweep_self_tests(node_.pins().root, agent_);
  EXPECT_FALSE(kernel::exists(cgroup_));
}

// The checks themselves, on a bypass that this process has broken.
class ChecksTest : public BypassTest {
 protected:
  std::string failures(std::uint64_t credit = kernel::kBypassCredit) {
    std::string all;
    for (const auto& check : bypass::run_checks(*maps_, credit))
      if (!check.ok()) all += check.name + ": " + check.reason + "\n";
    return all;
  }
};

TEST_F(ChecksTest, AnIntactBypassPasses) { EXPECT_EQ(failures(), ""); }

TEST_F(ChecksTest, ACreditThatIsFarTooLargeIsCaught) {
  maps_->set_limits(std::uint64_t{1} << 40, std::uint64_t{1} << 40);
  const auto all = failures();
  EXPECT_TRUE(all.starts_with("backpressure: for a stalled reader")) << all;
  EXPECT_NE(all.find("more than its credit"), std::string::npos) << all;
}

TEST_F(ChecksTest, ABypassThatRedirectsNothingIsCaught) {
  maps_->set_limits(0, 0);
  const auto all = failures();
  EXPECT_TRUE(all.starts_with("pairing: of 27 bytes 0 were redirected\n")) << all;
}

TEST_F(ChecksTest, ABypassThatPairsNothingIsCaught) {
  maps_->set_joining(false);
  const auto all = failures();
  EXPECT_TRUE(all.starts_with("pairing: two sockets over loopback were not paired\n")) << all;
}

}  // namespace
}  // namespace weft::tests
