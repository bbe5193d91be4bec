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

// Upper bounds in milliseconds, Istio's; one more bucket for what is above.
inline constexpr std::array<double, 19> kDurationBounds = {
    0.5,  1,    5,     10,    25,    50,     100,    250,     500,    1000,
    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};

struct RequestSeries {
  std::uint64_t count = 0;
  std::array<std::uint64_t, kDurationBounds.size() + 1> buckets{};
  double duration_ms = 0;
  std::uint64_t request_bytes = 0, response_bytes = 0;
};

struct TcpSeries {
  std::uint64_t opened = 0, closed = 0, received = 0, sent = 0;
};

struct SeriesKey {
  const Caller* caller;
  const model::HttpCluster* cluster;  // as asked for; kept alive by `holds`
  std::uint16_t status;
  Flags flags;

  bool operator==(const SeriesKey&) const = default;
  template <class H>
  friend H AbslHashValue(H state, const SeriesKey& key) {
    return H::combine(std::move(state), key.caller, key.cluster, key.status, key.flags);
  }
};

struct Metrics {
  // By identity here and added up by labels when they are told.
  absl::flat_hash_map<SeriesKey, RequestSeries> requests;
  absl::flat_hash_map<SeriesKey, TcpSeries> connections;  // tunnels; status 0
  // What keys point at lives as long as its series.
  absl::flat_hash_set<std::shared_ptr<const void>> holds;
  void hold(std::shared_ptr<const void> what) { holds.insert(std::move(what)); }

  std::uint64_t accepted = 0, accept_failed = 0, refused_full = 0, without_origin = 0,
                refused_heads = 0, retries = 0, retry_overflow = 0;
  std::uint64_t upstream_opened = 0, upstream_reused = 0, upstream_failed = 0;
  std::uint64_t clients = 0, in_flight = 0, upstreams = 0;  // now

  void add(const Metrics& other);  // the plain numbers, not the series
  void observe(const SeriesKey& key, double ms, std::uint64_t in, std::uint64_t out);
};

}  // namespace weft::net
