#include <gtest/gtest.h>

#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using test::ids;
using test::json;
using test::notices;
using test::rejected;
using test::says;

// A Service with one more member.
std::string service_with(const std::string& member) {
  return "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"web\",\"namespace\":"
         "\"shop\"},\n" +
         member + ",\n\"spec\":{}}";
}

std::string nested(int levels) {
  std::string text = "\"status\":";
  for (int i = 1; i < levels; ++i) text += "[";
  text += "1";
  for (int i = 1; i < levels; ++i) text += "]";
  return service_with(text);
}

TEST(Json, ReadsOneObject) {
  const auto result =
      json(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},
    "spec":{"clusterIP":"10.96.0.1","ports":[{"port":80,"targetPort":"http"}],"publishNotReadyAddresses":true,
            "selector":{"app":"w\u00e9b"},"sessionAffinity":null}})");
  ASSERT_EQ(notices(result), "");
  const auto& service = test::first<model::ServiceObject>(result);
  EXPECT_EQ(service.cluster_ips.at(0).to_text(), "10.96.0.1");
  EXPECT_EQ(std::get<std::string>(*service.ports.at(0).target), "http");
  EXPECT_TRUE(service.publish_not_ready);
  EXPECT_EQ(service.selector.at("app"),
            "w\xc3\xa9"
            "b");
  EXPECT_FALSE(service.affinity);
}

TEST(Json, ReadsAListAsKubectlWritesIt) {
  const auto result =
      json(R"({"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":""},"items":[
    {"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{}},
    {"apiVersion":"v1","kind":"Service","metadata":{"name":"b"},"spec":{}}]})");
  EXPECT_EQ(ids(result), "Service default/a, Service default/b");
  EXPECT_EQ(model::meta_of(*result.objects.at(1)).origin.line, 3);
}

TEST(Json, ReadsATypedListAsTheApiServerWritesIt) {
  const auto result = json(
      R"({"kind":"ServiceList","apiVersion":"v1","items":[{"metadata":{"name":"a"},"spec":{}}]})");
  EXPECT_EQ(ids(result), "Service default/a");
  EXPECT_EQ(notices(result), "");
}

TEST(Json, AnArrayOrAScalarIsNoManifest) {
  for (const char* text : {"[]", "[{\"apiVersion\":\"v1\"}]", "5", "\"x\"", "true"}) {
    const auto result = json(text);
    EXPECT_TRUE(result.objects.empty());
    EXPECT_EQ(rejected(result), "?") << text;
    EXPECT_TRUE(says(result, "f:1: rejected: is not an object")) << text << notices(result);
  }
  EXPECT_EQ(notices(json("null")), "");
}

TEST(Json, RefusesWhatFollowsTheFirstValue) {
  for (const char* rest : {" {}", "\n{\"a\":1}", "}", "]", " x", " 5", ","}) {
    const auto result = json(service_with("\"status\":{}") + rest);
    EXPECT_TRUE(result.objects.empty()) << rest;
    EXPECT_EQ(rejected(result), "?") << rest;
  }
  EXPECT_EQ(ids(json(service_with("\"status\":{}") + " \r\n\t")), "Service shop/web");
}

TEST(Json, RefusesAKeyTwiceHoweverItIsEscaped) {
  for (const char* second : {"type", "t\\u0079pe"}) {
    const auto result =
        json(service_with("\"status\":{\"type\":1,\n\"" + std::string(second) + "\":2}"));
    EXPECT_EQ(ids(result), "");
    EXPECT_EQ(rejected(result), "Service shop/web");
    EXPECT_TRUE(says(result, "rejected: Service shop/web: has the key \"type\" twice"))
        << notices(result);
  }
}

TEST(Json, NestsUpTo64LevelsAndNoDeeper) {
  EXPECT_EQ(ids(json(nested(kMaxDepth))), "Service shop/web");
  const auto result = json(nested(kMaxDepth + 1));
  EXPECT_EQ(ids(result), "");
  EXPECT_EQ(rejected(result), "Service shop/web");
  EXPECT_EQ(notices(result), "f:2: rejected: Service shop/web: nests deeper than 64 levels\n");
}

TEST(Json, DepthWithoutEndIsRefused) {
  for (const char* open : {"[", "{\"a\":"}) {
    std::string text;
    for (int i = 0; i < 1'000'000; ++i) text += open;
    EXPECT_EQ(rejected(json(text)), "?");
  }
  EXPECT_EQ(rejected(json(nested(100'000))), "Service shop/web");
}

TEST(Json, BrokenJsonIsRefusedWithItsLine) {
  for (const char* text :
       {"{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{'a':1}", "{\"a\":tru}", "{\"a\":nul}",
        "{\"a\":01}", "{\"a\":1 2}", "{\"a\":\"\\q\"}", "{\"a\":\"x}", "{\"a\":[1,]}", "{\"a\":+1}",
        "{\"a\":NaN}", "// x\n{}"}) {
    const auto result = json(text);
    EXPECT_TRUE(result.objects.empty()) << text;
    EXPECT_EQ(rejected(result), "?") << text;
    ASSERT_EQ(result.notices.size(), 1u) << text;
    EXPECT_EQ(result.notices[0].origin.line, 1) << text;
    EXPECT_TRUE(says(result, "is not valid JSON")) << notices(result);
  }
  const auto result = json("{\"apiVersion\":\"v1\",\n\"kind\":\n\"Service\",\n\"spec\": oops}");
  ASSERT_EQ(result.notices.size(), 1u);
  EXPECT_EQ(result.notices[0].origin.line, 4) << notices(result);
}

TEST(Json, NulAndInvalidUtf8AreRefused) {
  EXPECT_EQ(rejected(json(service_with("\"status\":\"a\\u0000b\""))), "Service shop/web");
  EXPECT_EQ(rejected(json(service_with("\"a" + std::string(1, '\0') + "b\":1"))), "?");
  EXPECT_EQ(rejected(json(service_with("\"status\":1") + std::string(1, '\0'))), "?");
  EXPECT_EQ(rejected(json(std::string(4096, '\0'))), "?");
  for (const char* bytes : {"\xff", "\xc3", "\x80", "\xc0\xaf", "\xed\xa0\x80"})
    EXPECT_EQ(rejected(json(service_with("\"status\":\"" + std::string(bytes) + "\""))), "?")
        << bytes;
  EXPECT_EQ(ids(json(service_with("\"status\":\"\\ud800\""))), "");
}

TEST(Json, LinesAreThoseOfTheField) {
  const auto result = json(
      "\n{\"apiVersion\":\"v1\",\"kind\":\"Service\",\n\"metadata\":{\"name\":\"web\"},\n\n"
      "\"spec\":{\"ports\":[\n{\"port\":80,\n\"odd\":1}],\n\"strange\":\"a\\nb\",\n\"type\":5}}\n");
  EXPECT_EQ(
      notices(result),
      "f:9: rejected: Service default/web: spec.type must be a string, not a number: quote it\n"
      "f:7: warning: Service default/web: unknown field \"spec.ports[0].odd\": it has no effect\n"
      "f:8: warning: Service default/web: unknown field \"spec.strange\": it has no effect\n");
}

TEST(Json, NumbersAreNotStringsAndStringsNotNumbers) {
  EXPECT_TRUE(says(
      json(
          R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"selector":{"v":1}}})"),
      "spec.selector.v must be a string, not a number: quote it"));
  EXPECT_TRUE(says(
      json(
          R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":"80"}]}})"),
      "spec.ports[0].port must be a number, not a string"));
  for (const char* number : {"80.5", "8e1", "-80", "1e400", "99999999999999999999"})
    EXPECT_NE(
        rejected(json(
            R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":)" +
            std::string(number) + "}]}}")),
        "")
        << number;
}

TEST(Json, AHundredThousandEndpointsAreRead) {
  std::string text =
      R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"web-1",
    "labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4","ports":[{"port":8080}],"endpoints":[)";
  constexpr int kMany = 100'000;
  for (int i = 0; i < kMany; ++i)
    text += std::string(i ? ",\n" : "") + "{\"addresses\":[\"10." + std::to_string(i >> 16) + "." +
            std::to_string(i >> 8 & 255) + "." + std::to_string(i & 255) +
            "\"],\"conditions\":{\"ready\":false}}";
  const auto result = json(text + "]}");
  ASSERT_EQ(notices(result), "");
  const auto& slice = test::first<model::EndpointSliceObject>(result);
  ASSERT_EQ(slice.endpoints.size(), static_cast<std::size_t>(kMany));
  EXPECT_EQ(slice.endpoints.back().address.to_text(), "10.1.134.159");
  EXPECT_FALSE(slice.endpoints.back().ready);
}

}  // namespace
}  // namespace weft::manifest
