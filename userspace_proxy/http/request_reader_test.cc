// What each rule of RFC 9112 that a request can break comes to, and how valid ones are understood.
#include <gtest/gtest.h>

#include "userspace_proxy/http/request_fixture.h"

namespace weft::http {
namespace {

std::uint16_t status_of_fields(const std::string& fields) {
  return status_of("POST /a HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n");
}

std::uint16_t status_of_line(const std::string& line) {
  return status_of(line + "\r\nHost: a\r\n\r\n");
}

// The head of a request that is understood, as text.
std::string head_of(const std::string& bytes) {
  const auto seen = read_request(bytes);
  EXPECT_EQ(seen.status, 0) << seen.why;
  return seen.log.substr(0, seen.log.find("data "));
}

TEST(RequestReader, UnderstandsAGet) {
  EXPECT_EQ(head_of("GET /a?b=c HTTP/1.1\r\nHost: svc:80\r\nX-A:  1 \t\r\n\r\n"),
            "head GET authority=svc:80 path=/a query=b=c minor=1 framing=0 length=0 keep-alive\n"
            "Host=svc:80\nX-A=1\n");
}

TEST(RequestReader, TellsAnEmptyQueryFromNone) {
  EXPECT_TRUE(has(head_of("GET /a? HTTP/1.1\r\nHost: a\r\n\r\n"), "path=/a query= "));
  EXPECT_FALSE(has(head_of("GET /a HTTP/1.1\r\nHost: a\r\n\r\n"), "query"));
}

TEST(RequestReader, ReadsBodiesAndPipelinedRequests) {
  const auto seen = read_request(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n"
      "2;x=\"y\"\r\nde\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(seen.status, 0) << seen.why;
  EXPECT_EQ(seen.messages, 3u);
  EXPECT_EQ(seen.body, "abcde0123456789");
  EXPECT_TRUE(has(seen.log, "end X-Sum=1\n"));
}

// Framing: reliability 4.1 row 1, 4.2 rows 1 to 4.

TEST(RequestReader, RefusesContentLengthBesideTransferEncoding) {
  EXPECT_EQ(status_of_fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400);
}

TEST(RequestReader, RefusesTransferEncodingBeforeContentLength) {
  EXPECT_EQ(status_of_fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400);
  EXPECT_EQ(status_of_fields("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n"), 400);
  EXPECT_EQ(status_of_fields("Transfer-Encoding: \r\nContent-Length: 5\r\n"), 400);
}

TEST(RequestReader, RefusesEveryTransferEncodingButChunked) {
  for (const char* value :
       {"gzip", "chunked, gzip", "gzip, chunked", "xchunked", "chunkedx", "chunked, chunked",
        "identity", "", "\"chunked\"", "chunked;q=1", ",chunked", "chunked,", "chunked\x0b"})
    EXPECT_GE(status_of_fields("Transfer-Encoding: " + std::string(value) + "\r\n"), 400) << value;
  EXPECT_EQ(status_of_fields("Transfer-Encoding: gzip\r\n"), 501);
}

TEST(RequestReader, RefusesTwoTransferEncodings) {
  EXPECT_EQ(status_of_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400);
  EXPECT_EQ(status_of_fields("Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n"), 400);
}

TEST(RequestReader, RefusesTransferEncodingInHttp10) {
  EXPECT_EQ(status_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
}

TEST(RequestReader, RefusesRepeatedContentLengthEvenWhenEqual) {
  EXPECT_EQ(status_of_fields("Content-Length: 5\r\nContent-Length: 5\r\n"), 400);
  EXPECT_EQ(status_of_fields("Content-Length: 5\r\ncontent-length: 6\r\n"), 400);
  EXPECT_EQ(status_of_fields("Content-Length: 5, 5\r\n"), 400);
}

TEST(RequestReader, RefusesContentLengthThatIsNotDigits) {
  for (const char* value : {"+5", "-5", "5 5", "5_", "0x5", "5.0", "", " ", "five", "5;a", "5,"})
    EXPECT_EQ(status_of_fields("Content-Length: " + std::string(value) + "\r\n"), 400) << value;
}

TEST(RequestReader, RefusesContentLengthThatOverflows) {
  for (const char* value : {"18446744073709551616", "18446744073709551621", "9223372036854775808",
                            "99999999999999999999999999", "1000000000000000000"})
    EXPECT_EQ(status_of_fields("Content-Length: " + std::string(value) + "\r\n"), 400) << value;
  EXPECT_TRUE(has(read_request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: "
                               "999999999999999999\r\n\r\n",
                               {}, false)
                      .log,
                  "length=999999999999999999"));
}

TEST(RequestReader, KnowsAnEmptyBodyFromNone) {
  EXPECT_TRUE(has(head_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
                  "framing=1 length=0"));
  EXPECT_TRUE(has(head_of("POST / HTTP/1.1\r\nHost: a\r\n\r\n"), "framing=0"));
}

// Lines: 4.2 rows 5 and 9.

TEST(RequestReader, RefusesFoldedFields) {
  EXPECT_EQ(status_of_fields("X-A: 1\r\n 2\r\n"), 400);
  EXPECT_EQ(status_of_fields("X-A: 1\r\n\t2\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400);
  EXPECT_EQ(status_of_fields("Transfer-Encoding:\r\n chunked\r\n"), 400);
}

TEST(RequestReader, RefusesWhiteSpaceBeforeAColon) {
  EXPECT_EQ(status_of_fields("Content-Length : 5\r\n"), 400);
  EXPECT_EQ(status_of_fields("Transfer-Encoding\t: chunked\r\n"), 400);
}

TEST(RequestReader, RefusesNulBareCrAndBareLfInHeads) {
  const std::string nul(1, '\0');
  EXPECT_EQ(status_of_fields("X-A: a" + nul + "b\r\n"), 400);
  EXPECT_EQ(status_of_fields("X" + nul + "A: b\r\n"), 400);
  EXPECT_EQ(status_of_fields("X-A: a\rb\r\n"), 400);
  EXPECT_EQ(status_of_fields("X-A: a\nX-B: b\r\n"), 400);
  EXPECT_EQ(status_of_fields("X-A: a\r\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\nHost: a\n\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\rHost: a\r\r"), 400);
  EXPECT_EQ(status_of("GET /" + nul + " HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\n\n"), 400);
}

TEST(RequestReader, RefusesABareLfBeforeTheHeadIsComplete) {
  EXPECT_EQ(read_request("GET / HTTP/1.1\nHost", {}, false).status, 400);
}

TEST(RequestReader, RefusesControlBytesInValuesButTab) {
  for (int c = 0; c < 0x80; ++c) {
    const auto status = status_of_fields("X-A: a" + std::string(1, static_cast<char>(c)) + "b\r\n");
    EXPECT_EQ(status, c == '\t' || (c >= 0x20 && c < 0x7f) ? 0 : 400) << c;
  }
  EXPECT_EQ(status_of_fields("X-A: \xff\x80\r\n"), 0);  // obs-text
}

TEST(RequestReader, RefusesNamesThatAreNoTokens) {
  for (const char* name : {"", "X A", "X@A", "X(A", "X\xc3\xa4", "\"X\"", "X/A", "X{A", "X,A"})
    EXPECT_EQ(status_of_fields(std::string(name) + ": b\r\n"), 400) << name;
  EXPECT_EQ(status_of_fields("no colon\r\n"), 400);
  EXPECT_EQ(status_of_fields("nocolon\r\n"), 400);
  EXPECT_EQ(status_of_fields("!#$%&'*+-.^_`|~9: b\r\n"), 0);
}

TEST(RequestReader, ToleratesOneEmptyLineBeforeARequest) {
  const std::string get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  EXPECT_EQ(status_of("\r\n" + get), 0);
  EXPECT_EQ(status_of("\r\n\r\n" + get), 400);
  EXPECT_EQ(status_of("\n" + get), 400);
  EXPECT_EQ(status_of("\r" + get), 400);
  EXPECT_EQ(status_of(get + "\r\n" + get + "\r\n" + get + "\r\n"), 0);
}

// Request line and versions.

TEST(RequestReader, RefusesTheHttp2PrefaceAndOtherVersions) {
  EXPECT_EQ(status_of("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
  EXPECT_EQ(status_of_line("GET / HTTP/2.0"), 505);
  EXPECT_EQ(status_of_line("GET / HTTP/1.2"), 505);
  EXPECT_EQ(status_of_line("GET / HTTP/0.9"), 505);
  for (const char* version : {"http/1.1", "HTTP/1", "HTTP/1.", "HTTP/11.1", "HTTP/1.10", "HTTP 1.1",
                              "HTTP/1,1", "HTTP/a.1", "HTTPS/1.1", "HTTP/1.1 "})
    EXPECT_EQ(status_of_line("GET / " + std::string(version)), 400) << version;
}

TEST(RequestReader, RefusesHttp09AtItsFirstLine) {
  EXPECT_EQ(read_request("GET /\r\n", {}, false).status, 400);
  EXPECT_EQ(read_request("PRI * HTTP/2.0\r\n", {}, false).status, 505);
}

TEST(RequestReader, RefusesWhatIsNoHttpAtItsFirstByte) {
  EXPECT_EQ(read_request("\x16\x03\x01", {}, false).status, 400);
  EXPECT_EQ(read_request(" GET", {}, false).status, 400);
}

TEST(RequestReader, RefusesMalformedRequestLines) {
  for (const char* line :
       {"GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET\t/ HTTP/1.1", "GET HTTP/1.1", "/ HTTP/1.1",
        "GET / a HTTP/1.1", "G(T / HTTP/1.1", "GET /a#b HTTP/1.1", "GET /\xc3\xa4 HTTP/1.1",
        "GET /\t HTTP/1.1", "GET a HTTP/1.1", "GET ?a HTTP/1.1", "GET  HTTP/1.1"})
    EXPECT_EQ(status_of_line(line), 400) << line;
}

TEST(RequestReader, LetsMethodsBeAnyToken) {
  EXPECT_EQ(status_of_line("M-SEARCH /a HTTP/1.1"), 0);
  EXPECT_TRUE(has(head_of("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), "head-only"));
  EXPECT_FALSE(has(head_of("head / HTTP/1.1\r\nHost: a\r\n\r\n"), "head-only"));
}

// Host and target forms: 4.2 row 6.

TEST(RequestReader, RefusesMissingDuplicateAndInvalidHost) {
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
  for (const char* host :
       {"",        "a b",      "a,b",   "a/b",      "u@a", "a:b",   "a:",   "a:80:80",
        "a:99999", "a:123456", "[::1",  "[a",       "[1]", "[::g]", "a%41", "a?b",
        "a#b",     ":80",      "\"a\"", "\xc3\xa4", "[]",  "["}) {
    const bool empty_port = std::string_view(host) == "a:";  // RFC 3986 3.2.3 allows it
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n"),
              empty_port ? 0 : 400)
        << host;
  }
}

TEST(RequestReader, UnderstandsHostsOfEveryKind) {
  for (const char* host : {"a", "a:80", "a_b.c-d~", "10.0.0.1:8080", "[::1]:80", "[fd00::1.2.3.4]"})
    EXPECT_TRUE(has(head_of("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n"),
                    "authority=" + std::string(host) + " "));
}

TEST(RequestReader, Http10NeedsNoHost) {
  EXPECT_TRUE(has(head_of("GET / HTTP/1.0\r\n\r\n"), "authority= "));
}

TEST(RequestReader, AnAbsoluteTargetWinsOverHost) {
  const auto head = head_of("GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(has(head, "authority=b:81 path=/x query=y "));
  EXPECT_TRUE(has(head, "Host=b:81\n")) << "rules that look at Host see the same";
  EXPECT_TRUE(has(head_of("GET HTTP://b HTTP/1.1\r\nHost: a\r\n\r\n"), "authority=b path=/ "));
  EXPECT_TRUE(has(head_of("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n"), "path=/ query=q "));
  EXPECT_TRUE(has(head_of("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n"), "path=* "));
}

TEST(RequestReader, RefusesBadAbsoluteTargets) {
  for (const char* target : {"http://u@b/", "http://u:p@b/", "http:///a", "http://", "https://b/",
                             "ftp://b/", "http:/b", "http://b:x/", "http://b,c/", "http://a\\b/"})
    EXPECT_EQ(status_of_line("GET " + std::string(target) + " HTTP/1.1"), 400) << target;
  EXPECT_EQ(status_of("GET http://b/ HTTP/1.1\r\n\r\n"), 400) << "Host is needed all the same";
}

TEST(RequestReader, ConnectNeedsHostAndPort) {
  EXPECT_TRUE(has(head_of("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
                  "authority=b:443 path= minor=1 framing=0 length=0 keep-alive connect"));
  for (const char* target : {"/", "b", "http://b:80/", "*", "u@b:80", "b:80/x", "b:", "b:0"})
    EXPECT_EQ(status_of_line("CONNECT " + std::string(target) + " HTTP/1.1"), 400) << target;
  EXPECT_EQ(status_of("CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\nContent-Length: 0\r\n\r\n"), 400);
}

TEST(RequestReader, AsteriskIsForOptionsOnly) {
  EXPECT_TRUE(has(head_of("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), "path=* "));
  EXPECT_EQ(status_of_line("GET * HTTP/1.1"), 400);
  EXPECT_EQ(status_of_line("OPTIONS *a HTTP/1.1"), 400);
}

// Limits: 4.2 rows 7 and 8.

TEST(RequestReader, RefusesMoreThanAHundredFields) {
  std::string fields;
  for (int i = 0; i < 99; ++i) fields += "X: " + std::to_string(i) + "\r\n";
  EXPECT_EQ(status_of_fields(fields), 0);
  EXPECT_EQ(status_of_fields(fields + "X: 99\r\n"), 431);
}

TEST(RequestReader, RefusesAHeadBeyondItsLimit) {
  const std::string before = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
  const std::size_t room = 60 * 1024 - before.size() - 4;
  EXPECT_EQ(status_of(before + std::string(room, 'x') + "\r\n\r\n"), 0);
  EXPECT_EQ(status_of(before + std::string(room + 1, 'x') + "\r\n\r\n"), 431);
  EXPECT_EQ(read_request(before + std::string(room + 4, 'x'), {}, false).status, 431);
}

TEST(RequestReader, RefusesARequestLineBeyondItsLimit) {
  const std::size_t room = 16 * 1024 - std::string_view("GET / HTTP/1.1").size();
  EXPECT_EQ(status_of_line("GET /" + std::string(room, 'x') + " HTTP/1.1"), 0);
  EXPECT_EQ(status_of_line("GET /" + std::string(room + 1, 'x') + " HTTP/1.1"), 414);
  EXPECT_EQ(read_request("GET /" + std::string(17000, 'x'), {}, false).status, 414);
}

TEST(RequestReader, LimitsAreTheSameHoweverAHeadIsCut) {
  for (const auto& bytes : {"GET /" + std::string(17000, 'x') + "\n",
                            "GET / HTTP/1.1\r\nX: " + std::string(62000, 'x') + "\n\r\n"}) {
    const auto whole = read_request(bytes).log;
    for (const std::size_t at : {10u, 16383u, 16384u, 16385u, 16400u, 16990u})
      EXPECT_EQ(read_request(bytes, {at}).log, whole);
    for (const std::size_t at : {61439u, 61440u, 61441u, 61500u})
      EXPECT_EQ(at < bytes.size() ? read_request(bytes, {at}).log : whole, whole);
  }
}

// Of one connection only.

TEST(RequestReader, KeepsConnectionsAsTheirVersionSays) {
  const auto keeps = [](const std::string& version, const std::string& fields) {
    return has(head_of("GET / " + version + "\r\nHost: a\r\n" + fields + "\r\n"), "keep-alive\n");
  };
  EXPECT_TRUE(keeps("HTTP/1.1", ""));
  EXPECT_FALSE(keeps("HTTP/1.1", "Connection: Close\r\n"));
  EXPECT_FALSE(keeps("HTTP/1.1", "Connection: keep-alive\r\nConnection: a, close\r\n"));
  EXPECT_FALSE(keeps("HTTP/1.0", ""));
  EXPECT_TRUE(keeps("HTTP/1.0", "Connection: Keep-Alive\r\n"));
  EXPECT_FALSE(keeps("HTTP/1.0", "Connection: keep-alive, close\r\n"));
  EXPECT_FALSE(keeps("HTTP/1.0", "Proxy-Connection: keep-alive\r\n"));
}

TEST(RequestReader, DropsWhatBelongsToOneConnection) {
  const auto head = head_of(
      "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\nConnection: x-a, HTTP2-Settings,,te\r\n"
      "Keep-Alive: timeout=5\r\nProxy-Connection: a\r\nTE: gzip\r\nHTTP2-Settings: AA\r\n"
      "Upgrade: h2c\r\nProxy-Authorization: b\r\n\r\n");
  for (const char* part :
       {"(X-A=1)", "(Connection=", "(Keep-Alive=", "(Proxy-Connection=", "(TE=gzip)",
        "(HTTP2-Settings=", "(Upgrade=", "\nX-B=2\n", "\nProxy-Authorization=b\n"})
    EXPECT_TRUE(has(head, part)) << part << " in " << head;
}

TEST(RequestReader, ConnectionCannotTakeHostOrFramingAway) {
  const auto head = head_of(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: host, content-length, "
      "transfer-encoding\r\n\r\n");
  EXPECT_TRUE(has(head, "authority=a "));
  EXPECT_TRUE(has(head, "framing=1"));
  EXPECT_TRUE(has(head, "\nHost=a\nContent-Length=0\n"));
}

TEST(RequestReader, BoundsConnectionOptions) {
  std::string options = "close";
  for (int i = 0; i < 99; ++i) options += ",a";
  EXPECT_EQ(status_of_fields("Connection: " + options + "\r\n"), 0);
  EXPECT_EQ(status_of_fields("Connection: " + options + "\r\nConnection: a\r\n"), 400);
}

TEST(RequestReader, LeavesTrailersOfTe) {
  EXPECT_TRUE(has(head_of("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=1, Trailers\r\n\r\n"),
                  "\nTE=Trailers\n"));
}

TEST(RequestReader, UpgradesOnlyWhereConnectionNamesIt) {
  const auto upgrade = [](const std::string& fields, const std::string& version = "HTTP/1.1") {
    const auto head = head_of("GET / " + version + "\r\nHost: a\r\n" + fields + "\r\n");
    const auto at = head.find("upgrade=");
    return at == std::string::npos ? "" : head.substr(at + 8, head.find('\n') - at - 8);
  };
  EXPECT_EQ(upgrade("Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"), "websocket");
  EXPECT_EQ(upgrade("Upgrade: websocket\r\n"), "");
  EXPECT_EQ(upgrade("Connection: upgrade\r\n"), "");
  EXPECT_EQ(upgrade("Upgrade: websocket\r\nConnection: upgrade\r\n", "HTTP/1.0"), "");
  EXPECT_EQ(upgrade("Upgrade: websocket, H2C\r\nConnection: upgrade\r\n"), "") << "h2c smuggling";
  EXPECT_EQ(upgrade("Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n"), "");
  EXPECT_EQ(status_of_fields("Upgrade: a\r\nUpgrade: b\r\nConnection: upgrade\r\n"), 400);
}

TEST(RequestReader, ParsesExpect) {
  const auto expects = [](const std::string& value, const std::string& version = "HTTP/1.1") {
    return head_of("GET / " + version + "\r\nHost: a\r\nExpect: " + value + "\r\n\r\n");
  };
  EXPECT_TRUE(has(expects("100-Continue"), " expects\n"));
  EXPECT_FALSE(has(expects("200-ok"), " expects\n"));
  EXPECT_TRUE(has(expects("200-ok"), "\nExpect=200-ok\n")) << "the engine answers 417 by it";
  EXPECT_FALSE(has(expects("100-continue", "HTTP/1.0"), " expects\n"));
  EXPECT_TRUE(has(expects("100-continue", "HTTP/1.0"), "(Expect="));
}

// Life of a connection.

TEST(RequestReader, EndsCleanlyBetweenRequestsOnly) {
  EXPECT_EQ(status_of(""), 0);
  EXPECT_EQ(status_of("\r\n"), 0);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
  EXPECT_EQ(status_of("G"), 400);
  EXPECT_EQ(status_of("\r"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\n\r"), 400);
}

TEST(RequestReader, KnowsWhetherARequestHasBegun) {
  const Limits limits;
  RequestReader reader(limits);
  EXPECT_TRUE(reader.at_start());
  EXPECT_EQ(reader.next("\r\n", false).used, 2u);
  EXPECT_TRUE(reader.at_start());
  EXPECT_EQ(reader.next("G", false).used, 0u);
  EXPECT_FALSE(reader.at_start());
  const std::string get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  EXPECT_EQ(reader.next(get, false).kind, Event::Kind::kHead);
  EXPECT_FALSE(reader.at_start());
  EXPECT_EQ(reader.next("", false).kind, Event::Kind::kEnd);
  EXPECT_TRUE(reader.at_start());
}

TEST(RequestReader, HandsTunnelBytesThrough) {
  const Limits limits;
  RequestReader reader(limits);
  const std::string get =
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
  EXPECT_EQ(reader.next(get, false).used, get.size());
  EXPECT_EQ(reader.next("", false).kind, Event::Kind::kEnd);
  reader.tunnel();
  const auto event = reader.next("\x81\x00\r\n", false);
  EXPECT_EQ(event.kind, Event::Kind::kTunnel);
  EXPECT_EQ(event.data.size(), event.used);
  EXPECT_EQ(reader.next("", true).kind, Event::Kind::kNeedMore);
}

TEST(RequestReader, StaysBroken) {
  const Limits limits;
  RequestReader reader(limits);
  EXPECT_EQ(reader.next("\x01", false).status, 400);
  EXPECT_EQ(reader.next("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false).status, 400);
}

TEST(RequestReader, LeavesRoomForFieldsThatStayWhereTheyAre) {
  const Limits limits;
  RequestReader reader(limits);
  std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 99; ++i) bytes += "X: 1\r\n";
  bytes += "\r\n";
  EXPECT_EQ(reader.next(bytes, false).kind, Event::Kind::kHead);
  const auto* host = reader.head().fields.find(Known::kHost);
  for (int i = 0; i < 28; ++i) EXPECT_TRUE(reader.head().fields.add("Y", "2", Known::kOther));
  EXPECT_EQ(reader.head().fields.find("host"), host);
  EXPECT_FALSE(reader.head().fields.add("Y", "2", Known::kOther));
}

}  // namespace
}  // namespace weft::http
