// Real processes in cgroups of their own. Needs root, as weftd does.
#include "agent/proxy/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "agent/proxy/test_cgroup.h"

namespace weft::proxy {
namespace {

bool ends_within(const Process& process, int ms) {
  pollfd end{process.pidfd.get(), POLLIN, 0};
  return poll(&end, 1, ms) == 1;
}

// What a shell command says that runs as the launch says.
std::string output_of(Launch what, const std::string& command, std::string* how = nullptr) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return "no pipe";
  const base::Fd in(ends[0]);
  base::Fd out(ends[1]);
  what.argv = {"/bin/sh", "-c", command + " >&3"};
  what.descriptors.insert(what.descriptors.begin(), out.get());
  const auto process = launch(what);
  out = base::Fd();
  if (!process.ok()) return std::string(process.status().message());
  std::string said;
  char buffer[4096];
  for (ssize_t n; (n = read(in.get(), buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(n));
  const auto end = reap(*process);
  if (how) *how = end;
  return said;
}

TEST(Process, RunsAsTheUserItIsGivenWithNoCapability) {
  Launch what;
  what.user = 65534;
  EXPECT_EQ(output_of(what, "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs)' /proc/self/status"),
            "Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\nGroups:\t \n"
            "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
            "CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n");
}

TEST(Process, HasTheDescriptorsItIsGivenAndNoOther) {
  const base::Fd zero(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  const base::Fd full(open("/dev/full", O_RDONLY));  // not close-on-exec: it must not get through
  Launch what;
  what.descriptors = {zero.get(), zero.get()};
  EXPECT_EQ(output_of(what, "for f in 0 4 5 6 7 8 9; do readlink /proc/$$/fd/$f || echo -; done"),
            "/dev/null\n/dev/zero\n/dev/zero\n-\n-\n-\n-\n");
}

TEST(Process, ItsOutputGoesWhereItIsToldTo) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const base::Fd in(ends[0]);
  base::Fd out(ends[1]);
  const auto process = launch({.argv = {"/bin/echo", "said"}, .output = out.get()});
  out = base::Fd();
  ASSERT_TRUE(process.ok()) << process.status();
  char text[16] = {};
  EXPECT_EQ(read(in.get(), text, sizeof text), 5);
  EXPECT_STREQ(text, "said\n");
  EXPECT_EQ(read(in.get(), text, sizeof text), 0);  // nobody else holds it
  EXPECT_EQ(reap(*process), "exited with 0");
}

TEST(Process, SeesTheEnvironmentItIsGivenAndNoOther) {
  setenv("WEFT_SECRET", "x", 1);
  Launch what;
  what.environment = {"GIVEN=1"};
  const auto said = output_of(what, "tr '\\0' '\\n' </proc/$$/environ");
  unsetenv("WEFT_SECRET");
  EXPECT_EQ(said, "GIVEN=1\n");
}

TEST(Process, HasSignalsAsTheyAreByDefault) {
  sigset_t some, before;
  sigemptyset(&some);
  sigaddset(&some, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &some, &before);
  const auto said = output_of({}, "grep -E 'Sig(Blk|Ign)' /proc/self/status");
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(said, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST(Process, BeginsInItsCgroup) {
  const TestCgroup cgroup;
  const base::Fd directory(open(cgroup.path().c_str(), O_DIRECTORY | O_CLOEXEC));
  Launch what;
  what.cgroup = directory.get();
  EXPECT_NE(output_of(what, "grep ^0:: /proc/$$/cgroup").find(cgroup.name()), std::string::npos);
}

TEST(Process, SaysWhyItCannotRun) {
  Launch what;
  what.argv = {"/nowhere/weft-proxy"};
  EXPECT_EQ(launch(what).status().message(),
            "cannot run /nowhere/weft-proxy: No such file or directory");
}

TEST(Process, TellsHowItEnded) {
  std::string how;
  output_of({}, "exit 3", &how);
  EXPECT_EQ(how, "exited with 3");
  output_of({}, "kill -9 $$", &how);
  EXPECT_EQ(how, "killed by signal 9");
}

TEST(Process, OfAGroupTakesTheGroupWithIt) {
  const TestCgroup cgroup;
  const base::Fd directory(open(cgroup.path().c_str(), O_DIRECTORY | O_CLOEXEC));
  Launch what;
  what.argv = {"/bin/sh", "-c", "sleep 60 & sleep 60 & wait"};
  what.cgroup = directory.get();
  what.group = true;
  const auto process = launch(what);
  ASSERT_TRUE(process.ok()) << process.status();
  for (int i = 0; i < 6000 && processes_in(cgroup.path()).size() < 3; ++i) usleep(10000);
  EXPECT_EQ(processes_in(cgroup.path()).size(), 3u);
  kill(*process, SIGTERM);
  EXPECT_TRUE(ends_within(*process, 60000));
  reap(*process);
  for (int i = 0; i < 6000 && !processes_in(cgroup.path()).empty(); ++i) usleep(10000);
  EXPECT_TRUE(processes_in(cgroup.path()).empty());
}

}  // namespace
}  // namespace weft::proxy
