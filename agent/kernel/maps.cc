#include "agent/kernel/maps.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <optional>
#include <thread>
#include <unordered_map>

#include "agent/kernel/map_info.h"

namespace weft::kernel {
namespace {

using compile::MapState;
using compile::PlacedEndpoint;
using compile::PlacedPort;
using compile::PlacedService;

// A reader beside a plan that is being written: so often, with so much between.
constexpr int kTries = 20;
constexpr std::chrono::milliseconds kPause{1};

// The generation in force; none while another is being written.
std::optional<std::uint64_t> settled_generation(const Maps& maps) {
  const auto& meta = maps.meta.at(0);
  const auto next = load(meta.next_generation);
  if (load(meta.generation) != next) return std::nullopt;
  return next;
}

template <class Map>
absl::Status open_into(Map& map, const std::string& dir, const char* name, Access access) {
  auto opened = Map::open(dir + "/" + name, access);
  if (!opened.ok()) return opened.status();
  map = *std::move(opened);
  return absl::OkStatus();
}

std::string name_text(const char (&name)[WEFT_NAME_MAX]) {
  return std::string(name, strnlen(name, sizeof name));
}

struct NamedPort {
  model::ServiceKey service;
  PlacedPort port;
};
using Ports = std::unordered_map<std::uint32_t, NamedPort>;

model::EndpointState state_of(std::uint32_t flags) {
  if (flags & WEFT_ENDPOINT_READY) return model::EndpointState::kReady;
  if (flags & WEFT_ENDPOINT_DRAINING) return model::EndpointState::kDraining;
  return model::EndpointState::kNotReady;
}

absl::Status read_names(const Maps& maps, Ports& ports) {
  return maps.names.for_each([&](std::uint32_t index, const weft_service_info& info) {
    if (index >= maps.services.size()) return;
    NamedPort named;
    named.service = {name_text(info.namespace_name), name_text(info.name)};
    named.port.key = {ntohs(info.port), static_cast<model::Protocol>(info.proto),
                      static_cast<model::Family>(info.family)};
    named.port.name = name_text(info.port_name);
    named.port.index = index;
    ports.emplace(index, std::move(named));
  });
}

void read_endpoints(const Maps& maps, Ports& ports) {
  const auto endpoints = maps.endpoints.values();
  for (std::uint32_t id = 1; id < endpoints.size(); ++id) {
    const std::uint64_t word = load(endpoints[id].word);
    if (!(weft_endpoint_flags(word) & WEFT_ENDPOINT_USED)) continue;
    const auto owner = ports.find(weft_endpoint_service(word));
    if (owner == ports.end()) continue;  // left by a killed writer: the id counts as free
    owner->second.port.endpoints.push_back(
        PlacedEndpoint{id, compile::from_abi(endpoints[id].addr), ntohs(weft_endpoint_port(word)),
                       state_of(weft_endpoint_flags(word)),
                       static_cast<std::uint8_t>(weft_endpoint_priority(word)),
                       endpoints[id].weight, endpoints[id].zone, endpoints[id].node});
  }
  for (auto& [index, named] : ports)
    std::sort(named.port.endpoints.begin(), named.port.endpoints.end(),
              [](const PlacedEndpoint& a, const PlacedEndpoint& b) {
                return std::pair(a.address, a.port) < std::pair(b.address, b.port);
              });
}

// Whether the range is whole and the port's own; its slots are appended.
bool read_slots(const Maps& maps, std::uint32_t base, std::uint32_t count, PlacedPort& port) {
  if (std::uint64_t{base} + WEFT_SLOT_HEADER + count > maps.slots.size()) return false;
  const auto slots = maps.slots.values();
  if (weft_slot_owner(slots[base]) != port.index) return false;
  const std::uint64_t tail = slots[base + WEFT_SLOT_HEADER - 1];
  if (weft_slot_owner(tail) != port.index) return false;
  const std::uint64_t all = std::uint64_t{count} + weft_spares_count(tail);
  if (base + WEFT_SLOT_HEADER + all > maps.slots.size()) return false;
  for (std::uint64_t i = 0; i < all; ++i) {
    const std::uint64_t slot = slots[base + WEFT_SLOT_HEADER + i];
    if (weft_slot_owner(slot) != port.index) return false;
    (i < count ? port.slots : port.spares).push_back(weft_slot_low(slot));
  }
  return true;
}

void read_range(const Maps& maps, PlacedPort& port) {
  const std::uint64_t word = load(maps.services.at(port.index));
  const std::uint32_t base = weft_record_base(word), count = weft_record_count(word);
  port.policy = maps.policies.at(port.index);
  port.publication = weft_record_generation(word);
  if (!word || (count && !read_slots(maps, base, count, port))) {
    // Never published, or damaged. A selector that no service asks for: whatever is compiled next
    // differs from it, and so is published.
    port.selector = WEFT_SELECT_MASK;
    port.slots.clear();
    port.spares.clear();
    return;
  }
  port.selector = weft_record_selector(word) & WEFT_SELECT_MASK;
  if (!count) return;
  const auto slots = maps.slots.values();
  if (weft_record_selector(word) & WEFT_SELECT_AFFINITY)
    port.affinity_seconds = weft_slot_low(slots[base]);
  port.generation = slots[base + 1];
  port.base = base;
}

absl::Status read_frontends(const Maps& maps, Ports& ports) {
  auto status =
      maps.frontends.for_each([&](const weft_frontend_key& key, const weft_frontend& value) {
        const auto owner = ports.find(value.service);
        if (owner == ports.end()) return;
        owner->second.port.frontends.push_back(compile::from_abi(key.addr));
      });
  for (auto& [index, named] : ports)
    std::sort(named.port.frontends.begin(), named.port.frontends.end());
  return status;
}

// Two indexes under one name: a service was removed and came back, and the writer was killed before
// it cleaned up. The one that frontends name is the service; the other gets a name that is in no
// mesh, so that the next diff clears it.
void group(Ports& ports, MapState& state) {
  std::map<model::ServiceKey, PlacedService> services;
  std::vector<NamedPort*> order;
  for (auto& [index, named] : ports) order.push_back(&named);
  std::sort(order.begin(), order.end(), [](const NamedPort* a, const NamedPort* b) {
    return std::tuple(a->port.frontends.empty(), a->port.slots.empty(), a->port.index) <
           std::tuple(b->port.frontends.empty(), b->port.slots.empty(), b->port.index);
  });
  for (auto* named : order) {
    auto key = named->service;
    const auto twin = [&](const PlacedPort& port) { return port.key == named->port.key; };
    const auto& known = services[key].ports;
    if (std::any_of(known.begin(), known.end(), twin))
      key = {"", "left-over-" + std::to_string(named->port.index)};
    auto& service = services[key];
    service.key = key;
    service.ports.push_back(std::move(named->port));
  }
  for (auto& [key, service] : services) {
    std::sort(service.ports.begin(), service.ports.end(),
              [](const PlacedPort& a, const PlacedPort& b) { return a.key < b.key; });
    state.set(key, std::make_shared<PlacedService>(std::move(service)));
  }
}

}  // namespace

absl::StatusOr<Maps> Maps::open_dir(const std::string& dir, Access access) {
  Maps maps;
  for (const auto& status : {open_into(maps.meta, dir, "weft_meta", access),
                             open_into(maps.frontends, dir, "weft_frontends", access),
                             open_into(maps.services, dir, "weft_services", access),
                             open_into(maps.service_states, dir, "weft_service_states", access),
                             open_into(maps.slots, dir, "weft_slots", access),
                             open_into(maps.endpoints, dir, "weft_endpoints", access),
                             open_into(maps.endpoint_states, dir, "weft_endpoint_states", access),
                             open_into(maps.policies, dir, "weft_policies", access),
                             open_into(maps.names, dir, "weft_names", access),
                             open_into(maps.labels, dir, "weft_labels", access),
                             open_into(maps.affinities, dir, "weft_affinities", access)})
    if (!status.ok()) return status;
  // Builds before them had none; what they left behind must be readable all the same.
  for (auto status : {open_into(maps.workloads, dir, "weft_workloads", access),
                      open_into(maps.captures, dir, "weft_captures", access),
                      open_into(maps.originals, dir, "weft_originals", access),
                      open_into(maps.proxy_state, dir, "weft_proxy_state", access)})
    if (!status.ok() && !(access == Access::kReadOnly && absl::IsNotFound(status))) return status;
  return maps;
}

absl::StatusOr<Maps> Maps::open(const Pins& pins, Access access) {
  struct stat info;
  if (::stat(pins.maps().c_str(), &info) && errno == ENOENT)
    return absl::NotFoundError("no weft maps are pinned under " + pins.root);
  auto maps = open_dir(pins.maps(), access);
  if (maps.ok() && maps->meta.at(0).layout && maps->meta.at(0).layout != WEFT_ABI_LAYOUT)
    return absl::FailedPreconditionError("the maps under " + pins.root + " have layout " +
                                         std::to_string(maps->meta.at(0).layout) +
                                         ", this build knows " + std::to_string(WEFT_ABI_LAYOUT));
  return maps;
}

compile::Limits Maps::limits() const {
  compile::Limits limits;
  limits.services = services.size();
  limits.frontends = frontends.max_entries();
  limits.endpoints = endpoints.size();
  limits.slots = slots.size();
  limits.labels = labels.max_entries();
  return limits;
}

absl::StatusOr<MapState> read_state(const Maps& maps) {
  Ports ports;
  if (auto status = read_names(maps, ports); !status.ok()) return status;
  read_endpoints(maps, ports);
  for (auto& [index, named] : ports) read_range(maps, named.port);
  if (auto status = read_frontends(maps, ports); !status.ok()) return status;

  MapState state;
  auto labels = std::make_shared<std::map<std::uint32_t, std::string>>();
  auto status = maps.labels.for_each([&](std::uint32_t id, const weft_label& label) {
    labels->emplace(id, std::string(label.text, strnlen(label.text, sizeof label.text)));
  });
  if (!status.ok()) return status;
  state.labels = std::move(labels);
  state.generation = maps.meta.at(0).generation;
  group(ports, state);
  return state;
}

absl::StatusOr<Look> look_at(const Maps& maps) {
  Look look;
  const auto before = settled_generation(maps);
  look.generation = load(maps.meta.at(0).generation);
  auto state = read_state(maps);
  if (!state.ok()) return state.status();
  look.state = *std::move(state);
  __atomic_thread_fence(__ATOMIC_ACQUIRE);  // what was read was read before this second look
  look.settled = before && settled_generation(maps) == before;
  return look;
}

absl::StatusOr<MapState> read_settled_state(const Maps& maps) {
  for (int tries = 1;; ++tries) {
    auto look = look_at(maps);
    if (!look.ok()) return look.status();
    if (look->settled || tries == kTries) return std::move(look->state);
    std::this_thread::sleep_for(kPause);
  }
}

void settle(const Maps& maps) {
  auto& meta = maps.meta.at(0);
  const auto generation = load(meta.generation);
  if (load(meta.next_generation) != generation) store(meta.next_generation, generation);
}

std::uint64_t slots_of(std::uint64_t record, std::span<const std::uint64_t> slots) {
  const std::uint64_t count = weft_record_count(record);
  if (!count) return 0;
  const std::uint64_t tail = weft_record_base(record) + WEFT_SLOT_HEADER - 1ull;
  return WEFT_SLOT_HEADER + count +
         (tail < slots.size() ? weft_spares_count(load(slots[tail])) : 0);
}

std::vector<std::string> settled_inconsistencies(const Maps& maps) {
  for (int tries = 0; tries < kTries; ++tries) {
    const auto before = settled_generation(maps);
    auto found = inconsistencies(maps);
    if (found.empty() || (before && settled_generation(maps) == before)) return found;
    std::this_thread::sleep_for(kPause);
  }
  return inconsistencies(maps);
}

std::vector<std::string> inconsistencies(const Maps& maps) {
  std::vector<std::string> found;
  Ports ports;
  if (auto status = read_names(maps, ports); !status.ok()) return {std::string(status.message())};
  const auto status =
      maps.frontends.for_each([&](const weft_frontend_key& key, const weft_frontend& value) {
        const auto where = "frontend " + compile::from_abi(key.addr).to_text() + " port " +
                           std::to_string(ntohs(key.port));
        if (value.check != weft_frontend_check(&key))
          found.push_back(where + ": its check word is not its key's");
        if (!ports.contains(value.service) || load(maps.services.at(value.service)) == 0)
          found.push_back(where + " names service " + std::to_string(value.service) +
                          ", which has no record");
      });
  if (!status.ok()) found.push_back(std::string(status.message()));
  const auto slots = maps.slots.values();
  for (const auto& [index, named] : ports) {
    const std::uint64_t word = load(maps.services.at(index));
    const std::uint32_t base = weft_record_base(word), count = weft_record_count(word);
    const auto where =
        "service " + named.service.to_text() + " (index " + std::to_string(index) + ")";
    for (std::uint32_t i = 0; count && i < count + WEFT_SLOT_HEADER; ++i) {
      const std::uint64_t at = std::uint64_t{base} + i;
      if (i == 1) continue;  // the generation: names no owner
      if (at >= slots.size() || weft_slot_owner(slots[at]) != index) {
        found.push_back(where + ": slot " + std::to_string(at) + " is not its own");
        break;
      }
      if (i < WEFT_SLOT_HEADER) continue;
      const std::uint32_t id = weft_slot_low(slots[at]);
      if (id >= maps.endpoints.size() ||
          weft_endpoint_service(load(maps.endpoints.at(id).word)) != index)
        found.push_back(where + ": slot " + std::to_string(at) + " names endpoint " +
                        std::to_string(id) + ", which is not its own");
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

absl::StatusOr<std::array<std::uint64_t, WEFT_EVENT_COUNT>> read_events(const Pins& pins) {
  const base::Fd map(bpf_obj_get(pins.map("weft_events").c_str()));
  if (!map) return absl::ErrnoToStatus(errno, "cannot open map weft_events");
  const int cpus = possible_cpus();
  if (cpus <= 0) return absl::InternalError("cannot count this machine's CPUs");
  std::array<std::uint64_t, WEFT_EVENT_COUNT> sums{};
  std::vector<std::uint64_t> per_cpu(cpus);
  for (std::uint32_t event = 0; event < WEFT_EVENT_COUNT; ++event) {
    if (bpf_map_lookup_elem(map.get(), &event, per_cpu.data()))
      return absl::ErrnoToStatus(errno, "cannot read map weft_events");
    for (const auto count : per_cpu) sums[event] += count;
  }
  return sums;
}

const char* event_label(weft_event event) {
  static constexpr const char* kLabels[] = {
#define WEFT_EVENT_LABEL(name, label, help) #label,
      WEFT_EVENTS(WEFT_EVENT_LABEL)
#undef WEFT_EVENT_LABEL
  };
  return kLabels[event];
}

const char* event_help(weft_event event) {
  static constexpr const char* kHelps[] = {
#define WEFT_EVENT_HELP(name, label, help) help,
      WEFT_EVENTS(WEFT_EVENT_HELP)
#undef WEFT_EVENT_HELP
  };
  return kHelps[event];
}

absl::StatusOr<weft_answer> ask(const Pins& pins, const weft_query& query) {
  const base::Fd program(bpf_obj_get(pins.program("weft_why").c_str()));
  if (!program) return absl::ErrnoToStatus(errno, "cannot open " + pins.program("weft_why"));
  struct {
    unsigned char ethernet[14] = {};
    weft_why why = {};
  } __attribute__((packed)) packet;
  packet.why.query = query;
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &packet, .data_out = &packet,
              .data_size_in = sizeof packet, .data_size_out = sizeof packet, .repeat = 1);
  if (bpf_prog_test_run_opts(program.get(), &run))
    return absl::ErrnoToStatus(errno, "cannot run weft_why");
  if (run.retval) return absl::InternalError("weft_why refused the question");
  const weft_answer answer = packet.why.answer;  // a copy: the packet is packed
  return answer;
}

}  // namespace weft::kernel
