#include "control_plane/sources/directory/watcher.h"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "control_plane/sources/directory/directory_source.h"

namespace weft::sources {
namespace {

constexpr unsigned kMask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_ATTRIB |
                           IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

bool is_symlink(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode);
}

bool is_directory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// A file that was only created is being written: its close will be told. A link is complete at once.
bool is_complete_when_created(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && (S_ISLNK(info.st_mode) || info.st_nlink > 1);
}

bool is_below(const std::string& path, const std::string& directory) {
  return path.size() > directory.size() && path.starts_with(directory) && path[directory.size()] == '/';
}

}  // namespace

absl::StatusOr<Watcher> Watcher::create() {
  base::Fd fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!fd) return absl::ErrnoToStatus(errno, "cannot start inotify (fs.inotify.max_user_instances?)");
  return Watcher(std::move(fd));
}

absl::Status Watcher::watch(const std::string& directory) {
  const int watch = inotify_add_watch(inotify_.get(), directory.c_str(), kMask);
  if (watch < 0) {
    if (errno == ENOSPC)
      return absl::ResourceExhaustedError("cannot watch " + directory +
                                          ": raise fs.inotify.max_user_watches (changes there are looked for every second)");
    return absl::ErrnoToStatus(errno, "cannot watch " + directory);
  }
  // Two names of one directory share a watch; the newer name is told. The other is found by its own path's
  // events no more, which is why symlinked directories should not point at one that is watched already.
  paths_[watch] = directory;
  watches_[directory] = watch;
  return absl::OkStatus();
}

void Watcher::forget(const std::string& directory) {
  for (auto at = watches_.begin(); at != watches_.end();) {
    if (at->first == directory || is_below(at->first, directory)) {
      inotify_rm_watch(inotify_.get(), at->second);
      paths_.erase(at->second);
      at = watches_.erase(at);
    } else {
      ++at;
    }
  }
}

Changes Watcher::read() {
  Changes changes;
  alignas(inotify_event) char buffer[64 * 1024];
  for (;;) {
    const ssize_t length = ::read(inotify_.get(), buffer, sizeof buffer);
    if (length <= 0) return changes;
    for (ssize_t at = 0; at < length;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      fold(event->wd, event->mask, event->len ? event->name : "", changes);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    }
  }
}

void Watcher::fold(int watch, unsigned mask, const std::string& name, Changes& changes) {
  if (mask & IN_Q_OVERFLOW) {
    changes.lost = true;
    return;
  }
  const auto known = paths_.find(watch);
  if (known == paths_.end()) return;
  const std::string directory = known->second;
  if (mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) {
    // Of a directory that was replaced under its name, only the newest watch speaks for the name.
    const auto newest = watches_.find(directory);
    const bool speaks = newest != watches_.end() && newest->second == watch;
    if (mask & IN_IGNORED) {
      paths_.erase(known);
      if (speaks) watches_.erase(newest);
    }
    if (speaks) changes.gone.insert(directory);
    return;
  }
  const std::string path = directory + "/" + name;
  if (name.empty()) return;
  if (name[0] == '.') {
    // kubectl and ConfigMap volumes swap a hidden symlink that the visible ones point through.
    if ((mask & (IN_MOVED_TO | IN_CREATE)) && is_symlink(path)) changes.directories.insert(directory);
    return;
  }
  if (mask & IN_ISDIR) {
    if (mask & (IN_CREATE | IN_MOVED_TO)) changes.directories.insert(path);
    if (mask & (IN_DELETE | IN_MOVED_FROM)) changes.gone.insert(path);
    return;
  }
  if ((mask & (IN_CREATE | IN_MOVED_TO)) && is_symlink(path) && is_directory(path)) {
    changes.directories.insert(path);
  } else if (!is_manifest_name(name)) {
    // A symlink to a directory that was removed looks like any other name by now.
    if ((mask & (IN_DELETE | IN_MOVED_FROM)) && watches_.contains(path)) changes.gone.insert(path);
  } else if (!(mask & IN_CREATE) || is_complete_when_created(path)) {
    changes.paths.insert(path);
  }
}

}  // namespace weft::sources
