#include "agent/app/proxy_reports.h"

#include <utility>

namespace weft::app {
namespace {

using observe::ProxyHistogram;
using observe::ProxyReport;
using observe::ProxySeries;

template <class Message>
observe::ProxyLabels labels_of(const Message& message) {
  observe::ProxyLabels labels;
  for (const auto& label : message.labels()) labels.emplace_back(label.name(), label.value());
  return labels;
}

ProxyReport to_report(const weft::v1::Report& told) {
  ProxyReport report;
  for (const auto& one : told.counters())
    report.counters.push_back({one.name(), labels_of(one), one.value()});
  for (const auto& one : told.gauges())
    report.gauges.push_back({one.name(), labels_of(one), one.value()});
  for (const auto& one : told.histograms()) {
    ProxyHistogram histogram{one.name(), labels_of(one), {}, {}, one.sum()};
    histogram.bounds.assign(one.bounds().begin(), one.bounds().end());
    histogram.buckets.assign(one.buckets().begin(), one.buckets().end());
    report.histograms.push_back(std::move(histogram));
  }
  return report;
}

using Key = std::pair<std::string, observe::ProxyLabels>;

void add(const std::vector<ProxySeries>& from, std::map<Key, ProxySeries>& to) {
  for (const auto& one : from) {
    auto [at, fresh] = to.try_emplace({one.name, one.labels}, one);
    if (!fresh) at->second.value += one.value;
  }
}

// Of two builds with other bounds the newer one's stand.
void add(const std::vector<ProxyHistogram>& from, std::map<Key, ProxyHistogram>& to) {
  for (const auto& one : from) {
    auto [at, fresh] = to.try_emplace({one.name, one.labels}, one);
    auto& sum = at->second;
    if (fresh) continue;
    if (sum.bounds != one.bounds || sum.buckets.size() != one.buckets.size()) {
      sum = one;
      continue;
    }
    for (std::size_t i = 0; i < sum.buckets.size(); ++i) sum.buckets[i] += one.buckets[i];
    sum.sum += one.sum;
  }
}

template <class T>
std::vector<T> values_of(std::map<Key, T>& sums) {
  std::vector<T> values;
  for (auto& [key, value] : sums) values.push_back(std::move(value));
  return values;
}

ProxyReport sum_of(const std::vector<const ProxyReport*>& reports) {
  std::map<Key, ProxySeries> counters, gauges;
  std::map<Key, ProxyHistogram> histograms;
  for (const auto* report : reports) {
    add(report->counters, counters);
    add(report->gauges, gauges);
    add(report->histograms, histograms);
  }
  return {values_of(counters), values_of(gauges), values_of(histograms)};
}

}  // namespace

void ProxyReports::take(std::uint32_t generation, const weft::v1::Report& report) {
  living_[generation] = to_report(report);
}

void ProxyReports::keep(const std::set<std::uint32_t>& living) {
  for (auto at = living_.begin(); at != living_.end();) {
    if (living.contains(at->first)) {
      ++at;
      continue;
    }
    at->second.gauges.clear();
    gone_ = sum_of({&gone_, &at->second});
    at = living_.erase(at);
  }
}

std::shared_ptr<ProxyReport> ProxyReports::total() const {
  std::vector<const ProxyReport*> all = {&gone_};
  for (const auto& [generation, report] : living_) all.push_back(&report);
  return std::make_shared<ProxyReport>(sum_of(all));
}

}  // namespace weft::app
