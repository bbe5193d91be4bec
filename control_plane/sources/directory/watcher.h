// inotify as values: watches by path, events folded into "look at these paths again".
#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <set>
#include <string>

#include "mesh/base/fd.h"

namespace weft::sources {

// What one wake-up brought; each path once, however many events it had.
struct Changes {
  std::set<std::string> paths;  // written, replaced, removed or new
  std::set<std::string>
      touched;  // other attributes or links than before; the content may be half there
  std::set<std::string> directories;  // to scan again
  std::set<std::string> gone;         // directories that were taken away from under their name
  bool lost = false;                  // the kernel dropped events: look at everything
};

class Watcher {
 public:
  static absl::StatusOr<Watcher> create();

  int fd() const { return inotify_.get(); }

  // From now on the path's watch is on what it leads to now. NotFound where that is nothing,
  // ResourceExhausted where fs.inotify.max_user_watches is used up.
  absl::Status watch_directory(const std::string& path);
  // A directory of which only the names matter: every one that comes or goes is told.
  absl::Status watch_names(const std::string& path);
  // The file behind a symlink, whose own directory nobody watches.
  absl::Status watch_file(const std::string& path);

  // Forgets a path and everything below it.
  void forget(const std::string& path);
  // Forgets what is watched in a directory under other names than these (whole paths).
  void forget_all_but(const std::string& directory, const std::set<std::string>& present);

  // Everything that is there now, without waiting.
  Changes read();

 private:
  // Symlinks give one directory several names; the kernel knows it once.
  struct Watch {
    std::set<std::string> paths;
    bool directory = false, every_name = false;
  };
  using Paths = std::map<std::string, int>;

  explicit Watcher(base::Fd inotify) : inotify_(std::move(inotify)) {}
  absl::Status watch(const std::string& path, unsigned mask, bool directory);
  Paths::iterator drop(Paths::iterator at);
  void fold(int number, unsigned mask, const std::string& name, Changes& changes);
  void fold_self(int number, unsigned mask, Changes& changes);
  void fold_entry(const std::string& directory, unsigned mask, const std::string& name,
                  Changes& changes);

  base::Fd inotify_;
  std::map<int, Watch> watches_;  // by the kernel's number
  Paths paths_;
};

}  // namespace weft::sources
