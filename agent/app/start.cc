#include "agent/app/start.h"

#include <sys/resource.h>

#include <cstdio>
#include <filesystem>

#include "agent/app/app.h"
#include "agent/app/lock.h"
#include "agent/kernel/datapath.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

kernel::DatapathOptions datapath_options(const Options& options) {
  kernel::DatapathOptions result;
  result.pins.root = options.bpffs;
  result.cgroup = options.cgroup;
  result.limits = compile::Limits::of(options.max_services, options.max_endpoints);
  result.labelled_only = options.enrol == "labelled";
  result.affinity_entries = options.max_connections;
  return result;
}

}  // namespace

int run(const Options& options) {
  const auto kernel_options = datapath_options(options);
  if (const auto missing = kernel::Datapath::missing(kernel_options); !missing.empty()) {
    for (const auto& line : missing) std::fprintf(stderr, "weftd: %s\n", line.c_str());
    return 1;
  }
  const auto lock = lock_bpffs(options.bpffs);
  if (!lock.ok()) {
    std::fprintf(stderr, "weftd: %s\n", base::message_of(lock.status()).c_str());
    return 1;
  }
  // Kernels before 5.11 charge map memory to this limit.
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);

  auto datapath = kernel::Datapath::load(kernel_options);
  if (!datapath.ok()) {
    log::error("start", {{"error", base::message_of(datapath.status())}});
    return 1;
  }
  for (const auto& feature : (*datapath)->features())
    if (!feature.enabled)
      log::warning("feature", {{"missing", feature.name}, {"effect", feature.reason}});
  if (!(*datapath)->migration().empty())
    log::warning("maps",
                 {{"rebuilt_because", (*datapath)->migration()}, {"data_path", "stays attached"}});
  auto actual = (*datapath)->actual();
  if (!actual.ok()) {
    log::error("start", {{"error", base::message_of(actual.status())}});
    return 1;
  }
  log::info("start", {{"version", WEFT_VERSION},
                      {"node", options.node_name},
                      {"cgroup", options.cgroup},
                      {"services_in_maps", actual->services.size()},
                      {"generation", actual->generation}});
  return serve(options, *std::move(datapath), *std::move(actual));
}

int uninstall(const Options& options) {
  // Not under a running agent: it would go on believing that it serves.
  absl::StatusOr<base::Fd> lock = base::Fd();
  std::error_code ignored;
  if (std::filesystem::exists(options.bpffs, ignored)) lock = lock_bpffs(options.bpffs);
  if (!lock.ok()) {
    std::fprintf(stderr, "weftd: %s\n", base::message_of(lock.status()).c_str());
    return 1;
  }
  const kernel::Pins pins{options.bpffs};
  if (auto status = kernel::uninstall(pins); !status.ok()) {
    std::fprintf(stderr, "weftd: %s\n", base::message_of(status).c_str());
    return 1;
  }
  std::filesystem::remove(options.run_dir + "/weftd.sock", ignored);
  std::filesystem::remove(options.run_dir, ignored);  // only where it is empty
  std::filesystem::remove(options.state_dir, ignored);
  std::printf("weftd: nothing of weft is left under %s\n", options.bpffs.c_str());
  return 0;
}

}  // namespace weft::app
