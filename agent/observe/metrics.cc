#include "agent/observe/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <set>
#include <string_view>

#include "agent/observe/families.h"

namespace weft::observe {
namespace {

using Values = std::initializer_list<std::string_view>;

prometheus::MetricType type_of(FamilyType type) {
  switch (type) {
    case FamilyType::kCounter:
      return prometheus::MetricType::Counter;
    case FamilyType::kGauge:
      return prometheus::MetricType::Gauge;
    case FamilyType::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

// Label values are UTF-8 or the whole scrape is thrown away; file names are whatever they are.
std::string escaped(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const unsigned char byte : text) {
    if (byte >= 0x20 && byte < 0x7f)
      out += static_cast<char>(byte);
    else
      out.append({'%', kHex[byte >> 4], kHex[byte & 15]});
  }
  return out;
}

// One exposition being written. Label names come from the table of families, values in its order.
class Sheet {
 public:
  Sheet() {
    for (const auto& info : families()) {
      auto& family = families_.emplace_back();
      family.name = info.name;
      family.help = info.help;
      family.type = type_of(info.type);
    }
  }

  void counter(Family family, Values labels, double value) {
    add(family, labels).counter.value = value;
  }
  void gauge(Family family, Values labels, double value) {
    add(family, labels).gauge.value = value;
  }
  void histogram(Family family, const Histogram& values) {
    auto& to = add(family, {}).histogram;
    to.sample_sum = values.sum;
    for (std::size_t i = 0; i < values.buckets.size(); ++i) {
      to.sample_count += values.buckets[i];
      const bool last = i == std::size(Histogram::kBounds);
      to.bucket.push_back({to.sample_count,
                           last ? std::numeric_limits<double>::infinity() : Histogram::kBounds[i]});
    }
  }

  // What the proxy tells of itself; a name or label that people were not promised is left out.
  void proxy(const ProxyReport& report) {
    for (const auto& series : report.counters)
      if (auto* metric = add(series.name, series.labels)) metric->counter.value = series.value;
    for (const auto& series : report.gauges)
      if (auto* metric = add(series.name, series.labels)) metric->gauge.value = series.value;
    for (const auto& series : report.histograms) {
      auto* metric = add(series.name, series.labels);
      if (!metric || series.buckets.size() != series.bounds.size() + 1) continue;
      metric->histogram.sample_sum = series.sum;
      for (std::size_t i = 0; i < series.buckets.size(); ++i) {
        metric->histogram.sample_count += series.buckets[i];
        metric->histogram.bucket.push_back(
            {metric->histogram.sample_count, i < series.bounds.size()
                                                 ? series.bounds[i]
                                                 : std::numeric_limits<double>::infinity()});
      }
    }
  }

  // Families without a series are left out.
  std::string text() {
    std::erase_if(families_, [](const auto& family) { return family.metric.empty(); });
    return prometheus::TextSerializer().Serialize(families_);
  }

 private:
  prometheus::ClientMetric& add(Family family, Values labels) {
    const auto& info = families()[static_cast<std::size_t>(family)];
    if (labels.size() != info.label_count())
      std::abort();  // a bug in this file; every test would meet it
    auto& metric = families_[static_cast<std::size_t>(family)].metric.emplace_back();
    metric.label.reserve(labels.size());
    for (const auto value : labels)
      metric.label.push_back({info.labels[metric.label.size()], std::string(value)});
    return metric;
  }

  prometheus::ClientMetric* add(const std::string& name, const ProxyLabels& labels) {
    for (std::size_t i = 0; i < families_.size(); ++i) {
      const auto& info = families()[i];
      if (name != info.name) continue;
      if (labels.size() != info.label_count()) return nullptr;
      for (std::size_t k = 0; k < labels.size(); ++k)
        if (labels[k].first != info.labels[k]) return nullptr;
      auto& metric = families_[i].metric.emplace_back();
      for (const auto& [label, value] : labels) metric.label.push_back({label, escaped(value)});
      return &metric;
    }
    return nullptr;
  }

  std::vector<prometheus::MetricFamily> families_;
};

void add_service(Sheet& sheet, const ServiceReading& s) {
  // A ServiceEntry is called by its host, which a Service's name, without dots, never is.
  const bool is_host = s.name.find('.') != std::string::npos;
  const std::string host =
      is_host ? s.name : s.name + "." + s.namespace_name + ".svc.cluster.local";
  const std::string port = std::to_string(s.port);
  if (s.opened && s.udp)
    sheet.counter(Family::kUdpOpened, {host, s.name, s.namespace_name, port}, s.opened);
  if (s.opened && !s.udp)
    sheet.counter(Family::kTcpOpened, {"source", host, s.name, s.namespace_name, "tcp", port},
                  s.opened);
  if (s.failed && !s.udp)
    sheet.counter(Family::kTcpFailed, {"source", host, s.name, s.namespace_name, "tcp", port},
                  s.failed);
  const std::pair<const char*, std::uint64_t> reasons[] = {{"no_endpoint", s.refused_no_endpoint},
                                                           {"family", s.refused_family},
                                                           {"stale", s.refused_stale},
                                                           {"ejected", s.refused_ejected},
                                                           {"limit", s.refused_limit},
                                                           {"proxy_down", s.refused_proxy_down}};
  for (const auto& [reason, count] : reasons)
    if (count)
      sheet.counter(Family::kRefused,
                    {host, s.name, s.namespace_name, s.udp ? "udp" : "tcp", port, reason}, count);
}

void add_endpoint(Sheet& sheet, const EndpointReading& e) {
  const std::string port = std::to_string(e.port);
  const Values labels = {e.namespace_name, e.service, port, e.udp ? "udp" : "tcp", e.endpoint};
  sheet.gauge(Family::kEndpointActive, labels, e.active);
  if (e.opened) sheet.counter(Family::kEndpointOpened, labels, e.opened);
  if (e.failed) sheet.counter(Family::kEndpointFailed, labels, e.failed);
  if (e.rtt_us) sheet.gauge(Family::kEndpointRtt, labels, e.rtt_us * 1e-6);
  if (e.breaker) sheet.gauge(Family::kBreakerState, labels, *e.breaker);
}

void add_health(Sheet& sheet, const Readings& r) {
  for (const auto& h : r.health)
    sheet.gauge(Family::kEndpointHealth,
                {h.namespace_name, h.service, std::to_string(h.port), "tcp", h.endpoint},
                h.healthy);
  sheet.counter(Family::kHealthProbes, {"ok"}, r.probes.ok);
  sheet.counter(Family::kHealthProbes, {"failed"}, r.probes.failed);
  sheet.counter(Family::kHealthProbes, {"not_asked"}, r.probes.not_asked);
}

void add_drained(Sheet& sheet, const DrainCounts& drained) {
  sheet.counter(Family::kDrainClosed, {"terminating"}, drained.terminating);
  sheet.counter(Family::kDrainClosed, {"gone"}, drained.gone);
  sheet.counter(Family::kDrainClosed, {"proxy"}, drained.proxy);
}

void add_bypass(Sheet& sheet, const BypassReading& b) {
  sheet.gauge(Family::kBypassEnabled, {b.reason}, b.enabled);
  sheet.counter(Family::kBypassConnections, {}, b.connections);
  sheet.counter(Family::kBypassBytes, {}, b.bytes);
  for (const auto& [reason, bytes] : b.fallback)
    if (bytes) sheet.counter(Family::kBypassFallback, {reason}, bytes);
}

void add_transitions(Sheet& sheet, const TransitionCounts& counts) {
  for (const auto& [key, count] : counts)
    sheet.counter(Family::kBreakerTransitions,
                  {key.namespace_name, key.service, std::to_string(key.port), key.to, key.reason},
                  count);
}

void add_sources(Sheet& sheet, const std::vector<SourceReading>& sources) {
  std::set<std::string> seen;  // a source that was given twice is one series
  for (const auto& source : sources) {
    const std::string uri = escaped(source.uri);
    if (!seen.insert(uri).second) continue;
    for (const char* state : {"starting", "synced", "error"})
      sheet.gauge(Family::kSourceState, {uri, state}, source.state == state);
    if (source.age_seconds >= 0) sheet.gauge(Family::kSourceAge, {uri}, source.age_seconds);
    sheet.counter(Family::kSourceErrors, {uri}, source.errors);
  }
}

void add_configuration(Sheet& sheet, const Readings& r) {
  sheet.gauge(Family::kConfigGeneration, {}, r.generation);
  sheet.gauge(Family::kWorkloads, {"true"}, r.workloads.enrolled);
  sheet.gauge(Family::kWorkloads, {"false"}, r.workloads.others);
  sheet.histogram(Family::kApplyDuration, r.apply_seconds);
  sheet.histogram(Family::kPropagationDuration, r.propagation_seconds);
  sheet.counter(Family::kApplyFailures, {}, r.apply.failures);
  sheet.gauge(Family::kServicesRefused, {}, r.services_refused);
  sheet.counter(Family::kMapWrites, {}, r.apply.writes_total);
  for (std::size_t i = 0; i < r.notices.size(); ++i)
    sheet.gauge(Family::kManifestNotices, {model::to_text(static_cast<model::Severity>(i))},
                r.notices[i]);
  sheet.gauge(Family::kPolicyNotEnforced, {},
              r.notices[static_cast<std::size_t>(model::Severity::kNotEnforced)]);
  sheet.gauge(Family::kHoldBackActive, {}, r.held_back);
  sheet.gauge(Family::kReady, {}, r.ready);
  sheet.gauge(Family::kBuildInfo, {r.version}, 1);
}

void add_maps(Sheet& sheet, const Readings& r) {
  sheet.gauge(Family::kServiceEndpoints, {"ready"}, r.endpoint_counts.ready);
  sheet.gauge(Family::kServiceEndpoints, {"draining"}, r.endpoint_counts.draining);
  sheet.gauge(Family::kServiceEndpoints, {"not_ready"}, r.endpoint_counts.not_ready);
  for (const auto& map : r.maps) {
    sheet.gauge(Family::kMapEntries, {map.name}, map.entries);
    sheet.gauge(Family::kMapCapacity, {map.name}, map.capacity);
  }
  for (const auto& event : r.events) sheet.counter(Family::kEvents, {event.event}, event.count);
}

void add_process(Sheet& sheet, const ProcessReading& process) {
  sheet.counter(Family::kProcessCpu, {}, process.cpu_seconds);
  sheet.gauge(Family::kProcessResident, {}, process.resident_bytes);
  sheet.gauge(Family::kProcessVirtual, {}, process.virtual_bytes);
  sheet.gauge(Family::kProcessOpenFds, {}, process.open_fds);
  sheet.gauge(Family::kProcessMaxFds, {}, process.max_fds);
  sheet.gauge(Family::kProcessStart, {}, process.start_time_seconds);
}

}  // namespace

std::string render(const Readings& readings) {
  Sheet sheet;
  for (const auto& service : readings.services) add_service(sheet, service);
  for (const auto& endpoint : readings.endpoints) add_endpoint(sheet, endpoint);
  add_health(sheet, readings);
  add_drained(sheet, readings.drained);
  add_bypass(sheet, readings.bypass);
  add_transitions(sheet, *readings.transitions);
  add_configuration(sheet, readings);
  add_maps(sheet, readings);
  sheet.proxy(*readings.proxy);
  add_sources(sheet, readings.sources);
  sheet.counter(Family::kSeriesDropped, {"service"}, readings.services_dropped);
  sheet.counter(Family::kSeriesDropped, {"endpoint"}, readings.endpoints_dropped);
  add_process(sheet, readings.process);
  return sheet.text();
}

}  // namespace weft::observe
