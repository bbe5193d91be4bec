#include "cli/admin_client.h"
#include "cli/cli.h"
#include "cli/collect.h"

namespace weft::cli {
namespace {

std::string joined(const Json& list) {
  std::string text;
  for (const auto& entry : list) text += (text.empty() ? "" : ",") + entry.get<std::string>();
  return text.empty() ? "-" : text;
}

std::string ports_text(const Json& ports) {
  std::string text;
  for (const auto& port : ports)
    text += (text.empty() ? "" : ",") + std::to_string(port["port"].get<int>()) + "/" +
            port["protocol"].get<std::string>();
  return text.empty() ? "-" : text;
}

// "kernel", "proxy", or both where ports differ.
std::string path_text(const Json& ports) {
  bool kernel = ports.empty(), proxy = false;
  for (const auto& port : ports) (port["path"] == "proxy" ? proxy : kernel) = true;
  return kernel && proxy ? "kernel,proxy" : proxy ? "proxy" : "kernel";
}

// "round-robin", or all there are where ports differ, the service's own first.
std::string balancers_text(const Json& service) {
  std::vector<std::string> all{service["balancer"].get<std::string>()};
  for (const auto& port : service["ports"])
    if (const auto own = port.value("balancer", all[0]);
        std::find(all.begin(), all.end(), own) == all.end())
      all.push_back(own);
  return joined(Json(all));
}

void print_services(const Json& services) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& s : services)
    rows.push_back({s["namespace"].get<std::string>() + "/" + s["name"].get<std::string>(),
                    joined(s["addresses"]), ports_text(s["ports"]), balancers_text(s),
                    std::to_string(s["endpoints"]["ready"].get<int>()) + "/" +
                        std::to_string(s["endpoints"]["total"].get<int>()),
                    std::to_string(s["generation"].get<std::uint64_t>()), path_text(s["ports"])});
  print_table({"SERVICE", "ADDRESSES", "PORTS", "BALANCER", "READY", "GENERATION", "PATH"}, rows);
}

void list(Context& context) {
  const auto maps = open_maps(context);
  if (!maps) return;
  const auto state = kernel::read_settled_state(*maps);
  if (!state.ok()) return fail(context, state.status());
  const auto services = services_json(*state, state_of(*maps));
  context.wants_json() ? print_json(context, services) : print_services(services);
}

void show(Context& context, const std::string& name) {
  const auto key = model::ServiceKey::parse(name);
  if (!key) return fail(context, "\"" + name + "\" is not NAMESPACE/NAME");
  const auto maps = open_maps(context);
  if (!maps) return;
  const auto state = kernel::read_settled_state(*maps);
  if (!state.ok()) return fail(context, state.status());
  const auto* service = state->services.find(*key);
  if (!service)
    return fail(context,
                "service " + name + " is not in the maps: weftctl service list shows what is");
  auto json = service_json(**service, state_of(*maps));
  const auto endpoints =
      endpoints_json(*state, &*key, [&](std::uint32_t id) { return maps->endpoint_states.at(id); });
  if (context.wants_json()) {
    json["endpoint_list"] = endpoints;
    // A list of one, as `list` is a list: the contract's shape for both.
    return print_json(context, Json::array({json}));
  }
  print_services(Json::array({json}));
  if (const auto agent = ask_agent(context.run_dir, "service", name); agent.ok())
    std::printf("described at %s:%d\n", agent->value("file", "").c_str(), agent->value("line", 0));
  std::vector<std::vector<std::string>> rows;
  for (const auto& e : endpoints)
    rows.push_back({std::to_string(e["port"].get<int>()), e["address"].get<std::string>(),
                    std::to_string(e["target_port"].get<int>()), e["state"], e["zone"], e["node"]});
  std::printf("\n");
  print_table({"PORT", "ENDPOINT", "TARGET", "STATE", "ZONE", "NODE"}, rows);
}

}  // namespace

void add_service(CLI::App& root, Context& context) {
  auto& noun = add_noun(root, "service", "Services as the kernel has them");
  add_command(noun, "list", "All services", [&context] { list(context); });
  auto name = std::make_shared<std::string>();
  add_command(noun, "show", "One service with its endpoints",
              [&context, name] { show(context, *name); })
      .add_option("SERVICE", *name, "NAMESPACE/NAME")
      ->required();
}

}  // namespace weft::cli
