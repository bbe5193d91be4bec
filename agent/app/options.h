// weftd's flags. Each is also a key of --config FILE (YAML) and a helm value; the command line
// wins.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace weft::app {

struct Options {
  std::vector<std::string> sources;
  std::string node_name;
  std::string zone;
  std::string region;
  std::string subzone;
  std::string cgroup;
  std::string bpffs = "/sys/fs/bpf/weft";
  std::string run_dir = "/run/weft";
  std::string state_dir = "/var/lib/weft";
  std::string metrics = "0.0.0.0:15020";
  std::string enrol;  // "all" or "labelled"; parse_options() never leaves it empty
  std::vector<std::string> exclude_namespaces = {"kube-system"};
  bool take_over = false;
  std::string proxy;         // "off", an absolute path or "external:COMMAND"; never left empty
  std::string proxy_cgroup;  // parse_options() makes it "weft-proxy" below `cgroup`
  std::uint32_t proxy_user = 65534;
  std::string bypass = "auto";
  std::vector<std::string> devices;
  std::uint32_t max_services = 32768;
  std::uint32_t max_endpoints = 131072;
  std::uint32_t max_connections = 65536;
  std::string log_format = "text";
  std::string enforce_unsupported = "warn";
  bool allow_empty = false;
  std::chrono::milliseconds hold_empty{30000};
  std::chrono::milliseconds source_timeout{10000};
  bool uninstall = false;
};

// The process should end with `exit_code`, after printing `text` (help, version or an error).
struct Ended {
  int exit_code = 0;
  std::string text;
};

// Either options, or a reason to end.
struct Parsed {
  Options options;
  bool ended = false;
  Ended end;
};
Parsed parse_options(int argc, const char* const* argv);

}  // namespace weft::app
