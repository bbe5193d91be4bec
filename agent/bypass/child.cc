// The child: a network namespace, a bypass of its own, the checks, and away with it.
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "agent/bypass/checks.h"
#include "agent/bypass/report.h"
#include "agent/bypass/self_test.h"
#include "agent/bypass/trial.h"
#include "agent/kernel/bypass.h"
#include "mesh/base/text.h"

namespace weft::bypass {
namespace {

using Clock = std::chrono::steady_clock;

absl::Status enter_cgroup(const std::string& cgroup) {
  const base::Fd procs(open((cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  if (!procs || write(procs.get(), "0", 1) != 1)
    return absl::ErrnoToStatus(errno, "cannot enter cgroup " + cgroup);
  return absl::OkStatus();
}

absl::Status enter_network() {
  if (unshare(CLONE_NEWNET)) return absl::ErrnoToStatus(errno, "no network namespace of its own");
  const base::Fd control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq loopback{};
  std::strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP;
  if (ioctl(control.get(), SIOCSIFFLAGS, &loopback))
    return absl::ErrnoToStatus(errno, "cannot bring up a loopback");
  return absl::OkStatus();
}

Check load_check(const absl::Status& status) { return {"load", base::message_of(status)}; }

// Nothing is queued: every socket is closed.
Check uninstall_check(const kernel::Pins& pins) {
  const auto end = Clock::now() + kPatience;
  const auto status =
      kernel::uninstall_bypass(pins, [&](const auto&) { return Clock::now() < end; });
  return {"uninstall", base::message_of(status)};
}

// Whoever started this process and died before it asked to die, too: nobody reads what it says.
// Its directories may be gone by now, and are not to be made again.
bool is_orphan() {
  pollfd out{STDOUT_FILENO, 0, 0};
  return poll(&out, 1, 0) > 0 && out.revents & (POLLERR | POLLHUP | POLLNVAL);
}

void run(const std::string& dir, const std::string& cgroup, Report& report) {
  auto status = enter_cgroup(cgroup);
  if (status.ok()) status = enter_network();
  if (!status.ok()) {
    report.checks.push_back(load_check(status));
    return;
  }
  const kernel::Pins pins{dir};
  auto maps = kernel::load_bypass(pins, cgroup);
  report.checks.push_back(load_check(maps.status()));
  if (maps.ok()) {
    for (auto& check : run_checks(*maps)) report.checks.push_back(std::move(check));
    if (report.ok()) report.differences = find_differences(*maps);
  }
  report.checks.push_back(uninstall_check(pins));
}

}  // namespace

int self_test_main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s %s BPFFS-DIR CGROUP\n", argv[0], kSelfTestWord);
    return 2;
  }
  // With the thread that waits for it; who waits has a limit of its own for all else.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (is_orphan()) return 1;
  std::signal(SIGPIPE, SIG_IGN);
  const auto start = Clock::now();
  Report report;
  run(argv[2], argv[3], report);
  report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  std::puts(to_json(report).c_str());
  return report.ok() ? 0 : 1;
}

}  // namespace weft::bypass
