#include "agent/app/proxy.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "agent/kernel/capture.h"
#include "agent/kernel/own_socket.h"
#include "agent/node/netns.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

using namespace std::chrono_literals;

// A third party's proxy is started anew for every set of listeners: a burst is one set.
constexpr auto kGather = 100ms;

std::string beside_this_program(const char* name) {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored).replace_filename(name).string();
}

weft_transition to_abi(const weft::v1::Transition& told) {
  weft_transition result{};
  result.service = told.service();
  result.endpoint = told.endpoint();
  result.incarnation = told.incarnation();
  result.from = told.from();
  result.to = told.to();
  result.reason = told.reason();
  result.at_ns = told.at_ns();
  return result;
}

}  // namespace

Proxy::Proxy(boost::asio::io_context& control, const Options& options, kernel::Datapath& datapath,
             Events events)
    : control_(control),
      options_(options),
      datapath_(datapath),
      events_(std::move(events)),
      publisher_(
          {options.region, options.zone, options.node_name, options.subzone},
          [this](std::uint32_t id) { return datapath_.maps().endpoint_states.at(id).incarnation; }),
      listeners_timer_(control) {}

// --- starting ---

void Proxy::start() {
  if (is_off()) return drain_what_is_left();
  wanted_ = true;
  const auto status = try_to_start();
  started_ = status.ok();
  const auto error = base::message_of(status);
  if (!status.ok() && error_ != error)
    log::error("proxy", {{"error", error}, {"now", "tried again every second"}});
  error_ = error;
  set_report();
  events_.changed();
}

// Of a weftd that had one.
void Proxy::drain_what_is_left() {
  kernel::set_proxy_up(datapath_.maps(), false);
  if (proxy::processes_in(options_.proxy_cgroup).empty()) return;
  start_supervisor();
  supervisor_->drain_all();
}

absl::Status Proxy::try_to_start() {
  if (mkdir(options_.proxy_cgroup.c_str(), 0755) && errno != EEXIST)
    return absl::ErrnoToStatus(errno, "cannot make " + options_.proxy_cgroup);
  if (auto status = datapath_.attach_proxy(options_.proxy_cgroup); !status.ok()) return status;
  auto own = kernel::open_own_sockets(kernel::Pins{options_.bpffs});
  if (!own.ok()) return own.status();
  own_sockets_ = *std::move(own);
  const auto left = proxy::processes_in(options_.proxy_cgroup);
  if (!sockets_)
    if (auto status = start_sockets(); !status.ok()) return status;
  std::set<std::uint64_t> captured;
  if (auto status = datapath_.maps().captures.for_each(
          [&](std::uint64_t cookie, std::uint64_t) { captured.insert(cookie); });
      !status.ok())
    return status;
  workloads_.emplace(workload_hooks(), std::move(captured));
  workloads_->adopt(proxy::listeners_of(left));
  start_supervisor();
  if (!is_external()) supervisor_->start();  // else once there is something to listen on
  const bool one_is_left = is_external() && !left.empty();
  if (!supervisor_->serving() && !one_is_left) kernel::set_proxy_up(datapath_.maps(), false);
  start_namespaces();
  return absl::OkStatus();
}

absl::Status Proxy::start_sockets() {
  proxy::Sockets::Program program;
  program.path = beside_this_program("weft-sockets");
  program.cgroup = options_.proxy_cgroup;
  program.own_sockets_map = own_sockets_.get();
  // A third party's proxy may read with splice(2), which the bypass does not bear.
  if (!is_external()) program.bypass_readers = bypass_readers_;
  auto started = proxy::Sockets::start(control_, program, [this](const std::string& how) {
    log::error("weft-sockets", {{"state", "died"}, {"how", how}});
    sockets_.reset();
    // At once, but one that dies at once is left until the next beat.
    if (std::chrono::steady_clock::now() - sockets_started_ > 1s) beat();
  });
  if (!started.ok()) return started.status();
  sockets_ = *std::move(started);
  sockets_started_ = std::chrono::steady_clock::now();
  return absl::OkStatus();
}

void Proxy::start_namespaces() {
  proxy::Namespaces::Events events;
  events.appeared = [this](const proxy::Namespace& found) { workloads_->appeared(found); };
  events.gone = [this](std::uint64_t cookie) { workloads_->gone(cookie); };
  events.looked = [this] {
    workloads_->settle();
    events_.changed();
  };
  namespaces_ =
      std::make_unique<proxy::Namespaces>(control_, options_.proxy_cgroup, std::move(events));
  std::vector<std::string> cgroups;
  if (options_.enrol != "labelled") cgroups.push_back(options_.cgroup);
  for (const auto& [cgroup, uid] : uids_) cgroups.push_back(cgroup);
  namespaces_->set_cgroups(std::move(cgroups));
}

void Proxy::start_supervisor() {
  supervisor_.emplace(control_, program(), proxy::Timing{}, supervisor_hooks());
}

proxy::Program Proxy::program() const {
  proxy::Program program;
  program.external = is_external();
  program.user = options_.proxy_user;
  program.cgroup = options_.proxy_cgroup;
  program.environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  if (is_external())
    program.argv = {"/bin/sh", "-c", options_.proxy.substr(options_.proxy.find(':') + 1)};
  else
    program.argv = {options_.proxy, "--log-format", options_.log_format};
  return program;
}

// --- what the parts do to each other ---

proxy::Workloads::Hooks Proxy::workload_hooks() {
  proxy::Workloads::Hooks hooks;
  hooks.add = [this](std::uint64_t cookie, int netns) {
    if (sockets_) sockets_->add(cookie, netns);
  };
  hooks.drop = [this](std::uint64_t cookie) {
    if (sockets_) sockets_->drop(cookie);
  };
  // While there is no weft-sockets nobody answers; the next is told all of it (introduce()).
  hooks.listen = [this](std::uint64_t cookie, auto done) {
    if (sockets_) sockets_->listen(cookie, std::move(done));
  };
  hooks.capture = [this](std::uint64_t cookie, std::uint32_t families) {
    mark_readers(cookie);
    return kernel::set_capture(datapath_.maps(), cookie, families);
  };
  hooks.release = [this](std::uint64_t cookie) {
    if (auto status = kernel::erase_capture(datapath_.maps(), cookie); !status.ok())
      log::error("workload", {{"netns_cookie", cookie}, {"error", base::message_of(status)}});
  };
  hooks.tell = [this](const weft::v1::ToProxy& message, const std::vector<int>& descriptors) {
    for (const auto& one : supervisor_->generations()) one->send(message, descriptors);
  };
  hooks.identify = [this](const proxy::Namespace& found) { return identify(found); };
  hooks.changed = [this] { listeners_changed(); };
  return hooks;
}

proxy::Supervisor::Hooks Proxy::supervisor_hooks() {
  proxy::Supervisor::Hooks hooks;
  hooks.gifts = [this](std::uint32_t number) { return gifts(number); };
  hooks.welcome = [this](proxy::Generation& one) { welcome(one); };
  hooks.up = [this](const proxy::Generation* serving) {
    // A third party's has no beat, nor has one that an earlier weftd started as that.
    if (serving && serving->number() && !is_external())
      kernel::set_proxy_up_by(datapath_.maps(), serving->number());
    else
      kernel::set_proxy_up(datapath_.maps(), serving);
  };
  hooks.clear = [this](std::uint32_t column) {
    kernel::clear_generation(datapath_.maps(), column);
  };
  hooks.said = [this](proxy::Generation& one, const weft::v1::FromProxy& message) {
    if (message.has_transition()) events_.transition(to_abi(message.transition()));
    if (message.has_report()) reports_.take(one.number(), message.report());
  };
  hooks.changed = [this] { events_.changed(); };
  return hooks;
}

// Descriptors 4 to 8 of docs/proxy.md.
absl::StatusOr<proxy::Supervisor::Hooks::Gifts> Proxy::gifts(std::uint32_t number) {
  if (is_external()) return external_gifts();
  if (!sockets_) return absl::UnavailableError("weft-sockets does not run");
  auto asking = sockets_->add_proxy(number);
  if (!asking.ok()) return asking.status();
  proxy::Supervisor::Hooks::Gifts gifts;
  gifts.descriptors.push_back(*std::move(asking));
  const auto& maps = datapath_.maps();
  for (const int map : {maps.endpoint_states.fd(), maps.policies.fd(), maps.service_states.fd(),
                        maps.proxy_state.fd()})
    gifts.descriptors.emplace_back(fcntl(map, F_DUPFD_CLOEXEC, 0));
  return gifts;
}

// Descriptors from 3 up are listeners; the environment says of which namespace each is.
proxy::Supervisor::Hooks::Gifts Proxy::external_gifts() const {
  proxy::Supervisor::Hooks::Gifts gifts;
  std::string listeners, haproxy;
  int number = 3;
  for (const auto& one : workloads_->listeners()) {
    gifts.descriptors.emplace_back(fcntl(one.fd, F_DUPFD_CLOEXEC, 0));
    const char* address = one.family == WEFT_LISTENING_V4 ? "127.0.0.1" : "[::1]";
    if (!listeners.empty()) listeners += " ", haproxy += ",";
    listeners += std::to_string(number) + "=" + address + "@" + std::to_string(one.cookie);
    haproxy += "fd@" + std::to_string(number++);
  }
  gifts.environment = {"WEFT_LISTEN_FDS=" + std::to_string(gifts.descriptors.size()),
                       "WEFT_LISTENERS=" + listeners, "WEFT_HAPROXY_BIND=" + haproxy};
  return gifts;
}

// Also listeners that an earlier weftd left. What they accept inherits the mark.
void Proxy::mark_readers(std::uint64_t netns_cookie) const {
  if (bypass_readers_ < 0 || is_external()) return;
  for (const auto& one : workloads_->listeners())
    if (one.cookie == netns_cookie)
      if (auto status = kernel::mark_proxy_reader(bypass_readers_, one.fd); !status.ok())
        log::warning("bypass",
                     {{"netns_cookie", netns_cookie}, {"error", base::message_of(status)}});
}

std::map<std::uint64_t, weft_bypass_word> Proxy::bypass_words() const {
  std::map<std::uint64_t, weft_bypass_word> words;
  if (!workloads_) return words;
  workloads_->for_each([&](const proxy::Namespace& found, const proxy::Identity& identity) {
    // A host's namespace is many pods'.
    if (found.host || identity.bypass == model::Bypass::kUnsaid) return;
    words[found.cookie] =
        identity.bypass == model::Bypass::kOn ? WEFT_BYPASS_SAYS_ON : WEFT_BYPASS_SAYS_OFF;
  });
  return words;
}

void Proxy::listeners_changed() {
  events_.changed();
  if (!is_external()) return;
  listeners_timer_.expires_after(kGather);
  listeners_timer_.async_wait([this](auto error) {
    if (error || workloads_->listeners().empty()) return;
    if (supervisor_->generations().empty() && !supervisor_->restarts())
      supervisor_->start();
    else
      supervisor_->reload("its listeners have changed");
  });
}

proxy::Identity Proxy::identify(const proxy::Namespace& found) const {
  const model::PodObject* pod = nullptr;
  if (const auto uid = uids_.find(found.cgroup); uid != uids_.end())
    pod = pods_.by_uid(uid->second);
  else if (options_.enrol != "labelled" && !found.host && !pods_.empty())
    pod = pods_.by_address(node::addresses_in_netns(found.file->get()));
  return pod ? proxy::identity_of(*pod) : proxy::Identity{};
}

routes::Caller Proxy::caller(std::uint64_t netns_cookie) const {
  const auto* identity = workloads_ ? workloads_->identity_of(netns_cookie) : nullptr;
  return identity ? routes::Caller{identity->namespace_name, identity->labels} : routes::Caller{};
}

// --- what proxies are told ---

void Proxy::set_mesh(const model::MeshPtr& mesh, const compile::MapState& placed,
                     const std::set<std::uint32_t>& ejected) {
  if (!is_off() && publisher_.update(mesh, placed, ejected)) tell_news();
}

void Proxy::on_breakers(const std::set<model::ServiceKey>& services) {
  if (is_off()) return;
  for (const auto& key : services) publisher_.touch(key);
}

void Proxy::tell_news() {
  if (!supervisor_) return;
  auto least = publisher_.last();
  for (const auto& one : supervisor_->generations()) {
    if (!one->talks()) continue;
    tell(*one);
    least = std::min(least, one->told);
  }
  publisher_.forget_removed(least);
}

void Proxy::tell(proxy::Generation& generation) {
  for (auto& config : publisher_.since(generation.told)) {
    weft::v1::ToProxy message;
    message.mutable_config()->Swap(&config);
    generation.send(message);
  }
  generation.told = publisher_.last();
}

// Callers first: a connection that waits already is accepted once there are rules for it.
void Proxy::welcome(proxy::Generation& generation) {
  generation.serve_after(publisher_.last());
  tell(generation);
  workloads_->greet([&](const weft::v1::ToProxy& message, const std::vector<int>& descriptors) {
    generation.send(message, descriptors);
  });
}

void Proxy::set_unit(const std::string& name, const std::shared_ptr<const model::Unit>& unit) {
  if (is_off()) return;
  if (pods_.set_unit(name, unit) && workloads_ && options_.enrol == "labelled")
    workloads_->identify_again();
}

void Proxy::set_pods(const std::vector<node::Workload>& pods) {
  uids_.clear();
  std::vector<std::string> cgroups;
  for (const auto& pod : pods) {
    if (!pod.verdict.enrolled || pod.cgroup.empty()) continue;
    uids_.emplace(pod.cgroup, pod.uid);
    cgroups.push_back(pod.cgroup);
  }
  if (namespaces_) namespaces_->set_cgroups(std::move(cgroups));
}

void Proxy::beat() {
  if (!wanted_) return;
  if (!started_) return start();
  if (!sockets_) {
    if (auto status = start_sockets(); !status.ok()) {
      error_ = base::message_of(status);
      return;
    }
    error_.clear();
    workloads_->introduce();
    // The proxies' sockets to it are closed.
    if (!is_external()) supervisor_->reload("weft-sockets was started anew");
  }
  workloads_->retry();
  // Once more after the last Pod went: whoever it was is nobody now.
  const bool had_pods = std::exchange(has_pods_, !pods_.empty());
  if (options_.enrol != "labelled" && (had_pods || has_pods_)) workloads_->identify_again();
  supervisor_->reload_if_changed();
  ask_for_reports();
}

// What they answered to the last question is shown; a beat old at most.
void Proxy::ask_for_reports() {
  weft::v1::ToProxy message;
  message.mutable_ask()->set_number(++asked_);
  std::set<std::uint32_t> living;
  for (const auto& one : supervisor_->generations()) {
    living.insert(one->number());
    one->send(message);
  }
  reports_.keep(living);
  set_report();
}

// What proxies say of themselves, and what only weftd can say of them.
void Proxy::set_report() {
  const bool up = supervisor_ && supervisor_->serving();
  const auto restarts = supervisor_ ? supervisor_->restarts() : 0;
  auto report = reports_.total();
  report->gauges.push_back({"weft_proxy_up", {}, up ? 1.0 : 0.0});
  report->counters.push_back({"weft_proxy_restarts_total", {}, static_cast<double>(restarts)});
  const auto cut = supervisor_ ? supervisor_->cut() : 0;
  report->counters.push_back({"weft_proxy_connections_cut_total", {}, static_cast<double>(cut)});
  report_ = std::move(report);
}

absl::Status Proxy::reload() {
  if (is_off())
    return absl::FailedPreconditionError("there is no proxy: weftd runs with --proxy off");
  if (!started_) return absl::UnavailableError("the proxy is not started yet: " + error_);
  supervisor_->reload("somebody asked for it");
  return absl::OkStatus();
}

observe::ProxyStatus Proxy::status() const {
  observe::ProxyStatus status;
  if (is_off()) return status;
  status.state = "down";
  status.error = error_;
  if (!supervisor_) return status;
  const auto& all = supervisor_->generations();
  if (!all.empty()) status.state = "starting";
  if (status.error.empty()) status.error = supervisor_->error();
  status.restarts = supervisor_->restarts();
  for (const auto& one : all) {
    status.connections += one->connections();
    status.requests += one->requests();
    status.draining += one->state() == proxy::Generation::State::kDraining;
  }
  if (workloads_) {
    status.workloads = workloads_->size();
    status.captured = workloads_->captured();
  }
  const auto* serving = supervisor_->serving();
  if (!serving) return status;
  status.state = "serving";
  status.pid = serving->pid();
  status.generation = serving->number();
  return status;
}

}  // namespace weft::app
