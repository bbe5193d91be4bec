// Which files below a directory are manifests: the rules that the source and `weftctl check` share.
#pragma once

#include <sys/stat.h>

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

namespace weft::sources {

inline constexpr int kMaxDirectoryDepth = 32;

// *.yaml, *.yml and *.json, but nothing that begins with a dot.
bool is_manifest_name(std::string_view name);

// Names in a directory that do not begin with a dot, sorted. An error is no empty directory:
// NotFound where it is gone, another where nobody can tell what is in it.
absl::StatusOr<std::vector<std::string>> names_in(const std::string& directory);

// Whether a symlink in `directory` that leads to `target` leads back to where we came through.
bool leads_back(const std::string& directory, const struct stat& target);

// Manifests below `root` as the source would read them, sorted; a file is its own list.
std::vector<std::string> list_manifests(const std::string& root);

}  // namespace weft::sources
