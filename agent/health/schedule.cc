#include "agent/health/schedule.h"

#include <algorithm>
#include <cmath>

namespace weft::health {
namespace {

constexpr auto kShortest = std::chrono::milliseconds(1);  // an interval of nought would be a loop

// splitmix64's finaliser (Steele, Lea, Flood, OOPSLA 2014): neighbours become strangers.
std::uint64_t scramble(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// A part of the duration, [0, 1) of it.
Clock::duration part_of(Clock::duration whole, std::uint64_t hash) {
  const auto range = static_cast<std::uint64_t>(std::max<Clock::rep>(whole.count(), 1));
  return Clock::duration(static_cast<Clock::rep>(scramble(hash) % range));
}

// Rounded up: a nanosecond less would let one more into the second.
Clock::duration spacing(double per_second) {
  if (!(per_second > 0)) per_second = Limits{}.per_second;
  const double ns = std::ceil(1e9 / per_second);
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(ns, 3.6e12)));
}

}  // namespace

Schedule::Schedule(Limits limits, std::uint64_t seed)
    : every_(spacing(limits.per_second)),
      most_in_flight_(std::max<std::size_t>(limits.in_flight, 1)),
      seed_(seed) {}

Schedule::Id Schedule::add(std::uint64_t endpoint_hash, Clock::duration interval,
                           Clock::time_point now) {
  const Id id = ++last_;
  Target target;
  target.hash = scramble(endpoint_hash ^ scramble(seed_));
  target.interval = std::max<Clock::duration>(interval, kShortest);
  target.due = now + part_of(target.interval, target.hash);
  queue_.emplace(target.due, id);
  targets_.emplace(id, target);
  return id;
}

void Schedule::remove(Id id) {
  const auto at = targets_.find(id);
  if (at == targets_.end()) return;
  queue_.erase({at->second.due, id});  // absent while it is under way
  targets_.erase(at);
}

std::optional<Schedule::Id> Schedule::take(Clock::time_point now) {
  const auto when = next();
  if (!when || *when > now) return std::nullopt;
  const Id id = queue_.begin()->second;
  queue_.erase(queue_.begin());
  targets_.at(id).due = now;
  allowed_ = now + every_;
  ++in_flight_;
  return id;
}

void Schedule::finished(Id id, Clock::time_point now) {
  if (in_flight_) --in_flight_;
  const auto at = targets_.find(id);
  if (at == targets_.end()) return;
  Target& target = at->second;
  const auto tenth = target.interval / 10;
  const auto jitter = part_of(2 * tenth, target.hash + ++target.turn) - tenth;
  // From when it began, so that slow answers do not stretch the interval; never before now.
  target.due = std::max(now, target.due + target.interval + jitter);
  queue_.emplace(target.due, id);
}

std::optional<Clock::time_point> Schedule::next() const {
  if (queue_.empty() || in_flight_ >= most_in_flight_) return std::nullopt;
  return std::max(queue_.begin()->first, allowed_);
}

Clock::duration Schedule::late_by(Clock::time_point now) const {
  if (queue_.empty()) return {};
  return std::max(now - queue_.begin()->first, Clock::duration{});
}

}  // namespace weft::health
