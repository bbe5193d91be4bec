// Real processes in real cgroups and network namespaces. Needs root, as weftd does.
#include "agent/proxy/namespaces.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "agent/proxy/test_cgroup.h"

namespace weft::proxy {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

std::uint64_t cookie_here() {
  const base::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length);
  return cookie;
}

// In a cgroup, and in a network namespace of its own where so asked; ends with this.
class Guest {
 public:
  explicit Guest(const std::string& cgroup, bool own_namespace = true) {
    int ends[2];
    if (pipe(ends)) return;
    const base::Fd in(ends[0]);
    base::Fd out(ends[1]);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::ofstream(cgroup + "/cgroup.procs") << getpid() << std::flush;
      std::uint64_t cookie = own_namespace && unshare(CLONE_NEWNET) ? 0 : cookie_here();
      if (write(out.get(), &cookie, sizeof cookie) != sizeof cookie) _exit(1);
      for (;;) pause();
    }
    out = base::Fd();
    if (read(in.get(), &cookie_, sizeof cookie_) != sizeof cookie_) cookie_ = 0;
  }
  ~Guest() { end(); }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  std::uint64_t cookie() const { return cookie_; }

 private:
  pid_t pid_ = -1;
  std::uint64_t cookie_ = 0;
};

std::set<std::uint64_t> cookies_of(const std::map<std::uint64_t, Namespace>& found) {
  std::set<std::uint64_t> cookies;
  for (const auto& [cookie, one] : found) cookies.insert(cookie);
  return cookies;
}

class NamespacesTest : public ::testing::Test {
 protected:
  void start() {
    Namespaces::Events events;
    events.appeared = [this](const Namespace& one) { there.insert(one.cookie); };
    events.gone = [this](std::uint64_t cookie) { there.erase(cookie); };
    events.looked = [this] { ++looks; };
    namespaces.emplace(io, excluded, std::move(events), 200ms);
    namespaces->set_cgroups({cgroup.path()});
    wait([&] { return looks > 0; });
  }
  template <class Condition>
  bool wait(Condition condition) {
    for (const auto until = Clock::now() + 60s; !condition() && Clock::now() < until;) {
      io.restart();
      io.run_for(1ms);
    }
    return condition();
  }
  std::string make_below(const std::string& name) {
    const auto path = cgroup.path() + "/" + name;
    mkdir(path.c_str(), 0755);
    return path;
  }

  boost::asio::io_context io{1};
  TestCgroup cgroup;
  std::string excluded;
  std::set<std::uint64_t> there;
  int looks = 0;
  std::optional<Namespaces> namespaces;
};

TEST_F(NamespacesTest, AreThoseOfAllProcessesAtOrBelowTheCgroup) {
  const auto below = make_below("below");
  const Guest here(cgroup.path()), there_too(make_below("below/deeper")), hosted(below, false);
  Finder finder("");
  const auto found = finder.look({cgroup.path()}, true);
  EXPECT_EQ(cookies_of(found),
            (std::set<std::uint64_t>{here.cookie(), there_too.cookie(), cookie_here()}));
  EXPECT_TRUE(found.at(cookie_here()).host);
  EXPECT_FALSE(found.at(here.cookie()).host);
  EXPECT_EQ(found.at(here.cookie()).process, "proxy_namespace");  // TASK_COMM_LEN
}

TEST_F(NamespacesTest, LeaveOutWhatIsExcluded) {
  const auto own = make_below("weft-proxy");
  const Guest proxy(own), other(cgroup.path());
  Finder finder(own);
  EXPECT_EQ(cookies_of(finder.look({cgroup.path()}, true)),
            std::set<std::uint64_t>{other.cookie()});
}

TEST_F(NamespacesTest, SayWhichOfTheCgroupsTheyWereFoundIn) {
  const auto a = make_below("a"), b = make_below("b");
  const Guest in_a(a), in_b(b);
  Finder finder("");
  const auto found = finder.look({b, a}, true);
  EXPECT_EQ(found.at(in_a.cookie()).cgroup, a);
  EXPECT_EQ(found.at(in_b.cookie()).cgroup, b);
}

TEST_F(NamespacesTest, OfCgroupsThatAreNotThereAreNone) {
  Finder finder("");
  EXPECT_TRUE(finder.look({"/nowhere", cgroup.path() + "/nobody"}, true).empty());
}

// Without being told they would be found half a second later, each time. A machine that does
// something else may be late, but not each time.
TEST_F(NamespacesTest, OfANewCgroupAreFoundAtOnce) {
  start();
  auto window = Clock::duration::max();
  for (int i = 0; i < 20 && window >= 150ms; ++i) {
    std::this_thread::sleep_for(1700ms);  // looking has become rare
    const auto path = make_below("new-" + std::to_string(i));
    const auto begin = Clock::now();
    const Guest guest(path);
    ASSERT_TRUE(wait([&] { return there.contains(guest.cookie()); }));
    window = std::min(window, Clock::now() - begin);
  }
  RecordProperty("window_us", static_cast<int>(window / 1us));
  EXPECT_LT(window, 150ms);
}

TEST_F(NamespacesTest, OfAKnownCgroupAreFoundWithinALateLook) {
  const Guest first(cgroup.path());
  start();
  bool in_time = false;
  for (int i = 0; i < 5 && !in_time; ++i) {  // as above
    std::this_thread::sleep_for(1500ms);
    const Guest another(cgroup.path());
    const auto begin = Clock::now();
    ASSERT_TRUE(wait([&] { return there.contains(another.cookie()); }));
    in_time = Clock::now() - begin < Namespaces::kLate + 200ms;
  }
  EXPECT_TRUE(in_time);
}

TEST_F(NamespacesTest, GoAWhileAfterTheirLastProcess) {
  Guest guest(cgroup.path());
  const auto begin = Clock::now();  // it is seen for the last time at some moment after this
  start();
  ASSERT_TRUE(wait([&] { return there.contains(guest.cookie()); }));
  guest.end();
  ASSERT_TRUE(wait([&] { return there.empty(); }));
  EXPECT_GE(Clock::now() - begin, 200ms);
}

TEST_F(NamespacesTest, OfNoCgroupAreLookedForToo) {
  Namespaces::Events events;
  events.looked = [this] { ++looks; };
  namespaces.emplace(io, excluded, std::move(events));
  io.run_for(50ms);
  EXPECT_EQ(looks, 0) << "nobody has said yet where";
  namespaces->set_cgroups({});
  EXPECT_TRUE(wait([&] { return looks == 1; }));
}

TEST_F(NamespacesTest, FollowTheSetOfCgroups) {
  const auto a = make_below("a"), b = make_below("b");
  const Guest in_a(a), in_b(b);
  start();
  ASSERT_TRUE(wait([&] { return there.size() == 2; }));
  namespaces->set_cgroups({b});
  EXPECT_TRUE(wait([&] { return there == std::set{in_b.cookie()}; }));
  namespaces->set_cgroups({});
  EXPECT_TRUE(wait([&] { return there.empty(); }));
}

}  // namespace
}  // namespace weft::proxy
