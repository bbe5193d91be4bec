// What holds of every stream, tried on random ones: how it is cut does not matter, and what is
// written is understood as what was read.
#include <gtest/gtest.h>

#include "userspace_proxy/http/random_messages.h"
#include "userspace_proxy/http/rewrite_fixture.h"

namespace weft::http {
namespace {

constexpr int kStreams = 20000;

TEST(CodecProperty, RequestsReadTheSameHoweverTheyAreCut) {
  RandomMessages random(1);
  int understood = 0, refused = 0;
  for (int i = 0; i < kStreams; ++i) {
    auto bytes = random.request() + random.request();
    if (random.number(2)) bytes = random.spoiled(bytes);
    const auto whole = read_request(bytes);
    ASSERT_EQ(read_request(bytes, random.cuts(bytes.size())).log, whole.log) << bytes;
    ++(whole.status ? refused : understood);
  }
  EXPECT_GT(understood, kStreams / 4);
  EXPECT_GT(refused, kStreams / 8);
}

TEST(CodecProperty, ResponsesReadTheSameHoweverTheyAreCut) {
  RandomMessages random(2);
  int understood = 0, refused = 0;
  for (int i = 0; i < kStreams; ++i) {
    auto bytes = random.response();
    if (random.number(2)) bytes = random.spoiled(bytes);
    const auto whole = read_responses(bytes);
    ASSERT_EQ(read_responses(bytes, {}, random.cuts(bytes.size())).log, whole.log) << bytes;
    ++(whole.status ? refused : understood);
  }
  EXPECT_GT(understood, kStreams / 4);
  EXPECT_GT(refused, kStreams / 8);
}

TEST(CodecProperty, RequestsAreWrittenAsTheyWereUnderstood) {
  RandomMessages random(3);
  for (int i = 0; i < kStreams; ++i) {
    auto bytes = random.request() + random.request();
    if (random.number(2)) bytes = random.spoiled(bytes);
    const auto once = rewrite_requests(bytes);
    const auto twice = rewrite_requests(once.bytes);
    ASSERT_EQ(twice.model, once.model) << bytes;
    ASSERT_EQ(twice.bytes, once.bytes) << bytes;
    ASSERT_EQ(twice.read, once.bytes.size()) << bytes;
  }
}

TEST(CodecProperty, ResponsesAreWrittenAsTheyWereUnderstood) {
  RandomMessages random(4);
  for (int i = 0; i < kStreams; ++i) {
    const Asked asked{.head_only = random.number(4) == 0};
    const auto message = random.response();
    const auto once =
        rewrite_responses(random.number(2) ? random.spoiled(message) : message, asked);
    const auto twice = rewrite_responses(once.bytes, asked);
    ASSERT_EQ(twice.model, once.model) << message;
    ASSERT_EQ(twice.bytes, once.bytes) << message;
    ASSERT_EQ(twice.read, once.bytes.size()) << message;
  }
}

}  // namespace
}  // namespace weft::http
