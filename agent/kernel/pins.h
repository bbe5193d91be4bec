// Files below --bpffs: making, moving and removing them.
#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <string>
#include <vector>

namespace weft::kernel {

bool exists(const std::string& path);
// With its parents, below an existing bpffs.
absl::Status make_directory(const std::string& path);
// A directory of pins (no deeper than one level); absent is OK.
absl::Status remove_pins(const std::string& dir);
absl::Status move_pins(const std::string& from, const std::string& to);
std::vector<std::string> list_pins(const std::string& dir);

bool is_bpffs(const std::string& path);            // or its nearest existing parent
bool is_cgroup2(const std::string& path);          // exists and is a cgroup v2 directory
std::uint64_t cgroup_id(const std::string& path);  // 0 where it does not exist

}  // namespace weft::kernel
