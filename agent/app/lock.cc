#include "agent/app/lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <filesystem>

namespace weft::app {

absl::StatusOr<base::Fd> lock_bpffs(const std::string& bpffs) {
  std::error_code error;
  std::filesystem::create_directories(bpffs, error);
  base::Fd fd(open(bpffs.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return absl::ErrnoToStatus(errno, "cannot use --bpffs " + bpffs);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  return absl::AlreadyExistsError("another weftd keeps the data path under --bpffs " + bpffs +
                                  ": stop it, or give this one a directory of its own");
}

}  // namespace weft::app
