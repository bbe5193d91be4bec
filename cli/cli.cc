#include "cli/cli.h"

#include <unistd.h>

#include <cstdio>

#include "mesh/base/text.h"

namespace weft::cli {

void fail(Context& context, const std::string& what) {
  std::fprintf(stderr, "weftctl: %s\n", what.c_str());
  context.exit_code = 1;
}

void fail(Context& context, const absl::Status& status) { fail(context, base::message_of(status)); }

void print_json(const Context& context, const Json& value) {
  std::printf(
      "%s\n",
      value.dump(context.pretty ? 2 : -1, ' ', false, Json::error_handler_t::replace).c_str());
}

std::string layout(const std::vector<std::string>& heading,
                   const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(heading.size());
  const auto widen = [&](const std::vector<std::string>& row) {
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i)
      widths[i] = std::max(widths[i], row[i].size());
  };
  widen(heading);
  for (const auto& row : rows) widen(row);
  std::string text;
  const auto add = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    text += line + "\n";
  };
  add(heading);
  for (const auto& row : rows) add(row);
  return text;
}

void print_table(const std::vector<std::string>& heading,
                 const std::vector<std::vector<std::string>>& rows) {
  std::fputs(layout(heading, rows).c_str(), stdout);
}

std::optional<kernel::Maps> open_maps(Context& context, kernel::Access access) {
  auto maps = kernel::Maps::open(context.pins(), access);
  if (maps.ok()) return *std::move(maps);
  if (geteuid() != 0)
    fail(context, "reading BPF maps needs root: run it with sudo");
  else if (absl::IsNotFound(maps.status()))
    fail(context, "no weft maps are pinned under " + context.bpffs +
                      ": is weftd installed here? Point --bpffs at its directory");
  else
    fail(context, maps.status());
  return std::nullopt;
}

CLI::App& add_noun(CLI::App& root, const std::string& name, const std::string& help) {
  CLI::App* noun = root.add_subcommand(name, help);
  noun->fallthrough();
  noun->require_subcommand(1);
  add_help(*noun);
  return *noun;
}

void add_help(CLI::App& noun) {
  CLI::App* command = noun.add_subcommand("help", "Say what " + noun.get_name() + " can do");
  command->immediate_callback();
  command->callback([&noun] {
    print_help(noun);
    throw CLI::RuntimeError(0);  // nothing more is asked, whatever the noun requires
  });
}

void print_help(const CLI::App& app) {
  // Not app.help(): while a subcommand is being run, that gives the subcommand's.
  const std::string name = (app.get_parent() ? "weftctl " : "") + app.get_name();
  const auto text = app.get_formatter()->make_help(&app, name, CLI::AppFormatMode::Normal);
  std::fputs(text.c_str(), stdout);
}

CLI::App& add_command(CLI::App& noun, const std::string& name, const std::string& help,
                      std::function<void()> action) {
  CLI::App* command = noun.add_subcommand(name, help);
  command->fallthrough();
  command->callback(std::move(action));
  return *command;
}

std::optional<HostPort> parse_host_port(const std::string& text) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return std::nullopt;
  const auto port = base::parse_number<std::uint16_t>(text.substr(colon + 1));
  if (!port || *port == 0) return std::nullopt;
  std::string host = text.substr(0, colon);
  if (host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  else if (host.find(':') != std::string::npos)
    return std::nullopt;  // an IPv6 address wants brackets: else nobody knows where it ends
  if (host.empty()) return std::nullopt;
  return HostPort{host, *port};
}

}  // namespace weft::cli
