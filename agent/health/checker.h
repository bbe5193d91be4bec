// Active health checks of the endpoints that no kubelet watches: which there are, when each is
// asked, and what is known of it. Off unless a service asks for them (weft.mesh/health-check).
//
// Control thread only: probes are coroutines on its io_context, and a verdict is a word in the
// model's endpoint state (overlay.h), so nothing after this knows of checks. weftd's own
// connections are never translated, so that a probe reaches the endpoint it names.
//
// A target is (service, address, port), once however many ports of the service lead there.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/health/overlay.h"
#include "agent/health/probe.h"
#include "agent/health/schedule.h"
#include "agent/health/verdict.h"
#include "mesh/model/mesh.h"

namespace weft::health {

struct Options {
  Limits limits;
  std::uint64_t seed = 0;  // of the jitter: another on every node
};

// What people are shown of one target.
struct Row {
  model::ServiceKey service;
  model::Address address;
  std::uint16_t port = 0;
  model::HealthCheck::Kind kind = model::HealthCheck::Kind::kTcp;
  Verdict verdict;
  std::string reason;           // of the last check; empty: none yet
  Clock::time_point checked{};  // the epoch: not yet
  Clock::time_point since{};    // the verdict, or the target where there is none yet
};

struct Counts {
  std::uint64_t ok = 0, failed = 0, not_asked = 0, flips = 0;
  std::size_t targets = 0, unhealthy = 0, in_flight = 0;
  Clock::duration late_by{};  // beyond an interval: more targets than the bound allows for
};

class Checker {
 public:
  // `changed` after any flip of a verdict: posted, so several at once make one call, and never from
  // within a call of this class. The io_context outlives this; probes under way are dropped with
  // it.
  Checker(boost::asio::io_context& io, Options options, std::function<void()> changed);

  // Before the first follow(): what an earlier agent left not ready. What is checked of it begins
  // as unhealthy and is asked at once: a restart must not send anybody to an endpoint that was cut
  // off. The rest is forgotten.
  void inherit(Unhealthy unhealthy) { inherited_ = std::move(unhealthy); }

  // The newest mesh as its sources tell it, not one with an overlay: an endpoint that is unhealthy
  // here is not ready there, and would be checked no more. A service that did not change costs
  // nothing; verdicts stay with their endpoints. Does not call `changed`: whoever brings a mesh
  // makes the overlay next.
  void follow(const model::Mesh& mesh);

  // True of everything that is not checked.
  bool healthy(const model::ServiceKey& service, const model::Address& address,
               std::uint16_t port) const;
  const Unhealthy& unhealthy() const { return unhealthy_; }
  std::vector<Row> list() const;  // sorted by service, address, port
  // Another number where list() has other targets, states or reasons.
  std::uint64_t changes() const { return changes_; }
  Counts counts() const;

 private:
  struct Watched {
    model::HealthCheck check;
    std::map<Spot, Schedule::Id> targets;
  };
  struct Target {
    const model::ServiceKey* service = nullptr;  // the key in watched_, which stays where it is
    Spot spot;
    Verdict verdict;
    std::string reason;
    Clock::time_point checked{}, since{};
  };

  void drop(const model::ServiceKey& key);
  void watch(const model::Service& service, const model::HealthCheck& check);
  void ask_anew(const model::ServiceKey& key, Watched& watched, const model::HealthCheck& check);
  Target make(const model::ServiceKey& key, const Spot& spot) const;
  void add(const model::ServiceKey& key, Watched& watched, Target target);
  void remove(Schedule::Id id);
  void pump();
  void begin(Schedule::Id id);
  void judge(Schedule::Id id, Result result);
  void mark(const Target& target);
  void tell();

  boost::asio::io_context& io_;
  Options options_;
  std::function<void()> changed_;
  Schedule schedule_;
  model::BucketTable<model::Service> followed_;
  std::map<model::ServiceKey, Watched> watched_;
  std::unordered_map<Schedule::Id, Target> targets_;
  Unhealthy unhealthy_, inherited_;
  Counts counts_;
  std::uint64_t changes_ = 0;
  bool telling_ = false;
  boost::asio::steady_timer timer_;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // probes outlive this
};

}  // namespace weft::health
