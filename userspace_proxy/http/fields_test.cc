#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "userspace_proxy/http/message.h"

namespace weft::http {
namespace {

TEST(Fields, KnowsNamesInAnyCase) {
  EXPECT_EQ(known_of("Host"), Known::kHost);
  EXPECT_EQ(known_of("HOST"), Known::kHost);
  EXPECT_EQ(known_of("transfer-ENCODING"), Known::kTransferEncoding);
  EXPECT_EQ(known_of("x-request-id"), Known::kRequestId);
  EXPECT_EQ(known_of("B3"), Known::kB3);
  EXPECT_EQ(known_of("Proxy-Authorization"), Known::kProxyAuthorization);
}

TEST(Fields, DoesNotTakeOneNameForAnother) {
  for (const char* name :
       {"", "hosts", "hosu", "hoSt ", "content_length", "content-lengti", "transfer-encodinh", "x",
        "x-forwarded-fox", "proxy-authorizations", "a-name-longer-than-any-that-is-known"})
    EXPECT_EQ(known_of(name), Known::kOther) << name;
  for (int c = 0; c < 256; ++c) {
    const std::string name = std::string("h") + static_cast<char>(c) + "st";
    EXPECT_EQ(known_of(name) == Known::kHost, c == 'o' || c == 'O') << c;
  }
}

TEST(Fields, FindsTheFirstThatIsNotDropped) {
  Fields fields;
  fields.add("X-A", "1", Known::kOther);
  fields.add("x-a", "2", Known::kOther);
  EXPECT_EQ(fields.find("X-a")->value, "1");
  fields.all()[0].dropped = true;
  EXPECT_EQ(fields.find("X-a")->value, "2");
  EXPECT_EQ(fields.find("x-b"), nullptr);
  EXPECT_EQ(fields.find(Known::kHost), nullptr);
}

TEST(Fields, StayWhereTheyAreForWhatIsAddedAfterMakeRoom) {
  for (int before = 0; before <= 100; ++before) {
    Fields fields;
    for (int i = 0; i < before; ++i) EXPECT_TRUE(fields.add("X", "1", Known::kOther));
    fields.make_room();
    const auto* first = fields.all().data();
    for (int i = 0; i < 28; ++i) EXPECT_TRUE(fields.add("X", "1", Known::kOther));
    EXPECT_EQ(fields.all().data(), first) << before;
  }
}

TEST(Fields, HoldAHundredAndWhatRulesAdd) {
  Fields fields;
  for (int i = 0; i < 128; ++i) EXPECT_TRUE(fields.add("X", "1", Known::kOther));
  EXPECT_FALSE(fields.add("X", "1", Known::kOther));
  auto copy = fields;
  EXPECT_FALSE(copy.add("X", "1", Known::kOther));
  copy.clear();
  EXPECT_TRUE(copy.add("X", "1", Known::kOther));
  EXPECT_EQ(fields.all().size(), 128u);
}

}  // namespace
}  // namespace weft::http
