// A child process, started where and as whom it is to run, and watched by its pidfd: a number that
// was used again can then be neither waited for nor killed.
#pragma once

#include <absl/status/statusor.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "mesh/base/fd.h"

namespace weft::proxy {

struct Launch {
  std::vector<std::string> argv;         // [0] is the path of the program
  std::vector<std::string> environment;  // all of it: nothing is inherited
  // Descriptor 3 and up, in this order. They stay the caller's. 0 is /dev/null, 1 and 2 are ours
  // unless `output` says otherwise.
  std::vector<int> descriptors;
  int cgroup = -1;  // of a cgroup v2 directory; -1: ours
  // 0 stays root with all it has. Anything else: that user and group, no other group, no
  // capability, and none to be had by exec (no_new_privs).
  uid_t user = 0;
  // Leads a group of its own, and signals go to all of it: of a command that starts others.
  bool group = false;
  int output = -1;  // its standard output; -1: ours
};

// Moves only. Who drops it neither waits for the process nor kills it.
struct Process {
  pid_t pid = 0;
  base::Fd pidfd;
  bool group = false;
};

// Returns when the program runs, or says what went wrong on the way to it: "cannot run
// /usr/bin/x: No such file or directory". RLIMIT_NOFILE is as high as ours may be.
absl::StatusOr<Process> launch(const Launch& what);

void kill(const Process& process, int signal);  // no error where it has gone
// Reaps; what is left of its group is killed. What wait(2) gives, in words: "exited with 3",
// "killed by signal 9".
std::string reap(const Process& process);

// Which processes are in a cgroup, not below it. Empty where there is none such.
std::vector<pid_t> processes_in(const std::string& cgroup);
// By its number: absent where it has gone.
absl::StatusOr<Process> open_process(pid_t pid);

}  // namespace weft::proxy
