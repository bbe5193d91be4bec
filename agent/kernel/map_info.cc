#include "agent/kernel/map_info.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <fstream>
#include <optional>

#include "agent/kernel/bypass_pins.h"
#include "agent/kernel/maps.h"
#include "agent/kernel/pins.h"
#include "mesh/base/text.h"

namespace weft::kernel {
namespace {

// The kernel's own account of a map's memory, "memlock:\t12345" in fdinfo.
std::uint64_t memory_of(int fd) {
  std::ifstream file("/proc/self/fdinfo/" + std::to_string(fd));
  for (std::string key; file >> key;) {
    std::string value;
    file >> value;
    if (key == "memlock:") return base::parse_number<std::uint64_t>(value).value_or(0);
  }
  return 0;
}

std::uint64_t count_hash(const internal::RawMap& map, const bpf_map_info& info) {
  std::uint64_t count = 0;
  (void)internal::for_each(map, info.key_size, info.value_size, [&](auto, auto) { ++count; });
  return count;
}

// How many entries of an array mean something: those with a word that says "used".
std::uint64_t count_array(const Maps& maps, const std::string& name) {
  std::uint64_t used = 0;
  if (name == "weft_services" || name == "weft_service_states" || name == "weft_policies") {
    for (auto& word : maps.services.values()) used += load(word) != 0;
  } else if (name == "weft_endpoints" || name == "weft_endpoint_states") {
    for (auto& endpoint : maps.endpoints.values()) used += load(endpoint.word) != 0;
  } else if (name == "weft_slots") {
    for (auto& word : maps.services.values()) used += slots_of(load(word), maps.slots.values());
  }
  return used;
}

}  // namespace

int possible_cpus() { return libbpf_num_possible_cpus(); }

std::string map_type_name(unsigned type) {
  const char* text = libbpf_bpf_map_type_str(static_cast<bpf_map_type>(type));
  return text ? text : "type " + std::to_string(type);
}

namespace {

bool is_hash(unsigned type) {
  return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH ||
         type == BPF_MAP_TYPE_SOCKHASH;
}

// Of these every entry is there from the start: they are never more or less full.
bool is_always_whole(const std::string& name, unsigned type) {
  return type == BPF_MAP_TYPE_PERCPU_ARRAY || name == "weft_meta" || name == "weft_proxy_state" ||
         (type == BPF_MAP_TYPE_ARRAY && name.starts_with("weft_bypass_"));
}

// Nothing where that is no map, or is gone.
std::optional<MapSummary> summarise_pin(const Maps& maps, const std::string& dir,
                                        const std::string& name) {
  internal::RawMap map{base::Fd(bpf_obj_get((dir + "/" + name).c_str())), 0, name};
  bpf_map_info info{};
  __u32 length = sizeof info;
  if (!map.fd || bpf_obj_get_info_by_fd(map.fd.get(), &info, &length)) return std::nullopt;
  map.max_entries = info.max_entries;
  MapSummary summary;
  summary.name = name;
  summary.type = map_type_name(info.type);
  summary.id = info.id;
  summary.key_size = info.key_size;
  summary.value_size = info.value_size;
  summary.max_entries = info.max_entries;
  summary.bytes = memory_of(map.fd.get());
  if (is_always_whole(name, info.type)) {
    summary.entries = info.max_entries;
    return summary;
  }
  if (is_hash(info.type)) summary.entries = count_hash(map, info);
  if (info.type == BPF_MAP_TYPE_ARRAY) summary.entries = count_array(maps, name);
  // An LRU is meant to be full.
  if (summary.max_entries && info.type != BPF_MAP_TYPE_LRU_HASH)
    summary.pressure = static_cast<double>(summary.entries) / summary.max_entries;
  return summary;
}

}  // namespace

absl::StatusOr<std::vector<MapSummary>> summarise(const Pins& pins) {
  auto maps = Maps::open(pins, Access::kReadOnly);
  if (!maps.ok()) return maps.status();
  std::vector<MapSummary> summaries;
  for (const auto& dir : {pins.maps(), bypass_directory(pins)})
    for (const auto& name : list_pins(dir))
      if (name.starts_with("weft_"))  // beside the bypass's maps lie a program and a link
        if (auto summary = summarise_pin(*maps, dir, name))
          summaries.push_back(*std::move(summary));
  std::sort(summaries.begin(), summaries.end(),
            [](const MapSummary& a, const MapSummary& b) { return a.name < b.name; });
  return summaries;
}

}  // namespace weft::kernel
