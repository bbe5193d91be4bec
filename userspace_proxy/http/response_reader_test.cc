// Responses: what ends them, when a connection may serve another request, and what is refused.
#include <gtest/gtest.h>

#include "userspace_proxy/http/codec_fixture.h"

namespace weft::http {
namespace {

Seen read(const std::string& bytes, Asked asked = {}) {
  auto whole = read_responses(bytes, asked);
  if (bytes.size() > 400) return whole;
  for (const auto& cuts : all_cuts(bytes.size()))
    EXPECT_EQ(read_responses(bytes, asked, cuts).log, whole.log)
        << bytes << " cut at " << cuts.front();
  return whole;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Whether the connection is good for another request once the bytes were read, without its end.
bool is_reusable_after(const std::string& bytes, Asked asked = {}) {
  const Limits limits;
  ResponseReader reader(limits);
  reader.expect(asked.head_only, asked.is_connect, asked.asked_upgrade);
  read_in_pieces(reader, bytes, {}, false, [](const Event&) { return true; });
  return reader.is_reusable();
}

const std::string kEmpty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

TEST(ResponseReader, UnderstandsAResponse) {
  const auto seen = read("HTTP/1.1 200 Very OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi");
  EXPECT_EQ(seen.log,
            "head 200 Very OK minor=1 framing=1 length=2 has-length keep-alive\n"
            "Content-Length=2\nX-A=b\ndata hi\nend ");
}

TEST(ResponseReader, UnderstandsStatusLinesWithoutAReason) {
  EXPECT_EQ(read("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n").messages, 1u);
  EXPECT_EQ(read("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n").messages, 1u);
}

TEST(ResponseReader, RefusesMalformedStatusLines) {
  for (const char* line : {"HTTP/2 200 OK", "HTTP/1.2 200 OK", "HTTP/1.1  200 OK", "HTTP/1.1 20 OK",
                           "HTTP/1.1 2000 OK", "HTTP/1.1 099 OK", "http/1.1 200 OK", "200 OK",
                           "HTTP/1.1 2x0 OK", "HTTP/1.1 -20 OK", "", "ICY 200 OK", "HTTP/1.1"})
    EXPECT_EQ(read(std::string(line) + "\r\nContent-Length: 0\r\n\r\n").status, 502) << line;
}

TEST(ResponseReader, SaysSoAtTheFirstLine) {
  const Limits limits;
  ResponseReader reader(limits);
  reader.expect(false, false, false);
  EXPECT_EQ(reader.next("HTTP/3.1 200\r\n", false).status, 502);
}

TEST(ResponseReader, ReadsChunksAndTrailers) {
  const auto seen = read(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n2\r\nde\r\n0\r\ngrpc-status: 0\r\n\r\n");
  EXPECT_EQ(seen.body, "abcde");
  EXPECT_TRUE(has(seen.log, "end grpc-status=0\n"));
}

TEST(ResponseReader, ReadsUntilTheConnectionEnds) {
  for (const char* version : {"HTTP/1.0", "HTTP/1.1"}) {
    const auto seen = read(std::string(version) + " 200 OK\r\n\r\nabc\r\n");
    EXPECT_EQ(seen.body, "abc\r\n");
    EXPECT_EQ(seen.messages, 1u);
    EXPECT_EQ(seen.status, 0);
  }
  EXPECT_FALSE(is_reusable_after("HTTP/1.1 200 OK\r\n\r\n"));
}

TEST(ResponseReader, HeadNoContentAndNotModifiedHaveNoBody) {
  const auto head = read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", {.head_only = true});
  EXPECT_TRUE(has(head.log, "framing=0 length=5 has-length"));
  EXPECT_EQ(head.messages, 1u);
  EXPECT_EQ(
      read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", {.head_only = true}).messages,
      1u);
  EXPECT_EQ(read("HTTP/1.1 204 No Content\r\n\r\n").messages, 1u);
  const auto unmodified = read("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
  EXPECT_TRUE(has(unmodified.log, "framing=0 length=5 has-length"));
  EXPECT_EQ(unmodified.messages, 1u);
  EXPECT_TRUE(is_reusable_after("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"));
}

TEST(ResponseReader, DoesNotUseAConnectionAgainAfterANoContentThatAnnouncesABody) {
  EXPECT_TRUE(is_reusable_after("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_FALSE(is_reusable_after("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"));
  EXPECT_FALSE(is_reusable_after("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n"));
}

TEST(ResponseReader, InterimResponsesBelongToTheSameExchange) {
  const auto seen =
      read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + kEmpty);
  EXPECT_EQ(seen.messages, 3u);
  EXPECT_EQ(seen.status, 0);
  EXPECT_FALSE(is_reusable_after("HTTP/1.1 100 Continue\r\n\r\n"));
  EXPECT_TRUE(is_reusable_after("HTTP/1.1 100 Continue\r\n\r\n" + kEmpty));
}

TEST(ResponseReader, RefusesInterimResponsesWithABody) {
  EXPECT_EQ(read("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n").status, 502);
  EXPECT_EQ(read("HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n").status, 502);
}

TEST(ResponseReader, SwitchesProtocolsOnlyWhereThatWasAsked) {
  const std::string bytes =
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "
      "websocket\r\n\r\n\x81\x01";
  const auto seen = read(bytes, {.asked_upgrade = true});
  EXPECT_TRUE(has(seen.log, "framing=4"));
  EXPECT_TRUE(has(seen.log, "upgrade=websocket"));
  EXPECT_EQ(seen.body, "\x81\x01");
  EXPECT_FALSE(is_reusable_after(bytes, {.asked_upgrade = true}));
  EXPECT_EQ(read(bytes).status, 502);
  EXPECT_EQ(read("HTTP/1.1 101 Switching\r\n\r\n", {.asked_upgrade = true}).status, 502);
}

// Envoy CVE-2026-73548 in the other direction: what came of the upgrade is the final response's to
// say, and the connection goes on as HTTP.
TEST(ResponseReader, ARefusedUpgradeIsAnOrdinaryResponse) {
  EXPECT_TRUE(is_reusable_after(kEmpty, {.asked_upgrade = true}));
  const auto seen = read(
      "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: b\r\n"
      "Content-Length: 0\r\n\r\n");
  EXPECT_TRUE(has(seen.log, "(Upgrade=b)"));
  EXPECT_FALSE(has(seen.log, "upgrade="));
}

TEST(ResponseReader, ConnectTunnelsOnSuccessOnly) {
  const auto seen = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", {.is_connect = true});
  EXPECT_TRUE(has(seen.log, "framing=4 length=0\n")) << "RFC 9112 6.3: framing is ignored";
  EXPECT_EQ(seen.body, "abc");
  const auto refused = read("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", {.is_connect = true});
  EXPECT_TRUE(has(refused.log, "framing=1"));
}

TEST(ResponseReader, RefusesFramingThatLeavesADoubt) {
  for (const char* fields :
       {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n", "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n", "Content-Length: +5\r\n", "Content-Length: \r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"})
    EXPECT_EQ(read("HTTP/1.1 200 OK\r\n" + std::string(fields) + "\r\nhello").status, 502)
        << fields;
  EXPECT_EQ(read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").status, 502);
}

TEST(ResponseReader, RefusesMalformedHeads) {
  for (const char* line :
       {" folded: 1", "X : 1", "X", "X: a\rb", "X: a\nb", "X: \x01", ": 1", "X\x7f: 1"})
    EXPECT_EQ(read("HTTP/1.1 200 OK\r\nA: b\r\n" + std::string(line) + "\r\n\r\n").status, 502)
        << line;
  EXPECT_EQ(read("HTTP/1.1 200 a\x01\r\nContent-Length: 0\r\n\r\n").status, 502);
  EXPECT_EQ(read("\r\n" + kEmpty).status, 502) << "empty lines are tolerated of clients only";
}

TEST(ResponseReader, BoundsHeads) {
  std::string many;
  for (int i = 0; i < 101; ++i) many += "X: 1\r\n";
  EXPECT_EQ(read("HTTP/1.1 200 OK\r\n" + many + "\r\n").status, 502);
  EXPECT_EQ(read("HTTP/1.1 200 OK\r\nX: " + std::string(61440, 'x') + "\r\n\r\n").status, 502);
}

TEST(ResponseReader, ATruncatedResponseIsAnError) {
  for (const char* bytes : {"", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
                            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                            "HTTP/1.1 100 Continue\r\n\r\n"})
    EXPECT_EQ(read(bytes).status, 502) << bytes;
}

TEST(ResponseReader, BytesThatNobodyAskedForPoisonTheConnection) {
  EXPECT_TRUE(is_reusable_after(kEmpty));
  EXPECT_FALSE(is_reusable_after(kEmpty + kEmpty));
  EXPECT_FALSE(is_reusable_after(kEmpty + "x"));
  EXPECT_EQ(read(kEmpty + kEmpty).status, 502);
  EXPECT_EQ(read(kEmpty + kEmpty).messages, 1u);
}

TEST(ResponseReader, LeftoversAreSeenAtTheEndOfTheResponse) {
  const Limits limits;
  ResponseReader reader(limits);
  reader.expect(false, false, false);
  EXPECT_EQ(reader.next(kEmpty + "x", false).used, kEmpty.size());
  EXPECT_EQ(reader.next("x", false).kind, Event::Kind::kEnd);
  EXPECT_FALSE(reader.is_reusable());
  reader.expect(false, false, false);
  EXPECT_EQ(reader.next("x", false).status, 502);
}

TEST(ResponseReader, ServesOneExchangeAfterTheOther) {
  const Limits limits;
  ResponseReader reader(limits);
  EXPECT_TRUE(reader.is_reusable()) << "a new connection";
  for (int i = 0; i < 3; ++i) {
    reader.expect(false, false, false);
    EXPECT_FALSE(reader.is_reusable());
    EXPECT_EQ(reader.next(kEmpty, false).kind, Event::Kind::kHead);
    EXPECT_EQ(reader.next("", false).kind, Event::Kind::kEnd);
    EXPECT_TRUE(reader.is_reusable());
  }
  EXPECT_EQ(reader.next("", true).kind, Event::Kind::kNeedMore);
  EXPECT_FALSE(reader.is_reusable()) << "its peer has closed it";
}

TEST(ResponseReader, KeepsConnectionsAsTheirVersionSays) {
  const std::string length = "Content-Length: 0\r\n";
  EXPECT_FALSE(is_reusable_after("HTTP/1.1 200 OK\r\nConnection: close\r\n" + length + "\r\n"));
  EXPECT_FALSE(is_reusable_after("HTTP/1.0 200 OK\r\n" + length + "\r\n"));
  EXPECT_TRUE(is_reusable_after("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + length + "\r\n"));
}

TEST(ResponseReader, DropsWhatBelongsToOneConnection) {
  const auto seen = read(
      "HTTP/1.1 200 OK\r\nConnection: x-a\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\n"
      "Proxy-Authenticate: b\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(has(seen.log, "(X-A=1)"));
  EXPECT_TRUE(has(seen.log, "(Keep-Alive="));
  EXPECT_TRUE(has(seen.log, "\nProxy-Authenticate=b\n"));
}

}  // namespace
}  // namespace weft::http
