#include "agent/app/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace weft::app {

absl::StatusOr<base::Fd> lock_run_dir(const std::string& run_dir) {
  std::error_code error;
  std::filesystem::create_directories(run_dir, error);
  if (error) return absl::ErrnoToStatus(error.value(), "cannot make --run-dir " + run_dir);
  const std::string path = run_dir + "/weftd.lock";
  base::Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return absl::ErrnoToStatus(errno, "cannot open " + path);
  if (flock(fd.get(), LOCK_EX | LOCK_NB)) {
    char text[32] = {};
    const auto length = pread(fd.get(), text, sizeof text - 1, 0);
    const std::string pid = length > 0 ? text : "?";
    return absl::AlreadyExistsError("another weftd (pid " + pid.substr(0, pid.find('\n')) +
                                    ") runs with --run-dir " + run_dir +
                                    ": stop it, or give this one a directory of its own");
  }
  const std::string pid = std::to_string(getpid()) + "\n";
  if (ftruncate(fd.get(), 0) || pwrite(fd.get(), pid.data(), pid.size(), 0) < 0)
    return absl::ErrnoToStatus(errno, "cannot write " + path);
  return fd;
}

}  // namespace weft::app
