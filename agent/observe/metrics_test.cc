#include "agent/observe/metrics.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "agent/observe/families.h"

namespace weft::observe {
namespace {

// One series of every family that is the proxy's.
std::shared_ptr<const ProxyReport> everything_of_the_proxy() {
  auto report = std::make_shared<ProxyReport>();
  for (const auto& info : families()) {
    if (info.family < Family::kRequests || info.family >= Family::kProcessCpu) continue;
    ProxyLabels labels;
    for (std::size_t i = 0; i < info.label_count(); ++i) labels.emplace_back(info.labels[i], "x");
    if (info.type == FamilyType::kHistogram)
      report->histograms.push_back({info.name, labels, {1, 10}, {3, 2, 1}, 25.5});
    else if (info.type == FamilyType::kCounter)
      report->counters.push_back({info.name, labels, 7});
    else
      report->gauges.push_back({info.name, labels, 8});
  }
  return report;
}

Readings everything() {
  Readings r;
  r.version = "1.2.3";
  r.generation = 57;
  r.ready = true;
  r.held_back = true;
  r.apply.failures = 2;
  r.apply.writes_total = 1234567;
  r.apply_seconds.observe(0.0015);
  r.propagation_seconds.observe(30);
  r.services_refused = 1;
  r.notices = {4, 3, 2, 1};
  r.services = {{"shop", "web", 80, false, 5, 1, 2, 3, 4},
                {"shop", "dns", 53, true, 7, 0, 1, 0, 0}};
  r.endpoints = {{"shop", "web", 80, false, "10.0.0.1:8080", 2, 5, 1, 1500},
                 {"shop", "web", 80, false, "[fd00::1]:8080", 1, 0, 0, 0}};
  r.endpoint_counts = {3, 1, 2};
  r.services_dropped = 8;
  r.endpoints_dropped = 9;
  r.maps = {{"weft_services", 4, 32768}};
  r.sources = {{"dir:mesh", "synced", 1.5}, {"dir:other", "starting", -1}};
  r.events = {{"send_translated", 6}};
  r.process = {1.5, 1.7e9, 1 << 20, 1 << 21, 12, 1024};
  r.endpoints[0].breaker = 1;
  r.health = {{"shop", "web", 80, "10.0.0.1:8080", true},
              {"shop", "web", 80, "[fd00::1]:8080", false}};
  r.probes = {5, 4, 3};
  r.drained = {2, 1, 6};
  r.transitions = std::make_shared<TransitionCounts>(
      TransitionCounts{{{"shop", "web", 80, "open", "refused"}, 3}});
  r.proxy = everything_of_the_proxy();
  r.bypass = {true, "auto", 3, 1000, {{"order", 7}}};
  return r;
}

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

// The findings of the real `promtool check metrics`, and its exit status at the end.
std::string promtool(const std::string& exposition) {
  char path[] = "/tmp/weft-exposition-XXXXXX";
  const int fd = mkstemp(path);
  if (fd < 0) return "cannot make a temporary file";
  close(fd);
  std::ofstream(path) << exposition;
  FILE* pipe = popen(("promtool check metrics < " + std::string(path) + " 2>&1").c_str(), "r");
  std::string output;
  char buffer[4096];
  while (const std::size_t size = fread(buffer, 1, sizeof buffer, pipe))
    output.append(buffer, size);
  const int status = pclose(pipe);
  unlink(path);
  // Istio's own name, which dashboards ask for, has another unit than promtool likes.
  const std::string istios =
      "istio_request_duration_milliseconds use base unit \"seconds\" instead of \"milliseconds\"\n";
  if (output == istios) return "";
  return status == 0 ? output : output + "exit " + std::to_string(WEXITSTATUS(status));
}

TEST(Metrics, PromtoolHasNothingToSay) {
  ASSERT_EQ(system("command -v promtool >/dev/null"), 0)
      << "promtool is missing: scripts/setup installs it (Debian package prometheus)";
  EXPECT_EQ(promtool(render(everything())), "");
  EXPECT_EQ(promtool(render(Readings{})), "");
}

TEST(Metrics, PromtoolTestCanFail) {
  EXPECT_NE(promtool("weft_odd_total 1\nweft_odd_total 1\n"), "");
}

TEST(Metrics, EveryFamilyOfTheTableIsWritten) {
  const std::string text = render(everything());
  for (const auto& info : families()) {
    EXPECT_TRUE(has_line(text, "# TYPE " + std::string(info.name) + " " + to_text(info.type)))
        << info.name;
    EXPECT_TRUE(has_line(text, "# HELP " + std::string(info.name) + " " + info.help)) << info.name;
  }
}

TEST(Metrics, ConnectionsAreCountedUnderIstiosNames) {
  const std::string text = render(everything());
  const std::string labels =
      "{reporter=\"source\",destination_service=\"web.shop.svc.cluster.local\",destination_service_"
      "name="
      "\"web\",destination_service_namespace=\"shop\",request_protocol=\"tcp\",port=\"80\"}";
  EXPECT_TRUE(has_line(text, "istio_tcp_connections_opened_total" + labels + " 5")) << text;
  EXPECT_TRUE(has_line(text, "istio_tcp_connections_failed_total" + labels + " 1")) << text;
}

TEST(Metrics, WhatTheProxyTellsIsWrittenAsThePromiseSays) {
  const std::string text = render(everything());
  EXPECT_TRUE(has_line(text, "weft_proxy_connections_refused_total{reason=\"x\"} 7")) << text;
  EXPECT_NE(text.find("response_flags=\"x\",le=\"10\"} 5"), std::string::npos) << text;
  EXPECT_NE(text.find("response_flags=\"x\",le=\"+Inf\"} 6"), std::string::npos);
  auto report = std::make_shared<ProxyReport>();
  report->counters = {{"weft_made_up_total", {}, 1}, {"weft_proxy_retries_total", {{"a", "b"}}, 1}};
  Readings odd;
  odd.proxy = report;
  EXPECT_EQ(render(odd).find("made_up"), std::string::npos);
  EXPECT_EQ(render(odd).find("a=\"b\""), std::string::npos);
}

TEST(Metrics, UdpIsNotCountedAsTcp) {
  const std::string text = render(everything());
  EXPECT_EQ(
      text.find("istio_tcp_connections_opened_total{reporter=\"source\",destination_service=\"dns"),
      std::string::npos);
  EXPECT_NE(text.find("weft_udp_flows_opened_total{destination_service=\"dns.shop"),
            std::string::npos);
  EXPECT_NE(text.find("request_protocol=\"udp\",port=\"53\",reason=\"no_endpoint\"} 1"),
            std::string::npos);
}

TEST(Metrics, RefusalsCarryTheirReason) {
  const std::string text = render(everything());
  for (const char* end :
       {"reason=\"no_endpoint\"} 2", "reason=\"family\"} 3", "reason=\"stale\"} 4"})
    EXPECT_NE(text.find(end), std::string::npos) << end;
}

TEST(Metrics, CountersThatNeverMovedHaveNoSeries) {
  Readings r;
  r.services = {{"shop", "web", 80, false, 5, 0, 0, 0, 0}};
  r.endpoints = {{"shop", "web", 80, false, "10.0.0.1:8080", 0, 5, 0, 0}};
  const std::string text = render(r);
  EXPECT_NE(text.find("weft_endpoint_connections_active{"), std::string::npos);
  for (const char* name : {"istio_tcp_connections_failed_total", "weft_connect_refused_total",
                           "weft_endpoint_connections_failed_total", "weft_endpoint_rtt_seconds"})
    EXPECT_EQ(text.find(name), std::string::npos) << name;
}

TEST(Metrics, HealthIsAWordForEachEndpoint) {
  const std::string text = render(everything());
  const std::string labels =
      "{namespace=\"shop\",service=\"web\",port=\"80\",protocol=\"tcp\",endpoint=";
  EXPECT_TRUE(has_line(text, "weft_endpoint_health" + labels + "\"10.0.0.1:8080\"} 1")) << text;
  EXPECT_TRUE(has_line(text, "weft_endpoint_health" + labels + "\"[fd00::1]:8080\"} 0"));
  EXPECT_TRUE(has_line(text, "weft_health_probes_total{outcome=\"ok\"} 5"));
  EXPECT_TRUE(has_line(text, "weft_health_probes_total{outcome=\"failed\"} 4"));
  EXPECT_TRUE(has_line(text, "weft_health_probes_total{outcome=\"not_asked\"} 3"));
  EXPECT_TRUE(has_line(text, "weft_drain_closed_connections_total{reason=\"terminating\"} 2"));
  EXPECT_TRUE(has_line(text, "weft_drain_closed_connections_total{reason=\"gone\"} 1"));
  EXPECT_TRUE(has_line(text, "weft_drain_closed_connections_total{reason=\"proxy\"} 6"));
}

TEST(Metrics, HistogramsAreCumulative) {
  const std::string text = render(everything());
  EXPECT_TRUE(has_line(text, "weft_config_apply_duration_seconds_bucket{le=\"0.001\"} 0")) << text;
  EXPECT_TRUE(has_line(text, "weft_config_apply_duration_seconds_bucket{le=\"0.002\"} 1"));
  EXPECT_TRUE(has_line(text, "weft_config_apply_duration_seconds_count 1"));
  EXPECT_TRUE(has_line(text, "weft_propagation_duration_seconds_bucket{le=\"10\"} 0"));
  EXPECT_TRUE(has_line(text, "weft_propagation_duration_seconds_bucket{le=\"+Inf\"} 1"));
  EXPECT_TRUE(has_line(text, "weft_propagation_duration_seconds_sum 30"));
}

TEST(Metrics, ASourceIsInOneState) {
  const std::string text = render(everything());
  EXPECT_TRUE(has_line(text, "weft_source_state{uri=\"dir:mesh\",state=\"synced\"} 1"));
  EXPECT_TRUE(has_line(text, "weft_source_state{uri=\"dir:mesh\",state=\"starting\"} 0"));
  EXPECT_TRUE(has_line(text, "weft_source_state{uri=\"dir:mesh\",state=\"error\"} 0"));
  EXPECT_TRUE(has_line(text, "weft_source_age_seconds{uri=\"dir:mesh\"} 1.5"));
  EXPECT_EQ(text.find("weft_source_age_seconds{uri=\"dir:other\"}"), std::string::npos);
}

TEST(Metrics, AnOddSourceNameDoesNotSpoilTheScrape) {
  Readings r;
  r.sources = {{"dir:m\xff\"\n\xc3\xa9", "synced", 1},
               {"dir:twice", "synced", 1},
               {"dir:twice", "error", 1}};
  const std::string text = render(r);
  EXPECT_EQ(promtool(text), "");
  EXPECT_NE(text.find("uri=\"dir:m%FF\\\"%0A%C3%A9\""), std::string::npos) << text;
}

}  // namespace
}  // namespace weft::observe
