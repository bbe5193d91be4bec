// Connections of this node that have the bypass: which way their bytes took, and why.
#include <algorithm>
#include <ctime>
#include <map>

#include "agent/kernel/bypass.h"
#include "cli/cli.h"
#include "cli/collect.h"

namespace weft::cli {
namespace {

double age_of(const weft_bypass_pair& pair) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);  // bpf_ktime_get_ns() of the programs
  const double seconds = static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
  return std::max(0.0, seconds - static_cast<double>(pair.since_ns) * 1e-9);
}

// "bypass": what was sent last went from socket to socket. "left": the pair is with plain TCP for
// good, whose bytes no program counts.
const char* way_text(const weft_bypass_pair& pair, const weft_bypass_way& way) {
  if (pair.stream) return "left";
  return way.redirecting ? "bypass" : "tcp";
}

Json way_json(const weft_bypass_pair& pair, int side) {
  const auto& way = pair.way[side];
  const auto path = static_cast<weft_bypass_path>(way.last_path);
  return {{"from", side ? "server" : "client"},
          {"way", way_text(pair, way)},
          {"bypass_bytes", way.bytes},
          {"bypass_messages", way.messages},
          {"tcp_bytes", way.tcp_bytes},
          {"tcp_reason", way.last_path ? kernel::name_of(path) : ""},
          {"charged_bytes", std::max<std::int64_t>(way.charged, 0)}};
}

// By what people dial: the service whose endpoint the server's address is.
std::map<std::string, std::string> services_by_endpoint(const kernel::Maps& maps) {
  std::map<std::string, std::string> services;
  const auto state = kernel::read_settled_state(maps);
  if (!state.ok()) return services;
  for (const auto& endpoint : endpoints_json(*state, nullptr, state_of(maps))) {
    const auto address = endpoint["address"].get<std::string>();
    const auto port = endpoint["target_port"].dump();
    services[address.find(':') == std::string::npos ? address + ":" + port
                                                    : "[" + address + "]:" + port] =
        endpoint["service"];
  }
  return services;
}

Json collect(const kernel::Maps& maps, const std::vector<kernel::BypassPair>& pairs) {
  const auto services = services_by_endpoint(maps);
  Json list = Json::array();
  for (const auto& [id, pair] : pairs) {
    const auto server = kernel::text_of(pair.end[1]);
    const auto service = services.find(server);
    list.push_back({{"client", kernel::text_of(pair.end[0])},
                    {"server", server},
                    {"service", service == services.end() ? "" : service->second},
                    {"age_seconds", age_of(pair)},
                    {"directions", {way_json(pair, 0), way_json(pair, 1)}}});
  }
  return list;
}

void list(Context& context) {
  const auto maps = open_maps(context);
  if (!maps) return;
  const auto bypass = kernel::BypassMaps::open(context.pins(), kernel::Access::kReadOnly);
  if (!bypass.ok() && !absl::IsNotFound(bypass.status())) return fail(context, bypass.status());
  const auto pairs = bypass.ok() ? bypass->pairs() : std::vector<kernel::BypassPair>{};
  if (!pairs.ok()) return fail(context, pairs.status());
  const auto connections = collect(*maps, *pairs);
  if (context.wants_json()) return print_json(context, connections);
  std::vector<std::vector<std::string>> rows;
  for (const auto& c : connections)
    for (const auto& way : c["directions"])
      rows.push_back({c["client"], c["server"], c["service"], way["from"], way["way"],
                      way["bypass_bytes"].dump(), way["tcp_bytes"].dump(), way["tcp_reason"],
                      way["charged_bytes"].dump()});
  print_table({"CLIENT", "SERVER", "SERVICE", "FROM", "WAY", "BYPASS_BYTES", "TCP_BYTES", "TCP_WHY",
               "UNREAD_AT_MOST"},
              rows);
}

}  // namespace

void add_conn(CLI::App& root, Context& context) {
  auto& noun = add_noun(root, "conn",
                        "Connections between two sockets of this node that were brought together "
                        "for the bypass");
  add_command(noun, "list",
              "Both directions of each: socket to socket (bypass), by TCP and why, or left for "
              "plain TCP as a long stream",
              [&context] { list(context); });
}

}  // namespace weft::cli
