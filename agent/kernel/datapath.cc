#include "agent/kernel/datapath.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "agent/kernel/close.h"
#include "agent/kernel/features.h"
#include "agent/kernel/hooks.h"
#include "agent/kernel/libbpf_log.h"
#include "agent/kernel/pins.h"
#include "agent/kernel/writer.h"
#include "datapath.skel.h"

namespace weft::kernel {
namespace {

// No dots: bpffs reserves names that have one (EPERM).
std::string next_maps(const Pins& pins) { return pins.root + "/maps_next"; }
std::string old_maps(const Pins& pins) { return pins.root + "/maps_old"; }

struct MapShape {
  std::uint32_t type, key_size, value_size, max_entries;
  bool operator==(const MapShape&) const = default;
};

MapShape wanted_shape(const bpf_map* map) {
  return {static_cast<std::uint32_t>(bpf_map__type(map)), bpf_map__key_size(map),
          bpf_map__value_size(map), bpf_map__max_entries(map)};
}

std::optional<MapShape> pinned_shape(const std::string& path) {
  const base::Fd fd(bpf_obj_get(path.c_str()));
  bpf_map_info info{};
  __u32 length = sizeof info;
  if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &length)) return std::nullopt;
  return MapShape{info.type, info.key_size, info.value_size, info.max_entries};
}

bool is_ours(const bpf_map* map) {
  return std::string_view(bpf_map__name(map)).starts_with("weft_");
}

// Maps that go on in use when others are rebuilt in another size: what sockets and clients hold
// names numbers, and those stay.
bool outlives_sizes(const bpf_map* map) {
  const std::string_view name = bpf_map__name(map);
  return bpf_map__type(map) == BPF_MAP_TYPE_SK_STORAGE || name == "weft_affinities" ||
         name == "weft_workloads" || name == "weft_events" || name == "weft_transitions" ||
         name == "weft_captures" || name == "weft_originals" || name == "weft_proxy_state";
}

// The finished new maps become the pinned ones.
absl::Status take_over(const Pins& pins) {
  if (auto status = move_pins(pins.maps(), old_maps(pins)); !status.ok()) return status;
  return move_pins(next_maps(pins), pins.maps());
}

std::uint32_t map_id(const std::string& path) {
  const base::Fd fd(bpf_obj_get(path.c_str()));
  bpf_map_info info{};
  __u32 length = sizeof info;
  return fd && bpf_obj_get_info_by_fd(fd.get(), &info, &length) == 0 ? info.id : 0;
}

// Whether the programs in force run on the maps pinned there. Asked of the hook that is switched
// last.
bool in_force(const Pins& pins, const std::string& maps_dir) {
  const std::uint32_t wanted = map_id(maps_dir + "/weft_services");
  const auto hooks = read_hooks(pins, "");
  if (!wanted || hooks.empty() || !hooks.back().attached) return false;
  const base::Fd program(bpf_prog_get_fd_by_id(hooks.back().program_id));
  std::vector<std::uint32_t> ids(64);
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<std::uintptr_t>(ids.data());
  __u32 length = sizeof info;
  if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &length)) return false;
  ids.resize(std::min<std::size_t>(ids.size(), info.nr_map_ids));
  return std::find(ids.begin(), ids.end(), wanted) != ids.end();
}

void set_sizes(datapath* skeleton, const DatapathOptions& options) {
  const auto& limits = options.limits;
  bpf_map__set_max_entries(skeleton->maps.weft_frontends, limits.frontends);
  bpf_map__set_max_entries(skeleton->maps.weft_services, limits.services);
  bpf_map__set_max_entries(skeleton->maps.weft_service_states, limits.services);
  bpf_map__set_max_entries(skeleton->maps.weft_policies, limits.services);
  bpf_map__set_max_entries(skeleton->maps.weft_names, limits.services);
  bpf_map__set_max_entries(skeleton->maps.weft_slots, limits.slots);
  bpf_map__set_max_entries(skeleton->maps.weft_endpoints, limits.endpoints);
  bpf_map__set_max_entries(skeleton->maps.weft_endpoint_states, limits.endpoints);
  bpf_map__set_max_entries(skeleton->maps.weft_labels, limits.labels);
  bpf_map__set_max_entries(skeleton->maps.weft_affinities, options.affinity_entries);
  bpf_map__set_max_entries(skeleton->maps.weft_originals, options.affinity_entries);
}

// Whether everything in the maps could keep its number in maps of these sizes.
bool numbers_fit(const Maps& maps, const compile::Limits& limits) {
  const auto state = read_state(maps);
  if (!state.ok()) return false;
  bool fit = true;
  std::size_t frontends = 0;
  state->services.for_each([&](const auto& service) {
    for (const auto& port : service->ports) {
      frontends += port.frontends.size();
      fit &= port.index < limits.services;
      fit &= std::uint64_t{port.base} + port.range_length() <= limits.slots;
      for (const auto& endpoint : port.endpoints) fit &= endpoint.id < limits.endpoints;
    }
  });
  return fit && frontends <= limits.frontends;
}

std::string shape_text(const MapShape& shape) {
  return std::to_string(shape.key_size) + "+" + std::to_string(shape.value_size) + " bytes x " +
         std::to_string(shape.max_entries);
}

}  // namespace

struct Datapath::State {
  DatapathOptions options;
  datapath* skeleton = nullptr;
  std::string maps_dir;  // where the maps in use are pinned: maps, or maps_next while migrating
  bool migrating = false;
  bool same_layout = false;  // of the maps that are left behind
  Maps left_behind;          // those maps, while migrating within one layout
  std::vector<weft_endpoint_state> copied_endpoints;
  std::vector<weft_service_state> copied_services;

  ~State() { datapath__destroy(skeleton); }

  // Why the pinned maps cannot be used; empty: they fit.
  std::string misfit() const {
    bpf_map* map;
    bpf_object__for_each_map(map, skeleton->obj) {
      if (!is_ours(map)) continue;
      const auto pinned = pinned_shape(options.pins.map(bpf_map__name(map)));
      if (!pinned) return std::string(bpf_map__name(map)) + " is missing";
      if (*pinned != wanted_shape(map))
        return std::string(bpf_map__name(map)) + " is " + shape_text(*pinned) + ", wanted " +
               shape_text(wanted_shape(map));
    }
    const auto meta = ArrayMap<weft_meta>::open(options.pins.map("weft_meta"), Access::kReadOnly);
    if (!meta.ok()) return std::string(meta.status().message());
    const auto layout = meta->at(0).layout;
    if (layout && layout != WEFT_ABI_LAYOUT)
      return "layout " + std::to_string(layout) + ", wanted " + std::to_string(WEFT_ABI_LAYOUT);
    return "";
  }

  absl::Status reuse(bool storage_only) {
    bpf_map* map;
    bpf_object__for_each_map(map, skeleton->obj) {
      if (!is_ours(map) || (storage_only && !outlives_sizes(map))) continue;
      const std::string path = options.pins.map(bpf_map__name(map));
      if (pinned_shape(path) != wanted_shape(map)) continue;
      const base::Fd fd(bpf_obj_get(path.c_str()));
      if (!fd || bpf_map__reuse_fd(map, fd.get()))
        return absl::ErrnoToStatus(errno, "cannot reuse map " + path);
    }
    return absl::OkStatus();
  }

  absl::Status pin_maps() {
    if (auto status = make_directory(maps_dir); !status.ok()) return status;
    bpf_map* map;
    bpf_object__for_each_map(map, skeleton->obj) {
      if (!is_ours(map)) continue;
      const std::string path = maps_dir + "/" + bpf_map__name(map);
      if (exists(path)) continue;
      if (bpf_obj_pin(bpf_map__fd(map), path.c_str()))
        return absl::ErrnoToStatus(errno, "cannot pin map " + path);
    }
    return absl::OkStatus();
  }

  // Counters follow their ids into larger maps: sockets that are open now will be released there.
  void copy_counters(Maps& maps) {
    const auto from = left_behind.endpoint_states.values();
    const auto count = std::min(from.size(), maps.endpoint_states.values().size());
    copied_endpoints.assign(from.begin(), from.begin() + count);
    std::copy(copied_endpoints.begin(), copied_endpoints.end(),
              maps.endpoint_states.values().begin());
    const auto services = left_behind.service_states.values();
    const auto service_count = std::min(services.size(), maps.service_states.values().size());
    copied_services.assign(services.begin(), services.begin() + service_count);
    std::copy(copied_services.begin(), copied_services.end(), maps.service_states.values().begin());
  }

  // What the old programs still counted between the copy and the switch.
  void add_late_counts(Maps& maps) {
    const auto add = [](auto& to, auto now, auto then) {
      __atomic_fetch_add(&to, now - then, __ATOMIC_RELAXED);
    };
    for (std::size_t id = 0; id < copied_endpoints.size(); ++id) {
      const auto& now = left_behind.endpoint_states.at(id);
      auto& to = maps.endpoint_states.at(id);
      if (now.incarnation != to.incarnation) continue;
      // A transition that the old programs made since; the new ones begin with that.
      std::uint64_t breaker = copied_endpoints[id].breaker;
      if (now.breaker != breaker)
        __atomic_compare_exchange_n(&to.breaker, &breaker, now.breaker, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_RELAXED);
      add(to.active, now.active, copied_endpoints[id].active);
      add(to.opened, now.opened, copied_endpoints[id].opened);
      add(to.failed, now.failed, copied_endpoints[id].failed);
    }
    for (std::size_t index = 0; index < copied_services.size(); ++index) {
      const auto& now = left_behind.service_states.at(index);
      auto& to = maps.service_states.at(index);
      add(to.opened, now.opened, copied_services[index].opened);
      add(to.failed, now.failed, copied_services[index].failed);
      add(to.refused_no_endpoint, now.refused_no_endpoint,
          copied_services[index].refused_no_endpoint);
      add(to.refused_family, now.refused_family, copied_services[index].refused_family);
      add(to.refused_stale, now.refused_stale, copied_services[index].refused_stale);
      add(to.refused_ejected, now.refused_ejected, copied_services[index].refused_ejected);
      add(to.refused_limit, now.refused_limit, copied_services[index].refused_limit);
      add(to.refused_proxy_down, now.refused_proxy_down, copied_services[index].refused_proxy_down);
      add(to.captured, now.captured, copied_services[index].captured);
      if (now.incarnation != to.incarnation) continue;
      add(to.active, now.active, copied_services[index].active);
      add(to.ejected, now.ejected, copied_services[index].ejected);
      add(to.affinity_full, now.affinity_full, copied_services[index].affinity_full);
    }
  }
};

Spared::Spared(const Pins& pins) {
  auto meta = ArrayMap<weft_meta>::open(pins.map("weft_meta"), Access::kReadWrite);
  if (!meta.ok()) return;
  meta_ = *std::move(meta);
  meta_.values()[0].successor_tgid = own_tgid();
}

Spared::~Spared() {
  const auto meta = meta_.values();
  if (!meta.empty() && meta[0].successor_tgid == own_tgid()) meta[0].successor_tgid = 0;
}

Datapath::Datapath() : state_(std::make_unique<State>()) {}
Datapath::~Datapath() {
  // The number may be another process's next.
  const auto meta = maps_.meta.values();
  if (!meta.empty() && meta[0].agent_tgid == own_tgid()) meta[0].agent_tgid = 0;
}

std::vector<std::string> Datapath::missing(const DatapathOptions& options) {
  std::vector<std::string> lines;
  if (geteuid() != 0)
    lines.push_back(
        "not root: eBPF programs cannot be loaded, so nothing can be served; run as root (sudo)");
  if (access("/sys/kernel/btf/vmlinux", R_OK))
    lines.push_back(
        "no BTF (/sys/kernel/btf/vmlinux): programs cannot be fitted to this kernel; "
        "use a kernel built with CONFIG_DEBUG_INFO_BTF");
  if (!exists(options.cgroup))
    lines.push_back("cgroup " + options.cgroup +
                    " does not exist: no process would be served; give an existing cgroup v2 "
                    "directory as --cgroup");
  else if (!is_cgroup2(options.cgroup))
    lines.push_back(
        options.cgroup +
        " is not on a cgroup v2 file system: no hook can be attached; mount -t cgroup2 and give a "
        "directory of it as --cgroup");
  if (!is_bpffs(options.pins.root))
    lines.push_back(options.pins.root +
                    " is not on a bpf file system: the data path would end with this process; "
                    "mount -t bpf bpf /sys/fs/bpf, or give another --bpffs");
  return lines;
}

absl::StatusOr<std::unique_ptr<Datapath>> Datapath::load(const DatapathOptions& options) {
  const LibbpfLog log;
  std::unique_ptr<Datapath> self(new Datapath);
  State& state = *self->state_;
  const Pins& pins = options.pins;
  state.options = options;
  state.maps_dir = pins.maps();
  state.skeleton = datapath__open();
  if (!state.skeleton) return absl::ErrnoToStatus(errno, "cannot open the embedded programs");
  set_sizes(state.skeleton, options);
  const auto probed = probe_features();
  self->features_ = probed.list();
  self->features_.push_back(probe_sock_destroy());
  state.skeleton->rodata->knob_set_retval = probed.set_retval.enabled;
  state.skeleton->rodata->knob_v6only = probed.v6only.enabled;
  state.skeleton->rodata->knob_sock_error = probed.sock_error.enabled;
  state.skeleton->rodata->knob_enrol = options.labelled_only;
  state.skeleton->rodata->knob_root_cgroup = cgroup_id(options.cgroup);
  state.skeleton->rodata->knob_proxy = options.proxy;
  bpf_program__set_autoload(state.skeleton->progs.weft_getsockopt, options.proxy);

  // A migration that was killed between its two renames: the finished maps are the ones in force.
  if (!exists(pins.maps()) && exists(next_maps(pins)))
    if (auto status = move_pins(next_maps(pins), pins.maps()); !status.ok()) return status;
  // ... or before the first: then the links tell.
  if (exists(pins.maps()) && exists(next_maps(pins)) && in_force(pins, next_maps(pins))) {
    if (auto status = remove_pins(old_maps(pins)); !status.ok()) return status;
    if (auto status = take_over(pins); !status.ok()) return status;
  }
  for (const auto& leftover : {next_maps(pins), old_maps(pins)})
    if (auto status = remove_pins(leftover); !status.ok()) return status;

  self->fresh_ = !exists(pins.maps());
  const std::string misfit = self->fresh_ ? "" : state.misfit();
  if (!misfit.empty()) {
    auto old = Maps::open(pins, Access::kReadOnly);
    state.migrating = true;
    state.same_layout = old.ok() && numbers_fit(*old, options.limits);
    if (state.same_layout) state.left_behind = *std::move(old);
    state.maps_dir = next_maps(pins);
    self->fresh_ = true;
    self->migration_ = misfit;
  }
  if (!self->fresh_ || state.same_layout)
    if (auto status = state.reuse(/*storage_only=*/self->fresh_); !status.ok()) return status;

  if (datapath__load(state.skeleton))
    return absl::ErrnoToStatus(errno, "cannot load the programs: " + log.text());
  if (auto status = state.pin_maps(); !status.ok()) return status;
  auto maps = Maps::open_dir(state.maps_dir, Access::kReadWrite);
  if (!maps.ok()) return maps.status();
  self->maps_ = *std::move(maps);
  self->maps_.meta.values()[0].agent_tgid = own_tgid();
  if (state.same_layout) state.copy_counters(self->maps_);
  return self;
}

absl::StatusOr<compile::MapState> Datapath::actual() const {
  return state_->same_layout ? read_state(state_->left_behind) : read_state(maps_);
}

absl::Status Datapath::attach() {
  State& state = *state_;
  const Pins& pins = state.options.pins;
  for (const auto& dir : {pins.links(), pins.programs()})
    if (auto status = make_directory(dir); !status.ok()) return status;
  for (const auto& hook : hook_types()) {
    const auto* program = bpf_object__find_program_by_name(state.skeleton->obj, hook.program);
    if (auto status = attach_hook(pins, hook, bpf_program__fd(program), state.options.cgroup);
        !status.ok())
      return status;
  }
  const std::string why = pins.program("weft_why");
  unlink(why.c_str());
  if (bpf_obj_pin(bpf_program__fd(state.skeleton->progs.weft_why), why.c_str()))
    return absl::ErrnoToStatus(errno, "cannot pin " + why);
  store(maps_.meta.at(0).labelled_only, state.options.labelled_only);
  if (!state.options.proxy)
    if (auto status = detach_hook(pins, kSockoptHook); !status.ok()) return status;
  if (!state.migrating) return absl::OkStatus();

  if (auto status = take_over(pins); !status.ok()) return status;
  wait_for_grace_period();
  if (state.same_layout) state.add_late_counts(maps_);
  state.migrating = false;
  state.same_layout = false;
  state.left_behind = Maps{};
  return remove_pins(old_maps(pins));
}

absl::Status Datapath::attach_proxy(const std::string& cgroup) {
  const State& state = *state_;
  std::error_code error;
  const auto root = std::filesystem::canonical(state.options.cgroup, error);
  auto below = std::filesystem::canonical(cgroup, error);
  while (below != root && below != below.parent_path()) below = below.parent_path();
  if (error || below != root)
    return absl::InvalidArgumentError("the proxy's cgroup " + cgroup + " is not below " +
                                      state.options.cgroup +
                                      ": no hook would see what its sockets accept");
  return attach_hook(state.options.pins, kSockoptHook,
                     bpf_program__fd(state.skeleton->progs.weft_getsockopt), cgroup);
}

absl::Status uninstall(const Pins& pins) {
  // Links first: once no program runs, the maps are nobody's. Detached by name, since a link whose
  // last pin goes lives on until its inode is freed: hooks would run for a moment after we said
  // they are gone.
  for (const auto& name : list_pins(pins.links()))
    if (const base::Fd link(bpf_obj_get(pins.link(name).c_str())); link)
      bpf_link_detach(link.get());
  for (const auto& dir :
       {pins.links(), pins.programs(), pins.maps(), next_maps(pins), old_maps(pins)})
    if (auto status = remove_pins(dir); !status.ok()) return status;
  if (rmdir(pins.root.c_str()) && errno != ENOENT && errno != EBUSY && errno != ENOTEMPTY)
    return absl::ErrnoToStatus(errno, "cannot remove " + pins.root);
  return absl::OkStatus();
}

}  // namespace weft::kernel
