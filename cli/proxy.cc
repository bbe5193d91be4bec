#include "cli/admin_client.h"
#include "cli/cli.h"

namespace weft::cli {
namespace {

void reload(Context& context) {
  const auto answer =
      send_request(context.run_dir, Json{{"command", "proxy"}, {"action", "reload"}});
  if (!answer.ok()) return fail(context, answer.status());
  context.wants_json() ? print_json(context, *answer)
                       : (void)std::printf(
                             "another proxy is started; the old one drains when it "
                             "serves (weftctl status)\n");
}

}  // namespace

void add_proxy(CLI::App& root, Context& context) {
  auto& noun = add_noun(root, "proxy", "The node's L7 proxy; weftctl status shows how it is");
  add_command(noun, "reload", "Replace it by a new process without losing a request",
              [&context] { reload(context); });
}

}  // namespace weft::cli
