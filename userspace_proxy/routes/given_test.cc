#include "userspace_proxy/routes/given.h"

#include <gtest/gtest.h>

namespace weft::routes {
namespace {

using http::Known;

std::optional<std::string> header(const http::Fields& fields, std::string_view name) {
  std::string room;
  const auto value = header_value(fields, name, room);
  return value ? std::optional<std::string>(*value) : std::nullopt;
}

std::optional<std::string> query(std::string_view text, std::string_view name) {
  std::string room;
  const auto value = query_value(text, name, room);
  return value ? std::optional<std::string>(*value) : std::nullopt;
}

TEST(Given, AHeaderIsFoundInAnyCase) {
  http::Fields fields;
  fields.add("X-User", "jason", Known::kOther);
  EXPECT_EQ(header(fields, "x-user"), "jason");
  EXPECT_EQ(header(fields, "x-use"), std::nullopt);
}

TEST(Given, AHeaderThatComesSeveralTimesIsAllItsValues) {
  http::Fields fields;
  fields.add("x-role", "guest", Known::kOther);
  fields.add("accept", "*/*", Known::kOther);
  fields.add("X-Role", "admin", Known::kOther);
  fields.add("x-role", "", Known::kOther);
  EXPECT_EQ(header(fields, "x-role"), "guest,admin,");
}

TEST(Given, AnEmptyHeaderThatComesTwiceIsOneComma) {
  http::Fields fields;
  fields.add("x", "", Known::kOther);
  fields.add("x", "", Known::kOther);
  EXPECT_EQ(header(fields, "x"), ",");
}

TEST(Given, ADroppedFieldIsNotThere) {
  http::Fields fields;
  fields.add("x-user", "jason", Known::kOther);
  fields.all()[0].dropped = true;
  EXPECT_EQ(header(fields, "x-user"), std::nullopt);
}

TEST(Given, TheFirstValueOfAParameterCounts) {
  EXPECT_EQ(query("a=1&v=2&v=3", "v"), "2");
  EXPECT_EQ(query("vv=1&v=2", "v"), "2");
  EXPECT_EQ(query("v=1", "V"), std::nullopt);
  EXPECT_EQ(query("", "v"), std::nullopt);
  EXPECT_EQ(query("", ""), std::nullopt);
}

TEST(Given, AParameterWithoutAValueIsEmpty) {
  EXPECT_EQ(query("&&v&w=", "v"), "");
  EXPECT_EQ(query("v&w=", "w"), "");
  EXPECT_EQ(query("v=a=b", "v"), "a=b");
}

TEST(Given, ParametersAreComparedDecoded) {
  EXPECT_EQ(query("%76=a%20b", "v"), "a b");
  EXPECT_EQ(query("v=a+b", "v"), "a+b");
  EXPECT_EQ(query("v=%zz%4", "v"), "%zz%4");
  EXPECT_EQ(query("v=%26%3d%C3%a9", "v"), "&=\xc3\xa9");
  EXPECT_EQ(query("v=%2541", "v"), "%41");  // once, not until nothing is left
}

TEST(Given, AnAuthorityLosesItsPortAndNothingElse) {
  EXPECT_EQ(without_port("web.shop:8080"), "web.shop");
  EXPECT_EQ(without_port("web.shop"), "web.shop");
  EXPECT_EQ(without_port("web:"), "web");
  EXPECT_EQ(without_port("[::1]:80"), "[::1]");
  EXPECT_EQ(without_port("[::1]"), "[::1]");
  EXPECT_EQ(without_port("::1"), "::1");
  EXPECT_EQ(without_port("user:password"), "user:password");
  EXPECT_EQ(without_port(""), "");
}

}  // namespace
}  // namespace weft::routes
