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
