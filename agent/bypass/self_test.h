// Whether the bypass keeps its promises on the running kernel: tried with real sockets before the
// first connection of an application may take it. The answer can only switch the bypass off.
//
// What is tried could hang or break who tries it, so it is a child process: weftd itself, started
// anew in a cgroup of its own beside the agent's, with a network namespace, programs, maps and pins
// of its own. Nothing of it stays, whichever way the child ends.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace weft::bypass {

struct SelfTest {
  bool ok = false;
  std::string reason;  // of the first check that failed, or of not having run; empty if ok
  // How a reader or writer sees that its connection is bypassed, each as "WHAT: this; plain TCP:
  // that". Observed, not judged.
  std::vector<std::string> differences;
  double seconds = 0;
};

// The first word of the child's command line, then come its directory on a bpffs and its cgroup.
inline constexpr char kSelfTestWord[] = "--bypass-self-test";

// Runs the child and waits at most `limit` for it; then it is killed, and the test has failed.
// Blocks: not for the thread that serves. `program` is this one, "/proc/self/exe". The cgroup is a
// sibling of the agent's, so that the agent's hooks do not see the child; where the agent has the
// root of the hierarchy, a child of it.
SelfTest run_self_test(const std::string& program, const std::string& bpffs_root,
                       const std::string& cgroup, std::chrono::milliseconds limit);

// For --uninstall: what a weftd left below its directory, and beside its cgroup if that is given,
// that was killed in the middle of a test. The next test does it by itself.
void sweep_self_tests(const std::string& bpffs_root, const std::string& cgroup);

// The child's main: PROGRAM --bypass-self-test BPFFS-DIR CGROUP. Prints one line of JSON.
int self_test_main(int argc, char** argv);

// A test that passed holds until the machine is booted or another kernel or weftd runs. One that
// failed is not kept: the next start tries again, for what was in its way may have gone.
std::optional<SelfTest> read_self_test(const std::string& file);
void write_self_test(const std::string& file, const SelfTest& result);

}  // namespace weft::bypass
