#include <gtest/gtest.h>

#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using test::ids;
using test::notices;
using test::rejected;
using test::says;
using test::service_of;
using test::yaml;

const std::string kHead = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n";

// A Service whose spec holds `odd` at `levels` levels below the document.
std::string nested(int levels) {
  std::string text = kHead + "odd: ";
  for (int i = 1; i < levels; ++i) text += "[";
  text += "x";
  for (int i = 1; i < levels; ++i) text += "]";
  return text + "\nspec: {}\n";
}

TEST(Yaml, RefusesAnchorsAliasesAndMergeKeys) {
  auto result = yaml(kHead + "spec:\n  selector: &s {app: web}\n");
  EXPECT_EQ(notices(result),
            "f:5: rejected: Service shop/web: has an anchor (&name): these are refused; "
            "write the value out\n");
  EXPECT_EQ(rejected(result), "Service shop/web");
  EXPECT_TRUE(says(yaml(kHead + "spec: {type: &t ClusterIP}\n"), "has an anchor (&name)"));
  EXPECT_TRUE(says(yaml(kHead + "spec: {ports: &p []}\n"), "has an anchor (&name)"));
  result = yaml(kHead + "spec: {<<: {type: ClusterIP}}\n");
  EXPECT_EQ(notices(result),
            "f:4: rejected: Service shop/web: has a merge key (<<): these are refused; write the "
            "values out\n");
  result = yaml(kHead + "spec: *elsewhere\n");
  EXPECT_TRUE(result.objects.empty());
  EXPECT_EQ(rejected(result), "Service shop/web") << notices(result);
  EXPECT_TRUE(says(result, "f:4: rejected: Service shop/web: has an alias (*name)"))
      << notices(result);
}

TEST(Yaml, ABillionLaughsIsRefusedAndItsNeighboursStay) {
  std::string bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i < 20; ++i) {
    const auto name = std::to_string(i), below = std::to_string(i - 1);
    bomb += "a" + name + ": &a" + name + " [*a" + below;
    for (int j = 0; j < 8; ++j) bomb += ", *a" + below;
    bomb += "]\n";
  }
  const auto result = yaml(service_of("{}") + "---\n" + bomb + "---\n" + service_of("{}", "api"));
  EXPECT_EQ(ids(result), "Service shop/web, Service shop/api");
  EXPECT_EQ(rejected(result), "?");
  EXPECT_EQ(notices(result),
            "f:6: rejected: has an anchor (&name): these are refused; write the value "
            "out\n");
}

TEST(Yaml, RefusesAKeyTwiceHoweverItIsQuoted) {
  for (const char* second : {"type", "\"type\"", "'type'", "\"t\\u0079pe\""}) {
    const auto result = yaml(kHead + "spec:\n  type: ClusterIP\n  " + second + ": ClusterIP\n");
    EXPECT_EQ(notices(result), "f:6: rejected: Service shop/web: has the key \"type\" twice\n")
        << second;
    EXPECT_EQ(rejected(result), "Service shop/web");
  }
}

TEST(Yaml, RefusesAKeyTwiceInLargeMappings) {
  std::string text = kHead + "spec:\n  selector:\n";
  for (int i = 0; i < 40; ++i) text += "    k" + std::to_string(i) + ": v\n";
  EXPECT_EQ(ids(yaml(text)), "Service shop/web");
  for (const int twice : {0, 15, 16, 17, 39})
    EXPECT_TRUE(says(yaml(text + "    k" + std::to_string(twice) + ": v\n"), " twice")) << twice;
}

TEST(Yaml, TheSameKeyInAnotherMappingIsFine) {
  EXPECT_EQ(
      notices(yaml(
          kHead +
          "spec: {selector: {a: x, spec: z}, ports: [{port: 1, name: a}, {port: 2, name: b}]}\n")),
      "");
}

TEST(Yaml, NestsUpTo64LevelsAndNoDeeper) {
  EXPECT_EQ(ids(yaml(nested(kMaxDepth))), "Service shop/web");
  const auto result = yaml(nested(kMaxDepth + 1));
  EXPECT_EQ(ids(result), "");
  EXPECT_EQ(rejected(result), "Service shop/web");
  EXPECT_EQ(notices(result), "f:4: rejected: Service shop/web: nests deeper than 64 levels\n");
}

TEST(Yaml, TooDeepADocumentLeavesItsNeighboursAlone) {
  const auto result = yaml(nested(200) + "---\n" + service_of("{}", "api"));
  EXPECT_EQ(ids(result), "Service shop/api");
  EXPECT_EQ(rejected(result), "Service shop/web");
}

TEST(Yaml, DepthWithoutEndIsRefused) {
  for (const char* open : {"[", "{a: ", "- "}) {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += open;
    const auto result = yaml(text);
    EXPECT_TRUE(result.objects.empty());
    EXPECT_EQ(rejected(result), "?");
  }
}

TEST(Yaml, AFileWithANulByteIsRefusedWhole) {
  const auto result = yaml(service_of("{}") + std::string("a\0b", 3) + "\n");
  EXPECT_EQ(ids(result), "");
  EXPECT_EQ(notices(result), "f:5: rejected: has a NUL byte: it was damaged, or is no text\n");
  EXPECT_EQ(rejected(result), "?");
  EXPECT_EQ(rejected(yaml(std::string(4096, '\0'))), "?");
}

TEST(Yaml, AnEscapedNulIsRefused) {
  const auto result = yaml(kHead + "spec: {type: \"a\\0b\"}\n");
  EXPECT_EQ(notices(result), "f:4: rejected: Service shop/web: has a NUL character in a string\n");
}

TEST(Yaml, InvalidUtf8IsRejected) {
  for (const char* bytes :
       {"\xff", "\xc3", "\x80", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe2\x82"}) {
    for (const auto& text : {kHead + "spec: {selector: {app: \"a" + bytes + "b\"}}\n",
                             kHead + "spec: {selector: {app: a" + bytes + "}}\n",
                             kHead + "# " + bytes + "\nspec: {}\n"}) {
      const auto result = yaml(text);
      EXPECT_TRUE(result.objects.empty()) << text;
      EXPECT_NE(rejected(result), "") << text;
    }
  }
}

TEST(Yaml, Utf8IsTextAsItIs) {
  const auto result =
      yaml("\xef\xbb\xbf" + kHead + "spec: {selector: {app: caf\xc3\xa9 \xf0\x9f\x90\xb3}}\n");
  EXPECT_EQ(notices(result), "");
  ASSERT_EQ(ids(result), "Service shop/web");
  EXPECT_EQ(test::first<model::ServiceObject>(result).selector.at("app"),
            "caf\xc3\xa9 \xf0\x9f\x90\xb3");
}

TEST(Yaml, TabsForIndentationAreRefused) {
  const auto result = yaml(kHead + "spec:\n\ttype: ClusterIP\n");
  EXPECT_EQ(ids(result), "");
  EXPECT_EQ(rejected(result), "?");
  EXPECT_TRUE(says(result, "rejected: is not valid YAML")) << notices(result);
}

TEST(Yaml, WindowsLineEndsCountOnceEach) {
  std::string text = kHead + "spec:\n  ports:\n  - port: 0\n", crlf;
  for (const char c : text) crlf += c == '\n' ? "\r\n" : std::string(1, c);
  EXPECT_EQ(notices(yaml(crlf)), notices(yaml(text)));
  EXPECT_EQ(notices(yaml(crlf)),
            "f:6: rejected: Service shop/web: spec.ports[0].port 0 is not in 1..65535\n");
}

TEST(Yaml, BooleansAreThoseOfKubernetes) {
  const auto publish = [](const std::string& word) {
    const auto result = yaml(kHead + "spec: {publishNotReadyAddresses: " + word + "}\n");
    EXPECT_EQ(ids(result), "Service shop/web") << word << notices(result);
    return !result.objects.empty() && test::first<model::ServiceObject>(result).publish_not_ready;
  };
  for (const char* word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"})
    EXPECT_TRUE(publish(word)) << word;
  for (const char* word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n",
                           "N", "null", "~", ""})
    EXPECT_FALSE(publish(word)) << word;
  for (const char* word : {"\"true\"", "tRue", "1", "maybe"})
    EXPECT_EQ(rejected(yaml(kHead + "spec: {publishNotReadyAddresses: " + word + "}\n")),
              "Service shop/web")
        << word;
}

TEST(Yaml, AValueThatIsNoTextMustBeQuotedWhereTextIsMeant) {
  for (const char* value :
       {"1", "1.5", "1e3", "0x1f", "0o17", "-3", "+5", ".5", "1_000", ".inf", ".nan"}) {
    const auto result = yaml(kHead + "spec: {selector: {version: " + value + "}}\n");
    EXPECT_EQ(
        notices(result),
        "f:4: rejected: Service shop/web: spec.selector.version must be a string, not a number: "
        "quote it\n")
        << value;
  }
  EXPECT_TRUE(says(yaml(kHead + "spec: {selector: {on: no}}\n"),
                   "spec.selector.on must be a string, not a boolean: quote it"));
  for (const char* value :
       {"\"1\"", "'yes'", "v1", "1.2.3", "1a", "e5", "0xg", "+", ".", "1e", "_1", "10.0.0.1"})
    EXPECT_EQ(notices(yaml(kHead + "spec: {selector: {version: " + value + "}}\n")), "") << value;
}

TEST(Yaml, BlockScalarsAndFoldedTextAreStrings) {
  const auto result =
      yaml(kHead + "spec:\n  selector:\n    a: |-\n      1\n    b: >-\n      one\n      two\n");
  ASSERT_EQ(ids(result), "Service shop/web") << notices(result);
  EXPECT_EQ(test::first<model::ServiceObject>(result).selector,
            (model::Labels{{"a", "1"}, {"b", "one two"}}));
}

TEST(Yaml, JsonIsYaml) {
  EXPECT_EQ(ids(yaml("{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": "
                     "\"web\"}, \"spec\": {}}")),
            "Service default/web");
}

TEST(Yaml, LinesAreThoseOfTheField) {
  const auto result = yaml("# comment\n\n---\n" + kHead +
                           "spec:\n  ports:\n  - port: 80\n    odd: 1\n\n  strange: x\n");
  EXPECT_EQ(
      notices(result),
      "f:10: warning: Service shop/web: unknown field \"spec.ports[0].odd\": it has no effect\n"
      "f:12: warning: Service shop/web: unknown field \"spec.strange\": it has no effect\n");
  EXPECT_EQ(test::first<model::ServiceObject>(result).meta.origin.to_text(), "f:4");
}

TEST(Yaml, AHundredThousandEndpointsAreRead) {
  std::string text = test::slice_of("addressType: IPv4\nports: [{port: 8080}]\nendpoints:");
  constexpr int kMany = 100'000;
  for (int i = 0; i < kMany; ++i)
    text += "- addresses: [10." + std::to_string(i >> 16) + "." + std::to_string(i >> 8 & 255) +
            "." + std::to_string(i & 255) + "]\n  conditions: {ready: true}\n  nodeName: n" +
            std::to_string(i % 100) + "\n";
  // 10.0.0.0 is a name of a network, but no special address to endpoints.
  const auto result = yaml(text);
  ASSERT_EQ(notices(result), "");
  const auto& slice = test::first<model::EndpointSliceObject>(result);
  ASSERT_EQ(slice.endpoints.size(), static_cast<std::size_t>(kMany));
  EXPECT_EQ(slice.endpoints.back().address.to_text(), "10.1.134.159");
  EXPECT_EQ(slice.endpoints.back().node, "n99");
}

}  // namespace
}  // namespace weft::manifest
