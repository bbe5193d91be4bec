#include "agent/kernel/map_info.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>

#include "agent/kernel/maps.h"
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

std::uint64_t count_hash(int fd, const bpf_map_info& info) {
  std::vector<char> key(info.key_size), next(info.key_size);
  std::uint64_t count = 0;
  for (int result = bpf_map_get_next_key(fd, nullptr, next.data());
       result == 0 && count < info.max_entries;
       result = bpf_map_get_next_key(fd, key.data(), next.data())) {
    ++count;
    key.swap(next);
  }
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

absl::StatusOr<std::vector<MapSummary>> summarise(const Pins& pins) {
  auto maps = Maps::open(pins, Access::kReadOnly);
  if (!maps.ok()) return maps.status();
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(pins.maps().c_str()), closedir);
  if (!dir) return absl::ErrnoToStatus(errno, "cannot list " + pins.maps());
  std::vector<MapSummary> summaries;
  while (const dirent* entry = readdir(dir.get())) {
    if (entry->d_name[0] == '.') continue;
    const base::Fd fd(bpf_obj_get(pins.map(entry->d_name).c_str()));
    bpf_map_info info{};
    __u32 length = sizeof info;
    if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &length)) continue;
    MapSummary summary;
    summary.name = entry->d_name;
    summary.type = map_type_name(info.type);
    summary.id = info.id;
    summary.key_size = info.key_size;
    summary.value_size = info.value_size;
    summary.max_entries = info.max_entries;
    summary.bytes = memory_of(fd.get());
    if (info.type == BPF_MAP_TYPE_HASH) summary.entries = count_hash(fd.get(), info);
    if (info.type == BPF_MAP_TYPE_ARRAY) summary.entries = count_array(*maps, summary.name);
    // Of these every entry is there from the start: they are never more or less full.
    if (info.type == BPF_MAP_TYPE_PERCPU_ARRAY || summary.name == "weft_meta" ||
        summary.name == "weft_proxy_state")
      summary.entries = info.max_entries;
    else if (summary.max_entries)
      summary.pressure = static_cast<double>(summary.entries) / summary.max_entries;
    summaries.push_back(std::move(summary));
  }
  std::sort(summaries.begin(), summaries.end(),
            [](const MapSummary& a, const MapSummary& b) { return a.name < b.name; });
  return summaries;
}

}  // namespace weft::kernel
