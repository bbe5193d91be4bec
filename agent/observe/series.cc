#include "agent/observe/series.h"

#include <arpa/inet.h>

#include <algorithm>
#include <tuple>

#include "agent/compile/map_state.h"

namespace weft::observe {
namespace {

// Programs count while we read.
template <class T>
T read(const T& value) {
  return __atomic_load_n(&value, __ATOMIC_RELAXED);
}

std::string endpoint_text(const weft_endpoint& endpoint, std::uint64_t word) {
  const auto address = compile::from_abi(endpoint.addr);
  const std::string port = std::to_string(ntohs(weft_endpoint_port(word)));
  const std::string text = address.to_text();
  return address.family() == model::Family::kIpv6 ? "[" + text + "]:" + port : text + ":" + port;
}

auto identity(const ServiceName& name) {
  return std::tie(name.namespace_name, name.name, name.port, name.udp);
}
auto identity(const EndpointReading& e) {
  return std::tie(e.namespace_name, e.service, e.port, e.udp, e.endpoint);
}

// Two ids of one address: what a killed writer left, until the next cleaning. A scrape with two
// series of one name would be thrown away as a whole.
void join_twins(std::vector<EndpointReading>& endpoints) {
  std::sort(endpoints.begin(), endpoints.end(),
            [](const auto& a, const auto& b) { return identity(a) < identity(b); });
  std::size_t kept = 0;
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    if (kept && identity(endpoints[kept - 1]) == identity(endpoints[i])) {
      endpoints[kept - 1].active += endpoints[i].active;
      endpoints[kept - 1].opened += endpoints[i].opened;
      endpoints[kept - 1].failed += endpoints[i].failed;
    } else {
      if (kept != i) endpoints[kept] = std::move(endpoints[i]);
      ++kept;
    }
  }
  endpoints.resize(kept);
}

std::size_t series_of(const ServiceReading& s) {
  return (s.opened > 0) + (s.failed > 0) + (s.refused_no_endpoint > 0) + (s.refused_family > 0) +
         (s.refused_stale > 0) + (s.refused_ejected > 0) + (s.refused_limit > 0) +
         (s.refused_proxy_down > 0);
}

}  // namespace

void Series::set_names(std::vector<ServiceName> names) {
  std::sort(names.begin(), names.end(),
            [](const auto& a, const auto& b) { return identity(a) < identity(b); });
  groups_.clear();
  std::fill(group_of_.begin(), group_of_.end(), kNone);
  for (auto& name : names) {
    if (name.index >= group_of_.size()) group_of_.resize(name.index + 1, kNone);
    const auto index = name.index;
    if (groups_.empty() || identity(groups_.back()) != identity(name))
      groups_.push_back(std::move(name));
    group_of_[index] = groups_.size() - 1;
  }
}

bool Series::is_fresh(Seen& seen, std::uint64_t total, std::uint32_t incarnation, bool in_use,
                      Clock::time_point now) const {
  if (!seen.known || seen.total != total || seen.incarnation != incarnation || in_use)
    seen = {total, incarnation, true, now};
  return now - seen.changed < options_.idle;
}

void Series::collect(const ArraysView& arrays, Clock::time_point now, Readings& readings) {
  seen_services_.resize(arrays.service_states.size());
  seen_endpoints_.resize(arrays.endpoint_states.size());
  collect_services(arrays, now, readings);
  collect_endpoints(arrays, now, readings);
  readings.services_dropped = services_dropped_;
  readings.endpoints_dropped = endpoints_dropped_;
}

void Series::collect_services(const ArraysView& arrays, Clock::time_point now, Readings& readings) {
  std::vector<ServiceReading> sums(groups_.size());
  std::vector<bool> fresh(groups_.size());
  const std::size_t end = std::min(group_of_.size(), arrays.service_states.size());
  for (std::size_t index = 0; index < end; ++index) {
    if (group_of_[index] == kNone) continue;
    const auto& state = arrays.service_states[index];
    auto& sum = sums[group_of_[index]];
    const std::uint64_t values[] = {read(state.opened),
                                    read(state.failed),
                                    read(state.refused_no_endpoint),
                                    read(state.refused_family),
                                    read(state.refused_stale),
                                    read(state.refused_ejected),
                                    read(state.refused_limit),
                                    read(state.refused_proxy_down)};
    std::uint64_t total = 0;
    for (const auto value : values) total += value;
    if (!total) {
      seen_services_[index].known = false;
      continue;
    }
    sum.opened += values[0], sum.failed += values[1], sum.refused_no_endpoint += values[2];
    sum.refused_family += values[3], sum.refused_stale += values[4];
    sum.refused_ejected += values[5], sum.refused_limit += values[6];
    sum.refused_proxy_down += values[7];
    if (is_fresh(seen_services_[index], total, 0, false, now)) fresh[group_of_[index]] = true;
  }
  std::size_t series = 0;
  for (std::size_t group = 0; group < groups_.size(); ++group) {
    if (!fresh[group]) continue;
    const std::size_t more = series_of(sums[group]);
    if (series + more > options_.max_service_series) {
      services_dropped_ += more;
      continue;
    }
    series += more;
    const auto& name = groups_[group];
    sums[group].namespace_name = name.namespace_name;
    sums[group].name = name.name;
    sums[group].port = name.port;
    sums[group].udp = name.udp;
    readings.services.push_back(std::move(sums[group]));
  }
}

void Series::collect_endpoints(const ArraysView& arrays, Clock::time_point now,
                               Readings& readings) {
  const std::size_t end = std::min(arrays.endpoints.size(), arrays.endpoint_states.size());
  auto& counts = readings.endpoint_counts;
  std::size_t series = 0;
  for (std::size_t id = 1; id < end; ++id) {
    const std::uint64_t word = __atomic_load_n(&arrays.endpoints[id].word, __ATOMIC_ACQUIRE);
    const auto flags = weft_endpoint_flags(word);
    if (!(flags & WEFT_ENDPOINT_USED)) continue;
    ++(flags & WEFT_ENDPOINT_READY      ? counts.ready
       : flags & WEFT_ENDPOINT_DRAINING ? counts.draining
                                        : counts.not_ready);
    const auto& state = arrays.endpoint_states[id];
    EndpointReading reading;
    reading.active = weft_connections(&state.active, state.connections);
    reading.opened = read(state.opened);
    reading.failed = read(state.failed);
    reading.rtt_us = read(state.rtt_us);
    const std::uint32_t service = weft_endpoint_service(word);
    const std::uint64_t breaker = read(state.breaker);
    const bool is_out = weft_breaker_state(breaker) != WEFT_BREAKER_CLOSED;
    if (weft_breaker_reason(breaker) != WEFT_BREAKER_NONE)
      reading.breaker = weft_breaker_state(breaker);
    if (!reading.active && !reading.opened && !reading.failed && !is_out) continue;
    if (!is_fresh(seen_endpoints_[id], reading.opened + reading.failed, read(state.incarnation),
                  reading.active > 0 || is_out, now))
      continue;
    if (service >= group_of_.size() || group_of_[service] == kNone) continue;
    const std::size_t more = 1 + (reading.opened > 0) + (reading.failed > 0) +
                             (reading.rtt_us > 0) + reading.breaker.has_value();
    if (series + more > options_.max_endpoint_series) {
      endpoints_dropped_ += more;
      continue;
    }
    series += more;
    const auto& name = groups_[group_of_[service]];
    reading.namespace_name = name.namespace_name;
    reading.service = name.name;
    reading.port = name.port;
    reading.udp = name.udp;
    reading.endpoint = endpoint_text(arrays.endpoints[id], word);
    readings.endpoints.push_back(std::move(reading));
  }
  join_twins(readings.endpoints);
}

}  // namespace weft::observe
