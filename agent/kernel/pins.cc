#include "agent/kernel/pins.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "agent/kernel/datapath.h"
#include "mesh/base/fd.h"

namespace weft::kernel {
namespace {

bool is_on(const std::string& path, long magic) {
  struct statfs info;
  return statfs(path.c_str(), &info) == 0 && static_cast<long>(info.f_type) == magic;
}

}  // namespace

bool exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

absl::Status make_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), "cannot make " + path);
  return absl::OkStatus();
}

std::vector<std::string> list_pins(const std::string& dir) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(opendir(dir.c_str()), closedir);
  if (!handle) return names;
  while (const dirent* entry = readdir(handle.get()))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status remove_pins(const std::string& dir) {
  for (const auto& name : list_pins(dir))
    if (unlink((dir + "/" + name).c_str()) && errno != ENOENT)
      return absl::ErrnoToStatus(errno, "cannot remove " + dir + "/" + name);
  if (rmdir(dir.c_str()) && errno != ENOENT)
    return absl::ErrnoToStatus(errno, "cannot remove " + dir);
  return absl::OkStatus();
}

absl::Status move_pins(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()))
    return absl::ErrnoToStatus(errno, "cannot move " + from + " to " + to);
  return absl::OkStatus();
}

bool is_bpffs(const std::string& path) {
  std::filesystem::path at = path;
  while (!exists(at) && at.has_parent_path() && at != at.parent_path()) at = at.parent_path();
  return is_on(at, BPF_FS_MAGIC);
}

bool is_cgroup2(const std::string& path) { return is_on(path, CGROUP2_SUPER_MAGIC); }

std::uint64_t cgroup_id(const std::string& path) {
  // kernfs gives a cgroup's id as its inode number on 64-bit machines.
  struct stat info;
  return stat(path.c_str(), &info) ? 0 : info.st_ino;
}

std::string cgroup_path(std::uint64_t id) {
  // kernfs file handles are the id itself (FILEID_KERNFS, fs/kernfs/mount.c).
  constexpr int kKernfsHandle = 0xfe;
  alignas(file_handle) unsigned char room[sizeof(file_handle) + sizeof id] = {};
  auto* wanted = reinterpret_cast<file_handle*>(room);
  wanted->handle_bytes = sizeof id;
  wanted->handle_type = kKernfsHandle;
  std::memcpy(room + sizeof(file_handle), &id, sizeof id);
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string device, path, type;
    if (!(words >> device >> path >> type) || type != "cgroup2") continue;
    const base::Fd root(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const base::Fd cgroup(root ? open_by_handle_at(root.get(), wanted, O_PATH | O_CLOEXEC) : -1);
    if (!cgroup) continue;
    char text[4096];
    const auto length =
        readlink(("/proc/self/fd/" + std::to_string(cgroup.get())).c_str(), text, sizeof text);
    if (length > 0) return {text, static_cast<std::size_t>(length)};
  }
  return "";
}

}  // namespace weft::kernel
