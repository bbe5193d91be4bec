#include "mesh/base/log.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace weft::log {
namespace {

constexpr std::string_view kTime = "2026-01-02T03:04:05.678Z";

std::string text(std::initializer_list<Field> fields) {
  return render(Format::kText, kTime, Level::kInfo, "plan", fields);
}
std::string json(std::initializer_list<Field> fields) {
  return render(Format::kJson, kTime, Level::kInfo, "plan", fields);
}

TEST(Log, TextIsOneLineOfKeysAndValues) {
  EXPECT_EQ(text({{"gen", 57}, {"cause", "dir:mesh"}}),
            "2026-01-02T03:04:05.678Z info plan gen=57 cause=dir:mesh\n");
}

TEST(Log, TextQuotesWhatWouldBeAmbiguous) {
  EXPECT_EQ(
      text({{"a", "two words"}, {"b", ""}, {"c", "x=y"}, {"d", "say \"hi\""}, {"e", "c:\\d"}}),
      "2026-01-02T03:04:05.678Z info plan a=\"two words\" b=\"\" c=\"x=y\" d=\"say \\\"hi\\\"\" "
      "e=\"c:\\\\d\"\n");
}

TEST(Log, NoValueBreaksALineOrATerminal) {
  const std::string value("a\nb\r\x1b[2J\x7f\0z", 11);
  const auto line = text({{"v", value}});
  EXPECT_EQ(line,
            "2026-01-02T03:04:05.678Z info plan v=\"a\\nb\\u000d\\u001b[2J\\u007f\\u0000z\"\n");
}

TEST(Log, JsonIsOneObjectALineWithNumbersAsNumbers) {
  EXPECT_EQ(
      json({{"gen", std::uint64_t{57}}, {"cause", "dir:mesh"}, {"delta", -3}}),
      "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"info\",\"event\":\"plan\",\"gen\":57,"
      "\"cause\":\"dir:mesh\",\"delta\":-3}\n");
}

TEST(Log, JsonEscapesAndNeedsNoOtherQuotes) {
  EXPECT_EQ(json({{"v", "a \"b\" \\ \n\t"}}),
            "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"info\",\"event\":\"plan\","
            "\"v\":\"a \\\"b\\\" \\\\ \\n\\u0009\"}\n");
}

TEST(Log, ATextThatLooksLikeANumberStaysAString) {
  EXPECT_NE(json({{"name", "57"}}).find("\"name\":\"57\""), std::string::npos);
}

TEST(Log, LevelsAreNamed) {
  EXPECT_EQ(render(Format::kText, kTime, Level::kWarning, "x", {}),
            "2026-01-02T03:04:05.678Z warning x\n");
  EXPECT_EQ(render(Format::kText, kTime, Level::kError, "x", {}),
            "2026-01-02T03:04:05.678Z error x\n");
}

}  // namespace
}  // namespace weft::log
