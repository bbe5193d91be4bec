#include "agent/kernel/bypass.h"
#include "cli/admin_client.h"
#include "cli/cli.h"
#include "mesh/base/text.h"

namespace weft::cli {
namespace {

std::vector<std::string> look_at_hooks(const kernel::Pins& pins, const std::string& cgroup) {
  std::vector<std::string> differences;
  for (const auto& hook : kernel::read_all_hooks(pins, cgroup)) {
    if (!hook.attached)
      differences.push_back("hook " + hook.name + " is not attached");
    else if (!hook.effective)
      differences.push_back("hook " + hook.name +
                            (hook.cgroup_id
                                 ? " hangs on another cgroup than " + cgroup
                                 : " hangs on a cgroup that is gone: nobody is served by it"));
  }
  const auto bypass = kernel::BypassMaps::open(pins, kernel::Access::kReadOnly);
  if (bypass.ok() && bypass->joining() && !bypass->sends())
    differences.push_back("the bypass's program for sendmsg() is not attached to its sockets");
  return differences;
}

void audit(Context& context, const std::string& cgroup) {
  const auto maps = open_maps(context);
  if (!maps) return;
  auto differences = look_at_hooks(context.pins(), cgroup);
  for (auto& line : kernel::settled_inconsistencies(*maps)) differences.push_back(std::move(line));
  const auto agent = ask_agent(context.run_dir, "audit");
  bool agent_asked = agent.ok();
  if (agent.ok()) {
    for (const auto& line : (*agent)["differences"]) differences.push_back(line.get<std::string>());
  } else if (!absl::IsUnavailable(agent.status())) {
    differences.push_back("the agent cannot be asked: " + base::message_of(agent.status()));
  }
  if (context.wants_json()) {
    print_json(
        context,
        {{"ok", differences.empty()}, {"agent_asked", agent_asked}, {"differences", differences}});
  } else {
    for (const auto& line : differences) std::printf("%s\n", line.c_str());
    if (differences.empty())
      std::printf(agent_asked
                      ? "ok: model, maps and links agree\n"
                      : "ok: maps and links agree (no agent runs, so the model was not asked)\n");
  }
  if (!differences.empty())
    fail(context, std::to_string(differences.size()) +
                      " difference(s): where maps or links differ, restarting weftd repairs them; "
                      "where there is no room, a larger map does");
}

}  // namespace

void add_audit(CLI::App& root, Context& context) {
  auto cgroup = std::make_shared<std::string>();
  auto& command =
      add_command(root, "audit", "Model against maps against links; exit 1 where they differ",
                  [&context, cgroup] { audit(context, *cgroup); });
  add_help(command);
  command.add_option("--cgroup", *cgroup,
                     "The cgroup that hooks should hang on; without it any living one is fine");
}

}  // namespace weft::cli
