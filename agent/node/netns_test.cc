// On plain directories with a cgroup.procs of our making, and processes in network namespaces of
// their own. Needs root, as weftd does.
#include "agent/node/netns.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "mesh/base/fd.h"

namespace weft::node {
namespace {

std::uint64_t own_cookie() {
  const base::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  EXPECT_EQ(getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length), 0);
  return cookie;
}

// A process in a network namespace of its own, which ends with this, or with the test.
class Process {
 public:
  Process() {
    int pipe_ends[2];
    if (pipe(pipe_ends)) return;
    const base::Fd in(pipe_ends[0]);
    base::Fd out(pipe_ends[1]);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::uint64_t cookie = unshare(CLONE_NEWNET) ? 0 : own_cookie();
      if (write(out.get(), &cookie, sizeof cookie) != sizeof cookie) _exit(1);
      for (;;) pause();
    }
    out = base::Fd();
    if (read(in.get(), &cookie_, sizeof cookie_) != sizeof cookie_) cookie_ = 0;
  }
  ~Process() { end(); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  pid_t pid() const { return pid_; }
  std::uint64_t cookie() const { return cookie_; }

 private:
  pid_t pid_ = -1;
  std::uint64_t cookie_ = 0;
};

class NetnsTest : public testing::Test {
 protected:
  NetnsTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "weft-netns-XXXXXX";
    pod_ = mkdtemp(pattern.data());
  }
  ~NetnsTest() override { std::filesystem::remove_all(pod_); }
  void SetUp() override {
    ASSERT_EQ(geteuid(), 0u) << "needs root: network namespaces are entered";
  }

  void put(const std::string& below, const std::string& processes) {
    std::filesystem::create_directories(pod_ + "/" + below);
    std::ofstream(pod_ + "/" + below + "/cgroup.procs") << processes;
  }

  std::string pod_;
};

TEST_F(NetnsTest, IsThatOfTheFirstProcessBelow) {
  const Process process;
  ASSERT_NE(process.cookie(), 0u);
  ASSERT_NE(process.cookie(), own_cookie());
  put("", "");
  put("container/inner", std::to_string(process.pid()) + "\n");
  const auto before = own_cookie();
  EXPECT_EQ(netns_cookie_of_cgroup(pod_), process.cookie());
  EXPECT_EQ(own_cookie(), before);  // the calling thread stays where it is
}

TEST_F(NetnsTest, ProcessesThatAreGoneOrNotShownAreSkipped) {
  Process gone;
  const Process process;
  const pid_t pid = gone.pid();
  gone.end();
  put("", "0\n" + std::to_string(pid) + "\n" + std::to_string(process.pid()) + "\n");
  EXPECT_EQ(netns_cookie_of_cgroup(pod_), process.cookie());
}

TEST_F(NetnsTest, NothingWhereNobodyIs) {
  EXPECT_EQ(netns_cookie_of_cgroup(pod_), std::nullopt);
  put("container", "0\n");
  EXPECT_EQ(netns_cookie_of_cgroup(pod_), std::nullopt);
  EXPECT_EQ(netns_cookie_of_cgroup(pod_ + "/none"), std::nullopt);
}

}  // namespace
}  // namespace weft::node
