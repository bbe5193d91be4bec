#include "agent/kernel/neighbours.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string_view>

#include "agent/kernel/hooks.h"
#include "agent/kernel/pins.h"
#include "mesh/base/fd.h"

namespace weft::kernel {
namespace {

struct Level {
  std::string path;
  base::Fd fd;
};

// The cgroup and those above it, up to where cgroup2 is mounted.
std::vector<Level> levels_of(const std::string& cgroup, std::string& why) {
  std::vector<Level> levels;
  std::error_code error;
  auto path = std::filesystem::canonical(cgroup, error);
  for (; !error && is_cgroup2(path); path = path.parent_path()) {
    base::Fd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd) levels.push_back({path, std::move(fd)});
    if (path == path.parent_path()) break;
  }
  if (levels.empty()) why = "cannot look at cgroup " + cgroup;
  return levels;
}

// Ids of the programs at one level, or of all that run for it.
std::vector<std::uint32_t> programs_at(const Level& level, const HookType& hook,
                                       std::uint32_t flags, std::string& why) {
  std::vector<std::uint32_t> ids(64);  // the kernel's limit for one level
  for (;;) {
    std::uint32_t count = ids.size();
    if (bpf_prog_query(level.fd.get(), hook.type, flags, nullptr, ids.data(), &count) == 0) {
      ids.resize(count);
      return ids;
    }
    // More than expected: `count` says how many, and some may have come since.
    if (errno != ENOSPC || ids.size() > 4096) break;
    ids.resize(ids.size() * 4);
  }
  // Kernels that lack this attach type have no programs there.
  if (errno != EINVAL)
    why = std::string("cannot list the programs at ") + hook.name + " of " + level.path + ": " +
          std::strerror(errno);
  return {};
}

// The kernel keeps 15 bytes of a name: "cil_sock4_conne". BTF has the whole of it, as bpftool
// shows.
std::string whole_name(int fd, const bpf_prog_info& short_info) {
  std::string name = short_info.name;
  if (name.size() < sizeof short_info.name - 1 || !short_info.btf_id) return name;
  bpf_func_info function{};
  bpf_prog_info info{};
  info.nr_func_info = 1;
  info.func_info_rec_size = sizeof function;
  info.func_info = reinterpret_cast<std::uintptr_t>(&function);
  std::uint32_t length = sizeof info;
  if (bpf_obj_get_info_by_fd(fd, &info, &length) || !info.nr_func_info) return name;
  const std::unique_ptr<btf, void (*)(btf*)> types(btf__load_from_kernel_by_id(info.btf_id),
                                                   btf__free);
  const btf_type* type = types ? btf__type_by_id(types.get(), function.type_id) : nullptr;
  const char* found = type ? btf__name_by_offset(types.get(), type->name_off) : nullptr;
  return found && std::string_view(found).starts_with(name) ? found : name;
}

std::string name_of(std::uint32_t id, std::string& why) {
  const base::Fd fd(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  std::uint32_t length = sizeof info;
  if (fd && bpf_obj_get_info_by_fd(fd.get(), &info, &length) == 0)
    return whole_name(fd.get(), info);
  // ENOENT: it is gone again.
  if (errno != ENOENT)
    why = "cannot read the name of program " + std::to_string(id) + ": " + std::strerror(errno);
  return "";
}

// One hook at every level. `running` are the programs that the kernel calls for the innermost one,
// those above what is mounted here (a container's view) among them.
void look_at(const HookType& hook, const std::vector<Level>& levels,
             const std::set<std::uint32_t>& own, std::vector<ForeignProgram>& found,
             std::string& why) {
  auto running = programs_at(levels.front(), hook, BPF_F_QUERY_EFFECTIVE, why);
  const auto add = [&](std::uint32_t id, const std::string& cgroup, bool runs) {
    if (!own.contains(id)) found.push_back({hook.name, id, name_of(id, why), cgroup, runs});
  };
  for (const auto& level : levels)
    for (const auto id : programs_at(level, hook, 0, why)) {
      const auto at = std::find(running.begin(), running.end(), id);
      add(id, level.path, at != running.end());
      if (at != running.end()) running.erase(at);
    }
  for (const auto id : running) add(id, "", true);
}

// Who names programs so. Cilium: bpf/bpf_sock.c; Calico: felix/bpf-gpl/connect_balancer.c.
const char* balancer_of(std::string_view program) {
  if (program.starts_with("cil_sock")) return "Cilium's socket balancing";
  if (program.starts_with("calico_") || program.starts_with("cali_"))
    return "Calico's socket balancing";
  return nullptr;
}

std::string who(const ForeignProgram& program) {
  if (const char* balancer = balancer_of(program.name)) return balancer;
  return program.name.empty() ? "program " + std::to_string(program.id) : program.name;
}

const char* meaning(const ForeignProgram& program) {
  if (!program.runs)
    return "does not run for calls that weft sees, as it was attached without BPF_F_ALLOW_MULTI";
  if (balancer_of(program.name))
    return "of it and weft, the first to run translates a call, and the inner cgroup's programs "
           "run first";
  return "sees the same calls as weft; where it changes addresses too, the inner cgroup's programs "
         "come first";
}

}  // namespace

std::vector<ForeignProgram> foreign_programs(const std::string& cgroup,
                                             const std::set<std::uint32_t>& own_program_ids,
                                             std::string* why) {
  std::string reason;
  std::vector<ForeignProgram> found;
  const auto levels = levels_of(cgroup, reason);
  if (!levels.empty())
    for (const auto& hook : hook_types()) look_at(hook, levels, own_program_ids, found, reason);
  if (why) *why = reason;
  return found;
}

std::vector<std::pair<std::string, std::string>> in_words(
    const std::vector<ForeignProgram>& programs) {
  struct Group {
    std::string name, cgroup;
    const char* meaning;
    std::vector<std::string> hooks;
  };
  std::vector<Group> groups;
  for (const auto& program : programs) {
    Group group{who(program), program.cgroup, meaning(program), {}};
    auto at = std::find_if(groups.begin(), groups.end(), [&](const Group& other) {
      return other.name == group.name && other.cgroup == group.cgroup &&
             other.meaning == group.meaning;
    });
    if (at == groups.end()) at = groups.insert(at, std::move(group));
    // Twice at one hook (a name is nobody's alone) is said once.
    if (at->hooks.empty() || at->hooks.back() != program.hook) at->hooks.push_back(program.hook);
  }
  std::vector<std::pair<std::string, std::string>> words;
  for (const auto& group : groups) {
    std::string hooks;
    for (const auto& hook : group.hooks) hooks += (hooks.empty() ? "" : ", ") + hook;
    words.emplace_back(group.name, "at " + hooks + " of " +
                                       (group.cgroup.empty() ? "a cgroup above what is mounted here"
                                                             : group.cgroup) +
                                       ": " + group.meaning);
  }
  return words;
}

}  // namespace weft::kernel
