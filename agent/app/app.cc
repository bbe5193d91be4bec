#include "agent/app/app.h"

#include <malloc.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <set>

#include "agent/app/breakers.h"
#include "agent/app/bypass.h"
#include "agent/app/health_checks.h"
#include "agent/app/looks.h"
#include "agent/app/notice_log.h"
#include "agent/app/pods.h"
#include "agent/app/proxy.h"
#include "agent/kernel/affinity.h"
#include "agent/kernel/background.h"
#include "agent/kernel/breaker.h"
#include "agent/kernel/capture.h"
#include "agent/kernel/datapath.h"
#include "agent/kernel/writer.h"
#include "agent/observe/admin_server.h"
#include "agent/observe/exporter.h"
#include "agent/observe/health.h"
#include "agent/observe/http_server.h"
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
constexpr auto kAffinityPeriod = 10s;
constexpr auto kNeighbourPeriod = 60s;
constexpr auto kHeartbeat = 1s;
constexpr char kKeptApiServer[] =
    "default/kubernetes would lose its last endpoint: it is kept, since it is the way back; "
    "weftctl confirm takes it away";
constexpr auto kPace = 1ms, kStormPace = 5ms;  // between two plans

// How long the map writes themselves took: what a slow apply is asked first.
class TimedSink : public kernel::MapSink {
 public:
  explicit TimedSink(kernel::Maps& maps) : writer_(maps) {}
  absl::Status write(std::span<const reconcile::MapOp> ops) override {
    const auto begin = Clock::now();
    auto status = writer_.write(ops);
    last = Clock::now() - begin;
    return status;
  }
  Clock::duration last{};

 private:
  kernel::MapWriter writer_;
};

std::int64_t in_us(Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

std::string in_seconds(std::chrono::milliseconds duration) {
  const auto ms = duration.count();
  return ms % 1000 ? std::to_string(ms) + " ms" : std::to_string(ms / 1000) + " s";
}

class App {
 public:
  App(Place place, std::unique_ptr<kernel::Datapath> datapath, compile::MapState actual)
      : options_(place.options),
        control_(place.control),
        feed_(place.feed),
        listener_(place.listener),
        datapath_(std::move(datapath)),
        writer_(datapath_->maps()),
        reconciler_(writer_, datapath_->maps().limits(),
                    datapath_->fresh_maps() ? compile::MapState{} : actual, actual,
                    {options_.region, options_.zone, options_.node_name, options_.subzone},
                    options_.proxy != "off") {
    snapshot_.version = WEFT_VERSION;
    snapshot_.node = options_.node_name;
    snapshot_.started = Clock::now();
    snapshot_.features = datapath_->features();
    snapshot_.generation = actual.generation;
    peak_.observe(Clock::now(), actual.endpoint_count);
  }

  ~App() { feed_.listen({}); }

  Outcome run() {
    if (auto status = serve(); !status.ok()) {
      log::error("start", {{"error", base::message_of(status)}});
      return {1};
    }
    asio::signal_set signals(control_, SIGTERM, SIGINT);
    signals.async_wait([this](auto error, int signal) {
      if (error) return;
      log::info("stop", {{"signal", signal}, {"data_path", "stays pinned"}});
      control_.stop();
    });
    if (options_.enrol == "labelled")
      if (auto status = pods_.start(options_.cgroup); !status.ok()) {
        log::error("start", {{"error", base::message_of(status)}});
        return {1};
      }
    listen_to_sources();
    beat();
    expire_affinities();
    control_.run();
    return outcome_;
  }

 private:
  // --- starting ---

  absl::Status serve() {
    exporter_ = std::make_unique<observe::Exporter>(board_, datapath_->maps(),
                                                    kernel::Pins{options_.bpffs});
    publish();
    observe::HttpOptions http_options;
    http_options.address = options_.metrics;
    http_options.listener = listener_.release();
    observe::HttpHandlers pages;
    pages.metrics = [this] { return exporter_->exposition(Clock::now()); };
    pages.unhealthy = [this] { return observe::why_unhealthy(heartbeat_, Clock::now()); };
    pages.not_ready = [this] { return observe::why_not_ready(*board_.read()); };
    auto http = observe::HttpServer::start(http_options, std::move(pages));
    if (!http.ok()) return http.status();
    http_ = *std::move(http);
    observe::AdminOptions admin_options;
    admin_options.run_dir = options_.run_dir;
    auto admin = observe::AdminServer::start(admin_options, board_, admin_handlers());
    if (!admin.ok()) return admin.status();
    admin_ = *std::move(admin);
    return absl::OkStatus();
  }

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
    const bool allow = options_.allow_empty || confirmed_;
    if (allow) peak_.forget();
    auto result =
        reconciler_.apply(snapshot_.mesh, {allow, !feed_.all_synced(), peak_.value(begin),
                                           options_.allow_empty || said_so_, &breakers_.ejected(),
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
    look_for_neighbours();
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
    confirmed_ = said_so_ = false;
    if (result.held_back != holding_) begin_or_end_hold(result);
    std::string text = hold_text_;
    if (result.kept_api_server) text += (text.empty() ? "" : "; ") + std::string(kKeptApiServer);
    if (text == snapshot_.held_back_text) return;
    if (text.empty())
      log::info("hold-back", {{"state", "over"}});
    else
      log::warning("hold-back", {{"text", text}});
    snapshot_.held_back = !text.empty();
    snapshot_.held_back_text = std::move(text);
  }

  void begin_or_end_hold(const reconcile::Result& result) {
    holding_ = result.held_back;
    hold_text_.clear();
    hold_timer_.cancel();
    if (!holding_) return;
    hold_text_ = std::to_string(result.endpoints_before - result.endpoints_after) + " of " +
                 std::to_string(result.endpoints_before) +
                 " endpoints would go at once, which is more often a fault than a wish: held back "
                 "for " +
                 in_seconds(options_.hold_empty) +
                 ". To apply it now: weftctl confirm; to never hold back: --allow-empty";
    hold_timer_.expires_after(options_.hold_empty);
    hold_timer_.async_wait([this](auto error) {
      if (error) return;
      confirmed_ = true;
      reconcile("hold-back over", Clock::now());
    });
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
    snapshot_.sources.clear();
    for (const auto& source : feed_.sources()) {
      const auto& status = source->status();
      // People who wonder why something is still there must not have to guess.
      const std::string kept =
          begun_ && !status.synced
              ? (status.error.empty() ? "" : "; ") +
                    std::string("until it has been read whole nothing is removed")
              : "";
      snapshot_.sources.push_back({source->uri(),
                                   !status.error.empty() ? "error"
                                   : status.synced       ? "synced"
                                                         : "starting",
                                   status.error + kept, status.changed, status.updates,
                                   status.errors});
    }
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
    if (begun_) reconcile_soon("breaker", Clock::now());
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

  void expire_affinities() {
    affinity_timer_.expires_after(kAffinityPeriod);
    affinity_timer_.async_wait([this](auto error) {
      if (error) return;
      background_.post([this] {
        if (auto removed = kernel::expire_affinities(datapath_->maps()); !removed.ok())
          log::warning("affinity", {{"error", base::message_of(removed.status())}});
        if (auto removed = kernel::sweep_originals(datapath_->maps()); !removed.ok())
          log::warning("capture", {{"error", base::message_of(removed.status())}});
      });
      expire_affinities();
    });
  }

  // Not before attaching: it replaces our own programs.
  void look_for_neighbours() {
    background_.post([this] {
      auto found = std::make_shared<std::vector<node::Neighbour>>(
          neighbours_of({options_.bpffs}, options_.cgroup));
      asio::post(control_, [this, found] {
        for (const auto& [name, what] : *found)
          if (logged_neighbours_.insert(name + what).second)
            log::info("neighbour", {{"name", name}, {"what", what}});
        snapshot_.neighbours = std::move(*found);
        publish();
      });
    });
    neighbour_timer_.expires_after(kNeighbourPeriod);
    neighbour_timer_.async_wait([this](auto error) {
      if (!error) look_for_neighbours();
    });
  }

  // --- admin socket: called on its thread, answered from this one ---

  observe::AdminHandlers admin_handlers() {
    observe::AdminHandlers handlers;
    handlers.confirm = [this](observe::AdminHandlers::ConfirmDone done) {
      asio::post(control_, [this, done = std::move(done)] {
        if (!begun_)
          return done(
              absl::UnavailableError("the sources are not ready yet: nothing is held back"));
        if (!snapshot_.held_back)
          return done(absl::FailedPreconditionError("nothing is held back"));
        confirmed_ = said_so_ = true;
        reconcile("confirmed", Clock::now());
        done(reconciler_.failed() ? absl::UnavailableError("the maps cannot be written now: " +
                                                           snapshot_.apply.last_error)
                                  : absl::OkStatus());
      });
    };
    handlers.audit = [this](observe::AdminHandlers::AuditDone done) {
      asio::post(control_, [this, done = std::move(done)] {
        auto answer = [this, done] { done(differences()); };
        if (reconciler_.settled())
          answer();
        else
          audits_.push_back(std::move(answer));
      });
    };
    handlers.proxy_reload = [this](observe::AdminHandlers::ConfirmDone done) {
      asio::post(control_, [this, done = std::move(done)] { done(proxy_.reload()); });
    };
    handlers.caller = [this](std::uint64_t cookie, observe::AdminHandlers::CallerDone done) {
      asio::post(control_, [this, cookie, done = std::move(done)] { done(proxy_.caller(cookie)); });
    };
    handlers.handover = [this](observe::AdminHandlers::HandoverDone done) {
      asio::post(control_, [this, done = std::move(done)] {
        // Only whoever knows what the kernel holds can say that another may have it.
        if (!attached_) return done(absl::UnavailableError("it is not ready itself yet"));
        done(http_->listener());
      });
    };
    handlers.breaker = [this](const observe::BreakerOrder& order,
                              observe::AdminHandlers::BreakerDone done) {
      asio::post(control_, [this, order, done = std::move(done)] {
        if (!attached_) return done(absl::UnavailableError("the data path is not in force yet"));
        done(breakers_.carry_out(order));
      });
    };
    handlers.events = [this](std::optional<std::uint64_t> after,
                             observe::AdminHandlers::EventsDone done) {
      asio::post(control_, [this, after, done = std::move(done)]() mutable {
        breakers_.wait_for_events(after, std::move(done));
      });
    };
    handlers.handed_over = [this] {
      asio::post(control_, [this] {
        log::info("handover", {{"state", "another weftd takes over"}});
        outcome_.handed_over = true;
        control_.stop();
      });
    };
    return handlers;
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
  reconcile::Peak peak_{options_.hold_empty};
  observe::Snapshot snapshot_;
  observe::Board board_;
  observe::Heartbeat heartbeat_;
  std::unique_ptr<observe::Exporter> exporter_;
  std::unique_ptr<observe::HttpServer> http_;
  std::unique_ptr<observe::AdminServer> admin_;

  asio::steady_timer start_timer_{control_}, retry_timer_{control_}, cleanup_timer_{control_},
      hold_timer_{control_}, beat_timer_{control_}, affinity_timer_{control_},
      pace_timer_{control_}, neighbour_timer_{control_};
  Clock::time_point reconciled_{};
  bool pacing_ = false;
  int joined_ = 0;  // changes that joined the plan that was waited for last
  std::chrono::milliseconds retry_delay_ = kFirstRetry;
  bool begun_ = false;  // the first write was allowed
  bool attached_ = false;
  bool cleaning_ = false;
  bool holding_ = false;  // the last apply held a removal back
  std::string hold_text_;
  bool said_so_ = false;    // ... because somebody confirmed it
  bool confirmed_ = false;  // the next apply may remove what was held back
  Outcome outcome_;
  NoticeLog notice_log_;
  std::set<std::string> logged_neighbours_;
  std::vector<std::function<void()>> audits_;
  HealthChecks health_{control_, options_.node_name, [this] {
                         if (begun_) reconcile_soon("health", Clock::now());
                       }};
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
  kernel::Background background_;  // last: its tasks use everything above
};

}  // namespace

Outcome serve(Place place, std::unique_ptr<kernel::Datapath> datapath, compile::MapState actual) {
  return App(place, std::move(datapath), std::move(actual)).run();
}

}  // namespace weft::app
