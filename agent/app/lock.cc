#include "agent/app/lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>

namespace weft::app {
namespace {

constexpr std::chrono::milliseconds kPause{20};

}  // namespace

absl::StatusOr<base::Fd> lock_bpffs(const std::string& bpffs, std::chrono::milliseconds patience) {
  std::error_code error;
  std::filesystem::create_directories(bpffs, error);
  base::Fd fd(open(bpffs.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return absl::ErrnoToStatus(errno, "cannot use --bpffs " + bpffs);
  const auto until = std::chrono::steady_clock::now() + patience;
  for (;;) {
    if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
    if (std::chrono::steady_clock::now() >= until) break;
    std::this_thread::sleep_for(kPause);
  }
  return absl::AlreadyExistsError("another weftd keeps the data path under --bpffs " + bpffs +
                                  ": stop it, or give this one a directory of its own");
}

}  // namespace weft::app
