// Which endpoint is checked when. Pure: the time is passed in, and the jitter is a hash.
//
// Checks are a load that nobody asked for by using the mesh, so it is bounded over the whole agent:
// so many begin in a second, so many are under way. Where that is not enough for what is due, the
// longest overdue goes first: every target is late by as much, none is forgotten.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

namespace weft::health {

using Clock = std::chrono::steady_clock;

struct Limits {
  double per_second = 100;     // checks that begin; nought or less is taken for the default
  std::size_t in_flight = 64;  // nought is taken for 1

  bool operator==(const Limits&) const = default;
};

class Schedule {
 public:
  using Id = std::uint64_t;  // never used twice

  // Agents with different seeds do not check one endpoint in step.
  explicit Schedule(Limits limits, std::uint64_t seed = 0);

  // First checks spread over the interval by the hash of the endpoint; later ones come every
  // interval, give or take a tenth. O(log targets), like remove().
  Id add(std::uint64_t endpoint_hash, Clock::duration interval, Clock::time_point now);
  // A check under way stays so until finished() is told.
  void remove(Id id);

  // The one to check now: it is under way until finished(), which is called exactly once.
  std::optional<Id> take(Clock::time_point now);
  void finished(Id id, Clock::time_point now);

  // When take() may have one; nothing: not before add() or finished().
  std::optional<Clock::time_point> next() const;
  // How long the first in the queue has been due: beyond its interval, the bound is too low.
  Clock::duration late_by(Clock::time_point now) const;

  std::size_t size() const { return targets_.size(); }
  std::size_t in_flight() const { return in_flight_; }

 private:
  struct Target {
    std::uint64_t hash = 0;
    Clock::duration interval{};
    Clock::time_point due{};  // while it is under way: when it was taken
    std::uint32_t turn = 0;
  };

  Clock::duration every_;  // between two that begin
  std::size_t most_in_flight_;
  std::uint64_t seed_;
  std::size_t in_flight_ = 0;
  Id last_ = 0;
  // A bucket of one token. A deeper one would let its depth through on top of the rate in the
  // second after a pause.
  Clock::time_point allowed_{Clock::time_point::min()};
  std::unordered_map<Id, Target> targets_;
  std::set<std::pair<Clock::time_point, Id>> queue_;  // those not under way
};

}  // namespace weft::health
