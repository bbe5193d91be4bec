#include "userspace_proxy/net/metrics.h"

#include <algorithm>

namespace weft::net {

void Metrics::observe(const SeriesKey& key, double ms, std::uint64_t in, std::uint64_t out) {
  auto& series = requests[key];
  ++series.count;
  const auto bound = std::lower_bound(kDurationBounds.begin(), kDurationBounds.end(), ms);
  ++series.buckets[static_cast<std::size_t>(bound - kDurationBounds.begin())];
  series.duration_ms += ms;
  series.request_bytes += in;
  series.response_bytes += out;
}

void Metrics::add(const Metrics& other) {
  for (auto number :
       {&Metrics::accepted, &Metrics::accept_failed, &Metrics::refused_full,
        &Metrics::without_origin, &Metrics::refused_heads, &Metrics::retries,
        &Metrics::retry_overflow, &Metrics::upstream_opened, &Metrics::upstream_reused,
        &Metrics::upstream_failed, &Metrics::clients, &Metrics::in_flight, &Metrics::upstreams})
    this->*number += other.*number;
}

}  // namespace weft::net
