#include "cli/admin_client.h"
#include "cli/cli.h"

namespace weft::cli {

void add_confirm(CLI::App& root, Context& context) {
  add_help(add_command(
      root, "confirm",
      "Apply a removal of endpoints that is held back (status says whether one is)", [&context] {
        const auto answer = ask_agent(context.run_dir, "confirm");
        if (!answer.ok()) return fail(context, answer.status());
        context.wants_json() ? print_json(context, *answer) : (void)std::printf("applied\n");
      }));
}

}  // namespace weft::cli
