// weft-proxy: the node's shared L7 proxy. Started by weftd with its descriptors (docs/proxy.md), or
// by hand with
// --listen and --to.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "mesh/base/log.h"
#include "userspace_proxy/net/control.h"
#include "userspace_proxy/net/sandbox.h"
#include "userspace_proxy/net/socket_hub.h"
#include "userspace_proxy/net/standalone.h"

namespace {

using namespace weft;

constexpr int kChannel = 3, kSockets = 4, kEndpointStates = 5, kPolicies = 6, kServiceStates = 7,
              kProxyState = 8;

struct Options {
  std::optional<std::uint32_t> generation;
  unsigned workers = 0;
  std::string log_format = "text", access_log_format = "text";
  std::uint32_t access_log_every = 0;
  std::string listen, dialled;
  std::vector<std::string> to;
  int routes = 0;
  std::string route_kind = "exact";
  std::uint32_t max_connections = 100000;
  std::uint64_t drain_seconds = 30;
  double detect_timeout = 0.1, head_timeout = 60, idle_timeout = 3600, stall_timeout = 300;
};

void describe(CLI::App& app, Options& options) {
  app.description(
      "weft-proxy: HTTP routes of the node's captured connections.\n\n"
      "weftd starts it and tells it what to serve. By hand, one service without weftd:\n"
      "  weft-proxy --listen 127.0.0.1:8080 --to 10.0.0.1:80 --to 10.0.0.2:80");
  app.add_option("--generation", options.generation,
                 "started by weftd as its Nth proxy, with descriptors 3 to 8 (docs/proxy.md)");
  app.add_option("--workers", options.workers, "threads; 0: one a processor, at most 4")
      ->check(CLI::Range(0, 64));
  app.add_option("--access-log-every", options.access_log_every,
                 "log one request in so many to standard output; 0: none");
  app.add_option("--access-log-format", options.access_log_format, "of those lines")
      ->check(CLI::IsMember({"text", "json"}));
  app.add_option("--log-format", options.log_format, "of its own messages, on standard error")
      ->check(CLI::IsMember({"text", "json"}));
  app.add_option("--max-connections", options.max_connections,
                 "of clients, a worker; for further ones those are closed that wait for "
                 "their next request the longest, else they are themselves; both are counted");
  app.add_option("--drain-seconds", options.drain_seconds,
                 "after SIGTERM connections may end by themselves for so long");
  app.add_option("--detect-timeout", options.detect_timeout,
                 "seconds that a client may say nothing on a port that may be no HTTP before an "
                 "endpoint is connected, which may greet it");
  app.add_option("--head-timeout", options.head_timeout, "seconds for a request's head to arrive");
  app.add_option("--idle-timeout", options.idle_timeout,
                 "seconds that a client's connection may be without a request");
  app.add_option("--stall-timeout", options.stall_timeout,
                 "seconds that a body, or a client that does not read, may stand still");
  app.add_option("--listen", options.listen, "without weftd: where to listen");
  app.add_option("--to", options.to, "without weftd: endpoints");
  app.add_option(
      "--dialled", options.dialled,
      "without weftd: the service address that every connection is taken to have dialled "
      "(default: where it listens)");
  app.add_option("--routes", options.routes, "without weftd: rules in front that nothing matches")
      ->check(CLI::Range(0, 100000));
  app.add_option("--route-kind", options.route_kind, "... by what")
      ->check(CLI::IsMember({"exact", "prefix", "header", "regex"}));
  app.set_version_flag("--version", std::string("weft-proxy ") + WEFT_VERSION);
}

struct Thread {
  std::unique_ptr<net::Worker> worker;
  std::thread thread;
};

// Ends the drain, or begins it.
class Signals final : public net::Loop::Watcher {
 public:
  Signals(net::Loop& loop, std::function<void(int)> on_signal) : on_signal_(std::move(on_signal)) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    fd_ = base::Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    loop.add(fd_.get(), 1 /* EPOLLIN */, *this);
  }
  void on_ready(std::uint32_t) override {
    signalfd_siginfo info;
    if (read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info))
      on_signal_(static_cast<int>(info.ssi_signo));
  }

 private:
  base::Fd fd_;
  std::function<void(int)> on_signal_;
};

int fail(const std::string& what) {
  log::error("start", {{"error", what}});
  return 1;
}

std::chrono::milliseconds ms_of(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

net::WorkerOptions worker_options(const Options& options) {
  net::WorkerOptions worker;
  worker.max_clients = options.max_connections;
  worker.detect_timeout = ms_of(options.detect_timeout);
  worker.head_timeout = ms_of(options.head_timeout);
  worker.idle_timeout = ms_of(options.idle_timeout);
  worker.stall_timeout = ms_of(options.stall_timeout);
  worker.log_every = options.access_log_every;
  worker.log_format = options.access_log_format == "json" ? net::AccessLog::Format::kJson
                                                          : net::AccessLog::Format::kText;
  return worker;
}

void block_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

// How many descriptors there may be.
rlim_t raise_descriptors() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_max;
}

// Of a worker, of clients and of connections to endpoints: a client without a descriptor left for
// its endpoint would only be told so.
std::uint32_t most_of_each(std::uint32_t wished, rlim_t descriptors, unsigned workers) {
  constexpr rlim_t kOwn = 16, kOwnOfWorker = 8;
  const auto own = kOwn + kOwnOfWorker * workers;
  const auto share = descriptors > own ? (descriptors - own) / 2 / workers : 0;
  return static_cast<std::uint32_t>(std::clamp<rlim_t>(share, 1, wished));
}

class Proxy {
 public:
  Proxy(const Options& options, rlim_t descriptors)
      : options_(options), descriptors_(descriptors) {}

  int run() {
    const bool standalone = !options_.listen.empty();
    auto worker = worker_options(options_);
    net::Dialled at;
    base::Fd listener;
    weft::v1::Config config;
    if (standalone) {
      const auto parsed = net::parse_address(options_.listen);
      if (!parsed.ok()) return fail("--listen " + std::string(parsed.status().message()));
      at = *parsed;
      worker.assume = at;
      if (!options_.dialled.empty()) {
        const auto dialled = net::parse_address(options_.dialled);
        if (!dialled.ok()) return fail("--dialled " + std::string(dialled.status().message()));
        worker.assume = *dialled;
      }
      std::vector<net::Dialled> to;
      for (const auto& text : options_.to) {
        const auto endpoint = net::parse_address(text);
        if (!endpoint.ok()) return fail("--to " + std::string(endpoint.status().message()));
        to.push_back(*endpoint);
      }
      config = net::one_service(*worker.assume, to, options_.routes, options_.route_kind);
      auto opened = net::listen_at(at);
      if (!opened.ok()) return fail(std::string(opened.status().message()));
      listener = *std::move(opened);
    }
    std::optional<net::KernelTables> tables;
    const auto column = options_.generation.value_or(0) % WEFT_PROXY_GENERATIONS;
    std::uint64_t* beat = nullptr;
    if (!standalone) {
      auto mapped = net::KernelTables::map(kEndpointStates, kPolicies, kServiceStates);
      if (!mapped.ok()) return fail(std::string(mapped.status().message()));
      tables = *std::move(mapped);
      for (const int fd : {kEndpointStates, kPolicies, kServiceStates}) close(fd);
      beat = net::KernelTables::map_beat(kProxyState, column);
      if (beat) close(kProxyState);
      if (auto status = net::enter_sandbox(); !status.ok())
        return fail(std::string(status.message()));
    }
    if (!standalone) hub_ = std::make_unique<net::SocketHub>(loop_, base::Fd(kSockets));
    start_workers(worker, standalone);
    net::Control control(loop_, base::Fd(standalone ? -1 : kChannel),
                         net::ConfigBuilder(std::move(tables), column),
                         {[this](auto task) { each(task); }, threads_.size()}, beat);
    control_ = &control;
    Signals signals(loop_, [&](int) { control.drain(options_.drain_seconds * 1000); });
    if (standalone) {
      control.apply(config);
      auto caller = std::make_shared<net::Caller>();
      for (auto& thread : threads_) {
        auto copy = std::make_shared<base::Fd>(dup(listener.get()));
        thread.worker->loop().post([copy, caller, worker_of = thread.worker.get()] {
          worker_of->listen(std::move(*copy), caller);
        });
      }
    }
    log::info("ready", {{"workers", threads_.size()}, {"listen", options_.listen}});
    loop_.run();
    stop_workers();
    return 0;
  }

 private:
  void start_workers(net::WorkerOptions worker, bool standalone) {
    const unsigned processors = std::max(1u, std::thread::hardware_concurrency());
    const unsigned count = options_.workers ? options_.workers : std::min(processors, 4u);
    worker.max_clients = most_of_each(worker.max_clients, descriptors_, count);
    worker.max_upstreams = most_of_each(worker.max_upstreams, descriptors_, count);
    std::random_device seed;
    for (unsigned i = 0; i < count; ++i) {
      auto sockets = [this, standalone](net::Loop& loop) -> std::unique_ptr<net::SocketSource> {
        if (standalone) return std::make_unique<net::OwnSockets>();
        return std::make_unique<net::StockSockets>(
            [this, &loop](std::uint64_t cookie, model::Family family, auto answer) {
              hub_->ask(cookie, family, loop, std::move(answer));
            });
      };
      auto& thread = threads_.emplace_back();
      thread.worker = std::make_unique<net::Worker>(
          worker, sockets,
          [this](const net::Shares& shares, std::uint64_t from, std::uint64_t to,
                 std::uint32_t reason) { tell(shares, from, to, reason); },
          std::uint64_t{seed()} << 32 | seed());
    }
    for (auto& thread : threads_) thread.worker->set_peers([this](auto task) { each(task); });
    for (auto& thread : threads_)
      thread.thread = std::thread([worker_of = thread.worker.get()] { worker_of->run(); });
  }

  void stop_workers() {
    each([](net::Worker& worker) { worker.loop().stop(); });
    for (auto& thread : threads_) thread.thread.join();
  }

  void each(const std::function<void(net::Worker&)>& task) {
    for (auto& thread : threads_)
      thread.worker->loop().post([task, worker = thread.worker.get()] { task(*worker); });
  }

  void tell(const net::Shares& shares, std::uint64_t from, std::uint64_t to, std::uint32_t reason) {
    if (!shares.id) return;
    weft::v1::FromProxy said;
    auto& transition = *said.mutable_transition();
    transition.set_service(shares.service);
    transition.set_endpoint(shares.id);
    transition.set_incarnation(shares.incarnation);
    transition.set_from(from);
    transition.set_to(to);
    transition.set_reason(reason);
    transition.set_at_ns(net::Loop::clock_ns());
    control_->tell(std::move(said));
  }

  const Options& options_;
  const rlim_t descriptors_;
  net::Loop loop_;
  std::unique_ptr<net::SocketHub> hub_;  // null: sockets are made here
  std::vector<Thread> threads_;
  net::Control* control_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app;
  describe(app, options);
  CLI11_PARSE(app, argc, argv);
  log::set_format(options.log_format == "json" ? log::Format::kJson : log::Format::kText);
  if (options.listen.empty() && !options.generation) {
    std::cerr << "weft-proxy: weftd starts it; by hand it needs --listen ADDRESS:PORT and --to "
                 "ADDRESS:PORT (see --help)\n";
    return 2;
  }
  block_signals();
  return Proxy(options, raise_descriptors()).run();
}
