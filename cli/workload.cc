#include "cli/admin_client.h"
#include "cli/cli.h"

namespace weft::cli {
namespace {

// Who a cgroup belongs to is known to the agent only: the API told it.
void list(Context& context) {
  const auto answer = ask_agent(context.run_dir, "workloads");
  if (!answer.ok()) return fail(context, answer.status());
  if (context.wants_json()) return print_json(context, *answer);
  std::vector<std::vector<std::string>> rows;
  const auto text = [](const Json& value) {
    const auto string = value.is_string() ? value.get<std::string>() : value.dump();
    return string.empty() || string == "0" ? "-" : string;
  };
  for (const auto& w : *answer) {
    const auto name = w["name"].get<std::string>();
    rows.push_back({name.empty() ? "?" : w["namespace"].get<std::string>() + "/" + name,
                    w["enrolled"] ? "yes" : "no", text(w["reason"]), text(w["service_account"]),
                    text(w["netns_cookie"]), text(w["cgroup"])});
  }
  print_table({"POD", "ENROLLED", "WHY", "SERVICE ACCOUNT", "NETNS", "CGROUP"}, rows);
}

}  // namespace

void add_workload(CLI::App& root, Context& context) {
  auto& noun = add_noun(root, "workload", "Pods of this node: who is served, and why");
  add_command(noun, "list", "All pods: cgroup, network namespace, identity, enrolled or why not",
              [&context] { list(context); });
}

}  // namespace weft::cli
