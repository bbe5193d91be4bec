#include "agent/kernel/bypass.h"
#include "cli/admin_client.h"
#include "cli/cli.h"

namespace weft::cli {
namespace {

Json hooks_json(const Context& context) {
  Json hooks = Json::array();
  for (const auto& hook : kernel::read_all_hooks(context.pins(), ""))
    hooks.push_back({{"name", hook.name},
                     {"attached", hook.attached && hook.effective},
                     {"cgroup", hook.cgroup_id ? kernel::cgroup_path(hook.cgroup_id) : ""},
                     {"link_id", hook.link_id}});
  return hooks;
}

Json maps_json(const std::vector<kernel::MapSummary>& summaries) {
  Json maps = Json::array();
  for (const auto& map : summaries)
    maps.push_back({{"name", map.name},
                    {"type", map.type},
                    {"entries", map.entries},
                    {"max_entries", map.max_entries},
                    {"pressure", map.pressure}});
  return maps;
}

// What is in force is in the maps; why, the agent knows.
Json bypass_json(const Context& context, const Json& told) {
  const auto maps = kernel::BypassMaps::open(context.pins(), kernel::Access::kReadOnly);
  Json json{{"mode", "off"}, {"reason", "no bypass was loaded"}, {"differences", Json::array()}};
  if (maps.ok()) {
    const char* modes[] = {"off", "auto", "on"};
    json["mode"] = modes[maps->mode() % 3];
    json["reason"] = "";
  }
  if (told.contains("bypass")) json.update(told["bypass"]);
  json["connections"] =
      maps.ok() ? maps->pairs().value_or(std::vector<kernel::BypassPair>{}).size() : 0;
  return json;
}

int count(const Json& notices, const char* severity) {
  int total = 0;
  for (const auto& notice : notices) total += notice["severity"] == severity;
  return total;
}

Json collect(const Context& context, const kernel::Maps& maps,
             const std::vector<kernel::MapSummary>& summaries, const absl::StatusOr<Json>& agent) {
  const Json none = Json::object();
  const Json& told = agent.ok() ? *agent : none;
  const auto of = [&](const char* key, const Json& otherwise) {
    return told.contains(key) ? told[key] : otherwise;
  };
  const Json notices = of("notices", Json::array());
  return {{"version", of("version", WEFT_VERSION)},
          {"node", of("node", "")},
          {"generation", kernel::load(maps.meta.at(0).generation)},
          {"agent",
           // One that is slow to answer runs.
           {{"running", agent.ok() || absl::IsDeadlineExceeded(agent.status())},
            {"pid", of("pid", 0)},
            {"uptime_seconds", of("uptime_seconds", 0)},
            {"ready", of("ready", false)}}},
          {"sources", of("sources", Json::array())},
          {"hooks", hooks_json(context)},
          {"features", of("features", Json::array())},
          {"neighbours", of("neighbours", Json::array())},
          {"maps", maps_json(summaries)},
          {"proxy", of("proxy", {{"state", "off"}, {"pid", 0}, {"connections", 0}})},
          {"bypass", bypass_json(context, told)},
          {"last_apply", of("last_apply", nullptr)},
          {"held_back", of("held_back", nullptr)},
          {"refused", of("refused", Json::array())},
          {"rejected", count(notices, "rejected")},
          {"not_enforced", count(notices, "not_enforced")},
          {"notices", notices}};
}

void print_proxy(const Json& proxy) {
  if (proxy["state"] == "off") return;
  std::printf("proxy    %s", proxy["state"].get<std::string>().c_str());
  if (proxy["pid"] != 0)
    std::printf(", pid %s, %s connections of %s workloads", proxy["pid"].dump().c_str(),
                proxy["connections"].dump().c_str(), proxy["captured"].dump().c_str());
  if (proxy["draining"] != 0) std::printf(", %s draining", proxy["draining"].dump().c_str());
  const auto error = proxy["error"].get<std::string>();
  std::printf("%s%s\n", error.empty() ? "" : "  ", error.c_str());
}

void print_bypass(const Json& bypass) {
  const auto reason = bypass["reason"].get<std::string>();
  std::printf("bypass   %s, %s connections%s%s\n", bypass["mode"].get<std::string>().c_str(),
              bypass["connections"].dump().c_str(), reason.empty() ? "" : "  ", reason.c_str());
  if (!bypass["differences"].empty())
    std::printf(
        "         its readers see %zu things otherwise than from TCP: weftctl -p status, "
        "docs/bypass.md\n",
        bypass["differences"].size());
}

void print(const Json& s) {
  const auto& agent = s["agent"];
  if (agent["running"] && agent["pid"] == 0)
    std::printf("weftd runs but does not answer; the data path is at generation %s and goes on\n",
                s["generation"].dump().c_str());
  else if (agent["running"])
    std::printf("weftd %s on %s, pid %s, up %.0f s, %s, generation %s\n",
                s["version"].get<std::string>().c_str(), s["node"].get<std::string>().c_str(),
                agent["pid"].dump().c_str(), agent["uptime_seconds"].get<double>(),
                agent["ready"] ? "ready" : "NOT READY", s["generation"].dump().c_str());
  else
    std::printf("no agent runs; the data path is pinned at generation %s and goes on\n",
                s["generation"].dump().c_str());
  for (const auto& source : s["sources"])
    std::printf("source   %s  %s  %s\n", source["uri"].get<std::string>().c_str(),
                source["state"].get<std::string>().c_str(),
                source["error"].get<std::string>().c_str());
  if (!s["held_back"].is_null())
    std::printf("HELD BACK: %s\n", s["held_back"].get<std::string>().c_str());
  for (const auto& line : s["refused"])
    std::printf("REFUSED: %s\n", line.get<std::string>().c_str());
  if (!s["last_apply"].is_null() && !s["last_apply"]["error"].get<std::string>().empty())
    std::printf("WRITING FAILS: %s\n", s["last_apply"]["error"].get<std::string>().c_str());

  print_proxy(s["proxy"]);
  print_bypass(s["bypass"]);

  std::printf("\n");
  std::vector<std::vector<std::string>> rows;
  for (const auto& hook : s["hooks"])
    rows.push_back(
        {hook["name"], hook["attached"] ? "yes" : "NO", hook["link_id"].dump(), hook["cgroup"]});
  print_table({"HOOK", "ATTACHED", "LINK", "CGROUP"}, rows);
  std::printf("\n");
  rows.clear();
  for (const auto& map : s["maps"]) {
    char pressure[16];
    std::snprintf(pressure, sizeof pressure, "%.1f%%", 100 * map["pressure"].get<double>());
    rows.push_back(
        {map["name"], map["type"], map["entries"].dump(), map["max_entries"].dump(), pressure});
  }
  print_table({"MAP", "TYPE", "ENTRIES", "ROOM", "FULL"}, rows);
  for (const auto& feature : s["features"])
    if (!feature["enabled"])
      std::printf("\nmissing: %s: %s\n", feature["name"].get<std::string>().c_str(),
                  feature["reason"].get<std::string>().c_str());
  if (!s["neighbours"].empty()) std::printf("\n");
  for (const auto& neighbour : s["neighbours"])
    std::printf("beside: %s: %s\n", neighbour["name"].get<std::string>().c_str(),
                neighbour["what"].get<std::string>().c_str());
  if (!s["notices"].empty()) std::printf("\n");
  for (const auto& n : s["notices"])
    std::printf("%s:%s: %s: %s%s%s\n", n["file"].get<std::string>().c_str(),
                n["line"].dump().c_str(), n["severity"].get<std::string>().c_str(),
                n["object"].get<std::string>().c_str(),
                n["object"].get<std::string>().empty() ? "" : ": ",
                n["message"].get<std::string>().c_str());
}

void status(Context& context) {
  const auto maps = open_maps(context);
  if (!maps) return;
  const auto summaries = kernel::summarise(context.pins());
  if (!summaries.ok()) return fail(context, summaries.status());
  const auto json = collect(context, *maps, *summaries, ask_agent(context.run_dir, "status"));
  context.wants_json() ? print_json(context, json) : print(json);
}

}  // namespace

void add_status(CLI::App& root, Context& context) {
  add_help(add_command(root, "status", "Agent, sources, hooks, features, maps",
                       [&context] { status(context); }));
}

}  // namespace weft::cli
