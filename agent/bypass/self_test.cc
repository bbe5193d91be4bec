// The parent's part: makes room, starts the child, waits, and takes everything away again.
#include "agent/bypass/self_test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "agent/bypass/report.h"
#include "agent/bypass/scratch.h"
#include "agent/proxy/process.h"
#include "mesh/base/text.h"

namespace weft::bypass {
namespace {

using Clock = std::chrono::steady_clock;

// Whether the descriptor is ready before the deadline.
bool wait_for(int fd, Clock::time_point deadline) {
  pollfd watched{fd, POLLIN, 0};
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    const int ready = poll(&watched, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

// All that comes until the end of the file; false: that did not come in time.
bool read_all(int fd, Clock::time_point deadline, std::string& text) {
  char piece[4096];
  while (wait_for(fd, deadline)) {
    const auto got = read(fd, piece, sizeof piece);
    if (got == 0) return true;
    if (got > 0) text.append(piece, static_cast<std::size_t>(got));
    if (got < 0 && errno != EINTR) return false;
  }
  return false;
}

// The child gives itself the name of what it is trying; a zombie still has it.
std::string doing(pid_t pid) {
  std::string name;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/comm"), name);
  return name.empty() ? "" : " at \"" + name + "\"";
}

SelfTest failed(std::string reason) { return {.reason = std::move(reason)}; }

SelfTest run_child(const std::string& program, const Scratch& scratch,
                   std::chrono::milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return failed("it could not run: no pipe");
  const base::Fd in(ends[0]);
  base::Fd out(ends[1]);
  // The cgroup as the child's first descriptor: there may be no path to it.
  auto child = proxy::launch({.argv = {program, kSelfTestWord, scratch.pins(), "/proc/self/fd/3"},
                              .descriptors = {scratch.cgroup_fd()},
                              .cgroup = scratch.cgroup_fd(),
                              .group = true,
                              .output = out.get()});
  if (!child.ok()) return failed("it could not run: " + base::message_of(child.status()));
  out = base::Fd();
  std::string text;
  const bool ended = read_all(in.get(), deadline, text) && wait_for(child->pidfd.get(), deadline);
  const auto where = doing(child->pid);
  if (!ended) proxy::kill(*child, SIGKILL);
  const auto how = proxy::reap(*child);
  if (!ended)
    return failed("it hung" + where + " and was killed after " + std::to_string(limit.count()) +
                  " ms");
  if (const auto result = result_of(text)) return *result;
  return failed("it died" + where + ": " + how);
}

}  // namespace

SelfTest run_self_test(const std::string& program, const std::string& bpffs_root,
                       const std::string& cgroup, std::chrono::milliseconds limit) {
  const auto start = Clock::now();
  SelfTest result;
  if (auto scratch = Scratch::make(bpffs_root, cgroup); scratch.ok())
    result = run_child(program, **scratch, limit);
  else
    result = failed("it could not run: " + base::message_of(scratch.status()));
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return result;
}

}  // namespace weft::bypass
