#include "control_plane/sources/directory/walk.h"

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>

namespace weft::sources {
namespace {

void list_below(const std::string& directory, int depth, std::vector<std::string>& files) {
  const auto names = names_in(directory);
  if (!names.ok()) return;
  for (const auto& name : *names) {
    const std::string path = directory + "/" + name;
    struct stat link, target;
    if (lstat(path.c_str(), &link) || stat(path.c_str(), &target)) continue;
    if (S_ISDIR(target.st_mode)) {
      if (depth < kMaxDirectoryDepth && !(S_ISLNK(link.st_mode) && leads_back(directory, target)))
        list_below(path, depth + 1, files);
    } else if (S_ISREG(target.st_mode) && is_manifest_name(name)) {
      files.push_back(path);
    }
  }
}

}  // namespace

bool is_manifest_name(std::string_view name) {
  return !name.starts_with('.') &&
         (name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json"));
}

absl::StatusOr<std::vector<std::string>> names_in(const std::string& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(opendir(directory.c_str()), closedir);
  if (!handle) return absl::ErrnoToStatus(errno, "cannot read directory " + directory);
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(handle.get());
    if (!entry && errno) return absl::ErrnoToStatus(errno, "cannot read directory " + directory);
    if (!entry) break;
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool leads_back(const std::string& directory, const struct stat& target) {
  std::error_code ignored;
  for (auto at = std::filesystem::absolute(directory, ignored).lexically_normal();;
       at = at.parent_path()) {
    struct stat above;
    if (stat(at.c_str(), &above) == 0 && above.st_dev == target.st_dev &&
        above.st_ino == target.st_ino)
      return true;
    if (!at.has_relative_path()) return false;
  }
}

std::vector<std::string> list_manifests(const std::string& root) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(root, ignored)) return {root};
  std::vector<std::string> files;
  std::string directory = root;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  list_below(directory, 0, files);
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace weft::sources
