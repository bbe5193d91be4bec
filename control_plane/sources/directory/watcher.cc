#include "control_plane/sources/directory/watcher.h"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "control_plane/sources/directory/walk.h"

namespace weft::sources {
namespace {

constexpr unsigned kSelf = IN_DELETE_SELF | IN_MOVE_SELF;
constexpr unsigned kNames = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;
constexpr unsigned kArrived = IN_CREATE | IN_MOVED_TO;
constexpr unsigned kLeft = IN_DELETE | IN_MOVED_FROM;
// A wake-up's share. Whoever writes without end must not keep the control thread here.
constexpr int kMaxReads = 16;

bool is_symlink(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode);
}

// A file that was only created is being written: its close will be told. A hard link is complete at
// once.
bool is_hard_link(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink > 1;
}

}  // namespace

absl::StatusOr<Watcher> Watcher::create() {
  base::Fd fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!fd)
    return absl::ErrnoToStatus(errno,
                               "cannot start inotify (raise fs.inotify.max_user_instances; changes "
                               "are looked for every second)");
  return Watcher(std::move(fd));
}

absl::Status Watcher::watch_directory(const std::string& path) {
  return watch(path, kSelf | kNames | IN_CLOSE_WRITE | IN_ATTRIB | IN_ONLYDIR, true);
}

absl::Status Watcher::watch_names(const std::string& path) {
  auto status = watch(path, kSelf | kNames | IN_ONLYDIR, true);
  if (status.ok()) watches_[paths_[path]].every_name = true;
  return status;
}

absl::Status Watcher::watch_file(const std::string& path) {
  return watch(path, kSelf | IN_CLOSE_WRITE | IN_ATTRIB, false);
}

absl::Status Watcher::watch(const std::string& path, unsigned mask, bool directory) {
  // IN_MASK_ADD: a directory may be watched under another name already, for more.
  const int number = inotify_add_watch(inotify_.get(), path.c_str(), mask | IN_MASK_ADD);
  if (number < 0) {
    if (errno == ENOSPC)
      return absl::ResourceExhaustedError(
          "cannot watch " + path +
          ": raise fs.inotify.max_user_watches; until then changes there "
          "are looked for every second");
    return absl::ErrnoToStatus(errno, "cannot watch " + path);
  }
  const auto known = paths_.find(path);
  if (known != paths_.end() && known->second != number) drop(known);
  auto& watch = watches_[number];
  watch.directory = directory;
  watch.paths.insert(path);
  paths_[path] = number;
  return absl::OkStatus();
}

Watcher::Paths::iterator Watcher::drop(Paths::iterator at) {
  const auto watch = watches_.find(at->second);
  watch->second.paths.erase(at->first);
  if (watch->second.paths.empty()) {
    inotify_rm_watch(inotify_.get(), watch->first);
    watches_.erase(watch);
  }
  return paths_.erase(at);
}

void Watcher::forget(const std::string& path) {
  if (const auto at = paths_.find(path); at != paths_.end()) drop(at);
  const auto below = path + "/";
  for (auto at = paths_.lower_bound(below); at != paths_.end() && at->first.starts_with(below);)
    at = drop(at);
}

void Watcher::forget_all_but(const std::string& directory, const std::set<std::string>& present) {
  const auto below = directory + "/";
  for (auto at = paths_.lower_bound(below); at != paths_.end() && at->first.starts_with(below);)
    at = present.contains(at->first.substr(0, at->first.find('/', below.size()))) ? std::next(at)
                                                                                  : drop(at);
}

Changes Watcher::read() {
  Changes changes;
  alignas(inotify_event) char buffer[64 * 1024];
  for (int i = 0; i < kMaxReads; ++i) {
    const ssize_t length = ::read(inotify_.get(), buffer, sizeof buffer);
    if (length <= 0) break;
    for (ssize_t at = 0; at < length;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      fold(event->wd, event->mask, event->len ? event->name : "", changes);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    }
  }
  return changes;
}

void Watcher::fold(int number, unsigned mask, const std::string& name, Changes& changes) {
  if (mask & IN_Q_OVERFLOW) {
    changes.lost = true;
    return;
  }
  const auto watch = watches_.find(number);
  if (watch == watches_.end()) return;  // forgotten while the event was on its way
  if (name.empty()) return fold_self(number, mask, changes);
  for (const auto& directory : watch->second.paths) {
    if (watch->second.every_name) changes.paths.insert(directory + "/" + name);
    fold_entry(directory, mask, name, changes);
  }
}

void Watcher::fold_self(int number, unsigned mask, Changes& changes) {
  const auto watch = watches_.find(number);
  for (const auto& path : watch->second.paths) {
    if (watch->second.directory) {
      if (mask & (kSelf | IN_IGNORED)) changes.gone.insert(path);
      if (mask & IN_ATTRIB) changes.directories.insert(path);
    } else {
      (mask & IN_ATTRIB ? changes.touched : changes.paths).insert(path);
    }
  }
  if (!(mask & IN_IGNORED)) return;
  for (const auto& path : watch->second.paths) paths_.erase(path);
  watches_.erase(watch);
}

void Watcher::fold_entry(const std::string& directory, unsigned mask, const std::string& name,
                         Changes& changes) {
  const std::string path = directory + "/" + name;
  if (name[0] == '.') {
    // kubectl and ConfigMap volumes swap a hidden symlink, `..data`, that the visible ones lead
    // through.
    if (((mask & kArrived) && is_symlink(path)) || ((mask & kLeft) && name.starts_with("..")))
      changes.directories.insert(directory);
  } else if (mask & IN_ISDIR) {
    if (mask & kLeft) changes.gone.insert(path);
    if (mask & (kArrived | IN_ATTRIB)) changes.directories.insert(path);
  } else {
    // A symlink to a directory that was removed or replaced looks like any other name by now.
    const auto known = paths_.find(path);
    if ((mask & kNames) && known != paths_.end() && watches_[known->second].directory)
      changes.gone.insert(path);
    if ((mask & kArrived) && is_symlink(path))
      changes.paths.insert(path);
    else if (!is_manifest_name(name) || ((mask & IN_CREATE) && !is_hard_link(path)))
      return;
    else
      (mask & IN_ATTRIB ? changes.touched : changes.paths).insert(path);
  }
}

}  // namespace weft::sources
