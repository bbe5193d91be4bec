// inotify as values: watches by path, events folded into "look at these paths again".
#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <set>
#include <string>

#include "mesh/base/fd.h"

namespace weft::sources {

// What one wake-up brought.
struct Changes {
  std::set<std::string> paths;         // files to look at again: written, replaced, removed, or new
  std::set<std::string> directories;   // directories to scan again
  std::set<std::string> gone;          // directories that are no longer there
  bool lost = false;                   // the kernel dropped events: look at everything
};

class Watcher {
 public:
  static absl::StatusOr<Watcher> create();

  int fd() const { return inotify_.get(); }
  // Watches a directory; again after it was replaced. ResourceExhausted where fs.inotify.max_user_watches
  // is used up.
  absl::Status watch(const std::string& directory);
  // Forgets a directory and everything below it.
  void forget(const std::string& directory);
  // Everything that is there now, without waiting.
  Changes read();

 private:
  explicit Watcher(base::Fd inotify) : inotify_(std::move(inotify)) {}
  void fold(int watch, unsigned mask, const std::string& name, Changes& changes);

  base::Fd inotify_;
  std::map<int, std::string> paths_;    // watch -> directory
  std::map<std::string, int> watches_;  // directory -> its newest watch
};

}  // namespace weft::sources
