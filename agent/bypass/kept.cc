// The result's file: for which boot, kernel and weftd it holds, and what it was.
#include <simdjson.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "agent/bypass/self_test.h"
#include "mesh/base/log.h"

namespace weft::bypass {
namespace {

std::string boot_id() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

std::string kernel_release() {
  utsname names{};
  return uname(&names) ? "" : std::string(names.release) + " " + names.version;
}

// Builds of one version differ in their file.
std::string build() {
  struct stat file {};
  if (stat("/proc/self/exe", &file)) return WEFT_VERSION;
  return std::string(WEFT_VERSION) + " " + std::to_string(file.st_size) + " " +
         std::to_string(file.st_mtim.tv_sec) + "." + std::to_string(file.st_mtim.tv_nsec);
}

bool says(const simdjson::dom::element& all, const char* key, const std::string& wanted) {
  std::string_view text;
  return all[key].get(text) == simdjson::SUCCESS && text == wanted;
}

}  // namespace

std::optional<SelfTest> read_self_test(const std::string& file) {
  simdjson::dom::parser parser;
  simdjson::dom::element all;
  simdjson::dom::array differences;
  SelfTest result;
  if (parser.load(file).get(all) || !says(all, "boot", boot_id()) ||
      !says(all, "kernel", kernel_release()) || !says(all, "build", build()) ||
      all["ok"].get(result.ok) || !result.ok || all["seconds"].get(result.seconds) ||
      all["differences"].get(differences))
    return std::nullopt;
  for (const auto difference : differences)
    if (std::string_view text; !difference.get(text)) result.differences.emplace_back(text);
  return result;
}

void write_self_test(const std::string& file, const SelfTest& result) {
  if (!result.ok) {
    unlink(file.c_str());
    return;
  }
  const nlohmann::json all = {
      {"boot", boot_id()}, {"kernel", kernel_release()},        {"build", build()},
      {"ok", true},        {"differences", result.differences}, {"seconds", result.seconds}};
  // Beside it and then over it: who reads sees one or the other.
  const std::string fresh = file + ".new";
  std::ofstream out(fresh, std::ios::trunc);
  out << all.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  out.close();
  if (out && std::rename(fresh.c_str(), file.c_str()) == 0) return;
  unlink(fresh.c_str());
  log::warning("bypass_self_test_not_kept", {{"file", file}});
}

}  // namespace weft::bypass
