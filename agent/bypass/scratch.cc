#include "agent/bypass/scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "agent/bypass/self_test.h"
#include "agent/kernel/bypass.h"
#include "agent/kernel/bypass_pins.h"
#include "agent/kernel/pins.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::bypass {
namespace {

constexpr char kCgroupName[] = "weft-self-test-";  // and the process's number
constexpr char kPinsName[] = "self_test_";
constexpr int kTries = 100;  // of 10 ms: what a killed process held goes a moment after it

std::string parent_of(const std::string& cgroup) {
  std::string path = cgroup;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const std::string parent = std::filesystem::path(path).parent_path();
  return kernel::is_cgroup2(parent) ? parent : path;
}

bool is_read_only(const std::string& path) {
  struct statvfs info {};
  return statvfs(path.c_str(), &info) == 0 && info.f_flag & ST_RDONLY;
}

// A mount in no directory: of the hierarchy as the cgroup namespace shows it. Needs CAP_SYS_ADMIN.
base::Fd mount_cgroup2() {
  const base::Fd context(fsopen("cgroup2", FSOPEN_CLOEXEC));
  if (!context || fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0))
    return base::Fd();
  return base::Fd(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
}

std::string path_of(const base::Fd& directory) {
  return "/proc/self/fd/" + std::to_string(directory.get());
}

void remove_cgroup(const std::string& path) {
  for (int i = 0; rmdir(path.c_str()) && errno == EBUSY && i < kTries; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  if (kernel::exists(path))
    log::warning("bypass_self_test_left", {{"cgroup", path}, {"error", std::strerror(errno)}});
}

// Those whose sockets they were are dead, so nothing is queued for long.
void remove_all_pins(const std::string& dir) {
  const kernel::Pins pins{dir};
  int tries = 0;
  auto status = kernel::uninstall_bypass(pins, [&](const auto&) { return ++tries < kTries; });
  if (!status.ok()) status = kernel::remove_pins(kernel::bypass_directory(pins));
  if (status.ok()) status = kernel::remove_pins(dir);
  if (!status.ok())
    log::warning("bypass_self_test_left", {{"pins", dir}, {"error", base::message_of(status)}});
}

// Calls `remove` for what a dead process left in the directory.
template <class Remove>
void sweep(const std::string& dir, const std::string& prefix, Remove remove) {
  for (const auto& name : kernel::list_pins(dir)) {
    if (!name.starts_with(prefix)) continue;
    const auto pid = base::parse_number<pid_t>(std::string_view(name).substr(prefix.size()));
    if (pid && kill(*pid, 0) && errno == ESRCH) remove(dir + "/" + name);
  }
}

// Empty or it stays: "dead" is what this process's PID namespace says.
void sweep_cgroups(const std::string& parent) {
  sweep(parent, kCgroupName, [](const std::string& left) { rmdir(left.c_str()); });
}

}  // namespace

void sweep_self_tests(const std::string& bpffs_root, const std::string& cgroup) {
  sweep(bpffs_root, kPinsName, remove_all_pins);
  if (!cgroup.empty()) sweep_cgroups(parent_of(cgroup));
}

absl::Status Scratch::make_cgroup(const std::string& parent) {
  sweep_cgroups(parent);
  const std::string path = parent + "/" + kCgroupName + std::to_string(getpid());
  if (mkdir(path.c_str(), 0755) && errno != EEXIST)
    return absl::ErrnoToStatus(errno, "cannot make cgroup " + path);
  cgroup_ = path;
  cgroup_fd_ = base::Fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup_fd_) return absl::ErrnoToStatus(errno, "cannot open cgroup " + path);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Scratch>> Scratch::make(const std::string& bpffs_root,
                                                       const std::string& cgroup) {
  const std::string parent = parent_of(cgroup);
  sweep_self_tests(bpffs_root, "");
  std::unique_ptr<Scratch> scratch(new Scratch);
  auto status = scratch->make_cgroup(parent);
  if (!status.ok() && is_read_only(parent)) {
    scratch->mount_ = mount_cgroup2();
    if (scratch->mount_) status = scratch->make_cgroup(path_of(scratch->mount_));
  }
  if (!status.ok()) return status;
  scratch->pins_ = bpffs_root + "/" + kPinsName + std::to_string(getpid());
  if (status = kernel::make_directory(scratch->pins_); !status.ok()) return status;
  return scratch;
}

Scratch::~Scratch() {
  if (!pins_.empty()) remove_all_pins(pins_);
  cgroup_fd_ = base::Fd();
  if (!cgroup_.empty()) remove_cgroup(cgroup_);
}

}  // namespace weft::bypass
