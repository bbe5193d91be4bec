#include <bpf/bpf.h>

#include <ctime>

#include "agent/kernel/bypass.h"
#include "cli/cli.h"
#include "mesh/base/fd.h"

namespace weft::cli {
namespace {

Json program_json(const kernel::Hook& hook) {
  Json json{{"name", ""}, {"id", hook.program_id}, {"hook", hook.name}, {"link_id", hook.link_id}};
  const base::Fd fd(bpf_prog_get_fd_by_id(hook.program_id));
  bpf_prog_info info{};
  __u32 length = sizeof info;
  if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &length)) return json;
  json["name"] = std::string(info.name, strnlen(info.name, sizeof info.name));
  json["run_count"] = info.run_cnt;
  json["run_time_ns"] = info.run_time_ns;
  json["jited_bytes"] = info.jited_prog_len;
  json["verified_instructions"] = info.verified_insns;
  return json;
}

void list(Context& context) {
  if (!open_maps(context)) return;
  Json programs = Json::array();
  for (const auto& hook : kernel::read_all_hooks(context.pins(), ""))
    if (hook.attached) programs.push_back(program_json(hook));
  if (context.wants_json()) return print_json(context, programs);
  std::vector<std::vector<std::string>> rows;
  for (const auto& p : programs)
    rows.push_back({p["id"].dump(), p["name"], p["hook"], p["link_id"].dump(),
                    p.value("jited_bytes", 0u) ? p["jited_bytes"].dump() : "-",
                    p.value("run_count", 0ull) ? p["run_count"].dump() : "-",
                    p.value("run_count", 0ull)
                        ? std::to_string(p["run_time_ns"].get<std::uint64_t>() /
                                         p["run_count"].get<std::uint64_t>())
                        : "-"});
  print_table({"ID", "NAME", "HOOK", "LINK", "JITED", "RUNS", "NS/RUN"}, rows);
  std::printf("RUNS are counted while sysctl kernel.bpf_stats_enabled is 1\n");
}

}  // namespace

void add_prog(CLI::App& root, Context& context) {
  auto& noun = add_noun(root, "prog", "Programs at their hooks");
  add_command(noun, "list", "All of weft's programs", [&context] { list(context); });
}

}  // namespace weft::cli
