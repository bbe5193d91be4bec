#include "cli/cli.h"

namespace {

using weft::cli::Context;

// One line a noun.
constexpr void (*kNouns[])(CLI::App&, Context&) = {
    weft::cli::add_status,   weft::cli::add_service,    weft::cli::add_endpoint,
    weft::cli::add_breaker,  weft::cli::add_event,      weft::cli::add_map,
    weft::cli::add_workload, weft::cli::add_prog,       weft::cli::add_conn,
    weft::cli::add_why,      weft::cli::add_audit,      weft::cli::add_wait,
    weft::cli::add_check,    weft::cli::add_confirm,    weft::cli::add_proxy,
    weft::cli::add_route,    weft::cli::add_completion,
};

}  // namespace

int main(int argc, char** argv) {
  Context context;
  CLI::App root{
      "weftctl looks at weft: it reads the pinned maps itself, so it works with the agent stopped; "
      "what only the\n"
      "agent knows (sources, notices, file and line) comes from its admin socket when it runs.",
      "weftctl"};
  root.set_version_flag("--version", std::string("weftctl " WEFT_VERSION));
  root.add_flag("-j,--json", context.json, "JSON, one line");
  root.add_flag("-p,--pretty", context.pretty, "JSON, indented");
  root.add_option("--bpffs", context.bpffs, "weftd's --bpffs")
      ->type_name("DIR")
      ->capture_default_str();
  root.add_option("--run-dir", context.run_dir, "weftd's --run-dir")
      ->type_name("DIR")
      ->capture_default_str();
  root.require_subcommand(1);
  root.footer(
      "Exit status: 0; 1 failed, with one line that says what, why and what to do; 2 wrong usage.\n"
      "weftctl OBJECT help says more.");
  for (const auto add : kNouns) add(root, context);
  std::string topic;
  auto* help = root.add_subcommand("help", "This text, or that of an object");
  help->add_option("OBJECT", topic, "status, service, ...");
  help->callback([&root, &topic] {
    if (topic.empty()) return weft::cli::print_help(root);
    const auto found =
        root.get_subcommands([&](const CLI::App* app) { return app->get_name() == topic; });
    if (found.empty()) throw CLI::ExtrasError({topic});
    weft::cli::print_help(*found.front());
  });
  try {
    root.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return root.exit(error) == 0 ? 0 : 2;
  }
  return context.exit_code;
}
