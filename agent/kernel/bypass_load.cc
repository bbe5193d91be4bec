// Loading, attaching and removing the bypass; the only part that knows its skeleton.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <thread>

#include "agent/kernel/bypass.h"
#include "agent/kernel/bypass_pins.h"
#include "agent/kernel/libbpf_log.h"
#include "agent/kernel/pins.h"
#include "agent/kernel/writer.h"
#include "bypass.skel.h"

namespace weft::kernel {
namespace {

using Skeleton = std::unique_ptr<bypass, decltype(&bypass__destroy)>;

bool is_ours(const bpf_map* map) {
  return std::string_view(bpf_map__name(map)).starts_with("weft_");
}

// The maps that are there are the maps: their layout is in the directory's name.
absl::Status reuse_maps(const Skeleton& skeleton, const std::string& dir) {
  bpf_map* map;
  bpf_object__for_each_map(map, skeleton->obj) {
    const std::string path = dir + "/" + bpf_map__name(map);
    if (!is_ours(map) || !exists(path)) continue;
    const base::Fd fd(bpf_obj_get(path.c_str()));
    if (!fd || bpf_map__reuse_fd(map, fd.get()))
      return absl::ErrnoToStatus(errno, "cannot use map " + path);
  }
  return absl::OkStatus();
}

absl::Status pin(int fd, const std::string& path) {
  // Beside the old pin and then over it: there is one at any time.
  const std::string fresh = path + "_new";
  unlink(fresh.c_str());
  if (bpf_obj_pin(fd, fresh.c_str()) || rename(fresh.c_str(), path.c_str()))
    return absl::ErrnoToStatus(errno, "cannot pin " + path);
  return absl::OkStatus();
}

absl::Status pin_all(const Skeleton& skeleton, const std::string& dir) {
  if (auto status = make_directory(dir); !status.ok()) return status;
  bpf_map* map;
  bpf_object__for_each_map(map, skeleton->obj) {
    const std::string path = dir + "/" + bpf_map__name(map);
    if (!is_ours(map) || exists(path)) continue;
    if (auto status = pin(bpf_map__fd(map), path); !status.ok()) return status;
  }
  return pin(bpf_program__fd(skeleton->progs.weft_bypass_look), dir + "/" + kBypassLook);
}

absl::Status attach_join(const std::string& dir, int program, const std::string& cgroup) {
  const std::string path = dir + "/" + kBypassLink;
  if (const base::Fd link(bpf_obj_get(path.c_str())); link) {
    bpf_link_info info{};
    __u32 length = sizeof info;
    if (bpf_obj_get_info_by_fd(link.get(), &info, &length) == 0 &&
        info.cgroup.cgroup_id == cgroup_id(cgroup) &&
        bpf_link_update(link.get(), program, nullptr) == 0)
      return absl::OkStatus();
  }
  const base::Fd directory(::open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return absl::ErrnoToStatus(errno, "cannot open cgroup " + cgroup);
  const base::Fd link(bpf_link_create(program, directory.get(), BPF_CGROUP_SOCK_OPS, nullptr));
  if (!link) return absl::ErrnoToStatus(errno, "cannot attach the bypass to " + cgroup);
  return pin(link.get(), path);
}

// By name: a link whose last pin goes lives on until its inode is freed.
void detach_join(const std::string& dir) {
  if (const base::Fd link(bpf_obj_get((dir + "/" + kBypassLink).c_str())); link)
    bpf_link_detach(link.get());
}

absl::Status remove_bypass(const std::string& dir) {
  detach_join(dir);
  return remove_pins(dir);
}

// Directories of other layouts.
std::vector<std::string> other_layouts(const Pins& pins) {
  std::vector<std::string> found;
  for (const auto& name : list_pins(pins.root))
    if (name.starts_with(kBypassDirectory) && pins.root + "/" + name != bypass_directory(pins))
      found.push_back(pins.root + "/" + name);
  return found;
}

// The words that mean the same in every layout.
struct AnyKnobs {
  std::uint64_t mode, joining;
};
static_assert(offsetof(weft_bypass_knobs, mode) == offsetof(AnyKnobs, mode) &&
              offsetof(weft_bypass_knobs, joining) == offsetof(AnyKnobs, joining));

absl::Status set_any(const std::string& dir, bool turn_off) {
  const std::string path = dir + "/weft_bypass_knobs";
  const base::Fd map(bpf_obj_get(path.c_str()));
  const auto size = static_cast<std::size_t>(getpagesize());
  void* memory =
      map ? mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, map.get(), 0) : MAP_FAILED;
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot write " + path);
  auto* knobs = static_cast<AnyKnobs*>(memory);
  store(knobs->joining, 0);
  if (turn_off) store(knobs->mode, WEFT_BYPASS_OFF);
  munmap(memory, size);
  return absl::OkStatus();
}

bool has_pairs(const std::string& dir) {
  const base::Fd map(bpf_obj_get((dir + "/weft_bypass_pairs").c_str()));
  std::uint64_t id;
  return map && bpf_map_get_next_key(map.get(), nullptr, &id) == 0;
}

// A client whose server stayed out, or a socket that was disconnected and is to connect again, is
// in the map without a pair. What cannot be read is in use.
bool has_sockets(const std::string& dir) {
  const base::Fd map(bpf_obj_get((dir + "/weft_bypass_sockets").c_str()));
  weft_bypass_key key;
  return !map || bpf_map_get_next_key(map.get(), nullptr, &key) == 0 || errno != ENOENT;
}

}  // namespace

absl::StatusOr<bool> detach_bypass(const Pins& pins) {
  const std::string dir = bypass_directory(pins), link = dir + "/" + kBypassLink;
  if (!exists(link)) return true;
  if (has_pairs(dir) || has_sockets(dir)) return false;
  wait_for_grace_period();  // whoever was just about to join has, or has not
  if (has_pairs(dir) || has_sockets(dir)) return false;
  detach_join(dir);
  if (unlink(link.c_str())) return absl::ErrnoToStatus(errno, "cannot remove " + link);
  return true;
}

absl::StatusOr<std::size_t> retire_other_bypasses(const Pins& pins) {
  std::size_t in_use = 0;
  for (const auto& dir : other_layouts(pins)) {
    if (auto status = set_any(dir, /*turn_off=*/false); !status.ok()) return status;
    if (has_pairs(dir)) {
      ++in_use;
      continue;
    }
    wait_for_grace_period();  // whoever was just about to join has, or has not
    if (has_pairs(dir)) {
      ++in_use;
      continue;
    }
    if (auto status = remove_bypass(dir); !status.ok()) return status;
  }
  return in_use;
}

namespace {

absl::Status uninstall_others(const Pins& pins,
                              const std::function<bool(const std::vector<std::string>&)>& waiting) {
  for (const auto& dir : other_layouts(pins)) {
    if (auto status = set_any(dir, /*turn_off=*/true); !status.ok()) return status;
    // How its queues look this build does not know: its connections must end.
    while (has_pairs(dir)) {
      if (!waiting({"connections that joined under " + dir}))
        return absl::DeadlineExceededError("connections that joined under " + dir + " are open");
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (auto status = remove_bypass(dir); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BypassMaps> load_bypass(const Pins& pins, const std::string& cgroup) {
  const std::string dir = bypass_directory(pins);
  const LibbpfLog log;
  Skeleton skeleton(bypass__open(), bypass__destroy);
  absl::Status status = skeleton ? reuse_maps(skeleton, dir)
                                 : absl::ErrnoToStatus(errno, "cannot open the bypass's programs");
  if (status.ok() && bypass__load(skeleton.get()))
    status = absl::ErrnoToStatus(errno, "cannot load the bypass: " + log.text());
  if (!status.ok()) return status;
  if (status = pin_all(skeleton, dir); !status.ok()) return status;
  auto maps = BypassMaps::open(pins, Access::kReadWrite);
  if (!maps.ok()) return maps.status();
  maps->set_limits(kBypassCredit, kBypassNodeLimit);
  if (bpf_prog_attach(bpf_program__fd(skeleton->progs.weft_bypass_send),
                      bpf_map__fd(skeleton->maps.weft_bypass_sockets), BPF_SK_MSG_VERDICT, 0))
    return absl::ErrnoToStatus(errno, "cannot attach the bypass's send program");
  if (status = attach_join(dir, bpf_program__fd(skeleton->progs.weft_bypass_join), cgroup);
      !status.ok())
    return status;
  maps->set_joining(true);
  return maps;
}

absl::Status uninstall_bypass(const Pins& pins,
                              const std::function<bool(const std::vector<std::string>&)>& waiting) {
  if (auto status = uninstall_others(pins, waiting); !status.ok()) return status;
  const std::string dir = bypass_directory(pins);
  if (!exists(dir)) return absl::OkStatus();
  auto maps = BypassMaps::open(pins, Access::kReadWrite);
  if (!maps.ok()) return remove_bypass(dir);  // half made: nobody ever joined
  maps->set_joining(false);
  maps->set_mode(WEFT_BYPASS_OFF);
  wait_for_grace_period();  // programs that have read the old word have run
  // Seen empty twice: a message that was on its way the first time is queued by the second.
  for (int empty = 0; empty < 2;) {
    const auto queues = bypass_queues(*maps);
    empty = queues.empty() ? empty + 1 : 0;
    if (!queues.empty() && !waiting(queues))
      return absl::DeadlineExceededError("there are bytes queued for " +
                                         std::to_string(queues.size()) +
                                         " connections that their readers have not read");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return remove_bypass(dir);
}

}  // namespace weft::kernel
