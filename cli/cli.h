// What every noun of weftctl shares. A noun is a file with one add_NOUN() and a line in main.cc's
// table.
#pragma once

#include <absl/status/status.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/kernel/maps.h"

namespace weft::cli {

using Json = nlohmann::ordered_json;

struct Context {
  std::string bpffs = "/sys/fs/bpf/weft";
  std::string run_dir = "/run/weft";
  bool json = false;
  bool pretty = false;
  int exit_code = 0;

  kernel::Pins pins() const { return {bpffs}; }
  bool wants_json() const { return json || pretty; }
};

// One line on standard error and exit code 1.
void fail(Context& context, const std::string& what);
void fail(Context& context, const absl::Status& status);

void print_json(const Context& context, const Json& value);
// Columns as wide as their widest cell, a heading in capitals; nothing at all for no rows but the
// heading.
std::string layout(const std::vector<std::string>& heading,
                   const std::vector<std::vector<std::string>>& rows);
void print_table(const std::vector<std::string>& heading,
                 const std::vector<std::vector<std::string>>& rows);

// The pinned maps, or a failure that says what to do.
std::optional<kernel::Maps> open_maps(Context& context,
                                      kernel::Access access = kernel::Access::kReadOnly);

// A noun with its `help`.
CLI::App& add_noun(CLI::App& root, const std::string& name, const std::string& help);
// `NOUN help`: for a noun that is a command itself too.
void add_help(CLI::App& noun);
void print_help(const CLI::App& app);
// A command of a noun (or of the root) that runs `action`.
CLI::App& add_command(CLI::App& noun, const std::string& name, const std::string& help,
                      std::function<void()> action);

struct HostPort {
  std::string host;
  std::uint16_t port = 0;
};
// "10.0.0.1:80", "[fd00::1]:80", "web.shop:80".
std::optional<HostPort> parse_host_port(const std::string& text);

void add_status(CLI::App& root, Context& context);
void add_service(CLI::App& root, Context& context);
void add_endpoint(CLI::App& root, Context& context);
void add_map(CLI::App& root, Context& context);
void add_prog(CLI::App& root, Context& context);
void add_conn(CLI::App& root, Context& context);
void add_why(CLI::App& root, Context& context);
void add_audit(CLI::App& root, Context& context);
void add_wait(CLI::App& root, Context& context);
void add_check(CLI::App& root, Context& context);
void add_confirm(CLI::App& root, Context& context);
void add_proxy(CLI::App& root, Context& context);
void add_route(CLI::App& root, Context& context);
void add_breaker(CLI::App& root, Context& context);
void add_event(CLI::App& root, Context& context);
void add_workload(CLI::App& root, Context& context);
void add_completion(CLI::App& root, Context& context);

}  // namespace weft::cli
