#include "agent/proxy/process.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace weft::proxy {
namespace {

// Above all that a program is started with, so that moving one into its place ends no other.
constexpr int kAside = 512;
constexpr int kFirstDescriptor = 3;

// What went wrong in the child, told through a pipe that exec closes.
struct Failure {
  int error = 0;
  char step[32] = {};
};

// Between clone and exec, in a copy of one thread of many: system calls only, no memory is taken.
class Child {
 public:
  Child(const Launch& what, int pipe) : what_(what), pipe_(pipe) {
    for (const auto& text : what.argv) argv_.push_back(const_cast<char*>(text.c_str()));
    for (const auto& text : what.environment)
      environment_.push_back(const_cast<char*>(text.c_str()));
    argv_.push_back(nullptr);
    environment_.push_back(nullptr);
    aside_.resize(what.descriptors.size());
  }

  [[noreturn]] void run() {
    place_descriptors();
    reset_signals();
    raise_limits();
    if (what_.group && setsid() < 0) fail("setsid");
    if (what_.user) drop_rights();
    if (chdir("/")) fail("chdir");
    execve(argv_[0], argv_.data(), environment_.data());
    fail("run");
  }

 private:
  [[noreturn]] void fail(const char* step) {
    Failure failure;
    failure.error = errno;
    std::strncpy(failure.step, step, sizeof failure.step - 1);
    [[maybe_unused]] const auto written = ::write(pipe_, &failure, sizeof failure);
    _exit(127);
  }

  void place_descriptors() {
    const int pipe = fcntl(pipe_, F_DUPFD_CLOEXEC, kAside);
    if (pipe < 0) fail("dup");
    pipe_ = pipe;
    for (std::size_t i = 0; i < aside_.size(); ++i)
      if ((aside_[i] = fcntl(what_.descriptors[i], F_DUPFD_CLOEXEC, kAside)) < 0) fail("dup");
    if (what_.output >= 0 && dup2(what_.output, 1) < 0) fail("dup2");
    const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing < 0 || dup2(nothing, 0) < 0) fail("dup2");
    int last = kFirstDescriptor;
    for (const int fd : aside_)
      if (dup2(fd, last++) < 0) fail("dup2");
    // The pipe with it, when exec has worked.
    if (syscall(SYS_close_range, last, ~0u, CLOSE_RANGE_CLOEXEC)) fail("close_range");
  }

  static void reset_signals() {
    for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
  }

  static void raise_limits() {
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files)) return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }

  void drop_rights() {
    // Ends at the first number that this kernel has no capability for.
    for (int capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; ++capability)
      continue;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
    // Raw: glibc's wrappers signal every thread, and there is only this one. A change of user from
    // root takes the effective, permitted and ambient capabilities with it.
    const auto user = static_cast<gid_t>(what_.user);
    if (syscall(SYS_setgroups, 0, nullptr)) fail("setgroups");
    if (syscall(SYS_setresgid, user, user, user)) fail("setresgid");
    if (syscall(SYS_setresuid, user, user, user)) fail("setresuid");
  }

  const Launch& what_;
  int pipe_;
  std::vector<char*> argv_, environment_;
  std::vector<int> aside_;
};

absl::Status failed(const Launch& what, int error, const std::string& step) {
  return absl::ErrnoToStatus(
      error, "cannot run " + what.argv[0] + (step == "run" ? "" : " (" + step + ")"));
}

}  // namespace

absl::StatusOr<Process> launch(const Launch& what) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return absl::ErrnoToStatus(errno, "cannot make a pipe");
  const base::Fd in(ends[0]);
  base::Fd out(ends[1]);
  Child child(what, out.get());
  int pidfd = -1;
  clone_args how{};
  how.flags = CLONE_PIDFD | (what.cgroup >= 0 ? CLONE_INTO_CGROUP : 0);
  how.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  how.exit_signal = SIGCHLD;
  if (what.cgroup >= 0) how.cgroup = static_cast<std::uint64_t>(what.cgroup);
  const auto pid = static_cast<pid_t>(syscall(SYS_clone3, &how, sizeof how));
  if (pid == 0) child.run();
  if (pid < 0) return failed(what, errno, "clone into its cgroup");
  Process process{pid, base::Fd(pidfd), what.group};
  out = base::Fd();
  Failure failure;
  ssize_t length;
  while ((length = read(in.get(), &failure, sizeof failure)) < 0 && errno == EINTR) continue;
  if (length == 0) return process;
  reap(process);
  return failed(what, failure.error, failure.step);
}

void kill(const Process& process, int signal) {
  // A group keeps its number until its leader is reaped, and that is ours to do.
  if (process.group)
    ::kill(-process.pid, signal);
  else if (process.pidfd)
    syscall(SYS_pidfd_send_signal, process.pidfd.get(), signal, nullptr, 0);
}

std::string reap(const Process& process) {
  if (process.group) ::kill(-process.pid, SIGKILL);
  siginfo_t how{};
  while (waitid(P_PIDFD, static_cast<id_t>(process.pidfd.get()), &how, WEXITED))
    if (errno != EINTR) return std::string("gone: ") + std::strerror(errno);
  return how.si_code == CLD_EXITED ? "exited with " + std::to_string(how.si_status)
                                   : "killed by signal " + std::to_string(how.si_status);
}

std::vector<pid_t> processes_in(const std::string& cgroup) {
  std::ifstream file(cgroup + "/cgroup.procs");
  std::vector<pid_t> pids;
  // 0: a process that our PID namespace does not show.
  for (pid_t pid = 0; file >> pid;)
    if (pid > 0) pids.push_back(pid);
  return pids;
}

absl::StatusOr<Process> open_process(pid_t pid) {
  base::Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return absl::ErrnoToStatus(errno, "process " + std::to_string(pid));
  return Process{pid, std::move(pidfd)};
}

}  // namespace weft::proxy
