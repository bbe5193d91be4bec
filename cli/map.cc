#include <arpa/inet.h>

#include "agent/kernel/capture.h"
#include "agent/kernel/datapath.h"
#include "cli/cli.h"
#include "cli/map_dump.h"

namespace weft::cli {
namespace {

std::string address_text(const weft_addr& address) { return compile::from_abi(address).to_text(); }

const char* protocol_text(unsigned protocol) {
  return model::to_text(static_cast<model::Protocol>(protocol));
}

Json dump_meta(const Context&, const kernel::Maps& maps) {
  const auto& meta = maps.meta.at(0);
  return Json::array({{{"layout", meta.layout},
                       {"generation", meta.generation},
                       {"next_generation", meta.next_generation},
                       {"applied_at_ns", meta.applied_at_ns}}});
}

Json dump_frontends(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  (void)maps.frontends.for_each([&](const weft_frontend_key& key, const weft_frontend& value) {
    all.push_back({{"address", address_text(key.addr)},
                   {"port", ntohs(key.port)},
                   {"protocol", protocol_text(key.proto)},
                   {"service", value.service},
                   {"check_ok", value.check == weft_frontend_check(&key)}});
  });
  return all;
}

Json dump_services(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  for (std::uint32_t i = 0; i < maps.services.size(); ++i)
    if (const auto word = kernel::load(maps.services.at(i)))
      all.push_back({{"service", i},
                     {"base", weft_record_base(word)},
                     {"count", weft_record_count(word)},
                     {"selector", weft_record_selector(word) & WEFT_SELECT_MASK},
                     {"affinity", (weft_record_selector(word) & WEFT_SELECT_AFFINITY) != 0},
                     {"publication", weft_record_generation(word)}});
  return all;
}

Json dump_service_states(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  for (std::uint32_t i = 0; i < maps.services.size(); ++i) {
    if (!kernel::load(maps.services.at(i))) continue;
    const auto& s = maps.service_states.at(i);
    all.push_back({{"service", i},
                   {"cursor", s.cursor},
                   {"opened", s.opened},
                   {"failed", s.failed},
                   {"refused_no_endpoint", s.refused_no_endpoint},
                   {"refused_family", s.refused_family},
                   {"refused_stale", s.refused_stale},
                   {"refused_ejected", s.refused_ejected},
                   {"refused_limit", s.refused_limit},
                   {"refused_proxy_down", s.refused_proxy_down},
                   {"captured", s.captured},
                   {"active", s.active},
                   {"proxy_connections", weft_proxy_connections(s.connections)},
                   {"ejected", s.ejected},
                   {"affinity_full", s.affinity_full}});
  }
  return all;
}

Json spares_of(std::span<std::uint64_t> slots, std::uint32_t base, std::uint32_t count) {
  Json spares = Json::array();
  const std::uint64_t first = std::uint64_t{base} + WEFT_SLOT_HEADER + count;
  const std::uint32_t all = weft_spares_count(slots[base + WEFT_SLOT_HEADER - 1]);
  for (std::uint64_t at = first; at < first + all && at < slots.size(); ++at)
    spares.push_back(weft_slot_low(slots[at]));
  return spares;
}

Json dump_slots(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  const auto slots = maps.slots.values();
  for (std::uint32_t i = 0; i < maps.services.size(); ++i) {
    const auto word = kernel::load(maps.services.at(i));
    const auto base = weft_record_base(word), count = weft_record_count(word);
    if (!count || std::uint64_t{base} + WEFT_SLOT_HEADER + count > slots.size()) continue;
    Json endpoints = Json::array();
    for (std::uint32_t k = 0; k < count; ++k)
      endpoints.push_back(weft_slot_low(slots[base + WEFT_SLOT_HEADER + k]));
    all.push_back({{"service", weft_slot_owner(slots[base])},
                   {"base", base},
                   {"affinity_seconds", weft_slot_low(slots[base])},
                   {"generation", slots[base + 1]},
                   {"endpoints", endpoints},
                   {"spares", spares_of(slots, base, count)}});
  }
  return all;
}

Json dump_endpoints(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  for (std::uint32_t id = 0; id < maps.endpoints.size(); ++id) {
    const auto& e = maps.endpoints.at(id);
    const auto word = kernel::load(e.word);
    const auto flags = weft_endpoint_flags(word);
    if (!(flags & WEFT_ENDPOINT_USED)) continue;
    all.push_back({{"id", id},
                   {"service", weft_endpoint_service(word)},
                   {"address", address_text(e.addr)},
                   {"port", ntohs(weft_endpoint_port(word))},
                   {"ready", (flags & WEFT_ENDPOINT_READY) != 0},
                   {"draining", (flags & WEFT_ENDPOINT_DRAINING) != 0},
                   {"priority", weft_endpoint_priority(word)},
                   {"weight", e.weight},
                   {"zone", e.zone},
                   {"node", e.node}});
  }
  return all;
}

Json dump_endpoint_states(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  for (std::uint32_t id = 0; id < maps.endpoints.size(); ++id) {
    if (!kernel::load(maps.endpoints.at(id).word)) continue;
    const auto& s = maps.endpoint_states.at(id);
    all.push_back({{"id", id},
                   {"incarnation", s.incarnation},
                   {"active", s.active},
                   {"proxy_connections", weft_proxy_connections(s.connections)},
                   {"opened", s.opened},
                   {"failed", s.failed},
                   {"rtt_us", s.rtt_us},
                   {"last_error", s.last_error},
                   {"last_failed_ns", s.last_failed_ns}});
  }
  return all;
}

Json dump_names(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  (void)maps.names.for_each([&](std::uint32_t index, const weft_service_info& info) {
    all.push_back({{"service", index},
                   {"namespace", info.namespace_name},
                   {"name", info.name},
                   {"port_name", info.port_name},
                   {"port", ntohs(info.port)},
                   {"protocol", protocol_text(info.proto)},
                   {"family", info.family}});
  });
  return all;
}

Json dump_labels(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  (void)maps.labels.for_each([&](std::uint32_t id, const weft_label& label) {
    all.push_back(
        {{"id", id}, {"text", std::string(label.text, strnlen(label.text, sizeof label.text))}});
  });
  return all;
}

Json dump_affinities(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  (void)maps.affinities.for_each([&](const weft_affinity_key& key, const weft_affinity& entry) {
    all.push_back({{"netns_cookie", key.netns_cookie},
                   {"service", key.service},
                   {"endpoint", static_cast<std::uint32_t>(entry.choice)},
                   {"expires_ns", entry.expires_ns}});
  });
  return all;
}

Json dump_events(const Context& context, const kernel::Maps&) {
  Json all = Json::array();
  const auto events = kernel::read_events(context.pins());
  for (int i = 0; events.ok() && i < WEFT_EVENT_COUNT; ++i)
    all.push_back(
        {{"event", kernel::event_label(static_cast<weft_event>(i))}, {"count", (*events)[i]}});
  return all;
}

Json dump_captures(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  (void)maps.captures.for_each([&](std::uint64_t cookie, std::uint64_t word) {
    const auto listening = weft_capture_listening(word, cookie);
    all.push_back({{"netns_cookie", cookie},
                   {"ipv4", (listening & WEFT_LISTENING_V4) != 0},
                   {"ipv6", (listening & WEFT_LISTENING_V6) != 0}});
  });
  return all;
}

Json dump_originals(const Context&, const kernel::Maps& maps) {
  Json all = Json::array();
  (void)maps.originals.for_each([&](const weft_origin_key& key, const weft_original& entry) {
    all.push_back({{"netns_cookie", key.netns_cookie},
                   {"client_port", ntohs(key.client_port)},
                   {"address", compile::from_abi(entry.origin.addr).to_text()},
                   {"port", ntohs(entry.origin.port)},
                   {"service", entry.origin.service},
                   {"at_ns", entry.at_ns}});
  });
  return all;
}

Json dump_proxy_state(const Context&, const kernel::Maps& maps) {
  if (!maps.proxy_state.size()) return Json::array();
  const auto& state = maps.proxy_state.at(0);
  const auto up = kernel::load(state.up);
  Json column;  // null: none serves, or it has no beat
  if (up >= WEFT_PROXY_COLUMN) column = up - WEFT_PROXY_COLUMN;
  Json beats = Json::array();
  for (const auto& beat : state.beat_ns) beats.push_back(kernel::load(beat));
  return Json::array({{{"up", kernel::proxy_is_up(maps)}, {"column", column}, {"beat_ns", beats}}});
}

constexpr MapDump kDumps[] = {
    {"weft_affinities", dump_affinities},
    {"weft_captures", dump_captures},
    {"weft_endpoint_states", dump_endpoint_states},
    {"weft_endpoints", dump_endpoints},
    {"weft_events", dump_events},
    {"weft_frontends", dump_frontends},
    {"weft_labels", dump_labels},
    {"weft_meta", dump_meta},
    {"weft_names", dump_names},
    {"weft_originals", dump_originals},
    {"weft_proxy_state", dump_proxy_state},
    {"weft_service_states", dump_service_states},
    {"weft_services", dump_services},
    {"weft_slots", dump_slots},
};

void list(Context& context) {
  if (!open_maps(context)) return;
  const auto summaries = kernel::summarise(context.pins());
  if (!summaries.ok()) return fail(context, summaries.status());
  Json all = Json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& map : *summaries) {
    all.push_back({{"name", map.name},
                   {"id", map.id},
                   {"type", map.type},
                   {"key_bytes", map.key_size},
                   {"value_bytes", map.value_size},
                   {"entries", map.entries},
                   {"max_entries", map.max_entries},
                   {"pressure", map.pressure},
                   {"memory_bytes", map.bytes}});
    rows.push_back({map.name, std::to_string(map.id), map.type, std::to_string(map.entries),
                    std::to_string(map.max_entries), std::to_string(map.bytes)});
  }
  context.wants_json() ? print_json(context, all)
                       : print_table({"NAME", "ID", "TYPE", "ENTRIES", "ROOM", "BYTES"}, rows);
}

std::vector<MapDump> known_dumps() {
  std::vector<MapDump> all(std::begin(kDumps), std::end(kDumps));
  all.insert(all.end(), bypass_dumps().begin(), bypass_dumps().end());
  return all;
}

void dump(Context& context, const std::string& name) {
  const auto maps = open_maps(context);
  if (!maps) return;
  for (const auto& known : known_dumps()) {
    if (name != known.name && "weft_" + name != known.name) continue;
    const auto entries = known.dump(context, *maps);
    if (context.wants_json()) return print_json(context, entries);
    for (const auto& entry : entries) {
      std::string line;
      for (const auto& [key, value] : entry.items())
        line += (line.empty() ? "" : " ") + key + "=" +
                (value.is_string() ? value.get<std::string>() : value.dump());
      std::printf("%s\n", line.c_str());
    }
    return;
  }
  std::string names;
  for (const auto& known : known_dumps())
    names += std::string(names.empty() ? "" : ", ") + known.name;
  fail(context, "no map \"" + name + "\" can be dumped; there are " + names);
}

}  // namespace

void add_map(CLI::App& root, Context& context) {
  auto& noun = add_noun(root, "map", "The pinned BPF maps");
  add_command(noun, "list", "All maps: entries, room, memory", [&context] { list(context); });
  auto name = std::make_shared<std::string>();
  add_command(noun, "dump", "The entries of one map, decoded",
              [&context, name] { dump(context, *name); })
      .add_option("NAME", *name, "weft_frontends, weft_services, ...; \"weft_\" may be left out")
      ->required();
}

}  // namespace weft::cli
