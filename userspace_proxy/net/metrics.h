// What one worker counted: plain numbers that only its thread writes; read at a scrape by a task on
// that thread. Names and labels are Istio's, so its dashboards and Kiali read them.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <array>
#include <cstdint>
#include <memory>

#include "userspace_proxy/net/config.h"
#include "userspace_proxy/net/flags.h"

namespace weft::net {

// Upper bounds, Istio's, in milliseconds and bytes; one more bucket for what is above.
inline constexpr std::array<double, 19> kDurationBounds = {
    0.5,  1,    5,     10,    25,    50,     100,    250,     500,    1000,
    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};
inline constexpr std::array<double, 9> kSizeBounds = {1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8};

template <std::size_t N>
struct Distribution {
  std::array<std::uint64_t, N + 1> buckets{};
  double sum = 0;

  void observe(const std::array<double, N>& bounds, double value) {
    std::size_t at = 0;
    while (at < N && value > bounds[at]) ++at;  // nearly everything is small
    ++buckets[at];
    sum += value;
  }
  void add(const Distribution& other) {
    for (std::size_t i = 0; i < buckets.size(); ++i) buckets[i] += other.buckets[i];
    sum += other.sum;
  }
};

struct RequestSeries {
  std::uint64_t count = 0;
  std::uint64_t touched_ms = 0;
  Distribution<kDurationBounds.size()> duration_ms;
  Distribution<kSizeBounds.size()> request_bytes, response_bytes;
};

struct TunnelSeries {
  std::uint64_t opened = 0, closed = 0, received = 0, sent = 0;
  std::uint64_t touched_ms = 0;
};

struct SeriesKey {
  const Caller* caller;
  const model::HttpCluster* cluster;  // as asked for; both are kept alive by `holds`
  std::uint16_t status;
  Flags flags;
  const model::Workload* to = nullptr;  // of the endpoint that answered; null: nobody, or not known

  bool operator==(const SeriesKey&) const = default;
  template <class H>
  friend H AbslHashValue(H state, const SeriesKey& key) {
    return H::combine(std::move(state), key.caller, key.cluster, key.status, key.flags, key.to);
  }
};

struct Metrics {
  // By identity here and added up by labels when they are told.
  absl::flat_hash_map<SeriesKey, RequestSeries> requests;
  absl::flat_hash_map<SeriesKey, TunnelSeries> tunnels;  // status and flags 0
  absl::flat_hash_set<std::shared_ptr<const void>> holds;

  std::uint64_t accepted = 0, accept_failed = 0, refused_full = 0, shed = 0, without_origin = 0,
                refused_heads = 0, retries = 0, retry_overflow = 0, mirrors_dropped = 0;
  std::uint64_t upstream_opened = 0, upstream_reused = 0, upstream_failed = 0;
  std::uint64_t clients = 0, in_flight = 0, upstreams = 0;  // now

  // Whoever is counted under must be held first.
  void hold(std::shared_ptr<const void> what) { holds.insert(std::move(what)); }
  void observe(const SeriesKey& key, double ms, std::uint64_t in, std::uint64_t out,
               std::uint64_t now_ms);
  // The same; the key's workload is held with the series.
  void observe(SeriesKey key, const std::shared_ptr<const model::Workload>& to, double ms,
               std::uint64_t in, std::uint64_t out, std::uint64_t now_ms);
  void add(const Metrics& other);  // the plain numbers, not the series
  // Series that nothing was added to for kKeepMs go, and with them what only they named.
  static constexpr std::uint64_t kKeepMs = 15 * 60 * 1000;
  void expire(std::uint64_t now_ms);
};

}  // namespace weft::net
