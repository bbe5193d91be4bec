#include "control_plane/sources/directory/directory_source.h"

#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "control_plane/sources/directory/file.h"
#include "control_plane/sources/directory/watcher.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::sources {
namespace {

namespace asio = boost::asio;

// How often to look at what inotify does not tell about: no watches left, links that lead nowhere.
constexpr auto kPoll = std::chrono::seconds(1);

bool is_gone(int error) { return error == ENOENT || error == ENOTDIR; }

bool equal(const model::Unit& a, const model::Unit& b) {
  const auto same = [](const auto& x, const auto& y) { return x == y || *x == *y; };
  return std::equal(a.objects.begin(), a.objects.end(), b.objects.begin(), b.objects.end(), same) &&
         a.notices == b.notices;
}

std::string root_of(const std::string& uri) {
  std::string root = uri.substr(std::strlen("dir:"));
  while (root.size() > 1 && root.back() == '/') root.pop_back();
  return root.empty() ? "." : root;
}

std::string absolute(const std::string& path) {
  std::error_code ignored;
  std::string text = std::filesystem::absolute(path, ignored).lexically_normal();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

class DirectorySource : public Source {
 public:
  DirectorySource(asio::io_context& control, std::string uri, Events events)
      : uri_(std::move(uri)),
        root_(root_of(uri_)),
        absolute_root_(absolute(root_)),
        parent_(std::filesystem::path(absolute_root_).parent_path()),
        events_(std::move(events)),
        control_(control),
        descriptor_(control),
        timer_(control) {
    status_.changed = Clock::now();
  }
  ~DirectorySource() override {
    if (descriptor_.is_open()) descriptor_.release();  // the watcher owns it
  }

  const std::string& uri() const override { return uri_; }
  const Status& status() const override { return status_; }

  void start() override {
    asio::post(control_, [this, alive = std::weak_ptr<int>(alive_)] {
      if (alive.expired()) return;
      if (auto watcher = Watcher::create(); watcher.ok()) {
        watcher_.emplace(*std::move(watcher));
        boost::system::error_code refused;
        descriptor_.assign(watcher_->fd(), refused);
        if (refused) no_watcher_ = "cannot wait for changes: " + refused.message();
        if (refused) watcher_.reset();
      } else {
        no_watcher_ = base::message_of(watcher.status());
      }
      const auto now = Clock::now();
      look_at_everything();
      finish(now);
      wait();
    });
  }

 private:
  struct File {
    Identity identity;
    bool unreadable = false;
    std::shared_ptr<const model::Unit> unit;  // never null
  };
  enum class Why { kEvent, kScan };  // an event says that something changed; a scan looks whether

  // --- being told ---

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
    const auto about_root = [this](const auto& paths) {
      return paths.contains(root_) || paths.contains(absolute_root_) || paths.contains(parent_);
    };
    if (changes.lost || about_root(changes.gone) || about_root(changes.directories) ||
        changes.paths.contains(absolute_root_))
      return look_at_everything();
    for (const auto& path : changes.gone)
      if (is_ours(path)) look_at(path, 0, Why::kEvent);
    for (const auto& path : changes.directories)
      if (is_ours(path)) look_at(path, 0, Why::kEvent);
    for (const auto& path : changes.paths)
      if (is_ours(path)) look_at(path, 0, Why::kEvent);
    for (const auto& path : changes.touched)
      if (is_ours(path)) look_if_other(path);
  }

  bool is_ours(const std::string& path) const { return is_below(path, root_); }
  static bool is_below(const std::string& path, const std::string& directory) {
    return path.size() > directory.size() && path.starts_with(directory) &&
           path[directory.size()] == '/';
  }

  // --- looking ---

  void look_at_everything() {
    unsettled_.erase(root_);
    if (parent_ != absolute_root_) watch(parent_, &Watcher::watch_names);
    struct stat info;
    const int error = stat(root_.c_str(), &info) ? errno : S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
    if (error == 0) {
      gone_.clear();
      status_.synced |= scan(root_, 0);
      return;
    }
    gone_ = "directory " + root_ +
            (error == ENOENT    ? " is gone"
             : error == ENOTDIR ? " is not a directory"
                                : std::string(" cannot be read: ") + std::strerror(error)) +
            "; it is taken up again when it is back";
    // Where it is gone the parent's watch tells when it is back.
    if (is_gone(error))
      remove_below(root_);
    else
      unsettled_.insert(root_);
  }

  // Whatever the path is now. Whether anything of it is in the mesh.
  bool look_at(const std::string& path, int depth, Why why) {
    unsettled_.erase(path);
    struct stat info;
    const bool is_link = lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode);
    if (stat(path.c_str(), &info)) {
      const bool kept = !is_gone(errno);
      if (is_link || kept) unsettled_.insert(path);
      if (kept) return true;
    } else if (S_ISDIR(info.st_mode)) {
      remove(path);  // a file of that name
      if (depth < kMaxDirectoryDepth && !(is_link && leads_back(parent_of(path), info))) {
        scan(path, depth);
        return true;
      }
    } else if (S_ISREG(info.st_mode) && is_manifest_name(name_of(path))) {
      if (watcher_ && !is_link) watcher_->forget(path);
      if (is_link) watch(path, &Watcher::watch_file);
      remove_below(path);  // a directory of that name
      return read(path, why);
    }
    if (watcher_) watcher_->forget(path);
    remove_below(path);
    remove(path);
    return false;
  }

  // Attributes or links changed. The content may be half written, so it is read only where it is
  // another file's by now, or could not be read before.
  void look_if_other(const std::string& path) {
    const auto known = files_.find(path);
    struct stat info;
    if (known == files_.end()) return;  // being written for the first time: its close will be told
    if (known->second.unreadable || stat(path.c_str(), &info) ||
        !known->second.identity.is_file(info))
      look_at(path, 0, Why::kEvent);
  }

  // The watch comes first: what is made between the watch and the look is found by either.
  // Whether the directory could be read.
  bool scan(const std::string& directory, int depth) {
    watch(directory, &Watcher::watch_directory);
    const auto names = names_in(directory);
    if (absl::IsNotFound(names.status())) {
      remove_below(directory);
      return false;
    }
    if (!names.ok()) {
      trouble(directory, names.status());
      return false;
    }
    std::set<std::string> present;
    for (const auto& name : *names)
      if (const std::string path = directory + "/" + name; look_at(path, depth + 1, Why::kScan))
        present.insert(path);
    if (watcher_) watcher_->forget_all_but(directory, present);
    remove_below(directory, &present);
    return true;
  }

  // Whether a scan leaves the file as it is known.
  bool passes_over(const std::string& path, const File& file) {
    struct stat info;
    if (file.unreadable || stat(path.c_str(), &info)) return false;
    if (file.identity.proves_unchanged(info)) return true;
    // Somebody truncated it to write it anew, most likely. Believed where it is still empty a
    // second later.
    if (info.st_size != 0 || file.unit->objects.empty()) return false;
    unsettled_.insert(path);
    return true;
  }

  bool read(const std::string& path, Why why) {
    const auto known = files_.find(path);
    if (why == Why::kScan && known != files_.end() && passes_over(path, known->second)) return true;
    ++status_.reads;
    const auto reading = read_file(path);
    if (absl::IsNotFound(reading.status())) {
      remove(path);
      return false;
    }
    File& file = known != files_.end() ? known->second : files_[path];
    file.identity = reading.ok() ? reading->identity : Identity();
    file.unreadable = !reading.ok();
    const auto format = path.ends_with(".json") ? manifest::Format::kJson : manifest::Format::kYaml;
    auto unit = manifest::carry_over(
        file.unit, reading.ok() ? manifest::parse(reading->bytes, path, format)
                                : unreadable(path, base::message_of(reading.status())));
    if (file.unit && equal(*file.unit, *unit)) return true;
    file.unit = std::move(unit);
    publish(path, file.unit);
    return true;
  }

  // --- what inotify cannot tell ---

  void watch(const std::string& path, absl::Status (Watcher::*how)(const std::string&)) {
    if (!watcher_) {
      unsettled_.insert(path == parent_ ? root_ : path);
    } else if (auto status = (*watcher_.*how)(path); !status.ok() && !absl::IsNotFound(status)) {
      trouble(path == parent_ ? root_ : path, status);
    } else if (!status.ok() && path == parent_) {
      unsettled_.insert(root_);
    }
  }

  void trouble(const std::string& path, const absl::Status& status) {
    trouble_ = base::message_of(status);
    unsettled_.insert(path);
  }

  void poll() {
    if (unsettled_.empty() || polling_) return;
    polling_ = true;
    timer_.expires_after(kPoll);
    timer_.async_wait([this](auto error) {
      if (error) return;
      polling_ = false;
      const auto now = Clock::now();
      trouble_.clear();
      const auto again = unsettled_;
      for (const auto& path : again)
        if (path == root_)
          look_at_everything();
        else
          look_at(path, 0, Why::kEvent);
      finish(now);
    });
  }

  // --- telling ---

  void remove(const std::string& path) {
    if (files_.erase(path)) publish(path, nullptr);
  }

  // Files below a directory, but for those under these entries of it.
  void remove_below(const std::string& directory, const std::set<std::string>* present = nullptr) {
    const auto below = directory + "/";
    std::vector<std::string> lost;
    for (auto at = files_.lower_bound(below); at != files_.end() && at->first.starts_with(below);
         ++at)
      if (!present || !present->contains(at->first.substr(0, at->first.find('/', below.size()))))
        lost.push_back(at->first);
    for (const auto& path : lost) remove(path);
    if (!present && watcher_) watcher_->forget_all_but(directory, {});
  }

  void publish(const std::string& path, std::shared_ptr<const model::Unit> unit) {
    ++status_.updates;
    changed_ = true;
    events_.unit(path, std::move(unit));
  }

  void finish(Clock::time_point first_event) {
    const std::string& error = !gone_.empty()         ? gone_
                               : !no_watcher_.empty() ? no_watcher_
                                                      : trouble_;
    const bool other_error = error != status_.error;
    if (other_error && error.empty())
      log::info("source", {{"uri", uri_}, {"state", "in order again"}});
    status_.errors += other_error && !error.empty();
    if (other_error && !error.empty()) log::warning("source", {{"uri", uri_}, {"error", error}});
    if (changed_) status_.changed = Clock::now();
    status_.error = error;
    // A directory that was never there is no empty mesh: somebody has yet to mount it.
    status_.synced |= gone_.empty();
    const bool tell = changed_ || other_error || status_.synced != told_synced_;
    changed_ = false;
    told_synced_ = status_.synced;
    poll();
    if (tell) events_.batch(first_event);
  }

  static std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }
  static std::string_view name_of(std::string_view path) {
    return path.substr(path.rfind('/') + 1);
  }

  const std::string uri_, root_, absolute_root_, parent_;
  Events events_;
  asio::io_context& control_;
  std::optional<Watcher> watcher_;
  asio::posix::stream_descriptor descriptor_;
  asio::steady_timer timer_;
  std::map<std::string, File> files_;  // by path
  std::set<std::string> unsettled_;    // paths that only looking tells about
  std::string gone_, no_watcher_, trouble_;
  bool polling_ = false, changed_ = false, told_synced_ = false;
  Status status_;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace

std::unique_ptr<Source> make_directory_source(asio::io_context& control, const std::string& uri,
                                              Events events) {
  return std::make_unique<DirectorySource>(control, uri, std::move(events));
}

}  // namespace weft::sources
