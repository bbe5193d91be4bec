#include <arpa/inet.h>

#include "agent/kernel/bypass.h"
#include "agent/kernel/bypass_pins.h"
#include "cli/map_dump.h"

namespace weft::cli {
namespace {

template <class Add>
Json dump_with(const Context& context, Add&& add) {
  Json all = Json::array();
  const auto maps = kernel::BypassMaps::open(context.pins(), kernel::Access::kReadOnly);
  if (maps.ok()) add(all, *maps);
  return all;
}

// Of a hash that BypassMaps has no business with.
template <class K, class V, class Entry>
Json dump_hash(const Context& context, const char* name, Entry&& entry) {
  Json all = Json::array();
  const auto map = kernel::HashMap<K, V>::open(
      kernel::bypass_directory(context.pins()) + "/" + name, kernel::Access::kReadOnly);
  if (map.ok())
    (void)map->for_each([&](const K& key, const V& value) { all.push_back(entry(key, value)); });
  return all;
}

const char* mode_text(std::uint64_t mode) {
  return mode == WEFT_BYPASS_ON ? "on" : mode == WEFT_BYPASS_AUTO ? "auto" : "off";
}

const char* word_text(std::uint64_t word) {
  return word == WEFT_BYPASS_SAYS_ON ? "on" : word == WEFT_BYPASS_SAYS_OFF ? "off" : "";
}

Json dump_knobs(const Context& context, const kernel::Maps&) {
  return dump_with(context, [](Json& all, const kernel::BypassMaps& maps) {
    const auto knobs = maps.knobs();
    all.push_back({{"mode", mode_text(knobs.mode)},
                   {"joining", knobs.joining != 0},
                   {"epoch", knobs.epoch},
                   {"declared", knobs.declared != 0},
                   {"credit", knobs.credit},
                   {"node_limit", knobs.node_limit}});
  });
}

Json dump_totals(const Context& context, const kernel::Maps&) {
  return dump_with(context, [](Json& all, const kernel::BypassMaps& maps) {
    const auto totals = maps.totals();
    all.push_back({{"charged", totals.charged},
                   {"pairs", totals.pairs},
                   {"join_failed", totals.join_failed}});
  });
}

Json dump_counts(const Context& context, const kernel::Maps&) {
  return dump_with(context, [](Json& all, const kernel::BypassMaps& maps) {
    const auto counts = maps.counts();
    for (std::size_t path = 0; path < counts.size(); ++path)
      all.push_back({{"path", kernel::name_of(static_cast<weft_bypass_path>(path))},
                     {"bytes", counts[path].bytes},
                     {"messages", counts[path].messages}});
  });
}

Json way_json(const weft_bypass_way& way) {
  return {{"proof", way.proof},       {"charged", way.charged},
          {"bytes", way.bytes},       {"tcp_bytes", way.tcp_bytes},
          {"may", way.may},           {"last_path", way.last_path},
          {"messages", way.messages}, {"redirecting", way.redirecting != 0}};
}

Json dump_pairs(const Context& context, const kernel::Maps&) {
  return dump_with(context, [](Json& all, const kernel::BypassMaps& maps) {
    for (const auto& [id, pair] : maps.pairs().value_or(std::vector<kernel::BypassPair>{}))
      all.push_back({{"id", id},
                     {"client", kernel::text_of(pair.end[0])},
                     {"server", kernel::text_of(pair.end[1])},
                     {"client_cookie", pair.end[0].cookie},
                     {"server_cookie", pair.end[1].cookie},
                     {"client_netns_cookie", pair.end[0].netns_cookie},
                     {"server_netns_cookie", pair.end[1].netns_cookie},
                     {"since_ns", pair.since_ns},
                     {"closed", pair.closed},
                     {"stream", pair.stream != 0},
                     {"left", pair.left},
                     {"client_writes", way_json(pair.way[0])},
                     {"server_writes", way_json(pair.way[1])}});
  });
}

Json dump_sockets(const Context& context, const kernel::Maps&) {
  return dump_hash<weft_bypass_key, std::uint64_t>(
      context, "weft_bypass_sockets", [](const auto& key, auto cookie) {
        return Json{{"id", key.id}, {"side", key.side ? "server" : "client"}, {"cookie", cookie}};
      });
}

Json dump_services(const Context& context, const kernel::Maps&) {
  return dump_hash<weft_bypass_target, std::uint64_t>(
      context, "weft_bypass_services", [](const auto& target, auto word) {
        return Json{{"address", compile::from_abi(target.addr).to_text()},
                    {"port", ntohs(target.port)},
                    {"says", word_text(word)}};
      });
}

Json dump_workloads(const Context& context, const kernel::Maps&) {
  return dump_hash<std::uint64_t, std::uint64_t>(
      context, "weft_bypass_workloads", [](auto cookie, auto word) {
        return Json{{"netns_cookie", cookie}, {"says", word_text(word)}};
      });
}

Json dump_local(const Context& context, const kernel::Maps&) {
  return dump_hash<weft_addr, std::uint64_t>(
      context, "weft_bypass_local", [](const auto& address, auto says_on) {
        return Json{{"address", compile::from_abi(address).to_text()}, {"says_on", says_on != 0}};
      });
}

constexpr MapDump kDumps[] = {
    {"weft_bypass_counts", dump_counts},     {"weft_bypass_knobs", dump_knobs},
    {"weft_bypass_local", dump_local},       {"weft_bypass_pairs", dump_pairs},
    {"weft_bypass_services", dump_services}, {"weft_bypass_sockets", dump_sockets},
    {"weft_bypass_totals", dump_totals},     {"weft_bypass_workloads", dump_workloads},
};

}  // namespace

std::span<const MapDump> bypass_dumps() { return kDumps; }

}  // namespace weft::cli
