#include "agent/bypass/report.h"

#include <simdjson.h>

#include <nlohmann/json.hpp>

namespace weft::bypass {
namespace {

std::string failure(const simdjson::dom::element& check) {
  std::string_view name, reason;
  if (bool ok; check["ok"].get(ok) == simdjson::SUCCESS && ok) return "";
  if (check["name"].get(name) || check["reason"].get(reason)) return "a check says nothing";
  return std::string(name) + ": " + std::string(reason);
}

}  // namespace

bool Report::ok() const {
  return !checks.empty() &&
         std::all_of(checks.begin(), checks.end(), [](const Check& check) { return check.ok(); });
}

std::string to_json(const Report& report) {
  nlohmann::json checks = nlohmann::json::array();
  for (const auto& check : report.checks)
    checks.push_back({{"name", check.name}, {"ok", check.ok()}, {"reason", check.reason}});
  const nlohmann::json all = {{"ok", report.ok()},
                              {"checks", std::move(checks)},
                              {"differences", report.differences},
                              {"seconds", report.seconds}};
  return all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::optional<SelfTest> result_of(std::string_view line) {
  simdjson::dom::parser parser;
  simdjson::dom::element all;
  simdjson::dom::array checks, differences;
  SelfTest result;
  if (parser.parse(line.data(), line.size()).get(all) || all["ok"].get(result.ok) ||
      all["checks"].get(checks) || all["differences"].get(differences) ||
      all["seconds"].get(result.seconds) || checks.size() == 0)
    return std::nullopt;
  for (const auto check : checks)
    if (result.reason.empty()) result.reason = failure(check);
  result.ok = result.ok && result.reason.empty();
  if (!result.ok && result.reason.empty()) return std::nullopt;
  for (const auto difference : differences)
    if (std::string_view text; !difference.get(text)) result.differences.emplace_back(text);
  return result;
}

}  // namespace weft::bypass
