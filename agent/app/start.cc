#include "agent/app/start.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "agent/app/app.h"
#include "agent/app/bypass.h"
#include "agent/app/feed.h"
#include "agent/app/handover.h"
#include "agent/app/lock.h"
#include "agent/bypass/self_test.h"
#include "agent/kernel/bypass.h"
#include "agent/kernel/datapath.h"
#include "agent/proxy/process.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

constexpr auto kLook = std::chrono::milliseconds(50);
// A child that a killed agent was just starting holds its lock until it is another program.
constexpr auto kChild = std::chrono::seconds(1);
// How long whoever hands over may take to let go: it finishes a plan and its threads.
constexpr auto kLetGo = std::chrono::seconds(20);
// How long --uninstall waits for readers.
constexpr auto kQueues = std::chrono::seconds(30);

kernel::DatapathOptions datapath_options(const Options& options) {
  kernel::DatapathOptions result;
  result.pins.root = options.bpffs;
  result.cgroup = options.cgroup;
  result.limits = compile::Limits::of(options.max_services, options.max_endpoints);
  result.labelled_only = options.enrol == "labelled";
  result.affinity_entries = options.max_connections;
  result.proxy = options.proxy != "off";
  return result;
}

int refuse(const absl::Status& status) {
  std::fprintf(stderr, "weftd: %s\n", base::message_of(status).c_str());
  return 1;
}

// The lock on the data path; with --take-over, from whoever has it, once the whole mesh is known:
// until then he knows better. No value: a signal came first.
absl::StatusOr<std::optional<base::Fd>> get_lock(const Options& options,
                                                 boost::asio::io_context& control, Feed& feed,
                                                 base::Fd& listener) {
  // Whoever takes over looks again below.
  auto lock = lock_bpffs(options.bpffs, options.take_over ? std::chrono::seconds(0) : kChild);
  if (lock.ok()) return std::optional(*std::move(lock));
  if (!absl::IsAlreadyExists(lock.status())) return lock.status();
  if (!options.take_over)
    return absl::AlreadyExistsError(base::message_of(lock.status()) +
                                    "; --take-over takes it over");
  log::info("handover", {{"state", "reading the sources; the weftd that runs goes on until then"}});
  boost::asio::signal_set signals(control, SIGTERM, SIGINT);
  boost::asio::steady_timer timer(control);
  bool stopped = false;
  signals.async_wait([&](auto error, int) {
    stopped |= !error;
    control.stop();
  });
  // Also where the other dies meanwhile.
  std::function<void()> look = [&] {
    lock = lock_bpffs(options.bpffs);
    if (lock.ok() || feed.all_synced()) return control.stop();
    timer.expires_after(kLook);
    timer.async_wait([&](auto error) {
      if (!error) look();
    });
  };
  look();
  control.run();
  timer.cancel();
  if (!stopped && !lock.ok()) {
    auto passed = ask_for_handover(options.run_dir);
    // Unavailable: it died before it answered, or is a killed one's child, whose lock goes with it.
    if (!passed.ok() && !absl::IsNotFound(passed.status()) && !absl::IsUnavailable(passed.status()))
      return passed.status();
    if (passed.ok()) listener = *std::move(passed);
    lock = wait_for_lock(options.bpffs, kLetGo, [&] {
      control.restart();
      control.poll();
      return stopped;
    });
  }
  signals.cancel();
  control.restart();
  control.poll();  // what was cancelled
  control.restart();
  if (stopped) return std::optional<base::Fd>();
  if (!lock.ok()) return lock.status();
  log::info("handover",
            {{"state", "taken over"}, {"metrics_port", listener ? "handed on" : "own"}});
  return std::optional(*std::move(lock));
}

absl::StatusOr<Outcome> serve_on(const Place& place) {
  auto datapath = kernel::Datapath::load(datapath_options(place.options));
  if (!datapath.ok()) return datapath.status();
  for (const auto& feature : (*datapath)->features())
    if (!feature.enabled)
      log::warning("feature", {{"missing", feature.name}, {"effect", feature.reason}});
  if (!(*datapath)->migration().empty())
    log::warning("maps",
                 {{"rebuilt_because", (*datapath)->migration()}, {"data_path", "stays attached"}});
  auto actual = (*datapath)->actual();
  if (!actual.ok()) return actual.status();
  log::info("start", {{"version", WEFT_VERSION},
                      {"node", place.options.node_name},
                      {"cgroup", place.options.cgroup},
                      {"services_in_maps", actual->services.size()},
                      {"generation", actual->generation}});
  return serve(place, *std::move(datapath), *std::move(actual));
}

// Nothing of it is left when it returns.
absl::StatusOr<Outcome> serve_once(const Options& options) {
  const kernel::Spared spared({options.bpffs});  // before a source asks anybody
  boost::asio::io_context control(1);
  Feed feed(control, options);
  feed.start();
  base::Fd listener;
  const auto lock = get_lock(options, control, feed, listener);
  if (!lock.ok()) return lock.status();
  if (!*lock) return Outcome{};
  return serve_on({options, control, feed, listener});
}

// Bytes that were redirected are lost with the maps: whoever has not read them is waited for, and
// named.
absl::Status uninstall_bypass(const kernel::Pins& pins) {
  const auto end = std::chrono::steady_clock::now() + kQueues;
  std::vector<std::string> named;
  return kernel::uninstall_bypass(pins, [&](const std::vector<std::string>& queues) {
    for (const auto& line : queues)
      if (std::find(named.begin(), named.end(), line) == named.end())
        std::fprintf(stderr, "weftd: waiting until it is read: %s\n", line.c_str());
    named = queues;
    return std::chrono::steady_clock::now() < end;
  });
}

// All that runs in the proxy's cgroup, and the cgroup.
void end_proxies(const std::string& cgroup) {
  if (cgroup.empty()) return;
  for (int look = 0; look < 100; ++look) {
    const auto pids = proxy::processes_in(cgroup);
    for (const auto pid : pids)
      if (const auto process = proxy::open_process(pid); process.ok())
        proxy::kill(*process, SIGKILL);
    if (pids.empty()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  rmdir(cgroup.c_str());
}

}  // namespace

int run(const Options& options) {
  if (const auto missing = kernel::Datapath::missing(datapath_options(options)); !missing.empty()) {
    for (const auto& line : missing) std::fprintf(stderr, "weftd: %s\n", line.c_str());
    return 1;
  }
  // Kernels before 5.11 charge map memory to this limit.
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);
  for (;;) {
    const auto outcome = serve_once(options);
    if (!outcome.ok()) return refuse(outcome.status());
    if (!outcome->handed_over || !options.take_over) return outcome->exit_code;
    log::info("handover", {{"state", "standing by until SIGTERM"}});
    const auto lock = stand_by(options.bpffs);
    if (!lock.ok()) return refuse(lock.status());
    if (!*lock) return 0;
    log::warning("handover", {{"state", "the successor is gone: taking the node back"}});
  }
}

int uninstall(const Options& options) {
  // Not under a running agent: it would go on believing that it serves.
  absl::StatusOr<base::Fd> lock = base::Fd();
  std::error_code ignored;
  if (std::filesystem::exists(options.bpffs, ignored)) lock = lock_bpffs(options.bpffs, kChild);
  if (!lock.ok()) return refuse(lock.status());
  const kernel::Pins pins{options.bpffs};
  const auto proxy = kernel::cgroup_path(kernel::read_proxy_hook(pins).cgroup_id);
  if (auto status = uninstall_bypass(pins); !status.ok()) return refuse(status);
  bypass::sweep_self_tests(options.bpffs, options.cgroup);
  if (auto status = kernel::uninstall(pins); !status.ok()) return refuse(status);
  end_proxies(proxy);  // captured by nobody any more
  std::filesystem::remove(options.run_dir + "/weftd.sock", ignored);
  std::filesystem::remove(self_test_file(options), ignored);
  std::filesystem::remove(options.run_dir, ignored);  // only where it is empty
  std::filesystem::remove(options.state_dir, ignored);
  std::printf("weftd: nothing of weft is left under %s\n", options.bpffs.c_str());
  return 0;
}

}  // namespace weft::app
