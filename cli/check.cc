#include <fstream>
#include <sstream>

#include <sys/stat.h>

#include "cli/cli.h"
#include "control_plane/sources/directory/directory_source.h"
#include "mesh/manifest/reader.h"
#include "mesh/model/merge.h"

namespace weft::cli {
namespace {

std::shared_ptr<const model::Unit> read_unit(const std::string& path) {
  manifest::ParseResult result;
  struct stat info;
  std::ifstream file(path, std::ios::binary);
  if (stat(path.c_str(), &info) || !file) {
    result.notices.push_back({model::Severity::kRejected,
                              {std::make_shared<const std::string>(path), 0},
                              "",
                              "cannot be read"});
  } else if (info.st_size > static_cast<off_t>(manifest::kMaxFileBytes)) {
    result.notices.push_back({model::Severity::kRejected,
                              {std::make_shared<const std::string>(path), 0},
                              "",
                              "is over 64 MB: split it"});
  } else {
    std::ostringstream bytes;
    bytes << file.rdbuf();
    result = manifest::parse(
        bytes.str(), path,
        path.ends_with(".json") ? manifest::Format::kJson : manifest::Format::kYaml);
  }
  return manifest::carry_over(nullptr, std::move(result));
}

Json notice_json(const model::Notice& notice) {
  return {{"severity", model::to_text(notice.severity)},
          {"file", notice.origin.file ? *notice.origin.file : ""},
          {"line", notice.origin.line},
          {"object", notice.object},
          {"message", notice.message}};
}

void check(Context& context, const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info))
    return fail(context, path + " does not exist: give a directory of manifests, or one file");
  std::map<std::string, std::shared_ptr<const model::Unit>> units;
  for (const auto& file : sources::list_manifests(path)) units[file] = read_unit(file);
  const auto mesh = model::merge(units);
  std::size_t endpoints = 0, rejected = 0, not_enforced = 0, warnings = 0;
  mesh->services.for_each([&](const auto& service) {
    for (const auto& port : service->ports) endpoints += port.endpoints.size();
  });
  Json notices = Json::array();
  for (const auto& notice : *mesh->notices) {
    rejected += notice.severity == model::Severity::kRejected;
    not_enforced += notice.severity == model::Severity::kNotEnforced;
    warnings += notice.severity == model::Severity::kWarning;
    notices.push_back(notice_json(notice));
    if (!context.wants_json()) std::printf("%s\n", notice.to_text().c_str());
  }
  const bool ok = rejected + not_enforced == 0;
  if (context.wants_json())
    print_json(context, {{"ok", ok},
                         {"files", units.size()},
                         {"services", mesh->services.size()},
                         {"endpoints", endpoints},
                         {"rejected", rejected},
                         {"not_enforced", not_enforced},
                         {"warnings", warnings},
                         {"notices", notices}});
  else
    std::printf(
        "%zu files, %zu services, %zu endpoints: %zu rejected, %zu not enforced, %zu warnings\n",
        units.size(), mesh->services.size(), endpoints, rejected, not_enforced, warnings);
  if (!ok)
    fail(context, std::to_string(rejected) + " rejected and " + std::to_string(not_enforced) +
                      " not enforceable: the lines above say where and why");
}

}  // namespace

void add_check(CLI::App& root, Context& context) {
  auto path = std::make_shared<std::string>();
  auto& command = add_command(
      root, "check",
      "Manifests, without applying them; exit 1 on anything rejected or not enforceable",
      [&context, path] {
        if (path->empty()) throw CLI::RequiredError("DIR");
        check(context, *path);
      });
  add_help(command);
  // Not required() of CLI11: it would take `check help` for a directory.
  command.add_option("DIR", *path, "Directory of manifests, or one file");
}

}  // namespace weft::cli
