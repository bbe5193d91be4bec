#include "agent/node/cgroup_watcher.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "mesh/base/fd.h"
#include "mesh/base/text.h"

namespace weft::node {
namespace {

namespace asio = boost::asio;

constexpr auto kPoll = std::chrono::seconds(1);
constexpr unsigned kNames = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR;
// A wake-up's share. Whoever makes cgroups without end must not keep the control thread here.
constexpr int kMaxReads = 16;

constexpr const char* kMeanwhile = "; until then it is looked at every second";

bool is_gone(int error) { return error == ENOENT || error == ENOTDIR || error == ENODEV; }

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// The path of `name` in a directory; of no name: what all paths in it begin with.
std::string in(const std::string& directory, const std::string& name = "") {
  return (directory == "/" ? "" : directory) + "/" + name;
}

struct Found {
  int error = 0;  // errno; of something that is no directory: ENOTDIR
  std::uint64_t id = 0;
};

// Symlinks are followed for the root only: cgroupfs has none.
Found look_up(const std::string& path, int flags) {
  struct stat info;
  if (fstatat(AT_FDCWD, path.c_str(), &info, flags)) return {errno};
  if (!S_ISDIR(info.st_mode)) return {ENOTDIR};
  return {0, info.st_ino};
}

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

// Names of what may be directories.
absl::StatusOr<std::set<std::string>> read_names(const std::string& path) {
  const std::unique_ptr<DIR, CloseDirectory> directory(opendir(path.c_str()));
  if (!directory) return absl::ErrnoToStatus(errno, "cannot read " + path);
  std::set<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(directory.get());
    if (!entry && errno) return absl::ErrnoToStatus(errno, "cannot read " + path);
    if (!entry) return names;
    const std::string name = entry->d_name;
    if (name != "." && name != ".." && (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN))
      names.insert(name);
  }
}

class Watcher : public CgroupWatcher {
 public:
  Watcher(asio::io_context& io, std::string root, Events events)
      : root_(std::move(root)),
        parent_(parent_of(root_)),
        events_(std::move(events)),
        descriptor_(io),
        timer_(io) {}

  const std::string& error() const override { return error_; }

  void look_at_everything() {
    error_ = open_inotify();
    if (parent_ != root_) watch(parent_);
    const Found root = look_up(root_, 0);
    if (is_gone(root.error)) {
      complain(root_ + " is gone: no pod is known" + kMeanwhile);
      forget_below(root_);
    } else if (root.error) {
      complain("cannot look at " + root_ + ": " + std::strerror(root.error) + kMeanwhile);
    } else {
      scan(root_, Level::kRoot);
    }
    look_again_later();
  }

 private:
  enum class Level { kRoot, kQos };  // of a directory that may hold pods

  // --- being told ---

  // Empty where changes will be told.
  std::string open_inotify() {
    if (descriptor_.is_open()) return "";
    base::Fd fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!fd)
      return std::string("cannot start inotify: ") + std::strerror(errno) +
             " (raise fs.inotify.max_user_instances)" + kMeanwhile;
    boost::system::error_code refused;
    descriptor_.assign(fd.get(), refused);
    if (refused) return "cannot wait for inotify: " + refused.message() + kMeanwhile;
    fd.release();
    wait();
    return "";
  }

  void wait() {
    descriptor_.async_wait(asio::posix::stream_descriptor::wait_read,
                           [this, alive = std::weak_ptr<int>(alive_)](auto error) {
                             if (error || alive.expired()) return;
                             read();
                             wait();
                           });
  }

  void read() {
    alignas(inotify_event) char buffer[64 * 1024];
    bool dropped = false;
    for (int i = 0; i < kMaxReads; ++i) {
      const ssize_t length = ::read(descriptor_.native_handle(), buffer, sizeof buffer);
      if (length <= 0) break;
      for (ssize_t at = 0; at < length;) {
        const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
        dropped = dropped || (event->mask & IN_Q_OVERFLOW);
        handle(*event);
        at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      }
    }
    // Events were dropped before the first read made room, so this look sees what they were about.
    if (dropped) look_at_everything();
  }

  void handle(const inotify_event& event) {
    const auto watch = paths_.find(event.wd);
    if (watch == paths_.end()) return;  // forgotten while the event was on its way
    const std::string directory = watch->second;
    if (event.mask & IN_IGNORED) {
      paths_.erase(watch);
      watches_.erase(directory);
      return;
    }
    if (!event.len || !(event.mask & IN_ISDIR)) return;
    const std::string path = in(directory, event.name);
    if (directory == root_)
      look_at(path, Level::kRoot);
    else if (directory != parent_)
      look_at(path, Level::kQos);
    else if (path == root_ || root_ == event.name)
      look_at_everything();
  }

  // --- looking ---

  void scan(const std::string& directory, Level level) {
    watch(directory);
    auto names = read_names(directory);
    if (!names.ok()) {
      // Gone meanwhile: its own parent tells. Otherwise what is known stays.
      if (!absl::IsNotFound(names.status()))
        complain(base::message_of(names.status()) + kMeanwhile);
      return;
    }
    for (const auto& name : known_in(directory)) names->insert(name);
    for (const auto& name : *names) look_at(in(directory, name), level);
  }

  // What there is now under a name in a directory of that level, whatever was there before.
  void look_at(const std::string& path, Level level) {
    const auto uid = pod_uid_of(path.substr(path.rfind('/') + 1));
    if (!uid && level == Level::kQos) return;
    const Found found = look_up(path, AT_SYMLINK_NOFOLLOW);
    if (is_gone(found.error)) return forget(path);
    if (found.error)
      return complain("cannot look at " + path + ": " + std::strerror(found.error) + kMeanwhile);
    if (!uid) return scan(path, Level::kQos);
    const auto known = pods_.find(path);
    if (known != pods_.end() && known->second.id == found.id) return;
    if (known != pods_.end()) forget(path);
    const PodCgroup pod{*uid, path, found.id};
    pods_.emplace(path, pod);
    events_.appeared(pod);
  }

  // --- what is known ---

  // Names in a directory of the root or a QoS class.
  std::set<std::string> known_in(const std::string& directory) const {
    std::set<std::string> names;
    const auto collect = [&](const auto& by_path) {
      const std::string below = in(directory);
      for (auto at = by_path.lower_bound(below);
           at != by_path.end() && at->first.starts_with(below); ++at)
        names.insert(
            at->first.substr(below.size(), at->first.find('/', below.size()) - below.size()));
    };
    collect(pods_);
    collect(watches_);
    return names;
  }

  // A pod, or a directory with all that it held.
  void forget(const std::string& path) {
    unwatch(path);
    if (auto pod = pods_.extract(path)) events_.gone(pod.mapped());
    forget_below(path);
  }

  void forget_below(const std::string& path) {
    const std::string below = in(path);
    for (auto at = watches_.lower_bound(below);
         at != watches_.end() && at->first.starts_with(below); at = watches_.lower_bound(below))
      unwatch(std::string(at->first));
    for (auto at = pods_.lower_bound(below); at != pods_.end() && at->first.starts_with(below);
         at = pods_.lower_bound(below))
      events_.gone(pods_.extract(at).mapped());
  }

  // --- watches ---

  // From now on the path's watch is on what it leads to now.
  void watch(const std::string& path) {
    if (!descriptor_.is_open()) return;
    const int number = inotify_add_watch(descriptor_.native_handle(), path.c_str(), kNames);
    if (number < 0) {
      const int error = errno;
      unwatch(path);
      if (error == ENOSPC)
        complain("cannot watch " + path + ": raise fs.inotify.max_user_watches" + kMeanwhile);
      else if (!is_gone(error))
        complain("cannot watch " + path + ": " + std::strerror(error) + kMeanwhile);
      return;
    }
    const auto known = watches_.find(path);
    if (known != watches_.end() && known->second != number) unwatch(path);
    watches_[path] = number;
    paths_[number] = path;
  }

  void unwatch(const std::string& path) {
    const auto known = watches_.find(path);
    if (known == watches_.end()) return;
    // The kernel keeps a watch on a cgroup that was removed (seen on 6.18), unlike elsewhere.
    inotify_rm_watch(descriptor_.native_handle(), known->second);
    paths_.erase(known->second);
    watches_.erase(known);
  }

  // --- what cannot be watched ---

  void complain(const std::string& what) {
    if (error_.empty()) error_ = what;
    look_again_later();
  }

  void look_again_later() {
    if (error_.empty() || waiting_) return;
    waiting_ = true;
    timer_.expires_after(kPoll);
    timer_.async_wait([this, alive = std::weak_ptr<int>(alive_)](auto error) {
      if (error || alive.expired()) return;
      waiting_ = false;
      look_at_everything();
    });
  }

  const std::string root_, parent_;
  Events events_;
  asio::posix::stream_descriptor descriptor_;  // inotify's; closed where there is none
  asio::steady_timer timer_;
  bool waiting_ = false;
  std::string error_;
  std::map<std::string, int> watches_;     // path -> the kernel's number
  std::map<int, std::string> paths_;       // and back
  std::map<std::string, PodCgroup> pods_;  // by path
  std::shared_ptr<int> alive_ = std::make_shared<int>();
};

}  // namespace

absl::StatusOr<std::unique_ptr<CgroupWatcher>> CgroupWatcher::start(asio::io_context& io,
                                                                    const std::string& root,
                                                                    Events events) {
  const std::string path = without_slash(root);
  if (const Found found = look_up(path, 0); found.error)
    return absl::ErrnoToStatus(found.error, "cannot watch the cgroups of pods below " + path);
  auto watcher = std::make_unique<Watcher>(io, path, std::move(events));
  watcher->look_at_everything();
  return watcher;
}

}  // namespace weft::node
