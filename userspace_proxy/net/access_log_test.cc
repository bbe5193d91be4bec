#include "userspace_proxy/net/access_log.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "userspace_proxy/net/report.h"

namespace weft::net {
namespace {

struct File {
  base::Fd fd{memfd_create("log", 0)};
  std::string text() const {
    std::string bytes(4096, 0);
    bytes.resize(static_cast<std::size_t>(
        std::max<ssize_t>(0, pread(fd.get(), bytes.data(), bytes.size(), 0))));
    return bytes;
  }
};

LogEntry entry() {
  LogEntry entry;
  entry.method = "GET";
  entry.path = "/a?b";
  entry.authority = "web";
  entry.user_agent = "evil\"\r\n[fake] line";
  entry.upstream = "10.0.0.1:80";
  return entry;
}

TEST(AccessLog, NobodyEndsALineOrAQuoteWithWhatHeSent) {
  File file;
  AccessLog log(file.fd.get(), AccessLog::Format::kText, 1);
  log.write(entry(), {200, 0, 1, 2, 3.5, 1});
  log.flush();
  const auto text = file.text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_NE(text.find(R"("evil\x22\x0d\x0a[fake] line")"), std::string::npos) << text;
  EXPECT_NE(text.find("\"GET /a?b HTTP/1.1\" 200 - 1 2 3.500"), std::string::npos) << text;
}

TEST(AccessLog, JsonLinesAreJson) {
  File file;
  AccessLog log(file.fd.get(), AccessLog::Format::kJson, 1);
  log.write(entry(),
            {503, flag(FlagBit::kUpstreamFailure) | flag(FlagBit::kRetriesExceeded), 0, 0, 1, 3});
  log.flush();
  const auto line = nlohmann::json::parse(file.text());
  EXPECT_EQ(line["flags"], "UF,URX");
  EXPECT_EQ(line["attempts"], 3);
}

TEST(AccessLog, OneInSoManyIsWritten) {
  AccessLog none(-1, AccessLog::Format::kText, 0), third(-1, AccessLog::Format::kText, 3);
  int wanted = 0;
  for (int i = 0; i < 30; ++i) {
    EXPECT_FALSE(none.wants_next());
    wanted += third.wants_next();
  }
  EXPECT_EQ(wanted, 10);
}

TEST(Report, WorkersAddUpUnderTheirLabels) {
  Caller caller;
  caller.workload = "client";
  caller.workload_namespace = "shop";
  model::HttpCluster cluster{"shop", "web", "", 80, ""};
  const model::Workload to{"shop", "web-v1", "web", "v1", "web", "latest"};
  std::vector<Metrics> workers(2);
  for (auto& worker : workers) {
    // Of two pods of one Deployment, as after two configurations.
    worker.observe({&caller, &cluster, 200, 0}, std::make_shared<const model::Workload>(to), 7.0,
                   10, 20, 1);
    worker.accepted = 3;
  }
  const auto report = report_of(workers, 9);
  EXPECT_EQ(report.number(), 9u);
  bool found = false;
  for (const auto& series : report.counters()) {
    if (series.name() == "weft_proxy_connections_accepted_total") {
      EXPECT_EQ(series.value(), 6);
    }
    if (series.name() != "istio_requests_total") continue;
    found = true;
    EXPECT_EQ(series.value(), 2);
    std::map<std::string, std::string> labels;
    for (const auto& label : series.labels()) labels[label.name()] = label.value();
    EXPECT_EQ(labels["source_workload"], "client");
    EXPECT_EQ(labels["destination_service"], "web.shop.svc.cluster.local");
    EXPECT_EQ(labels["destination_workload"], "web-v1");
    EXPECT_EQ(labels["destination_workload_namespace"], "shop");
    EXPECT_EQ(labels["destination_app"], "web");
    EXPECT_EQ(labels["destination_version"], "v1");
    EXPECT_EQ(labels["destination_canonical_service"], "web");
    EXPECT_EQ(labels["destination_canonical_revision"], "latest");
    EXPECT_EQ(labels["response_code"], "200");
    EXPECT_EQ(labels["response_flags"], "-");
  }
  EXPECT_TRUE(found);
  ASSERT_EQ(report.histograms_size(), 3);
  EXPECT_EQ(report.histograms(0).count(), 2u);
  EXPECT_EQ(report.histograms(0).buckets(3), 2u) << "7 ms is in the bucket up to 10";
}

TEST(Metrics, AWorkloadIsHeldForAsLongAsItsSeries) {
  Metrics metrics;
  const Caller caller;
  const model::HttpCluster cluster;
  auto to = std::make_shared<const model::Workload>();
  const std::weak_ptr<const model::Workload> gone = to;
  metrics.observe({&caller, &cluster, 200, 0}, to, 1, 0, 0, 1000);
  metrics.observe({&caller, &cluster, 200, 0}, to, 1, 0, 0, 1000);
  to.reset();
  metrics.expire(1000);
  ASSERT_EQ(metrics.requests.size(), 1u);
  EXPECT_EQ(metrics.requests.begin()->second.count, 2u);
  EXPECT_FALSE(gone.expired());
  metrics.expire(2000 + Metrics::kKeepMs);
  EXPECT_TRUE(gone.expired());
}

TEST(Metrics, SeriesThatNothingIsAddedToGoAndWithThemWhatTheyNamed) {
  Metrics metrics;
  auto caller = std::make_shared<const Caller>();
  auto old = std::make_shared<const model::HttpCluster>();
  auto fresh = std::make_shared<const model::HttpCluster>();
  for (const auto& what : {old, fresh}) metrics.hold(what);
  metrics.hold(caller);
  const std::weak_ptr<const model::HttpCluster> gone = old;
  metrics.observe({caller.get(), old.get(), 200, 0}, 1, 0, 0, 1000);
  metrics.observe({caller.get(), fresh.get(), 200, 0}, 1, 0, 0, 2000);
  old.reset();
  metrics.expire(1500 + Metrics::kKeepMs);
  EXPECT_EQ(metrics.requests.size(), 1u);
  EXPECT_TRUE(gone.expired());
  EXPECT_EQ(metrics.holds.size(), 2u);
}

}  // namespace
}  // namespace weft::net
