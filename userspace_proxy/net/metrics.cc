#include "userspace_proxy/net/metrics.h"

namespace weft::net {

void Metrics::observe(const SeriesKey& key, double ms, std::uint64_t in, std::uint64_t out,
                      std::uint64_t now_ms) {
  auto& series = requests[key];
  ++series.count;
  series.touched_ms = now_ms;
  series.duration_ms.observe(kDurationBounds, ms);
  series.request_bytes.observe(kSizeBounds, static_cast<double>(in));
  series.response_bytes.observe(kSizeBounds, static_cast<double>(out));
}

void Metrics::observe(SeriesKey key, const std::shared_ptr<const model::Workload>& to, double ms,
                      std::uint64_t in, std::uint64_t out, std::uint64_t now_ms) {
  key.to = to.get();
  if (to && !requests.contains(key)) hold(to);
  observe(key, ms, in, out, now_ms);
}

void Metrics::add(const Metrics& other) {
  for (auto number :
       {&Metrics::accepted, &Metrics::accept_failed, &Metrics::refused_full, &Metrics::shed,
        &Metrics::without_origin, &Metrics::refused_heads, &Metrics::retries,
        &Metrics::retry_overflow, &Metrics::mirrors_dropped, &Metrics::upstream_opened,
        &Metrics::upstream_reused, &Metrics::upstream_failed, &Metrics::clients,
        &Metrics::in_flight, &Metrics::upstreams})
    this->*number += other.*number;
}

void Metrics::expire(std::uint64_t now_ms) {
  const auto is_old = [&](const auto& entry) { return entry.second.touched_ms + kKeepMs < now_ms; };
  absl::erase_if(requests, is_old);
  absl::erase_if(tunnels, [&](const auto& entry) {
    return is_old(entry) && entry.second.opened == entry.second.closed;
  });
  absl::flat_hash_set<const void*> named;
  for (const auto& [key, series] : requests) named.insert({key.caller, key.cluster, key.to});
  for (const auto& [key, series] : tunnels) named.insert({key.caller, key.cluster});
  absl::erase_if(holds, [&](const auto& what) {
    return what.use_count() == 1 && !named.contains(what.get());
  });
}

}  // namespace weft::net
