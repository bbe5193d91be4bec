#include "control_plane/sources/directory/directory_source.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "control_plane/sources/directory/watcher.h"
#include "mesh/base/text.h"
#include "mesh/manifest/reader.h"

namespace weft::sources {
namespace {

namespace asio = boost::asio;

constexpr int kMaxDepth = 32;  // of directories: symlinks may form loops
constexpr auto kPoll = std::chrono::seconds(1);

// What tells one state of a file from another without reading it.
struct Identity {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = -1;
  timespec modified{}, changed{};

  bool operator==(const Identity& o) const {
    return device == o.device && inode == o.inode && size == o.size && modified.tv_sec == o.modified.tv_sec &&
           modified.tv_nsec == o.modified.tv_nsec && changed.tv_sec == o.changed.tv_sec &&
           changed.tv_nsec == o.changed.tv_nsec;
  }
};

Identity identity_of(const struct stat& info) {
  return {info.st_dev, info.st_ino, info.st_size, info.st_mtim, info.st_ctim};
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(opendir(directory.c_str()), closedir);
  if (!handle) return names;
  while (const dirent* entry = readdir(handle.get()))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

manifest::ParseResult unreadable(const std::string& path, const std::string& why) {
  manifest::ParseResult result;
  result.unidentified_rejection = true;
  result.notices.push_back(
      {model::Severity::kRejected, {std::make_shared<const std::string>(path), 0}, "", why});
  return result;
}

// The whole file, or why not.
absl::StatusOr<std::string> read_file(const std::string& path, off_t size) {
  const base::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a FIFO must not hang us
  if (!fd) return absl::InternalError(std::string("cannot be read: ") + std::strerror(errno));
  std::string bytes(static_cast<std::size_t>(size) + 1, '\0');  // one more, to see that it grew
  std::size_t have = 0;
  for (;;) {
    const ssize_t got = read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::InternalError(std::string("cannot be read: ") + std::strerror(errno));
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
    if (have > manifest::kMaxFileBytes) return absl::InternalError("is over 64 MB: split it");
    if (have == bytes.size()) bytes.resize(bytes.size() * 2);
  }
  bytes.resize(have);
  return bytes;
}

class DirectorySource : public Source {
 public:
  DirectorySource(asio::io_context& control, std::string uri, Events events)
      : uri_(std::move(uri)), events_(std::move(events)), control_(control), descriptor_(control), poll_(control) {
    root_ = uri_.substr(std::strlen("dir:"));
    while (root_.size() > 1 && root_.back() == '/') root_.pop_back();
    parent_ = std::filesystem::absolute(root_).lexically_normal().parent_path();
    status_.changed = Clock::now();
  }
  ~DirectorySource() override {
    if (descriptor_.is_open()) descriptor_.release();  // the watcher owns it
  }

  const std::string& uri() const override { return uri_; }
  const Status& status() const override { return status_; }

  void start() override {
    asio::post(control_, [this] {
      if (auto watcher = Watcher::create(); watcher.ok()) {
        watcher_.emplace(*std::move(watcher));
        descriptor_.assign(watcher_->fd());
      } else {
        trouble_ = base::message_of(watcher.status());
      }
      const auto now = Clock::now();
      look_at_everything();
      status_.synced = true;
      finish(now);
      wait();
    });
  }

 private:
  struct File {
    Identity identity;
    std::shared_ptr<const model::Unit> unit;
  };

  void wait() {
    if (!watcher_) return;
    descriptor_.async_wait(asio::posix::stream_descriptor::wait_read, [this](auto error) {
      if (error) return;
      const auto now = Clock::now();
      handle(watcher_->read());
      finish(now);
      wait();
    });
  }

  void handle(const Changes& changes) {
    if (changes.lost) return look_at_everything();
    // Events of the parent are about the root's own name, or about nothing.
    for (const auto& path : changes.gone) {
      if (path == root_ || path == absolute_root()) {
        look_at_everything();
        return;
      }
      if (is_ours(path) && !std::filesystem::is_directory(path)) remove_below(path);
    }
    for (const auto& path : changes.directories) {
      if (path == absolute_root() || path == parent_) return look_at_everything();
      if (is_ours(path)) scan(path, 0);
    }
    for (const auto& path : changes.paths)
      if (is_ours(path)) look_at(path);
  }

  bool is_ours(const std::string& path) const {
    return path == root_ || (path.starts_with(root_) && path[root_.size()] == '/');
  }
  std::string absolute_root() const { return parent_ + "/" + std::filesystem::path(root_).filename().string(); }

  void watch(const std::string& directory) {
    if (!watcher_) return;
    if (auto status = watcher_->watch(directory); !status.ok() && !absl::IsNotFound(status))
      trouble_ = base::message_of(status);
  }

  void look_at_everything() {
    trouble_.clear();
    if (!parent_.empty()) watch(parent_);
    struct stat info;
    if (stat(root_.c_str(), &info)) {
      gone_ = "directory " + root_ + " is gone or cannot be read (" + std::strerror(errno) +
              "); it is taken up again when it is back";
      if (watcher_) watcher_->forget(root_);
      remove_below(root_);
      return;
    }
    gone_.clear();
    if (S_ISDIR(info.st_mode)) return scan(root_, 0);
    gone_ = root_ + " is not a directory";
    remove_below(root_);
  }

  // The watch comes first: what is made between the watch and the look is found by either.
  void scan(const std::string& directory, int depth) {
    watch(directory);
    std::set<std::string> seen;
    for (const auto& name : names_in(directory)) {
      const std::string path = directory + "/" + name;
      struct stat info;
      if (stat(path.c_str(), &info)) continue;
      if (S_ISDIR(info.st_mode)) {
        if (depth < kMaxDepth && !is_loop(directory, info)) scan(path, depth + 1);
      } else if (is_manifest_name(name)) {
        look_at(path);
      } else {
        continue;
      }
      seen.insert(path);
    }
    // What lay here and is no more.
    std::vector<std::string> lost;
    for (auto at = files_.lower_bound(directory + "/"); at != files_.end() && at->first.starts_with(directory + "/"); ++at) {
      const auto child = at->first.substr(0, at->first.find('/', directory.size() + 1));
      if (!seen.contains(child)) lost.push_back(at->first);
    }
    for (const auto& path : lost) remove(path);
  }

  // A symlink back to a directory we came through.
  static bool is_loop(const std::string& directory, const struct stat& info) {
    std::string at = directory;
    for (;;) {
      struct stat above;
      if (stat(at.c_str(), &above) == 0 && above.st_dev == info.st_dev && above.st_ino == info.st_ino) return true;
      const auto slash = at.rfind('/');
      if (slash == std::string::npos || slash == 0) return false;
      at.resize(slash);
    }
  }

  void look_at(const std::string& path) {
    struct stat info;
    if (stat(path.c_str(), &info) || !S_ISREG(info.st_mode)) return remove(path);
    auto& file = files_[path];
    const auto identity = identity_of(info);
    if (file.unit && file.identity == identity) return;
    file.identity = identity;
    file.unit = manifest::carry_over(file.unit, parse(path, info.st_size));
    publish(path, file.unit);
  }

  static manifest::ParseResult parse(const std::string& path, off_t size) {
    if (size > static_cast<off_t>(manifest::kMaxFileBytes)) return unreadable(path, "is over 64 MB: split it");
    const auto bytes = read_file(path, size);
    if (!bytes.ok()) return unreadable(path, base::message_of(bytes.status()));
    return manifest::parse(*bytes, path, path.ends_with(".json") ? manifest::Format::kJson : manifest::Format::kYaml);
  }

  void remove(const std::string& path) {
    if (files_.erase(path)) publish(path, nullptr);
  }

  void remove_below(const std::string& directory) {
    if (watcher_) watcher_->forget(directory);
    std::vector<std::string> lost;
    for (auto at = files_.lower_bound(directory + "/"); at != files_.end() && at->first.starts_with(directory + "/"); ++at)
      lost.push_back(at->first);
    for (const auto& path : lost) remove(path);
  }

  void publish(const std::string& path, std::shared_ptr<const model::Unit> unit) {
    ++status_.updates;
    changed_ = true;
    events_.unit(path, std::move(unit));
  }

  void finish(Clock::time_point first_event) {
    const std::string error = !gone_.empty() ? gone_ : trouble_;
    const bool tell = changed_ || error != status_.error || !told_;
    if (changed_) status_.changed = Clock::now();
    status_.error = error;
    changed_ = false;
    told_ = true;
    // Without watches, and while the root's parent may be gone too, looking is all there is.
    if (!error.empty()) poll();
    if (tell) events_.batch(first_event);
  }

  void poll() {
    poll_.expires_after(kPoll);
    poll_.async_wait([this](auto error) {
      if (error) return;
      const auto now = Clock::now();
      look_at_everything();
      finish(now);
    });
  }

  std::string uri_;
  Events events_;
  asio::io_context& control_;
  std::optional<Watcher> watcher_;
  asio::posix::stream_descriptor descriptor_;
  asio::steady_timer poll_;
  std::string root_, parent_;
  std::map<std::string, File> files_;  // by path
  std::string gone_, trouble_;         // what is wrong with the root; with watching
  bool changed_ = false;
  bool told_ = false;
  Status status_;
};

void list_below(const std::string& directory, int depth, std::vector<std::string>& files) {
  for (const auto& name : names_in(directory)) {
    const std::string path = directory + "/" + name;
    struct stat info;
    if (stat(path.c_str(), &info)) continue;
    if (S_ISDIR(info.st_mode) && depth < kMaxDepth)
      list_below(path, depth + 1, files);
    else if (S_ISREG(info.st_mode) && is_manifest_name(name))
      files.push_back(path);
  }
}

}  // namespace

bool is_manifest_name(std::string_view name) {
  return !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json"));
}

std::vector<std::string> list_manifests(const std::string& root) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(root, ignored)) return {root};
  std::vector<std::string> files;
  list_below(root, 0, files);
  return files;
}

std::unique_ptr<Source> make_directory_source(asio::io_context& control, const std::string& uri, Events events) {
  return std::make_unique<DirectorySource>(control, uri, std::move(events));
}

}  // namespace weft::sources
