// Valid messages read by Boost.Beast as well: the same fields, the same body. Where the two differ
// on invalid ones is what request_reader_test.cc lists; those that Beast 1.81 lets through are
// shown here too, so that the reason for a reader of our own can be checked.
#include <gtest/gtest.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "userspace_proxy/http/random_messages.h"
#include "userspace_proxy/http/rewrite_fixture.h"

namespace weft::http {
namespace {

namespace beast = boost::beast::http;

std::vector<std::string> sorted_fields(const Fields& fields, const Fields& trailers) {
  std::vector<std::string> all;
  for (const auto* part : {&fields, &trailers})
    for (const auto& field : part->all())
      all.push_back(std::string(field.name) + "=" + std::string(field.value));
  std::sort(all.begin(), all.end());
  return all;
}

template <bool kIsRequest>
struct ByBeast {
  beast::parser<kIsRequest, beast::string_body> parser;
  boost::system::error_code error;
  std::size_t used = 0;

  explicit ByBeast(const std::string& bytes) {
    parser.eager(true);
    while (!parser.is_done() && used < bytes.size() && !error)
      used += parser.put(boost::asio::buffer(bytes.data() + used, bytes.size() - used), error);
  }

  // Beast puts trailers among the fields.
  std::vector<std::string> fields() {
    std::vector<std::string> all;
    for (const auto& field : parser.get())
      all.push_back(std::string(field.name_string()) + "=" + std::string(field.value()));
    std::sort(all.begin(), all.end());
    return all;
  }
};

// Reads one message; false where it is not understood.
template <class Reader>
bool read_one(Reader& reader, const std::string& bytes, std::string& body) {
  for (std::size_t used = 0;;) {
    const auto event = reader.next(std::string_view(bytes).substr(used), false);
    used += event.used;
    if (event.kind == Event::Kind::kData) body += event.data;
    if (event.kind == Event::Kind::kEnd) return used == bytes.size();
    if (event.kind == Event::Kind::kError || event.kind == Event::Kind::kNeedMore) return false;
  }
}

TEST(CodecAndBeast, ReadValidRequestsAlike) {
  RandomMessages random(5);
  for (int i = 0; i < 3000; ++i) {
    const auto bytes = random.request();
    ByBeast<true> other(bytes);
    ASSERT_TRUE(other.parser.is_done() && !other.error) << bytes << other.error.message();
    const Limits limits;
    RequestReader reader(limits);
    std::string body;
    ASSERT_TRUE(read_one(reader, bytes, body)) << bytes;
    const auto& message = other.parser.get();
    ASSERT_EQ(reader.head().method, std::string_view(message.method_string()));
    ASSERT_EQ(reader.head().target, std::string_view(message.target()));
    ASSERT_EQ(sorted_fields(reader.head().fields, reader.trailers()), other.fields()) << bytes;
    ASSERT_EQ(body, message.body()) << bytes;
  }
}

TEST(CodecAndBeast, ReadValidResponsesAlike) {
  RandomMessages random(6);
  for (int i = 0; i < 3000; ++i) {
    const auto bytes = random.response();
    ByBeast<false> other(bytes);
    ASSERT_TRUE(other.parser.is_done() && !other.error) << bytes << other.error.message();
    const Limits limits;
    ResponseReader reader(limits);
    reader.expect(false, false, false);
    std::string body;
    ASSERT_TRUE(read_one(reader, bytes, body)) << bytes;
    const auto& message = other.parser.get();
    ASSERT_EQ(reader.head().status, message.result_int());
    const auto reason = reader.head().reason;  // where there is none Beast says the usual one
    ASSERT_EQ(reason.empty() ? reason_of(503) : reason, std::string_view(message.reason()));
    ASSERT_EQ(sorted_fields(reader.head().fields, reader.trailers()), other.fields()) << bytes;
    ASSERT_EQ(body, message.body()) << bytes;
  }
}

TEST(CodecAndBeast, BeastUnderstandsWhatIsWritten) {
  RandomMessages random(7);
  for (int i = 0; i < 3000; ++i) {
    const auto written = rewrite_requests(random.request()).bytes;
    ByBeast<true> other(written);
    ASSERT_TRUE(other.parser.is_done() && !other.error) << written << other.error.message();
    ASSERT_EQ(other.used, written.size());
  }
}

struct Case {
  const char* name;
  const char* bytes;
  bool beast_accepts;
};

// The nine of the reliability notes, 4.2; 7 and 8 are limits, which request_reader_test.cc has.
TEST(CodecAndBeast, WhatBeastLetsThroughIsRefusedHere) {
  constexpr Case kCases[] = {
      {"1: another coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", true},
      {"1: chunked is not last",
       "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", true},
      {"1: almost chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
       true},
      {"2: a coding, then a length",
       "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", true},
      {"3: HTTP/1.0 with chunks", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       true},
      {"4: equal lengths",
       "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", true},
      {"4: a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", true},
      {"5: folded", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", true},
      {"6: no Host", "GET / HTTP/1.1\r\n\r\n", true},
      {"6: two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", true},
      {"9: bare CR", "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", false},
      {"9: bare LF", "GET / HTTP/1.1\nHost: a\n\n", false},
  };
  for (const auto& test : kCases) {
    ByBeast<true> other(test.bytes);
    EXPECT_EQ(other.parser.is_done() && !other.error, test.beast_accepts) << test.name;
    EXPECT_GE(read_request(test.bytes).status, 400) << test.name;
  }
}

}  // namespace
}  // namespace weft::http
