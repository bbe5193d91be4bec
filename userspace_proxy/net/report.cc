#include "userspace_proxy/net/report.h"

#include <map>

namespace weft::net {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

std::string or_unknown(const std::string& text) { return text.empty() ? "unknown" : text; }

// A ServiceEntry is called by its host, which a Service's name, without dots, never is.
std::string host_of(const model::HttpCluster& to) {
  const bool is_host = to.service.find('.') != std::string::npos;
  return is_host ? to.service : to.service + "." + to.namespace_name + ".svc.cluster.local";
}

Labels labels_of(const SeriesKey& key) {
  const auto& to = *key.cluster;
  static const model::Workload kNobody;
  const auto& workload = key.to ? *key.to : kNobody;
  return {{"reporter", "source"},
          {"source_workload", or_unknown(key.caller->workload)},
          {"source_workload_namespace", or_unknown(key.caller->workload_namespace)},
          {"source_app", or_unknown(key.caller->app)},
          {"source_version", or_unknown(key.caller->version)},
          {"source_canonical_service", or_unknown(key.caller->canonical_service)},
          {"source_canonical_revision", or_unknown(key.caller->canonical_revision)},
          {"source_principal", "unknown"},
          {"destination_workload", or_unknown(workload.name)},
          {"destination_workload_namespace", or_unknown(workload.namespace_name)},
          {"destination_app", or_unknown(workload.app)},
          {"destination_version", or_unknown(key.to ? workload.version : to.subset)},
          {"destination_canonical_service", or_unknown(workload.canonical_service)},
          {"destination_canonical_revision", or_unknown(workload.canonical_revision)},
          {"destination_principal", "unknown"},
          {"destination_service", host_of(to)},
          {"destination_service_name", to.service},
          {"destination_service_namespace", to.namespace_name},
          {"connection_security_policy", "unknown"}};
}

template <class Message>
void put_labels(Message& message, const Labels& labels) {
  for (const auto& [name, value] : labels) {
    auto& label = *message.add_labels();
    label.set_name(name);
    label.set_value(value);
  }
}

void counter(weft::v1::Report& report, const char* name, const Labels& labels, double value) {
  auto& series = *report.add_counters();
  series.set_name(name);
  put_labels(series, labels);
  series.set_value(value);
}

void gauge(weft::v1::Report& report, const char* name, double value) {
  auto& series = *report.add_gauges();
  series.set_name(name);
  series.set_value(value);
}

template <std::size_t N>
void histogram(weft::v1::Report& report, const char* name, const Labels& labels,
               const Distribution<N>& values, const std::array<double, N>& bounds,
               std::uint64_t count) {
  auto& into = *report.add_histograms();
  into.set_name(name);
  put_labels(into, labels);
  for (const auto bound : bounds) into.add_bounds(bound);
  for (const auto bucket : values.buckets) into.add_buckets(bucket);
  into.set_sum(values.sum);
  into.set_count(count);
}

void put_requests(weft::v1::Report& report, const std::map<Labels, RequestSeries>& by_labels) {
  for (const auto& [labels, series] : by_labels) {
    counter(report, "istio_requests_total", labels, static_cast<double>(series.count));
    histogram(report, "istio_request_duration_milliseconds", labels, series.duration_ms,
              kDurationBounds, series.count);
    histogram(report, "istio_request_bytes", labels, series.request_bytes, kSizeBounds,
              series.count);
    histogram(report, "istio_response_bytes", labels, series.response_bytes, kSizeBounds,
              series.count);
  }
}

void put_tunnels(weft::v1::Report& report, const std::map<Labels, TunnelSeries>& by_labels) {
  for (const auto& [labels, series] : by_labels) {
    const auto put = [&, &each = labels](const char* name, std::uint64_t value) {
      counter(report, name, each, static_cast<double>(value));
    };
    put("weft_proxy_tunnels_opened_total", series.opened);
    put("weft_proxy_tunnels_closed_total", series.closed);
    put("weft_proxy_tunnel_sent_bytes_total", series.sent);
    put("weft_proxy_tunnel_received_bytes_total", series.received);
  }
}

}  // namespace

weft::v1::Report report_of(const std::vector<Metrics>& workers, std::uint64_t number) {
  weft::v1::Report report;
  report.set_number(number);
  std::map<Labels, RequestSeries> requests;
  std::map<Labels, TunnelSeries> tunnels;
  Metrics sum;
  for (const auto& each : workers) {
    for (const auto& [key, series] : each.requests) {
      auto labels = labels_of(key);
      labels.emplace_back("request_protocol", "http");
      labels.emplace_back("response_code", std::to_string(key.status));
      labels.emplace_back("response_flags", to_text(key.flags));
      auto& into = requests[std::move(labels)];
      into.count += series.count;
      into.duration_ms.add(series.duration_ms);
      into.request_bytes.add(series.request_bytes);
      into.response_bytes.add(series.response_bytes);
    }
    for (const auto& [key, series] : each.tunnels) {
      auto& into = tunnels[labels_of(key)];
      into.opened += series.opened;
      into.closed += series.closed;
      into.sent += series.sent;
      into.received += series.received;
    }
    sum.add(each);
  }
  put_requests(report, requests);
  put_tunnels(report, tunnels);
  counter(report, "weft_proxy_connections_accepted_total", {}, static_cast<double>(sum.accepted));
  counter(report, "weft_proxy_connections_without_origin_total", {},
          static_cast<double>(sum.without_origin));
  counter(report, "weft_proxy_connections_refused_total", {{"reason", "full"}},
          static_cast<double>(sum.refused_full));
  counter(report, "weft_proxy_connections_refused_total", {{"reason", "no_descriptor"}},
          static_cast<double>(sum.accept_failed));
  counter(report, "weft_proxy_connections_shed_total", {}, static_cast<double>(sum.shed));
  counter(report, "weft_proxy_requests_refused_total", {}, static_cast<double>(sum.refused_heads));
  counter(report, "weft_proxy_retries_total", {}, static_cast<double>(sum.retries));
  counter(report, "weft_proxy_retry_overflow_total", {}, static_cast<double>(sum.retry_overflow));
  counter(report, "weft_proxy_mirrors_dropped_total", {}, static_cast<double>(sum.mirrors_dropped));
  counter(report, "weft_proxy_upstream_connections_opened_total", {},
          static_cast<double>(sum.upstream_opened));
  counter(report, "weft_proxy_upstream_connections_reused_total", {},
          static_cast<double>(sum.upstream_reused));
  counter(report, "weft_proxy_upstream_connections_failed_total", {},
          static_cast<double>(sum.upstream_failed));
  gauge(report, "weft_proxy_connections_active", static_cast<double>(sum.clients));
  gauge(report, "weft_proxy_requests_active", static_cast<double>(sum.in_flight));
  gauge(report, "weft_proxy_upstream_connections_active", static_cast<double>(sum.upstreams));
  return report;
}

}  // namespace weft::net
