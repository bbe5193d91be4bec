#include "agent/kernel/bypass.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstring>
#include <map>

#include "agent/compile/map_state.h"
#include "agent/kernel/bypass_pins.h"
#include "agent/kernel/pins.h"
#include "mesh/base/text.h"

namespace weft::kernel {
namespace {

absl::StatusOr<base::Fd> open_raw(const std::string& path, std::size_t key, std::size_t value) {
  auto map = internal::open_map(path, key, value, Access::kReadWrite);
  if (!map.ok()) return map.status();
  return std::move(map->fd);
}

template <class To, class From>
absl::Status take(To& to, absl::StatusOr<From>&& from) {
  if (!from.ok()) return from.status();
  to = *std::move(from);
  return absl::OkStatus();
}

struct ByBytes {
  bool operator()(const weft_bypass_target& a, const weft_bypass_target& b) const {
    return std::memcmp(&a, &b, sizeof a) < 0;
  }
};

// Whether anything had to change. What is wanted is a map from the hash's keys to its values.
template <class Key, class Wanted>
absl::StatusOr<bool> make_equal(HashMap<Key, std::uint64_t>& map, const Wanted& wanted) {
  std::vector<Key> gone;
  auto status = map.for_each([&](const Key& key, std::uint64_t) {
    if (!wanted.contains(key)) gone.push_back(key);
  });
  if (!status.ok()) return status;
  bool changed = !gone.empty();
  for (const auto& key : gone)
    if (status = map.erase(key); !status.ok()) return status;
  for (const auto& [key, value] : wanted) {
    const auto now = map.lookup(key);
    if (now.ok() && *now == value) continue;
    changed = true;
    if (status = map.update(key, value); !status.ok()) return status;
  }
  return changed;
}

}  // namespace

absl::StatusOr<BypassMaps> BypassMaps::open(const Pins& pins, Access access) {
  const std::string dir = bypass_directory(pins);
  if (!exists(dir)) return absl::NotFoundError("no bypass was loaded: " + dir + " is not there");
  const auto map = [&](const char* name) { return dir + "/" + name; };
  BypassMaps maps;
  for (auto status : {
           take(maps.knobs_, ArrayMap<weft_bypass_knobs>::open(map("weft_bypass_knobs"), access)),
           take(maps.totals_,
                ArrayMap<weft_bypass_totals>::open(map("weft_bypass_totals"), Access::kReadOnly)),
           take(maps.pairs_, HashMap<std::uint64_t, weft_bypass_pair>::open(
                                 map("weft_bypass_pairs"), Access::kReadOnly)),
           take(maps.services_, HashMap<weft_bypass_target, std::uint64_t>::open(
                                    map("weft_bypass_services"), access)),
           take(maps.workloads_,
                HashMap<std::uint64_t, std::uint64_t>::open(map("weft_bypass_workloads"), access)),
           take(maps.counts_,
                open_raw(map("weft_bypass_counts"), sizeof(__u32), sizeof(weft_bypass_count))),
           take(maps.readers_, open_raw(map("weft_bypass_readers"), sizeof(int), sizeof(__u32))),
       })
    if (!status.ok()) return status;
  maps.sockets_ = base::Fd(bpf_obj_get(map("weft_bypass_sockets").c_str()));
  maps.look_ = base::Fd(bpf_obj_get(map(kBypassLook).c_str()));
  maps.epoch_ = load(maps.knobs_.at(0).epoch);
  return maps;
}

weft_bypass_mode BypassMaps::mode() const {
  return static_cast<weft_bypass_mode>(load(knobs_.at(0).mode));
}

void BypassMaps::set_mode(weft_bypass_mode mode) { store(knobs_.at(0).mode, mode); }

bool BypassMaps::joining() const { return load(knobs_.at(0).joining); }

void BypassMaps::set_joining(bool joining) { store(knobs_.at(0).joining, joining); }

void BypassMaps::set_limits(std::uint64_t credit, std::uint64_t node_limit) {
  store(knobs_.at(0).credit, credit);
  store(knobs_.at(0).node_limit, node_limit);
}

// What changed is in the maps before the epoch says so; a pair judged in between is judged again.
void BypassMaps::note_declared() {
  bool declared = false;
  // Visiting two maps that nearly always are empty costs two system calls.
  for (auto status : {services_.for_each([&](const auto&, auto) { declared = true; }),
                      workloads_.for_each([&](auto, auto) { declared = true; })})
    if (!status.ok()) declared = true;
  store(knobs_.at(0).declared, declared);
  store(knobs_.at(0).epoch, ++epoch_);
}

absl::Status BypassMaps::set_services(const std::vector<BypassTarget>& targets) {
  std::map<weft_bypass_target, weft_bypass_word, ByBytes> wanted;
  for (const auto& [target, word] : targets) wanted[target] = word;
  const auto changed = make_equal(services_, wanted);
  if (!changed.ok()) return changed.status();
  if (*changed) note_declared();
  return absl::OkStatus();
}

absl::Status BypassMaps::set_workloads(const std::map<std::uint64_t, weft_bypass_word>& wanted) {
  const auto changed = make_equal(workloads_, wanted);
  if (!changed.ok()) return changed.status();
  if (*changed) note_declared();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<BypassPair>> BypassMaps::pairs() const {
  std::vector<BypassPair> list;
  auto status = pairs_.for_each([&](std::uint64_t id, const weft_bypass_pair& value) {
    list.push_back({id, value});
  });
  if (!status.ok()) return status;
  return list;
}

BypassCounts BypassMaps::counts() const {
  BypassCounts sums{};
  std::vector<weft_bypass_count> cpus(libbpf_num_possible_cpus());
  for (__u32 path = 0; path < sums.size(); ++path) {
    if (bpf_map_lookup_elem(counts_.get(), &path, cpus.data())) continue;
    for (const auto& cpu : cpus) {
      sums[path].bytes += cpu.bytes;
      sums[path].messages += cpu.messages;
    }
  }
  return sums;
}

weft_bypass_totals BypassMaps::totals() const { return totals_.at(0); }

weft_bypass_knobs BypassMaps::knobs() const { return knobs_.at(0); }

// Not of the sockets: they are counted one by one only, and are twice the pairs.
std::vector<MapFill> BypassMaps::fills() const {
  std::vector<MapFill> fills;
  const auto add = [&](const auto& map) {
    fills.push_back({map.name(), 0, map.max_entries()});
    (void)map.for_each([&](const auto&, const auto&) { ++fills.back().entries; });
  };
  add(pairs_);
  add(services_);
  add(workloads_);
  return fills;
}

weft_bypass_look BypassMaps::look(std::uint64_t id, std::uint32_t side) const {
  // A packet of the least length that the kernel takes.
  struct {
    weft_bypass_key key;
    unsigned char rest[48];
  } packet{{id, side, 0}, {}};
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &packet, .data_size_in = sizeof packet);
  if (!look_ || bpf_prog_test_run_opts(look_.get(), &run)) return WEFT_BYPASS_LOOK_QUEUED;
  return static_cast<weft_bypass_look>(run.retval);
}

bool BypassMaps::sends() const {
  __u32 program = 0, count = 1;
  return bpf_prog_query(sockets_.get(), BPF_SK_MSG_VERDICT, 0, nullptr, &program, &count) || count;
}

Hook read_bypass_hook(const Pins& pins, const std::string& cgroup) {
  return read_link("bypass_join", bypass_directory(pins) + "/" + kBypassLink, cgroup);
}

std::vector<Hook> read_all_hooks(const Pins& pins, const std::string& cgroup) {
  auto hooks = read_hooks(pins, cgroup);
  const auto bypass = BypassMaps::open(pins, Access::kReadOnly);
  if (bypass.ok() && bypass->joining()) hooks.push_back(read_bypass_hook(pins, cgroup));
  return hooks;
}

std::vector<std::string> bypass_queues(const BypassMaps& maps) {
  std::vector<std::string> lines;
  const auto pairs = maps.pairs();
  if (!pairs.ok()) return {base::message_of(pairs.status())};
  for (const auto& [id, pair] : *pairs)
    for (const std::uint32_t side : {0u, 1u})
      if (maps.look(id, side) == WEFT_BYPASS_LOOK_QUEUED)
        lines.push_back(text_of(pair.end[0]) + " -> " + text_of(pair.end[1]) + ": for the " +
                        (side ? "server" : "client"));
  return lines;
}

std::string text_of(const weft_bypass_end& end) {
  const auto address = compile::from_abi(end.addr);
  const auto port = std::to_string(ntohs(end.port));
  const auto text = address.to_text();
  return text.find(':') == std::string::npos ? text + ":" + port : "[" + text + "]:" + port;
}

const char* name_of(weft_bypass_path path) {
  switch (path) {
    case WEFT_BYPASS_REDIRECTED:
      return "redirected";
    case WEFT_BYPASS_TURNED_OFF:
      return "off";
    case WEFT_BYPASS_READER:
      return "reader";
    case WEFT_BYPASS_UNPAIRED:
      return "unpaired";
    case WEFT_BYPASS_ORDER:
      return "order";
    case WEFT_BYPASS_CREDIT:
      return "credit";
    case WEFT_BYPASS_NODE_LIMIT:
      return "node_limit";
    case WEFT_BYPASS_CLOSING:
      return "closing";
    case WEFT_BYPASS_ULP:
      return "ulp";
    case WEFT_BYPASS_PEER_GONE:
      return "peer_gone";
    case WEFT_BYPASS_STREAM:
      return "stream";
    case WEFT_BYPASS_UNREADABLE:
      return "unreadable";
    case WEFT_BYPASS_PATHS:
      break;
  }
  return "?";
}

}  // namespace weft::kernel
