// What is written is the model and nothing else: one framing, nothing of the other connection.
#include <gtest/gtest.h>

#include "userspace_proxy/http/codec_fixture.h"

namespace weft::http {
namespace {

// The request as it would be sent on.
std::string rewritten(const std::string& bytes) {
  const Limits limits;
  RequestReader reader(limits);
  EXPECT_EQ(reader.next(bytes, false).kind, Event::Kind::kHead) << bytes;
  const auto& head = reader.head();
  std::string out = "kept";
  write_head(WriteRequest{.method = head.method,
                          .path = head.path,
                          .query = head.query,
                          .authority = head.authority,
                          .has_query = head.has_query,
                          .upgrade = head.upgrade},
             head.fields, head.framing, head.content_length, out);
  EXPECT_TRUE(out.starts_with("kept"));
  return out.substr(4);
}

std::string response(const WriteResponse& line, Framing framing, std::uint64_t length = 0) {
  std::string out;
  write_head(line, {}, framing, length, out);
  return out;
}

TEST(Writer, WritesARequestFromItsModel) {
  EXPECT_EQ(rewritten("GET /a?b HTTP/1.1\r\nX-A:1\r\nhost: svc\r\nX-B:\t2 \r\n\r\n"),
            "GET /a?b HTTP/1.1\r\nHost: svc\r\nX-A: 1\r\nX-B: 2\r\n\r\n");
  EXPECT_EQ(rewritten("GET /a? HTTP/1.0\r\nHost: svc\r\n\r\n"),
            "GET /a? HTTP/1.1\r\nHost: svc\r\n\r\n");
}

TEST(Writer, BuildsHostFromAnAbsoluteTarget) {
  EXPECT_EQ(rewritten("GET http://b:8/x HTTP/1.1\r\nHost: a\r\n\r\n"),
            "GET /x HTTP/1.1\r\nHost: b:8\r\n\r\n");
  EXPECT_EQ(rewritten("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n"),
            "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n");
  EXPECT_EQ(rewritten("CONNECT b:8 HTTP/1.1\r\nHost: a\r\n\r\n"),
            "CONNECT b:8 HTTP/1.1\r\nHost: b:8\r\n\r\n");
}

TEST(Writer, WritesOneFraming) {
  EXPECT_EQ(rewritten("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n"),
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n");
  EXPECT_EQ(rewritten("POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n"),
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
}

TEST(Writer, DropsHopByHopFieldsAndWhatConnectionNames) {
  EXPECT_EQ(
      rewritten(
          "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-a\r\nX-A: 1\r\nKeep-Alive: 5\r\n"
          "Proxy-Connection: close\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n"),
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

TEST(Writer, PassesOnThatTrailersAreWelcome) {
  EXPECT_EQ(rewritten("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\nConnection: te\r\n\r\n"),
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\n\r\n");
}

TEST(Writer, WritesAnUpgradeAsItsOwn) {
  EXPECT_EQ(rewritten("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, x\r\nX: 1\r\n"
                      "Upgrade: websocket\r\nTE: trailers\r\n\r\n"),
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE, upgrade\r\nTE: trailers\r\n"
            "Upgrade: websocket\r\n\r\n");
}

TEST(Writer, SaysWhenARequestIsTheLast) {
  std::string out;
  write_head(WriteRequest{.method = "GET", .authority = "a", .keep_alive = false}, {},
             Framing::kNone, 0, out);
  EXPECT_EQ(out, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
}

TEST(Writer, WritesResponses) {
  EXPECT_EQ(response({.status = 200}, Framing::kLength, 5),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
  EXPECT_EQ(response({.status = 299, .reason = "Fine"}, Framing::kChunked),
            "HTTP/1.1 299 Fine\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(response({.status = 404, .keep_alive = false}, Framing::kNone),
            "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
}

TEST(Writer, ABodyUntilTheEndOfTheConnectionSaysSo) {
  EXPECT_EQ(response({.status = 200}, Framing::kUntilClose),
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

TEST(Writer, AnHttp10ClientGetsNoChunksAndIsToldToStay) {
  EXPECT_EQ(response({.status = 200, .minor = 0}, Framing::kChunked),
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(response({.status = 200, .minor = 0}, Framing::kLength, 1),
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n");
}

TEST(Writer, ResponsesWithoutABodyHaveNoFraming) {
  EXPECT_EQ(response({.status = 204}, Framing::kNone), "HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(response({.status = 100, .keep_alive = false}, Framing::kNone),
            "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(response({.status = 304}, Framing::kNone, 5), "HTTP/1.1 304 Not Modified\r\n\r\n");
  EXPECT_EQ(response({.status = 304, .has_content_length = true}, Framing::kNone, 5),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
  EXPECT_EQ(response({.head_only = true, .has_content_length = true}, Framing::kNone, 5),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
  EXPECT_EQ(response({.head_only = true}, Framing::kUntilClose), "HTTP/1.1 200 OK\r\n\r\n");
  EXPECT_EQ(response({.status = 200}, Framing::kTunnel), "HTTP/1.1 200 OK\r\n\r\n");
  EXPECT_EQ(
      response({.status = 101, .upgrade = "websocket"}, Framing::kTunnel),
      "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
}

TEST(Writer, WritesChunks) {
  std::string out;
  write_chunk_head(0x1f0, out);
  write_last_chunk({}, out);
  EXPECT_EQ(out, "1f0\r\n0\r\n\r\n");
  Fields trailers;
  trailers.add("X-Sum", "1", Known::kOther);
  trailers.add("Host", "b", Known::kHost);
  out.clear();
  write_last_chunk(trailers, out);
  EXPECT_EQ(out, "0\r\nX-Sum: 1\r\n\r\n");
}

TEST(Writer, FillsTheLargestHeadThatAReaderLetsThrough) {
  std::string bytes = "GET /" + std::string(16000, 'p') + " HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 99; ++i)
    bytes += "X-" + std::to_string(i) + ": " + std::string(400, 'v') + "\r\n";
  bytes += "\r\n";
  EXPECT_EQ(rewritten(bytes), bytes);
}

}  // namespace
}  // namespace weft::http
