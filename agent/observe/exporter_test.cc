#include "agent/observe/exporter.h"

#include <gtest/gtest.h>

namespace weft::observe {
namespace {

struct ExporterTest : testing::Test {
  Board board;
  kernel::Maps maps;  // none is open: what cannot be read is left out
  Exporter exporter{board, maps, kernel::Pins{"/nonexistent"}};
  Clock::time_point now = Clock::now();
};

TEST_F(ExporterTest, AStormOfScrapesCostsOneRendering) {
  const auto first = exporter.exposition(now);
  EXPECT_EQ(exporter.exposition(now + std::chrono::milliseconds(99)), first);
  EXPECT_NE(exporter.exposition(now + std::chrono::milliseconds(100)), first);
}

TEST_F(ExporterTest, SaysWhatItCanWithoutMaps) {
  const auto text = exporter.exposition(now);
  EXPECT_NE(text->find("\nweft_ready 0\n"), std::string::npos) << *text;
  EXPECT_EQ(text->find("weft_events_total"), std::string::npos);
}

TEST_F(ExporterTest, ReadsTheProcess) {
  const auto process = exporter.collect(now).process;
  EXPECT_GT(process.resident_bytes, 1u << 20);
  EXPECT_GT(process.open_fds, 2u);
  EXPECT_GT(process.max_fds, process.open_fds);
  const auto wall =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_GT(process.start_time_seconds, wall - 3600);
  EXPECT_LE(process.start_time_seconds, wall);
}

TEST(ReadingsOfSnapshot, GiveHealthToEveryPortThatLeadsToTheEndpoint) {
  const auto endpoint = [](const char* address) {
    model::Endpoint made;
    made.address = *model::Address::parse(address);
    made.port = 8080;
    return made;
  };
  model::Service web;
  web.key = {"shop", "web"};
  const auto v4 = endpoint("10.0.0.1"), v6 = endpoint("fd00::1"), fresh = endpoint("10.0.0.2");
  web.ports = {{"a", 80, model::Protocol::kTcp, {v4, v6, fresh}},
               {"b", 81, model::Protocol::kTcp, {v4}},
               {"c", 80, model::Protocol::kUdp, {v4}}};
  auto mesh = std::make_shared<model::Mesh>();
  mesh->services.set(web.key, std::make_shared<const model::Service>(web));
  Snapshot snapshot;
  snapshot.mesh = mesh;
  snapshot.health = std::make_shared<std::vector<EndpointHealth>>(
      std::vector<EndpointHealth>{{{"shop", "gone"}, v4.address, 8080, false, "connection refused"},
                                  {web.key, v4.address, 8080, false, "connection refused"},
                                  {web.key, fresh.address, 8080, {}, ""},
                                  {web.key, endpoint("10.0.0.9").address, 8080, true, "connected"},
                                  {web.key, v6.address, 8080, true, "connected"}});
  snapshot.probes = {7, 2, 1};
  snapshot.drained = {3, 2, 1};
  const auto readings = readings_of(snapshot, Clock::now());
  EXPECT_EQ(readings.health,
            (std::vector<HealthReading>{{"shop", "web", 80, "10.0.0.1:8080", false},
                                        {"shop", "web", 80, "[fd00::1]:8080", true},
                                        {"shop", "web", 81, "10.0.0.1:8080", false}}));
  EXPECT_EQ(readings.probes.ok, 7u);
  EXPECT_EQ(readings.drained, snapshot.drained);
}

TEST(ReadingsOfSnapshot, CarryNoticesBySeverityAndSourceAges) {
  const auto now = Clock::now();
  using model::Severity;
  auto notices = std::make_shared<std::vector<model::Notice>>();
  for (const auto severity :
       {Severity::kInfo, Severity::kNotEnforced, Severity::kNotEnforced, Severity::kRejected})
    notices->push_back({.severity = severity});
  auto mesh = std::make_shared<model::Mesh>();
  mesh->notices = notices;
  Snapshot snapshot;
  snapshot.mesh = mesh;
  snapshot.sources = {{.uri = "dir:a", .state = "synced", .changed = now - std::chrono::seconds(5)},
                      {.uri = "dir:b", .state = "starting"}};
  snapshot.refused = {"one"};
  const auto readings = readings_of(snapshot, now);
  EXPECT_EQ(readings.notices, (std::array<std::uint64_t, 4>{1, 0, 2, 1}));
  EXPECT_EQ(readings.services_refused, 1u);
  ASSERT_EQ(readings.sources.size(), 2u);
  EXPECT_DOUBLE_EQ(readings.sources[0].age_seconds, 5);
  EXPECT_LT(readings.sources[1].age_seconds, 0);
}

}  // namespace
}  // namespace weft::observe
