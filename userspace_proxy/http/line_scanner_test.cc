#include "userspace_proxy/http/line_scanner.h"

#include <gtest/gtest.h>

#include <string>

namespace weft::http {
namespace {

using Verdict = LineScanner::Verdict;
constexpr LineScanner::Bounds kWide{100000, 100000, kMaxFields + 1};

Verdict scan(const std::string& bytes, const LineScanner::Bounds& bounds = kWide) {
  LineScanner scanner;
  return scanner.scan(bytes, bounds);
}

TEST(LineScanner, FindsLinesWhereverTheyLieInABlock) {
  for (std::size_t first = 1; first < 40; ++first)
    for (std::size_t second = 1; second < 40; ++second) {
      const std::string bytes =
          std::string(first, 'a') + "\r\n" + std::string(second, 'b') + "\r\n\r\nrest";
      LineScanner scanner;
      ASSERT_EQ(scanner.scan(bytes, kWide), Verdict::kEnd);
      ASSERT_EQ(scanner.count(), 2u);
      ASSERT_EQ(scanner.line(bytes, 0), std::string(first, 'a'));
      ASSERT_EQ(scanner.line(bytes, 1), std::string(second, 'b'));
      ASSERT_EQ(scanner.size(), bytes.size() - 4);
    }
}

TEST(LineScanner, SeesEveryControlByteWhereverItLies) {
  for (int c = 0; c < 256; ++c)
    for (std::size_t at = 0; at < 36; ++at) {
      const bool control = (c < 0x20 && c != '\t') || c == 0x7f;
      const auto bytes = std::string(at, 'a') + static_cast<char>(c) + std::string(35 - at, 'b');
      const bool waits = c == '\r' && at == 35;  // for its LF
      ASSERT_EQ(scan(bytes), control && !waits ? Verdict::kBadByte : Verdict::kMore) << c;
    }
}

// Else a head that comes byte by byte would cost the square of its size.
TEST(LineScanner, DoesNotLookAgainAtWhatItHasScanned) {
  LineScanner scanner;
  std::string bytes = "one\r\ntwo and more";
  ASSERT_EQ(scanner.scan(bytes, kWide), Verdict::kMore);
  const auto before = bytes.size();
  bytes += "\r\n\r\n";
  bytes.replace(0, before, before, '\x01');
  ASSERT_EQ(scanner.scan(bytes, kWide), Verdict::kEnd);
}

TEST(LineScanner, BoundsAreExact) {
  const std::string bytes = "abc\r\nde\r\n\r\n";
  EXPECT_EQ(scan(bytes, {bytes.size(), 3, 2}), Verdict::kEnd);
  EXPECT_EQ(scan(bytes, {bytes.size() - 1, 3, 2}), Verdict::kTooLong);
  EXPECT_EQ(scan(bytes, {bytes.size(), 2, 2}), Verdict::kLineTooLong);
  EXPECT_EQ(scan(bytes, {bytes.size(), 3, 1}), Verdict::kTooMany);
}

}  // namespace
}  // namespace weft::http
