#include "cli/cli.h"

namespace {

using weft::cli::Context;

// One line a noun.
constexpr void (*kNouns[])(CLI::App&, Context&) = {
    weft::cli::add_status, weft::cli::add_service, weft::cli::add_endpoint,   weft::cli::add_map,
    weft::cli::add_prog,   weft::cli::add_why,     weft::cli::add_audit,      weft::cli::add_wait,
    weft::cli::add_check,  weft::cli::add_confirm, weft::cli::add_completion,
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
  root.add_subcommand("help", "This text")->callback([&root] {
    std::fputs(root.help().c_str(), stdout);
  });
  try {
    root.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return root.exit(error) == 0 ? 0 : 2;
  }
  return context.exit_code;
}
