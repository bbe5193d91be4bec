// What keeps a hostile file from taking memory or time. Sizes here are just past a limit: that the
// limit is there is tested, not how long it takes.
#include <gtest/gtest.h>

#include "mesh/manifest/document_builder.h"
#include "mesh/manifest/reader.h"
#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using test::ids;
using test::json;
using test::notices;
using test::rejected;
using test::says;
using test::yaml;

const std::string kService = test::service_of("{clusterIP: 10.96.0.1, ports: [{port: 80}]}");

std::string repeated(const std::string& text, std::size_t times) {
  std::string all;
  all.reserve(text.size() * times);
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

TEST(Limits, OnlyTheYamlDirectiveIsRead) {
  EXPECT_EQ(ids(yaml("%YAML 1.1\n---\n" + kService)), "Service shop/web");
  EXPECT_EQ(ids(yaml("%YAML 1.2 \r\n---\n" + kService)), "Service shop/web");
  for (const char* line : {"%TAG !e! tag:example.com,2000:", "%", "%YAML 1.3", "%%%%"}) {
    const auto result = yaml(kService + "...\n" + line + "\n---\n" + kService);
    EXPECT_TRUE(says(result, "f:6: rejected: has a line that begins with %")) << notices(result);
    EXPECT_EQ(rejected(result), "?");
  }
}

TEST(Limits, APercentSignElsewhereIsText) {
  const auto result = yaml(
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: |\n    %TAG\n  y: 5%\n");
  EXPECT_EQ(rejected(result), "") << notices(result);
}

TEST(Limits, OneLineOfFlowStyleIsBounded) {
  const auto result = yaml("a: [" + repeated("b,", 300'001) + "]\n");
  EXPECT_EQ(notices(result),
            "f:1: rejected: has too much in one line: break it, or make it a .json file\n");
  EXPECT_EQ(rejected(result), "?");
}

TEST(Limits, JsonOfAnyLineLengthIsReadFromAYamlFile) {
  std::string slice =
      R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",)"
      R"("metadata":{"name":"a","labels":{"kubernetes.io/service-name":"web"}},"endpoints":[)";
  slice += repeated(R"({"addresses":["10.0.0.1"]},)", 60'000) + R"({"addresses":["10.0.0.2"]}]})";
  const auto result = yaml(slice);
  ASSERT_EQ(ids(result), "EndpointSlice default/a") << notices(result);
  EXPECT_EQ(test::first<model::EndpointSliceObject>(result).endpoints.size(), 60'001u);
}

TEST(Limits, FlowYamlThatOnlyBeginsLikeJsonIsYaml) {
  EXPECT_EQ(ids(yaml("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {}}\n")),
            "Service default/a");
  EXPECT_EQ(ids(yaml(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{}})"
                     "\n---\n" +
                     kService)),
            "Service default/a, Service shop/web");
}

TEST(Limits, OpenBracketsAreBoundedOverLines) {
  for (const char* open : {"[\n", "{a:\n", "- [\n"})
    EXPECT_TRUE(says(yaml(repeated(open, 100'001)), "rejected: has too many open brackets"))
        << open;
  EXPECT_TRUE(says(yaml(repeated("[\n", 5'000)), "rejected: nests deeper than 64 levels"));
}

TEST(Limits, ControlCharactersAreNoText) {
  for (const char* bytes : {"\x01", "\x08", "\x1b", "\x7f"}) {
    const auto result = yaml(kService + "# " + bytes + "\n");
    EXPECT_TRUE(says(result, "f:5: rejected: has a control character")) << notices(result);
    EXPECT_EQ(rejected(result), "?");
  }
  EXPECT_EQ(ids(yaml("\xef\xbb\xbf" + kService)), "Service shop/web");
}

TEST(Limits, DocumentsBeyondTheFilesBudgetAreUnknownAndThoseBeforeStay) {
  const auto result = yaml(kService + repeated("---\n", 400'000));
  EXPECT_EQ(ids(result), "Service shop/web");
  EXPECT_EQ(rejected(result), "?");
  EXPECT_TRUE(says(result, "rejected: has more values than a file may have: split it"));
}

TEST(Limits, ValuesOfAFileAreBounded) {
  const auto flood = [](std::size_t values) { return json("[0" + repeated(",0", values) + "]"); };
  EXPECT_TRUE(says(flood(kMaxCost), "rejected: has more values than a file may have: split it"));
  EXPECT_TRUE(says(flood(kMaxCost - 100), "rejected: is not an object"));
}

TEST(Limits, ManySmallKeysAreCheckedForDuplicates) {
  std::string object = "{\"k\":0";
  for (int i = 0; i < 200'000; ++i) object += ",\"" + std::to_string(i) + "\":0";
  EXPECT_TRUE(says(json(object + "}"), "rejected: kind is missing"));
  EXPECT_TRUE(says(json(object + ",\"199999\":0}"), "rejected: has the key \"199999\" twice"));
}

TEST(Limits, RejectedEndpointsAreNotKept) {
  const auto result =
      json(R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",)"
           R"("metadata":{"name":"a"},"endpoints":[{})" +
           repeated(",{}", 100'000) + "]}");
  EXPECT_EQ(ids(result), "");
  EXPECT_EQ(rejected(result), "EndpointSlice default/a");
  EXPECT_EQ(result.notices.size(), 1001u);
}

TEST(Limits, OfTagsOnlyStrIsRead) {
  const auto with = [](const std::string& value) {
    return yaml(test::service_of("{selector: {version: " + value + "}}"));
  };
  const auto read = with("!!str 8080");
  ASSERT_EQ(ids(read), "Service shop/web") << notices(read);
  EXPECT_EQ(test::first<model::ServiceObject>(read).selector.at("version"), "8080");
  for (const char* value : {"!!int \"8080\"", "!secret x", "! x", "!!binary aGk="})
    EXPECT_TRUE(says(with(value), "rejected: Service shop/web: has a tag")) << value;
  EXPECT_TRUE(says(yaml("!!!!\n"), "rejected: "));
}

TEST(Limits, TheParserWritesNothingToStandardError) {
  testing::internal::CaptureStderr();
  for (const char* text : {"a: |0\n  x\n", "a: [\n", "a: \"\\q\"\n", "%YAML 1.1\n%YAML 1.1\n---\n"})
    EXPECT_EQ(rejected(yaml(text)), "?") << text;
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Limits, ASyntaxErrorNamesItsLine) {
  EXPECT_TRUE(says(yaml("a: 1\nb: 2\nc: d: e\n"), "f:3: rejected: is not valid YAML: "));
  EXPECT_TRUE(says(yaml("a: \"open\n"), "f:1: rejected: is not valid YAML: "));
  EXPECT_TRUE(says(yaml("a:\n  b: 1\n c: 2\n"), "f:3: rejected: is not valid YAML: "));
}

}  // namespace
}  // namespace weft::manifest
