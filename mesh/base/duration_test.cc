#include "mesh/base/duration.h"

#include <gtest/gtest.h>

namespace weft::base {
namespace {

using std::chrono::milliseconds;

TEST(Duration, HasTheUnitsOfKubernetes) {
  EXPECT_EQ(parse_duration("500ms"), milliseconds(500));
  EXPECT_EQ(parse_duration("30s"), milliseconds(30'000));
  EXPECT_EQ(parse_duration("2m"), milliseconds(120'000));
  EXPECT_EQ(parse_duration("1h"), milliseconds(3'600'000));
  EXPECT_EQ(parse_duration("0s"), milliseconds(0));
}

TEST(Duration, ABareNumberIsSeconds) { EXPECT_EQ(parse_duration("5"), milliseconds(5'000)); }

TEST(Duration, TheLargestDoesNotOverflow) {
  EXPECT_EQ(parse_duration("4294967295h"), milliseconds(4'294'967'295 * 3'600'000));
}

TEST(Duration, AnythingElseIsNone) {
  for (const char* text :
       {"", "s", "ms", "-1s", "1.5s", "1d", "1 s", " 1s", "1s ", "4294967296", "1s1", "0x1s"})
    EXPECT_FALSE(parse_duration(text)) << text;
}

}  // namespace
}  // namespace weft::base
