#include "agent/proxy/supervisor.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::proxy {
namespace {

constexpr char kGenerationFlag[] = "--generation";

// What tells one binary from another under the same name.
std::string identity_of(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info)) return "";
  return std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) + ":" +
         std::to_string(info.st_mtim.tv_sec) + "." + std::to_string(info.st_mtim.tv_nsec);
}

// "--generation N" of a weft-proxy that runs; 0: it says none.
std::uint32_t generation_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline");
  for (std::string word; std::getline(file, word, '\0');)
    if (word == kGenerationFlag && std::getline(file, word, '\0'))
      return base::parse_number<std::uint32_t>(word).value_or(0);
  return 0;
}

// weft-sockets serves the old generations for as long as they live, and ends with them.
bool is_a_proxy(pid_t pid, std::uint32_t number) {
  if (number) return true;
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string name;
  return std::getline(file, name) && name != "weft-sockets";
}

}  // namespace

Supervisor::Supervisor(boost::asio::io_context& io, Program program, const Timing& timing,
                       Hooks hooks)
    : io_(io),
      program_(std::move(program)),
      timing_(timing),
      hooks_(std::move(hooks)),
      restart_timer_(io) {}

void Supervisor::start() {
  adopt_what_is_left();
  // Columns whose generation is no more, of processes that died while nobody looked.
  for (std::uint32_t column = 0; column < kColumns; ++column)
    if (std::none_of(generations_.begin(), generations_.end(),
                     [&](const auto& one) { return one->number() % kColumns == column; }))
      hooks_.clear(column);
  start_generation();
}

void Supervisor::adopt_what_is_left() {
  for (const auto pid : processes_in(program_.cgroup)) {
    const auto number = generation_of(pid);
    auto process = open_process(pid);
    if (!process.ok() || !is_a_proxy(pid, number)) continue;
    last_number_ = std::max(last_number_, number);
    log::info("proxy",
              {{"pid", pid}, {"generation", number}, {"state", "left by an earlier weftd"}});
    generations_.push_back(std::make_unique<Generation>(io_, number, *std::move(process),
                                                        base::Fd(), timing_, events()));
    generations_.back()->serve_now();
  }
}

Generation::Events Supervisor::events() {
  Generation::Events events;
  events.serving = [this](Generation& one) { on_serving(one); };
  events.ended = [this](Generation& one, const std::string& how) { on_ended(one, how); };
  events.said = [this](Generation& one, const weft::v1::FromProxy& message) {
    if (hooks_.said) hooks_.said(one, message);
  };
  return events;
}

const Generation* Supervisor::serving() const {
  for (auto at = generations_.rbegin(); at != generations_.rend(); ++at)
    if ((*at)->state() == Generation::State::kServing) return at->get();
  return nullptr;
}

void Supervisor::reload(const std::string& why) {
  if (stopped_) return;
  log::info("proxy", {{"state", "reload"}, {"because", why}});
  // One that has not served yet is overtaken: it has drained nobody, so nothing is lost.
  for (const auto& one : generations_)
    if (one->state() == Generation::State::kStarting) one->drain(std::chrono::milliseconds(0));
  restart_timer_.cancel();
  starting_again_ = false;
  start_generation();
}

void Supervisor::reload_if_changed() {
  if (stopped_ || program_.external || started_file_.empty()) return;
  const auto now = identity_of(program_.argv.front());
  if (!now.empty() && now != started_file_) reload("its binary has changed");
}

void Supervisor::drain_all() {
  stopped_ = true;
  restart_timer_.cancel();
  if (generations_.empty()) adopt_what_is_left();
  for (const auto& one : generations_) one->drain(timing_.drain);
  note_up();
}

void Supervisor::start_generation() {
  crowded_ = false;
  if (auto status = try_to_start(); !status.ok()) {
    if (error_ != base::message_of(status))
      log::error("proxy", {{"error", base::message_of(status)}, {"now", "tried again"}});
    error_ = base::message_of(status);
    start_again();
  }
  hooks_.changed();
}

// The next one whose column nobody has; 0: all are taken.
std::uint32_t Supervisor::next_number() {
  for (std::uint32_t number = last_number_ + 1; number <= last_number_ + kColumns; ++number)
    if (std::none_of(generations_.begin(), generations_.end(), [&](const auto& one) {
          return one->number() % kColumns == number % kColumns;
        }))
      return number;
  return 0;
}

// One has to go: where there is one that serves, there is some time. A tunnel may last for days,
// and a new binary must not wait for its drain. (A third party's proxies have no column to wait for
// but their number; they drain in peace.)
void Supervisor::need_a_column() {
  crowded_ = true;
  if (!serving()) return generations_.front()->kill();
  if (program_.external) return;
  for (const auto& one : generations_)
    if (one.get() != serving()) return one->drain(timing_.crowded);
}

absl::Status Supervisor::try_to_start() {
  const auto number = next_number();
  if (!number) {
    need_a_column();
    return absl::OkStatus();
  }
  auto gifts = hooks_.gifts(number);
  if (!gifts.ok()) return gifts.status();
  Ends ends;
  if (!program_.external) {
    ends = make_ends(SOCK_STREAM);
    if (!ends.ours) return absl::ErrnoToStatus(errno, "cannot make a socket for weft-proxy");
  }
  const base::Fd cgroup(open(program_.cgroup.c_str(), O_DIRECTORY | O_RDONLY | O_CLOEXEC));
  if (!cgroup) return absl::ErrnoToStatus(errno, "cannot open " + program_.cgroup);
  auto what = launch_of(number, *gifts, ends.theirs.get());
  what.cgroup = cgroup.get();
  started_file_ = identity_of(program_.argv.front());
  auto process = launch(what);
  if (!process.ok()) return process.status();
  error_.clear();
  last_number_ = number;
  log::info("proxy", {{"pid", process->pid}, {"generation", number}, {"state", "started"}});
  generations_.push_back(std::make_unique<Generation>(io_, number, *std::move(process),
                                                      std::move(ends.ours), timing_, events()));
  Generation& one = *generations_.back();
  program_.external ? one.serve_now() : hooks_.welcome(one);
  return absl::OkStatus();
}

Launch Supervisor::launch_of(std::uint32_t number, const Hooks::Gifts& gifts, int channel) const {
  Launch what;
  what.argv = program_.argv;
  what.environment = program_.environment;
  what.environment.insert(what.environment.end(), gifts.environment.begin(),
                          gifts.environment.end());
  what.user = program_.user;
  what.group = program_.external;
  if (!program_.external) {
    what.argv.insert(what.argv.end(), {kGenerationFlag, std::to_string(number)});
    what.descriptors.push_back(channel);
  }
  for (const auto& fd : gifts.descriptors) what.descriptors.push_back(fd.get());
  return what;
}

void Supervisor::on_serving(Generation& generation) {
  if (generation.talks() || program_.external)
    log::info(
        "proxy",
        {{"pid", generation.pid()}, {"generation", generation.number()}, {"state", "serving"}});
  note_up();
  if (&generation == generations_.back().get())
    for (const auto& one : generations_)
      if (one.get() != &generation) one->drain(timing_.drain);
  hooks_.changed();
}

void Supervisor::on_ended(Generation& generation, const std::string& how) {
  const bool planned = generation.state() == Generation::State::kDraining;
  const bool newest = &generation == generations_.back().get();
  const auto lived = std::chrono::steady_clock::now() - generation.started();
  const auto pid = generation.pid();
  const auto number = generation.number();
  const auto cut = planned ? generation.connections() : 0;
  cut_ += cut;
  generations_.remove_if([&](const auto& one) { return one.get() == &generation; });
  note_up();  // before anything that takes time
  hooks_.clear(number % kColumns);
  log::write(planned ? log::Level::kInfo : log::Level::kError, "proxy",
             {{"pid", pid},
              {"generation", number},
              {"state", planned ? "drained" : "died"},
              {"cut", cut},
              {"how", how}});
  if (lived >= timing_.settled) delay_ = {};
  if (crowded_)
    start_generation();
  else if (!planned && newest)
    start_again();
  hooks_.changed();
}

// At once the first time, then later and later.
void Supervisor::start_again() {
  if (stopped_ || starting_again_) return;
  starting_again_ = true;
  ++restarts_;
  restart_timer_.expires_after(delay_);
  restart_timer_.async_wait([this, alive = std::weak_ptr(alive_)](auto error) {
    if (error || alive.expired() || !starting_again_) return;
    starting_again_ = false;
    start_generation();
  });
  delay_ = std::clamp(delay_ * 2, timing_.first_restart, timing_.last_restart);
}

void Supervisor::note_up() {
  const auto* one = stopped_ ? nullptr : serving();
  const auto up = one ? std::optional(one->number()) : std::nullopt;
  if (up == up_) return;
  up_ = up;
  hooks_.up(one);
}

}  // namespace weft::proxy
