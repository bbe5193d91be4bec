// Chunks and trailers of requests; responses have the same reader behind them.
#include <gtest/gtest.h>

#include "userspace_proxy/http/request_fixture.h"

namespace weft::http {
namespace {

std::uint16_t status_of_chunks(const std::string& chunks) {
  return status_of("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks);
}

TEST(BodyReader, RefusesABodyThatEndsTooSoon) {
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab"), 400);
  EXPECT_EQ(status_of_chunks("3\r\nab"), 400);
  EXPECT_EQ(status_of_chunks("3\r\nabc\r\n"), 400);
  EXPECT_EQ(status_of_chunks("0\r\n"), 400);
}

TEST(BodyReader, RefusesChunkSizesThatAreNotHex) {
  for (const char* size : {"", " 5", "+5", "-5", "0x5", "5 ", "5\t", "g", "5h", "5_", "\x85"})
    EXPECT_EQ(status_of_chunks(std::string(size) + "\r\nhello\r\n0\r\n\r\n"), 400) << size;
}

TEST(BodyReader, RefusesChunkSizesOfMoreThanSixteenDigits) {
  EXPECT_EQ(status_of_chunks("00000000000000005\r\nhello\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of_chunks("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of_chunks("0000000000000005\r\nhello\r\n0\r\n\r\n"), 0);
  EXPECT_EQ(status_of_chunks("ffffffffffffffff\r\nhello"), 400) << "of which most never came";
}

TEST(BodyReader, RefusesBareLfAndCrInChunkLines) {
  EXPECT_EQ(status_of_chunks("5\nhello\r\n0\r\n\r\n"), 400);   // Go CVE-2025-22871
  EXPECT_EQ(status_of_chunks("5;\nhello\r\n0\r\n\r\n"), 400);  // Kestrel CVE-2025-55315
  EXPECT_EQ(status_of_chunks("5;a\rb\r\nhello\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of_chunks("5\rhello\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of_chunks("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of_chunks("5;" + std::string(1, '\0') + "\r\nhello\r\n0\r\n\r\n"), 400);
}

TEST(BodyReader, PassesOverChunkExtensions) {
  EXPECT_EQ(status_of_chunks("5;a\r\nhello\r\n0 ; b=c\r\n\r\n"), 0);
  EXPECT_EQ(status_of_chunks("5;a=\"\\\"b;\"\r\nhello\r\n0\r\n\r\n"), 0);
}

TEST(BodyReader, BoundsChunkExtensionsEachAndTogether) {
  EXPECT_EQ(status_of_chunks("5;" + std::string(4092, 'x') + "\r\nhello\r\n0\r\n\r\n"), 0);
  EXPECT_EQ(status_of_chunks("5;" + std::string(4093, 'x') + "\r\nhello\r\n0\r\n\r\n"), 400);
  const auto chunk = "1;" + std::string(4000, 'x') + "\r\na\r\n";
  EXPECT_EQ(status_of_chunks(chunk + chunk + chunk + chunk + "0\r\n\r\n"), 0);
  EXPECT_EQ(status_of_chunks(chunk + chunk + chunk + chunk + chunk + "0\r\n\r\n"), 400);
  EXPECT_EQ(read_request("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;" +
                             std::string(4096, 'x'),
                         {}, false)
                .status,
            400);
}

TEST(BodyReader, RefusesWhatIsNotCrLfBehindAChunk) {
  EXPECT_EQ(status_of_chunks("5\r\nhellox\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of_chunks("5\r\nhello\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of_chunks("5\r\nhello\r0\r\n\r\n"), 400);
  EXPECT_EQ(status_of_chunks("5\r\nhello0\r\n\r\n"), 400);
}

TEST(BodyReader, RefusesFramingInTrailers) {
  EXPECT_EQ(status_of_chunks("0\r\nContent-Length: 5\r\n\r\n"), 400);
  EXPECT_EQ(status_of_chunks("0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

TEST(BodyReader, DropsTrailersThatHeadsAreJudgedBy) {
  for (const char* name : {"Host", "Authorization", "cookie", "Content-Type", "X-Forwarded-For",
                           "Connection", "Expect", "Set-Cookie", "Trailer", "Upgrade"}) {
    const auto seen =
        read_request("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" +
                     std::string(name) + ": b\r\nX-Sum: 1\r\n\r\n");
    EXPECT_TRUE(has(seen.log, "end (" + std::string(name) + "=b)\nX-Sum=1\n")) << seen.log;
  }
}

TEST(BodyReader, RefusesMalformedTrailers) {
  for (const char* line : {"X : 1", " X: 1", "X", ": 1", "X: \x01", "X: 1\n"})
    EXPECT_EQ(status_of_chunks("0\r\n" + std::string(line) + "\r\n\r\n"), 400) << line;
}

TEST(BodyReader, BoundsTrailers) {
  EXPECT_EQ(status_of_chunks("0\r\nX: " + std::string(8192, 'x') + "\r\n\r\n"), 431);
  std::string many;
  for (int i = 0; i < 101; ++i) many += "X: 1\r\n";
  EXPECT_EQ(status_of_chunks("0\r\n" + many + "\r\n"), 431);
}

}  // namespace
}  // namespace weft::http
