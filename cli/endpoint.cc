#include "cli/admin_client.h"
#include "cli/cli.h"
#include "cli/collect.h"

namespace weft::cli {
namespace {

std::string health_text(const Json& endpoint) {
  const auto health = endpoint.value("health", "");
  const auto reason = endpoint.value("health_reason", "");
  return health == "unhealthy" && !reason.empty() ? health + ": " + reason : health;
}

void list(Context& context, const std::string& service) {
  std::optional<model::ServiceKey> key;
  if (!service.empty()) {
    key = model::ServiceKey::parse(service);
    if (!key) return fail(context, "\"" + service + "\" is not NAMESPACE/NAME");
  }
  const auto maps = open_maps(context);
  if (!maps) return;
  const auto state = kernel::read_settled_state(*maps);
  if (!state.ok()) return fail(context, state.status());
  if (key && !state->services.find(*key))
    return fail(context,
                "service " + service + " is not in the maps: weftctl service list shows what is");
  auto endpoints = endpoints_json(*state, key ? &*key : nullptr, state_of(*maps));
  // With the agent down, or an older one, nobody knows of checks.
  if (const auto health = ask_agent(context.run_dir, "health"); health.ok())
    add_health(endpoints, *health);
  if (context.wants_json()) return print_json(context, endpoints);
  std::vector<std::vector<std::string>> rows;
  for (const auto& e : endpoints) {
    const auto& c = e["connections"];
    rows.push_back({e["id"].dump(), e["service"], e["port"].dump(), e["address"],
                    e["target_port"].dump(), e["state"], c["active"].dump(), c["opened"].dump(),
                    c["failed"].dump(), e["rtt_us"].dump(), e["zone"], e["node"], health_text(e)});
  }
  print_table({"ID", "SERVICE", "PORT", "ADDRESS", "TARGET", "STATE", "ACTIVE", "OPENED", "FAILED",
               "RTT_US", "ZONE", "NODE", "HEALTH"},
              rows);
}

}  // namespace

void add_endpoint(CLI::App& root, Context& context) {
  auto& noun = add_noun(root, "endpoint", "Endpoints: state, connections, round-trip time, health");
  auto service = std::make_shared<std::string>();
  add_command(noun, "list", "All endpoints, or those of one service", [&context, service] {
    list(context, *service);
  }).add_option("--service", *service, "NAMESPACE/NAME");
}

}  // namespace weft::cli
