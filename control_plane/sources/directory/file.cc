#include "control_plane/sources/directory/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>

#include "mesh/base/fd.h"

namespace weft::sources {
namespace {

constexpr long kTickNanoseconds = 100'000'000;  // longer than any kernel's: HZ is 100 or more

long long nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000ll + time.tv_nsec; }

absl::Status failure(int error) {
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError("is gone");
  return absl::UnavailableError(std::string("cannot be read: ") + std::strerror(error));
}

}  // namespace

Identity Identity::of(const struct stat& info) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const auto age = nanoseconds(now) - nanoseconds(info.st_mtim);
  return {info.st_dev, info.st_ino, info.st_size, info.st_mtim, age > kTickNanoseconds};
}

bool Identity::proves_unchanged(const struct stat& info) const {
  return settled && is_file(info) && size == info.st_size &&
         nanoseconds(modified) == nanoseconds(info.st_mtim);
}

absl::StatusOr<Reading> read_file(const std::string& path) {
  // O_NONBLOCK: what was a file when it was looked at may be a FIFO by now.
  const base::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (!fd || fstat(fd.get(), &info)) return failure(errno);
  if (!S_ISREG(info.st_mode)) return absl::NotFoundError("is no file any more");
  const auto too_large = absl::InvalidArgumentError("is over 64 MB: split it");
  if (info.st_size > static_cast<off_t>(manifest::kMaxFileBytes)) return too_large;
  Reading reading{Identity::of(info), {}};
  auto& bytes = reading.bytes;
  bytes.resize(static_cast<std::size_t>(info.st_size) + 1);  // one more, to see that it grew
  for (std::size_t have = 0;;) {
    const ssize_t got = read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(errno);
    have += static_cast<std::size_t>(got);
    if (have > manifest::kMaxFileBytes) return too_large;
    if (got == 0) {
      bytes.resize(have);
      return reading;
    }
    if (have == bytes.size()) bytes.resize(bytes.size() * 2);
  }
}

manifest::ParseResult unreadable(const std::string& path, const std::string& why) {
  manifest::ParseResult result;
  result.unidentified_rejection = true;
  result.notices.push_back(
      {model::Severity::kRejected, {std::make_shared<const std::string>(path), 0}, "", why});
  return result;
}

}  // namespace weft::sources
