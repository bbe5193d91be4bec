#include "agent/health/checker.h"

#include <boost/asio/post.hpp>

#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace weft::health {
namespace {

namespace asio = boost::asio;

// FNV-1a: the same in every process, unlike std::hash, so that jitter can be told from a dump.
std::uint64_t hash_of(const model::ServiceKey& key, const Spot& spot) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  const auto mix = [&hash](std::uint8_t byte) { hash = (hash ^ byte) * 0x100000001b3ull; };
  for (const char c : key.to_text()) mix(static_cast<std::uint8_t>(c));
  for (const auto byte : spot.address.bytes) mix(byte);
  mix(static_cast<std::uint8_t>(spot.port >> 8));
  mix(static_cast<std::uint8_t>(spot.port));
  return hash;
}

// Thresholds alone are no other question: they weigh the same answers.
bool asks_the_same(const model::HealthCheck& a, const model::HealthCheck& b) {
  auto weighed = a;
  weighed.unhealthy_after = b.unhealthy_after;
  weighed.healthy_after = b.healthy_after;
  return weighed == b;
}

// Draining ones take their leave, and whether they answer is no longer of interest; of UDP there
// is nothing that a connect would tell.
std::set<Spot> spots_of(const model::Service& service) {
  std::set<Spot> spots;
  for (const auto& port : service.ports)
    if (port.protocol == model::Protocol::kTcp)
      for (const auto& endpoint : port.endpoints)
        if (endpoint.state == model::EndpointState::kReady)
          spots.insert({endpoint.address, endpoint.port});
  return spots;
}

}  // namespace

Checker::Checker(asio::io_context& io, Options options, std::function<void()> changed)
    : io_(io),
      options_(options),
      changed_(std::move(changed)),
      schedule_(options.limits, options.seed),
      timer_(io) {}

void Checker::follow(const model::Mesh& mesh) {
  using Table = model::BucketTable<model::Service>;
  bool any = false;
  Table::for_each_change(followed_, mesh.services,
                         [&](const model::ServicePtr* before, const model::ServicePtr* after) {
                           const bool wanted = after && (*after)->traffic.health_check;
                           if (wanted) watch(**after, *(*after)->traffic.health_check);
                           if (!wanted && before) drop((*before)->key);
                           // Whoever comes later has not been waited for.
                           inherited_.erase((after ? *after : *before)->key);
                           any = true;
                         });
  followed_ = mesh.services;
  if (any) pump();
}

void Checker::drop(const model::ServiceKey& key) {
  const auto at = watched_.find(key);
  if (at == watched_.end()) return;
  for (const auto& [spot, id] : at->second.targets) remove(id);
  watched_.erase(at);
}

void Checker::watch(const model::Service& service, const model::HealthCheck& check) {
  const auto at = watched_.try_emplace(service.key).first;
  const model::ServiceKey& key = at->first;
  Watched& watched = at->second;
  const auto spots = spots_of(service);
  std::erase_if(watched.targets, [&](const auto& target) {
    const bool gone = !spots.contains(target.first);
    if (gone) remove(target.second);
    return gone;
  });
  if (!asks_the_same(watched.check, check)) ask_anew(key, watched, check);
  watched.check = check;
  for (const auto& spot : spots)
    if (!watched.targets.contains(spot)) add(key, watched, make(key, spot));
}

Checker::Target Checker::make(const model::ServiceKey& key, const Spot& spot) const {
  Target target;
  target.spot = spot;
  target.since = Clock::now();
  const auto inherited = inherited_.find(key);
  if (inherited == inherited_.end() || !inherited->second.contains(spot)) return target;
  target.verdict.state = State::kUnhealthy;
  target.reason = "it was not ready when this agent started";
  return target;
}

// Under new numbers, so that answers to the old question, which are still on their way, are lost.
void Checker::ask_anew(const model::ServiceKey& key, Watched& watched,
                       const model::HealthCheck& check) {
  watched.check = check;
  for (const auto& [spot, id] : std::exchange(watched.targets, {})) {
    Target target = std::move(targets_.at(id));
    targets_.erase(id);
    schedule_.remove(id);
    target.verdict.forget_row();
    add(key, watched, std::move(target));
  }
}

void Checker::add(const model::ServiceKey& key, Watched& watched, Target target) {
  const Spot spot = target.spot;
  target.service = &key;
  ++changes_;
  // Who is cut off before he was ever asked is asked now.
  const auto now = Clock::now();
  const bool waits = target.checked == Clock::time_point() && !target.verdict.healthy();
  const auto interval = watched.check.interval;
  const auto id = schedule_.add(hash_of(key, spot), interval, waits ? now - interval : now);
  watched.targets.emplace(spot, id);
  mark(targets_.emplace(id, std::move(target)).first->second);
}

void Checker::remove(Schedule::Id id) {
  schedule_.remove(id);
  ++changes_;
  const auto at = targets_.find(id);
  at->second.verdict = {};
  mark(at->second);
  targets_.erase(at);
}

void Checker::mark(const Target& target) {
  if (!target.verdict.healthy()) {
    unhealthy_[*target.service].insert(target.spot);
    return;
  }
  const auto at = unhealthy_.find(*target.service);
  if (at == unhealthy_.end()) return;
  at->second.erase(target.spot);
  if (at->second.empty()) unhealthy_.erase(at);
}

void Checker::pump() {
  while (const auto id = schedule_.take(Clock::now())) begin(*id);
  const auto next = schedule_.next();
  if (!next) {
    timer_.cancel();
    return;
  }
  timer_.expires_at(*next);
  timer_.async_wait([this, alive = std::weak_ptr(alive_)](auto error) {
    if (!error && !alive.expired()) pump();
  });
}

void Checker::begin(Schedule::Id id) {
  const Target& target = targets_.at(id);
  Question question;
  question.address = target.spot.address;
  question.port = target.spot.port;
  question.check = watched_.at(*target.service).check;
  probe(io_, std::move(question), [this, id, alive = std::weak_ptr(alive_)](Result result) {
    if (alive.expired()) return;
    schedule_.finished(id, Clock::now());
    judge(id, std::move(result));
    pump();
  });
}

void Checker::judge(Schedule::Id id, Result result) {
  ++(!result.asked ? counts_.not_asked : result.ok ? counts_.ok : counts_.failed);
  const auto at = targets_.find(id);
  if (at == targets_.end()) return;  // gone meanwhile
  Target& target = at->second;
  const auto& check = watched_.at(*target.service).check;
  const State before = target.verdict.state;
  const bool flipped = target.verdict.record(result, {check.unhealthy_after, check.healthy_after});
  if (target.verdict.state != before || target.reason != result.reason) ++changes_;
  target.reason = std::move(result.reason);
  target.checked = Clock::now();
  if (target.verdict.state != before) target.since = target.checked;
  if (!flipped) return;
  ++counts_.flips;
  mark(target);
  tell();
}

void Checker::tell() {
  if (std::exchange(telling_, true)) return;
  asio::post(io_, [this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    telling_ = false;
    changed_();
  });
}

bool Checker::healthy(const model::ServiceKey& service, const model::Address& address,
                      std::uint16_t port) const {
  const auto at = unhealthy_.find(service);
  return at == unhealthy_.end() || !at->second.contains({address, port});
}

std::vector<Row> Checker::list() const {
  std::vector<Row> rows;
  rows.reserve(targets_.size());
  for (const auto& [key, watched] : watched_)
    for (const auto& [spot, id] : watched.targets) {
      const Target& target = targets_.at(id);
      rows.push_back({key, spot.address, spot.port, watched.check.kind, target.verdict,
                      target.reason, target.checked, target.since});
    }
  return rows;
}

Counts Checker::counts() const {
  Counts counts = counts_;
  counts.targets = targets_.size();
  for (const auto& [key, spots] : unhealthy_) counts.unhealthy += spots.size();
  counts.in_flight = schedule_.in_flight();
  counts.late_by = schedule_.late_by(Clock::now());
  return counts;
}

}  // namespace weft::health
