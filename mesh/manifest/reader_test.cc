#include "mesh/manifest/reader.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "mesh/manifest/test_reading.h"
#include "mesh/manifest/text_reader.h"

namespace weft::manifest {
namespace {

using model::Severity;
using test::count;
using test::ids;
using test::json;
using test::notices;
using test::rejected;
using test::says;
using test::service_of;
using test::yaml;

const std::string kWeb = service_of("{clusterIP: 10.96.0.1, ports: [{port: 80}]}");
const std::string kApi = service_of("{clusterIP: 10.96.0.2, ports: [{port: 80}]}", "api");
const std::string kDb = service_of("{clusterIP: 10.96.0.3, ports: [{port: 80}]}", "db");

std::string manifest(const std::string& version, const std::string& kind) {
  return "apiVersion: " + version + "\nkind: " + kind + "\nmetadata: {name: x, namespace: shop}\n";
}

std::string contents(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path << ": run the test from the repository's root";
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Reader, ReadsEveryDocumentOfAFile) {
  const auto result = yaml(kWeb + "---\n" + kApi + "---\n" + kDb);
  EXPECT_EQ(ids(result), "Service shop/web, Service shop/api, Service shop/db");
  EXPECT_EQ(notices(result), "");
}

TEST(Reader, EmptyFilesAndEmptyDocumentsMeanNothing) {
  for (const char* text : {"", "\n", "# only a comment\n", "---\n", "---\n---\n...\n", "null\n"}) {
    const auto result = yaml(text);
    EXPECT_EQ(ids(result) + notices(result) + rejected(result), "") << text;
  }
  for (const char* text :
       {"", " \r\n\t", "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[]}"}) {
    const auto result = json(text);
    EXPECT_EQ(ids(result) + notices(result) + rejected(result), "") << text;
  }
  EXPECT_EQ(ids(yaml("---\n---\n" + kWeb + "---\n")), "Service shop/web");
}

TEST(Reader, AListIsItsItems) {
  const auto result = yaml(
      "apiVersion: v1\nkind: List\nitems:\n"
      "- {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {}}\n"
      "- {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {}}\n");
  EXPECT_EQ(ids(result), "Service default/a, Service default/b");
  EXPECT_EQ(model::meta_of(*result.objects.at(1)).origin.line, 5);
}

TEST(Reader, ItemsOfATypedListTakeItsKind) {
  const auto result = yaml(
      "apiVersion: v1\nkind: ServiceList\nmetadata: {resourceVersion: \"7\"}\nitems:\n"
      "- {metadata: {name: a}, spec: {}}\n- {metadata: {name: b}, spec: {type: Odd}}\n");
  EXPECT_EQ(ids(result), "Service default/a");
  EXPECT_EQ(rejected(result), "Service default/b");
  EXPECT_EQ(notices(result),
            "f:6: rejected: Service default/b: spec.type \"Odd\" is not a Service's type\n");
}

TEST(Reader, AnItemOfAnUntypedListNeedsItsKind) {
  const auto result =
      yaml("apiVersion: v1\nkind: List\nitems:\n- {metadata: {name: a}, spec: {}}\n- 5\n");
  EXPECT_EQ(rejected(result), "?");
  EXPECT_TRUE(says(result, "f:4: rejected: kind is missing")) << notices(result);
  EXPECT_TRUE(says(result, "f:5: rejected: is not an object")) << notices(result);
}

TEST(Reader, ASyntaxErrorHidesWhatIsBehindItAndNothingBefore) {
  const auto result = yaml(kWeb + "---\nspec: [1, 2\nkind: {\n---\n" + kDb);
  EXPECT_EQ(ids(result), "Service shop/web");
  EXPECT_EQ(rejected(result), "?");
  ASSERT_EQ(result.notices.size(), 1u);
  EXPECT_TRUE(says(result, "rejected: is not valid YAML")) << notices(result);
  EXPECT_GE(result.notices[0].origin.line, 6);
  EXPECT_LE(result.notices[0].origin.line, 9);
}

TEST(Reader, OneBadDocumentDoesNotTakeItsNeighbours) {
  const auto result =
      yaml(kWeb + "---\n" + service_of("{ports: [{port: 70000}]}", "api") + "---\n" + kDb);
  EXPECT_EQ(ids(result), "Service shop/web, Service shop/db");
  EXPECT_EQ(rejected(result), "Service shop/api");
  EXPECT_EQ(notices(result),
            "f:9: rejected: Service shop/api: spec.ports[0].port 70000 is not in 1..65535\n");
}

TEST(Reader, ADocumentThatIsNoMappingIsRejected) {
  for (const char* text : {"just words\n", "- a\n- b\n", "42\n"}) {
    const auto result = yaml(text);
    EXPECT_EQ(rejected(result), "?") << text;
    EXPECT_TRUE(says(result, "f:1: rejected: is not an object")) << notices(result);
  }
}

TEST(Reader, KindAndApiVersionAreRequired) {
  auto result = yaml("metadata: {name: web}\napiVersion: v1\n");
  EXPECT_EQ(notices(result), "f:1: rejected: kind is missing or not a string\n");
  EXPECT_EQ(rejected(result), "?");
  result = yaml("\n\nkind: Service\nmetadata: {name: web}\n");
  EXPECT_EQ(notices(result),
            "f:3: rejected: Service default/web: apiVersion is missing or not a string\n");
  EXPECT_EQ(rejected(result), "Service default/web");
  result = yaml("apiVersion: v1\nkind: 5\nmetadata: {name: web}\n");
  EXPECT_EQ(rejected(result), "?");
}

TEST(Reader, AnUnknownVersionOfAKnownKindIsRejectedByName) {
  const auto result = yaml(manifest("discovery.k8s.io/v1beta1", "EndpointSlice"));
  EXPECT_EQ(notices(result),
            "f:1: rejected: EndpointSlice shop/x: apiVersion \"discovery.k8s.io/v1beta1\" is not "
            "known for it: this build reads discovery.k8s.io/v1\n");
  EXPECT_EQ(rejected(result), "EndpointSlice shop/x");
}

TEST(Reader, AllVersionsOfIstioKindsAreRead) {
  for (const char* version : {"v1", "v1beta1", "v1alpha3"}) {
    const auto group = std::string("networking.istio.io/") + version;
    EXPECT_EQ(ids(yaml(manifest(group, "DestinationRule") + "spec: {host: web}\n")),
              "DestinationRule shop/x");
  }
  EXPECT_EQ(rejected(yaml(manifest("networking.istio.io/v2", "DestinationRule"))),
            "DestinationRule shop/x");
}

TEST(Reader, KindsOfOthersArePassedOverEachInItsSeverity) {
  const auto say = [](const char* version, const char* kind) {
    const auto result = yaml(manifest(version, kind));
    EXPECT_EQ(ids(result) + rejected(result), "");
    return notices(result);
  };
  EXPECT_EQ(say("apps/v1", "Deployment"),
            "f:1: info: Deployment shop/x: passed over: not a mesh's business\n");
  EXPECT_EQ(say("v1", "ConfigMap"),
            "f:1: info: ConfigMap shop/x: passed over: not a mesh's business\n");
  EXPECT_EQ(
      say("gateway.networking.k8s.io/v1", "GRPCRoute"),
      "f:1: warning: GRPCRoute shop/x: has no effect: GRPCRoute is not supported by this build\n");
  EXPECT_EQ(say("networking.k8s.io/v1", "NetworkPolicy"),
            "f:1: not_enforced: NetworkPolicy shop/x: is NOT ENFORCED by this build: it has "
            "nothing that could keep a NetworkPolicy, so connections that it forbids are made\n");
  EXPECT_EQ(
      say("security.istio.io/v1", "PeerAuthentication"),
      "f:1: not_enforced: PeerAuthentication shop/x: is NOT ENFORCED by this build: it has nothing "
      "that could keep a PeerAuthentication, so connections that it forbids are made\n");
  EXPECT_EQ(say("v1", "Endpoints"),
            "f:1: warning: Endpoints shop/x: is not read: write an EndpointSlice "
            "(discovery.k8s.io/v1)\n");
  EXPECT_EQ(say("example.com/v1", "Service"),
            "f:1: warning: Service shop/x: unknown kind \"Service\" of example.com: passed over, "
            "it has no effect\n");
}

// Which of two documents of one object counts is merge()'s to say: it sees all files.
TEST(Reader, AnObjectTwiceInAFileIsReadTwice) {
  EXPECT_EQ(ids(yaml(kWeb + "---\n" + kWeb)), "Service shop/web, Service shop/web");
}

TEST(Reader, NoticesAreCappedAndTheWorstAreKept) {
  std::string text = service_of("\n  clusterIP: 10.96.0.1");
  for (int i = 0; i < 3000; ++i) text += "  odd" + std::to_string(i) + ": 1\n";
  text += "---\nkind: Service\n";
  const auto result = yaml(text);
  ASSERT_EQ(result.notices.size(), 1001u);
  EXPECT_EQ(result.notices.front().to_text(),
            "f:3007: rejected: Service: apiVersion is missing or not a string");
  EXPECT_EQ(result.notices.back().to_text(), "f: warning: and 2001 more of this file");
  EXPECT_EQ(ids(result), "Service shop/web");
}

TEST(Reader, NoticesOfAFloodAreCountedButNotKept) {
  std::string text = "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[1";
  constexpr std::size_t kMany = 2'000'000;
  for (std::size_t i = 1; i < kMany; ++i) text += ",1";
  const auto result = json(text + "]}");
  ASSERT_EQ(result.notices.size(), 1001u);
  EXPECT_EQ(result.notices.back().message,
            "and " + std::to_string(kMany - 1000) + " more of this file");
  EXPECT_LE(result.notices.capacity(), 100'000u);
}

TEST(Reader, AFileOver64MegabytesIsRefusedUnread) {
  const std::string big(kMaxFileBytes + 1, '#');
  const auto result = yaml(big);
  EXPECT_EQ(notices(result), "f: rejected: is over 64 MB: split it\n");
  EXPECT_EQ(rejected(result), "?");
  EXPECT_EQ(notices(yaml(std::string_view(big).substr(1))), "");
}

TEST(Reader, NoControlCharacterOfTheInputGetsIntoANotice) {
  const std::string evil = "\\u001b[2Jx\\u0007\\u009b\\u007f\\n";
  const auto result =
      yaml("apiVersion: v1\nkind: Service\nmetadata: {name: \"" + evil + "\", labels: {\"" + evil +
           "\": 5}}\nspec: {\"" + evil + "\": 1, type: \"" + evil + "\"}\n---\n" +
           "apiVersion: \"" + evil + "\"\nkind: \"" + evil + "\"\nmetadata: {name: \"" + evil +
           "\"}\n---\n" + manifest("networking.istio.io/v1", "DestinationRule") +
           "spec: {host: web, trafficPolicy: {\"" + evil + "\": 1}}\n---\n{\"" + evil +
           "\": 1, \"" + evil + "\": 2}\n");
  EXPECT_GE(result.notices.size(), 6u);
  for (const auto& notice : result.notices) {
    const auto text = notice.to_text();
    for (const char c : text)
      EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) << text;
    EXPECT_EQ(text.find("\xc2\x9b"), std::string::npos) << text;
  }
}

TEST(Reader, NoInputMakesANoticeLong) {
  const std::string longish(100'000, 'a');
  const auto result = yaml("apiVersion: v1\nkind: Service\nmetadata: {name: " + longish +
                           ", labels: {" + longish + ": 5}}\nspec: {" + longish + ": 1}\n");
  EXPECT_GE(result.notices.size(), 3u);
  for (const auto& notice : result.notices) EXPECT_LE(notice.to_text().size(), 1000u);
}

TEST(Quoted, ShowsShortTextWithControlCharactersAsHex) {
  EXPECT_EQ(manifest::quoted("web"), "\"web\"");
  EXPECT_EQ(manifest::quoted(""), "\"\"");
  EXPECT_EQ(manifest::quoted("a\nb\x1b\x7f"), "\"a\\x0ab\\x1b\\x7f\"");
  EXPECT_EQ(manifest::quoted(std::string_view("\0", 1)), "\"\\x00\"");
  EXPECT_EQ(manifest::quoted("caf\xc3\xa9"), "\"caf\xc3\xa9\"");
  EXPECT_EQ(manifest::quoted("\xc2\x9b"), "\"\\xc2\\x9b\"");
}

TEST(Quoted, CutsLongTextBetweenCharacters) {
  EXPECT_EQ(manifest::quoted(std::string(80, 'a')), "\"" + std::string(80, 'a') + "\"");
  EXPECT_EQ(manifest::quoted(std::string(81, 'a')), "\"" + std::string(80, 'a') + "...\"");
  // Two bytes a character: the 80th byte is the first half of one.
  std::string text = "a", cut = "a";
  for (int i = 0; i < 80; ++i) text += "\xc3\xa9";
  for (int i = 0; i < 39; ++i) cut += "\xc3\xa9";
  EXPECT_EQ(manifest::quoted(text), "\"" + cut + "...\"");
}

std::shared_ptr<const model::Unit> in_force(const std::string& text) {
  return carry_over(nullptr, yaml(text));
}

TEST(CarryOver, WithoutAPreviousUnitItIsTheFreshOne) {
  const auto unit = carry_over(nullptr, yaml(kWeb + "---\nodd\n"));
  EXPECT_EQ(ids(unit->objects), "Service shop/web");
  EXPECT_EQ(unit->notices.size(), 1u);
}

TEST(CarryOver, WhatIsGoneFromAGoodFileIsGone) {
  EXPECT_EQ(ids(carry_over(in_force(kWeb + "---\n" + kApi), yaml(kApi))->objects),
            "Service shop/api");
  EXPECT_EQ(ids(carry_over(in_force(kWeb), yaml(""))->objects), "");
}

TEST(CarryOver, ARejectedDocumentKeepsItsLastGoodVersionAndNobodyElses) {
  const auto previous = in_force(kWeb + "---\n" + kApi + "---\n" + kDb);
  const auto unit = carry_over(previous, yaml(service_of("{type: Odd}") + "---\n" + kApi));
  EXPECT_EQ(ids(unit->objects), "Service shop/api, Service shop/web");
  EXPECT_EQ(unit->objects.at(1), previous->objects.at(0));
}

TEST(CarryOver, AnUnidentifiedRejectionKeepsEverythingThatIsMissing) {
  const auto previous = in_force(kWeb + "---\n" + kApi + "---\n" + kDb);
  const auto unit =
      carry_over(previous, yaml(service_of("{clusterIP: 10.96.0.7}", "api") + "---\n{\n"));
  EXPECT_EQ(ids(unit->objects), "Service shop/api, Service shop/web, Service shop/db");
  EXPECT_EQ(std::get<model::ServiceObject>(*unit->objects.at(0)).cluster_ips.at(0).to_text(),
            "10.96.0.7");
}

TEST(CarryOver, TheDefaultNamespaceIsOneHoweverItIsWritten) {
  const std::string good = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {}\n";
  for (const char* space : {"", ", namespace: default", ", namespace: \"\"", ", namespace: null"}) {
    const auto fresh =
        yaml("apiVersion: v1\nkind: Service\nmetadata: {name: web" + std::string(space) + "}\n");
    EXPECT_EQ(rejected(fresh), "Service default/web") << space;
    EXPECT_EQ(ids(carry_over(in_force(good), fresh)->objects), "Service default/web") << space;
  }
}

TEST(CarryOver, ANamespaceThatIsNoTextCouldBeAnybodys) {
  const auto previous = in_force(
      "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: \"42\"}\nspec: {}\n");
  const auto fresh =
      yaml("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: 42}\nspec: {}\n");
  EXPECT_EQ(rejected(fresh), "?");
  EXPECT_EQ(ids(carry_over(previous, fresh)->objects), "Service 42/web");
}

TEST(CarryOver, ARefusedListKeepsAllItsItems) {
  const auto previous = in_force(kWeb + "---\n" + kApi);
  const std::string head = "apiVersion: v1\nkind: List\nmetadata: {name: all}\nitems:\n";
  const auto fresh = yaml(head + "- {kind: Service, kind: Service}\n");
  EXPECT_EQ(rejected(fresh), "?");
  EXPECT_EQ(ids(carry_over(previous, fresh)->objects), "Service shop/web, Service shop/api");
}

TEST(CarryOver, ADocumentOfTwoNamesCouldBeAnybodys) {
  const auto previous = in_force(kWeb + "---\n" + kApi);
  for (const char* metadata :
       {"metadata: {name: web, namespace: shop, name: api}",
        "metadata: {name: web, namespace: shop}\nmetadata: {name: api, namespace: shop}"}) {
    const auto fresh =
        yaml("apiVersion: v1\nkind: Service\nspec: {}\n" + std::string(metadata) + "\n");
    EXPECT_EQ(ids(carry_over(previous, fresh)->objects), "Service shop/web, Service shop/api")
        << metadata;
  }
}

TEST(CarryOver, ADocumentWithAKeyThatIsNoWordCouldBeAnybodys) {
  const auto previous = in_force(kWeb);
  for (const char* odd : {"? {a: b}\n: c\n", "? [a]\n: {b: c}\n", "? *x\n: c\n"}) {
    const auto fresh = yaml("? *x\n: 1\n" + std::string(odd) + service_of("{}"));
    EXPECT_EQ(ids(fresh), "") << odd;
    EXPECT_EQ(ids(carry_over(previous, fresh)->objects), "Service shop/web") << odd;
  }
}

TEST(Golden, TheArticlesManifestsLoadAsTheyAre) {
  const std::string folder = "tests/golden/article/";
  const auto services = parse(contents(folder + "services.yaml"), "services.yaml", Format::kYaml);
  EXPECT_EQ(ids(services),
            "Service service-mesh-app/service-a, Service service-mesh-app/service-b");
  EXPECT_EQ(notices(services),
            "services.yaml:15: info: Deployment service-mesh-app/service-a: passed over: not a "
            "mesh's business\n"
            "services.yaml:50: info: Deployment service-mesh-app/service-b: passed over: not a "
            "mesh's business\n");
  const auto rule = parse(contents(folder + "destination-rule.yaml"), "rule.yaml", Format::kYaml);
  EXPECT_EQ(ids(rule), "DestinationRule service-mesh-app/service-a");
  EXPECT_EQ(notices(rule), "");
  const auto routes =
      parse(contents(folder + "virtual-service.yaml"), "routes.yaml", Format::kYaml);
  EXPECT_EQ(ids(routes), "VirtualService service-mesh-app/service-a");
  EXPECT_EQ(count(routes, Severity::kWarning), 1u) << notices(routes);
  EXPECT_EQ(routes.notices.size(), 1u) << notices(routes);
  for (const auto* result : {&services, &rule, &routes}) EXPECT_EQ(rejected(*result), "");
}

}  // namespace
}  // namespace weft::manifest
