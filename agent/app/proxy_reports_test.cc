#include "agent/app/proxy_reports.h"

#include <gtest/gtest.h>

namespace weft::app {
namespace {

weft::v1::Report report(double requests, double open, std::uint64_t quick) {
  weft::v1::Report report;
  auto& counter = *report.add_counters();
  counter.set_name("istio_requests_total");
  counter.set_value(requests);
  auto& label = *counter.add_labels();
  label.set_name("response_code");
  label.set_value("200");
  auto& gauge = *report.add_gauges();
  gauge.set_name("open");
  gauge.set_value(open);
  auto& histogram = *report.add_histograms();
  histogram.set_name("took");
  histogram.add_bounds(1);
  histogram.add_buckets(quick);
  histogram.add_buckets(1);
  histogram.set_sum(2.5);
  return report;
}

TEST(ProxyReports, AreTheSumOfAllThatLive) {
  ProxyReports reports;
  reports.take(1, report(10, 3, 5));
  reports.take(2, report(4, 2, 1));
  reports.take(2, report(5, 2, 2));
  const auto total = reports.total();
  ASSERT_EQ(total->counters.size(), 1u);
  EXPECT_EQ(total->counters[0].value, 15);
  EXPECT_EQ(total->counters[0].labels, (observe::ProxyLabels{{"response_code", "200"}}));
  EXPECT_EQ(total->gauges[0].value, 5);
  EXPECT_EQ(total->histograms[0].buckets, (std::vector<std::uint64_t>{7, 2}));
  EXPECT_EQ(total->histograms[0].sum, 5);
}

TEST(ProxyReports, NeverGoBackWhenAProxyGoes) {
  ProxyReports reports;
  reports.take(1, report(10, 3, 5));
  reports.keep({1});
  reports.take(2, report(1, 1, 0));
  reports.keep({2});
  reports.keep({2});
  const auto total = reports.total();
  EXPECT_EQ(total->counters[0].value, 11);
  EXPECT_EQ(total->histograms[0].buckets, (std::vector<std::uint64_t>{5, 2}));
  ASSERT_EQ(total->gauges.size(), 1u);
  EXPECT_EQ(total->gauges[0].value, 1) << "what is open in a dead process is open nowhere";
}

}  // namespace
}  // namespace weft::app
