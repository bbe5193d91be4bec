#include "userspace_proxy/net/report.h"

#include <map>

namespace weft::net {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

std::string or_unknown(const std::string& text) { return text.empty() ? "unknown" : text; }

Labels labels_of(const SeriesKey& key) {
  const auto& to = *key.cluster;
  return {{"reporter", "source"},
          {"source_workload", or_unknown(key.caller->workload)},
          {"source_workload_namespace", or_unknown(key.caller->workload_namespace)},
          {"source_app", or_unknown(key.caller->app)},
          {"source_version", or_unknown(key.caller->version)},
          {"source_principal", "unknown"},
          {"destination_workload", "unknown"},
          {"destination_workload_namespace", "unknown"},
          {"destination_app", "unknown"},
          {"destination_version", or_unknown(to.subset)},
          {"destination_principal", "unknown"},
          {"destination_service", to.service + "." + to.namespace_name + ".svc.cluster.local"},
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

void put_requests(weft::v1::Report& report, const std::map<Labels, RequestSeries>& by_labels) {
  for (const auto& [labels, series] : by_labels) {
    counter(report, "istio_requests_total", labels, static_cast<double>(series.count));
    counter(report, "istio_request_bytes_sum", labels, static_cast<double>(series.request_bytes));
    counter(report, "istio_response_bytes_sum", labels, static_cast<double>(series.response_bytes));
    auto& histogram = *report.add_histograms();
    histogram.set_name("istio_request_duration_milliseconds");
    put_labels(histogram, labels);
    for (const auto bucket : series.buckets) histogram.add_buckets(bucket);
    histogram.set_sum(series.duration_ms);
    histogram.set_count(series.count);
  }
}

}  // namespace

weft::v1::Report report_of(const std::vector<Metrics>& workers, std::uint64_t number) {
  weft::v1::Report report;
  report.set_number(number);
  std::map<Labels, RequestSeries> requests;
  std::map<Labels, TcpSeries> connections;
  Metrics sum;
  for (const auto& each : workers) {
    for (const auto& [key, series] : each.requests) {
      auto labels = labels_of(key);
      labels.emplace_back("request_protocol", "http");
      labels.emplace_back("response_code", std::to_string(key.status));
      labels.emplace_back("response_flags", to_text(key.flags));
      auto& into = requests[std::move(labels)];
      into.count += series.count;
      for (std::size_t i = 0; i < into.buckets.size(); ++i) into.buckets[i] += series.buckets[i];
      into.duration_ms += series.duration_ms;
      into.request_bytes += series.request_bytes;
      into.response_bytes += series.response_bytes;
    }
    for (const auto& [key, series] : each.connections) {
      auto labels = labels_of(key);
      labels.emplace_back("request_protocol", "tcp");
      labels.emplace_back("response_flags", "-");
      auto& into = connections[std::move(labels)];
      into.opened += series.opened;
      into.closed += series.closed;
      into.sent += series.sent;
      into.received += series.received;
    }
    sum.add(each);
  }
  put_requests(report, requests);
  for (const auto& [labels, series] : connections) {
    counter(report, "istio_tcp_connections_opened_total", labels,
            static_cast<double>(series.opened));
    counter(report, "istio_tcp_connections_closed_total", labels,
            static_cast<double>(series.closed));
    counter(report, "istio_tcp_sent_bytes_total", labels, static_cast<double>(series.sent));
    counter(report, "istio_tcp_received_bytes_total", labels, static_cast<double>(series.received));
  }
  counter(report, "weft_proxy_connections_accepted_total", {}, static_cast<double>(sum.accepted));
  counter(report, "weft_proxy_connections_without_origin_total", {},
          static_cast<double>(sum.without_origin));
  counter(report, "weft_proxy_connections_refused_total", {{"reason", "full"}},
          static_cast<double>(sum.refused_full));
  counter(report, "weft_proxy_connections_refused_total", {{"reason", "no_descriptor"}},
          static_cast<double>(sum.accept_failed));
  counter(report, "weft_proxy_requests_refused_total", {}, static_cast<double>(sum.refused_heads));
  counter(report, "weft_proxy_retries_total", {}, static_cast<double>(sum.retries));
  counter(report, "weft_proxy_retry_overflow_total", {}, static_cast<double>(sum.retry_overflow));
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
