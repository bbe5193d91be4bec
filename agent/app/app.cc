#include "agent/app/app.h"

#include <malloc.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <set>

#include "agent/app/admin.h"
#include "agent/app/breakers.h"
#include "agent/app/bypass.h"
#include "agent/app/drains.h"
#include "agent/app/health_checks.h"
#include "agent/app/hold.h"
#include "agent/app/looks.h"
#include "agent/app/notice_log.h"
#include "agent/app/pods.h"
#include "agent/app/proxy.h"
#include "agent/app/rounds.h"
#include "agent/app/servers.h"
#include "agent/app/timed_sink.h"
#include "agent/kernel/background.h"
#include "agent/kernel/breaker.h"
#include "agent/kernel/datapath.h"
#include "agent/kernel/writer.h"
#include "agent/observe/health.h"
#include "agent/observe/snapshot.h"
#include "agent/reconcile/peak.h"
#include "agent/reconcile/reconciler.h"
#include "control_plane/sources/source.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using observe::Clock;

constexpr auto kFirstRetry = 10ms;
constexpr auto kLastRetry = 1s;
constexpr auto kHeartbeat = 1s;
constexpr auto kPace = 1ms, kStormPace = 5ms;  // between two plans

std::int64_t in_us(Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

class App {
 public:
  App(Place place, std::unique_ptr<kernel::Datapath> datapath, compile::MapState actual)
      : options_(place.options),
        control_(place.control),
        feed_(place.feed),
        listener_(place.listener),
        datapath_(std::move(datapath)),
        writer_(datapath_->maps(),
                [this](const auto& told, const auto& was) { breakers_.moved(told, was); }),
        reconciler_(writer_, datapath_->maps().limits(),
                    datapath_->fresh_maps() ? compile::MapState{} : actual, actual,
                    {options_.region, options_.zone, options_.node_name, options_.subzone},
                    options_.proxy != "off"),
        drains_(control_, options_, *datapath_, actual),
        health_(control_, options_.node_name, actual, [this] {
          if (begun_) reconcile_soon("health", Clock::now());
        }) {
    snapshot_.version = WEFT_VERSION;
    snapshot_.node = options_.node_name;
    snapshot_.started = Clock::now();
    snapshot_.features = datapath_->features();
    snapshot_.generation = actual.generation;
    peak_.observe(Clock::now(), actual.endpoint_count);
  }

  ~App() { feed_.listen({}); }

  Outcome run() {
    publish();
    // Before anybody can ask it anything: who is answered may tell it to stop.
    asio::signal_set signals(control_, SIGTERM, SIGINT);
    signals.async_wait([this](auto error, int signal) {
      if (error) return;
      log::info("stop", {{"signal", signal}, {"data_path", "stays pinned"}});
      control_.stop();
    });
    if (auto status = servers_.start(listener_, admin_parts()); !status.ok()) {
      log::error("start", {{"error", base::message_of(status)}});
      return {1};
    }
    if (options_.enrol == "labelled")
      if (auto status = pods_.start(options_.cgroup); !status.ok()) {
        log::error("start", {{"error", base::message_of(status)}});
        return {1};
      }
    listen_to_sources();
    beat();
    rounds_.expire();
    control_.run();
    return outcome_;
  }

 private:
  // --- starting ---

  void listen_to_sources() {
    feed_.listen({[this](const auto& name, const auto& unit) {
                    pods_.set_unit(name, unit);
                    proxy_.set_unit(name, unit);
                    pods_changed_ = true;
                  },
                  [this](const auto& uri, auto first_event) { on_batch(uri, first_event); }});
    if (feed_.all_synced()) return begin();
    start_timer_.expires_after(options_.source_timeout);
    start_timer_.async_wait([this](auto error) {
      if (error || begun_) return;
      log::warning("start", {{"sources", "not all are ready"},
                             {"waited_ms", options_.source_timeout.count()},
                             {"serving", "what is there"}});
      begin();
    });
  }

  // --- the loop: a source spoke -> mesh -> maps ---

  void on_batch(const std::string& uri, Clock::time_point first_event) {
    if (!begun_) {
      if (!feed_.all_synced()) return publish();
      for (const auto& source : feed_.sources())
        log::info("source", {{"uri", source->uri()},
                             {"units", source->status().updates},
                             {"read_ms", in_us(Clock::now() - snapshot_.started) / 1000}});
      return begin();
    }
    reconcile_soon(uri, first_event);
  }

  // At once after a quiet moment. Changes that come one by one wait a millisecond at most; where
  // several have come in that time it is a storm, and plans take what five bring.
  void reconcile_soon(const std::string& cause, Clock::time_point since) {
    if (pacing_) {
      ++joined_;  // the first of them tells since when
      return;
    }
    const auto due = reconciled_ + (joined_ ? kStormPace : kPace);
    joined_ = 0;
    if (Clock::now() >= due) return reconcile(cause, since);
    pacing_ = true;
    pace_timer_.expires_at(due);
    pace_timer_.async_wait([this, cause, since](auto error) {
      if (error) return;
      pacing_ = false;
      reconcile(cause, since);
    });
  }

  void begin() {
    begun_ = true;
    start_timer_.cancel();
    reconcile("start", Clock::now());
  }

  void reconcile(const std::string& cause, Clock::time_point since) {
    const auto begin = Clock::now();
    snapshot_.mesh = health_.apply(feed_.build());
    notice_log_.write(snapshot_.mesh->notices);
    if (refuse_unenforceable()) return;
    // While a plan waits to be tried again the newest mesh waits behind it; the timer goes on as it
    // was.
    const bool waiting = reconciler_.failed();
    if (hold_.allows()) peak_.forget();
    auto result =
        reconciler_.apply(snapshot_.mesh, {hold_.allows(), !feed_.all_synced(), peak_.value(begin),
                                           hold_.allows_api_server(), &breakers_.ejected(),
                                           std::exchange(touched_, {})});
    peak_.observe(begin, reconciler_.placed().endpoint_count);
    reconciled_ = Clock::now();
    waiting ? publish() : finish_apply(std::move(result), cause, begin, since);
  }

  void finish_apply(reconcile::Result result, const std::string& cause, Clock::time_point begin,
                    Clock::time_point since) {
    const auto end = Clock::now();
    auto& apply = snapshot_.apply;
    apply.last_duration = end - begin;
    apply.retrying = !result.status.ok();
    if (!result.status.ok()) {
      ++apply.failures;
      apply.last_error = base::message_of(result.status);
      log::error("plan", {{"error", apply.last_error}, {"retry_ms", retry_delay_.count()}});
      schedule_retry();
      return publish();
    }
    apply.last_error.clear();
    retry_delay_ = kFirstRetry;
    kernel::settle(datapath_->maps());
    bypass_.set_mesh(snapshot_.mesh);
    // Before it starts: it begins whole.
    proxy_.set_mesh(snapshot_.mesh, reconciler_.placed(), breakers_.ejected());
    if (!attached_ && !attach()) return;
    const bool first = !snapshot_.ready;
    if (first) malloc_trim(0);  // reading and the first plan took far more than what stays
    snapshot_.ready = true;
    snapshot_.generation = result.generation;
    note_held_back(result);
    note_refused(result);
    apply.last_writes = result.written.entries;
    if (result.written.entries) {
      ++apply.plans;
      apply.writes_total += result.written.entries;
      snapshot_.apply_seconds.observe(std::chrono::duration<double>(end - begin).count());
      if (cause != "start")
        snapshot_.propagation_seconds.observe(std::chrono::duration<double>(end - since).count());
    }
    if (result.written.entries || cause == "start") log_plan(result, cause, end - begin);
    if (first)
      log::info("ready", {{"writes", result.written.entries},
                          {"since_sources_us", in_us(Clock::now() - since)}});
    if (feed_.all_synced()) pods_.settle();
    drains_.set_mesh(*snapshot_.mesh, reconciler_.placed());
    schedule_cleanup();
    answer_audits();
    publish();
  }

  void log_plan(const reconcile::Result& result, const std::string& cause, Clock::duration took) {
    log::info("plan", {{"gen", result.generation},
                       {"writes", result.written.entries},
                       {"endpoints", result.written.endpoints},
                       {"records", result.written.records},
                       {"frontends", result.written.frontends},
                       {"erased", result.written.erased},
                       {"took_us", in_us(took)},
                       {"map_writes_us", result.written.entries ? in_us(writer_.last) : 0},
                       {"cause", cause}});
  }

  bool attach() {
    if (auto status = datapath_->attach(); !status.ok()) {
      log::error("attach", {{"error", base::message_of(status)}});
      outcome_.exit_code = 1;
      control_.stop();
      return false;
    }
    attached_ = true;
    if (auto status = breakers_.start(); !status.ok())
      log::error("breakers", {{"error", base::message_of(status)},
                              {"lost", "events; the kernel's decisions go on"}});
    log::info("attached", {{"cgroup", options_.cgroup}, {"bpffs", options_.bpffs}});
    bypass_.start();
    proxy_.set_bypass_readers(bypass_.readers_fd());
    proxy_.start();
    rounds_.look_for_neighbours();
    return true;
  }

  void schedule_retry() {
    retry_timer_.expires_after(retry_delay_);
    retry_timer_.async_wait([this](auto error) {
      if (error) return;
      const auto begin = Clock::now();
      finish_apply(reconciler_.retry(), "retry", begin, begin);
    });
    retry_delay_ = std::min<std::chrono::milliseconds>(retry_delay_ * 2, kLastRetry);
  }

  // Numbers are free again a grace period after the maps stopped naming them; one wait at a time,
  // and what gathers meanwhile goes with the next.
  void schedule_cleanup() {
    if (cleaning_) return;
    auto cleanup = reconciler_.take_cleanup();
    if (!cleanup) return;
    cleaning_ = true;
    auto shared = std::make_shared<const reconcile::Cleanup>(*std::move(cleanup));
    background_.post([this, shared] {
      kernel::wait_for_grace_period();
      asio::post(control_, [this, shared] { finish_cleanup(shared); });
    });
  }

  void finish_cleanup(const std::shared_ptr<const reconcile::Cleanup>& cleanup) {
    if (auto status = reconciler_.finish(*cleanup); !status.ok()) {
      log::error("cleanup",
                 {{"error", base::message_of(status)}, {"retry_ms", kLastRetry.count() * 1000}});
      cleanup_timer_.expires_after(kLastRetry);
      cleanup_timer_.async_wait([this, cleanup](auto error) {
        if (!error) finish_cleanup(cleanup);
      });
      return;
    }
    cleaning_ = false;
    schedule_cleanup();
    // Room was made: services that found none are tried again.
    if (!snapshot_.refused.empty() && !reconciler_.failed()) reconcile("room", Clock::now());
    answer_audits();
  }

  void answer_audits() {
    if (!reconciler_.settled()) return;
    for (auto& waiting : std::exchange(audits_, {})) waiting();
  }

  // --- what people must be told ---

  void note_held_back(const reconcile::Result& result) {
    const auto change = hold_.note(result);
    if (change != Hold::Change::kNone) hold_timer_.cancel();
    if (change == Hold::Change::kBegun) {
      hold_timer_.expires_after(hold_.patience());
      hold_timer_.async_wait([this](auto error) {
        if (error) return;
        hold_.time_is_over();
        reconcile("hold-back over", Clock::now());
      });
    }
    if (hold_.text() == snapshot_.held_back_text) return;
    if (hold_.text().empty())
      log::info("hold-back", {{"state", "over"}});
    else
      log::warning("hold-back", {{"text", hold_.text()}});
    snapshot_.held_back = !hold_.text().empty();
    snapshot_.held_back_text = hold_.text();
  }

  void note_refused(const reconcile::Result& result) {
    for (const auto& line : result.refused)
      if (std::find(snapshot_.refused.begin(), snapshot_.refused.end(), line) ==
          snapshot_.refused.end())
        log::error("no room", {{"service", line}});
    snapshot_.refused = result.refused;
  }

  bool refuse_unenforceable() {
    if (options_.enforce_unsupported != "refuse" || snapshot_.ready) return false;
    for (const auto& notice : *snapshot_.mesh->notices)
      if (notice.severity == model::Severity::kNotEnforced) {
        log::error("start",
                   {{"refused", "--enforce-unsupported=refuse"}, {"policy", notice.to_text()}});
        outcome_.exit_code = 1;
        control_.stop();
        return true;
      }
    return false;
  }

  void publish() {
    snapshot_.workloads = workloads_now();
    snapshot_.proxy = proxy_.status();
    snapshot_.bypass = bypass_.status();
    snapshot_.proxy_report = proxy_.report();
    snapshot_.health = health_.list();
    snapshot_.probes = health_.probes();
    snapshot_.drained = drains_.counts();
    snapshot_.sources = feed_.told(begun_);
    // The node's cgroups are a source like any other, to whoever asks what is wrong.
    if (options_.enrol == "labelled")
      snapshot_.sources.push_back({"cgroups:" + options_.cgroup,
                                   pods_.error().empty() ? "synced" : "error", pods_.error(),
                                   snapshot_.started, pods_.workloads().total(), 0});
    board_.publish(std::make_shared<const observe::Snapshot>(snapshot_));
  }

  // A list that is shared by snapshots until a pod changes.
  observe::WorkloadsPtr workloads_now() {
    if (!std::exchange(pods_changed_, false)) return snapshot_.workloads;
    auto list = std::make_shared<const std::vector<node::Workload>>(pods_.workloads().list());
    if (options_.enrol == "labelled") proxy_.set_pods(*list);
    return list;
  }

  // Where a service has priorities, its traffic moves with the breakers of its endpoints.
  void on_breakers(const std::set<model::ServiceKey>& services) {
    touched_.insert(services.begin(), services.end());
    proxy_.on_breakers(services);
    snapshot_.transitions = breakers_.log().counts();
    if (begun_ && !services.empty()) reconcile_soon("breaker", Clock::now());
  }

  // --- housekeeping ---

  void beat() {
    pods_.retry();
    pods_.look_up_cookies();
    proxy_.beat();
    bypass_.set_workloads(proxy_.bypass_words());
    bypass_.beat();
    heartbeat_.beat();
    publish();
    beat_timer_.expires_after(kHeartbeat);
    beat_timer_.async_wait([this](auto error) {
      if (!error) beat();
    });
  }

  // --- what the admin socket asks for ---

  AdminParts admin_parts() {
    return {.control = control_,
            .breakers = breakers_,
            .proxy = proxy_,
            .in_force = [this] { return attached_; },
            .confirm = [this] { return confirm(); },
            .audit = [this](auto done) { audit(std::move(done)); },
            .listener = [this] { return servers_.listener(); },
            .hand_over =
                [this] {
                  log::info("handover", {{"state", "another weftd takes over"}});
                  outcome_.handed_over = true;
                  control_.stop();
                }};
  }

  absl::Status confirm() {
    if (!begun_)
      return absl::UnavailableError("the sources are not ready yet: nothing is held back");
    if (!snapshot_.held_back) return absl::FailedPreconditionError("nothing is held back");
    hold_.confirm();
    reconcile("confirmed", Clock::now());
    return reconciler_.failed() ? absl::UnavailableError("the maps cannot be written now: " +
                                                         snapshot_.apply.last_error)
                                : absl::OkStatus();
  }

  void audit(observe::AdminHandlers::AuditDone done) {
    auto answer = [this, done = std::move(done)] { done(differences()); };
    reconciler_.settled() ? answer() : audits_.push_back(std::move(answer));
  }

  std::vector<std::string> differences() {
    auto lines = differences_of(reconciler_.placed(), datapath_->maps());
    for (auto& line : kernel::miscounted(datapath_->maps())) lines.push_back(std::move(line));
    lines.insert(lines.end(), snapshot_.refused.begin(), snapshot_.refused.end());
    return lines;
  }

  const Options& options_;
  asio::io_context& control_;
  Feed& feed_;
  base::Fd& listener_;  // a predecessor's
  std::unique_ptr<kernel::Datapath> datapath_;
  TimedSink writer_;
  reconcile::Reconciler reconciler_;
  Drains drains_;
  reconcile::Peak peak_{options_.hold_empty};
  observe::Snapshot snapshot_;
  observe::Board board_;
  observe::Heartbeat heartbeat_;
  Servers servers_{options_, board_, heartbeat_, datapath_->maps()};

  asio::steady_timer start_timer_{control_}, retry_timer_{control_}, cleanup_timer_{control_},
      hold_timer_{control_}, beat_timer_{control_}, pace_timer_{control_};
  Clock::time_point reconciled_{};
  bool pacing_ = false;
  int joined_ = 0;  // changes that joined the plan that was waited for last
  std::chrono::milliseconds retry_delay_ = kFirstRetry;
  bool begun_ = false;  // the first write was allowed
  bool attached_ = false;
  bool cleaning_ = false;
  Hold hold_{options_.hold_empty, options_.allow_empty};
  Outcome outcome_;
  NoticeLog notice_log_;
  std::vector<std::function<void()>> audits_;
  HealthChecks health_;
  std::set<model::ServiceKey> touched_;  // by breakers, since the last apply
  Breakers breakers_{control_, datapath_->maps(), kernel::Pins{options_.bpffs},
                     [this](const auto& services) { on_breakers(services); }};
  bool pods_changed_ = true;
  Pods pods_{control_,
             datapath_->maps(),
             background_,
             {options_.exclude_namespaces.begin(), options_.exclude_namespaces.end()},
             [this] {
               pods_changed_ = true;
               publish();
             }};
  Proxy proxy_{control_,
               options_,
               *datapath_,
               {[this] { publish(); }, [this](const auto& told) { breakers_.hear(told); }}};
  Bypass bypass_{control_, options_, [this] { publish(); }};
  Rounds rounds_{control_, options_, datapath_->maps(), background_, [this](auto found) {
                   snapshot_.neighbours = std::move(found);
                   publish();
                 }};
  kernel::Background background_;  // last: its tasks use everything above
};

}  // namespace

Outcome serve(Place place, std::unique_ptr<kernel::Datapath> datapath, compile::MapState actual) {
  return App(place, std::move(datapath), std::move(actual)).run();
}

}  // namespace weft::app
