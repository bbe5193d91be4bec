#include "cli/admin_client.h"
#include "cli/cli.h"
#include "cli/routing.h"

namespace weft::cli {
namespace {

void print_routes(const Json& ports) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& port : ports) {
    const auto name = port.value("service", "") + ":" + port["port"].dump();
    for (const auto& rule : port["rules"])
      rows.push_back(
          {name, rule["number"].dump(), matches_text(rule), rule["action"], place_text(rule)});
    rows.push_back({name, "-", "otherwise", port["otherwise"], port["kind"]});
  }
  print_table({"SERVICE", "RULE", "MATCHES", "ACTION", "DESCRIBED"}, rows);
}

void list(Context& context, const std::string& service) {
  if (!service.empty() && !model::ServiceKey::parse(service))
    return fail(context, "\"" + service + "\" is not NAMESPACE/NAME");
  const auto ports = ask_agent(context.run_dir, "routes", service);
  if (!ports.ok()) return fail(context, ports.status());
  context.wants_json() ? print_json(context, *ports) : print_routes(*ports);
}

}  // namespace

void add_route(CLI::App& root, Context& context) {
  auto& noun =
      add_noun(root, "route", "HTTP rules of services, in the order in which they are tried");
  auto service = std::make_shared<std::string>();
  add_command(noun, "list", "Of all services, or of one; the agent knows them",
              [&context, service] { list(context, *service); })
      .add_option("--service", *service, "NAMESPACE/NAME");
}

}  // namespace weft::cli
