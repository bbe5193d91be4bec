#include <gtest/gtest.h>

#include "mesh/manifest/decode.h"
#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using test::notices;
using test::says;
using test::yaml;

ParseResult with_metadata(const std::string& fields) {
  return yaml("apiVersion: v1\nkind: Service\nmetadata: {name: web, " + fields + "}\nspec: {}\n");
}

TEST(Time, IsRfc3339) {
  EXPECT_EQ(parse_time("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(parse_time("2024-05-01T10:00:00Z"), 1714557600);
  EXPECT_EQ(parse_time("2024-05-01T12:00:00+02:00"), 1714557600);
  EXPECT_EQ(parse_time("2024-05-01T04:30:00-05:30"), 1714557600);
  EXPECT_EQ(parse_time("2024-05-01T10:00:00.123456Z"), 1714557600);
  EXPECT_EQ(parse_time("2024-02-29T00:00:00Z"), 1709164800);
  EXPECT_EQ(parse_time("1969-12-31T23:59:59Z"), -1);
}

TEST(Time, RefusesWhatIsNone) {
  for (const char* text : {"", "now", "2024-05-01", "2024-05-01T10:00:00", "2024-05-01 10:00:00Z",
                           "2024-13-01T00:00:00Z", "2023-02-29T00:00:00Z", "2024-05-01T24:00:00Z",
                           "2024-05-01T10:60:00Z", "2024-05-01T10:00:61Z", "2024-05-01T10:00:00.Z",
                           "2024-05-01T10:00:00+0200", "2024-05-01T10:00:00+24:00",
                           "2024-05-01T10:00:00ZZ", "+024-05-01T10:00:00Z", "2024-5-01T10:00:00Z",
                           "2024-05-01T10:00:0Z", "20240-05-01T10:00:00Z"})
    EXPECT_EQ(parse_time(text), std::nullopt) << text;
}

TEST(Meta, ACreationTimeIsReadAndNullIsNone) {
  const auto dated = with_metadata("creationTimestamp: 2024-05-01T10:00:00Z");
  EXPECT_EQ(test::first<model::ServiceObject>(dated).meta.created, 1714557600);
  const auto none = with_metadata("creationTimestamp: null");
  EXPECT_EQ(test::first<model::ServiceObject>(none).meta.created, std::nullopt);
  EXPECT_TRUE(says(with_metadata("creationTimestamp: yesterday"),
                   "metadata.creationTimestamp \"yesterday\" is not a time"));
}

TEST(Meta, OfAnnotationsOnlyOursAreKept) {
  const auto result = with_metadata("annotations: {example.com/a: x, weft.mesh/balancer: random}");
  EXPECT_EQ(notices(result), "");
  EXPECT_EQ(test::first<model::ServiceObject>(result).meta.annotations,
            (model::Labels{{"weft.mesh/balancer", "random"}}));
}

TEST(Meta, LabelsAndAnnotationsAreText) {
  EXPECT_TRUE(says(with_metadata("labels: {version: 1}"),
                   "metadata.labels.version must be a string, not a number: quote it"));
  EXPECT_TRUE(says(with_metadata("labels: {debug: true}"),
                   "metadata.labels.debug must be a string, not a boolean: quote it"));
  EXPECT_TRUE(says(with_metadata("annotations: {example.com/on: yes}"),
                   "metadata.annotations.example.com/on must be a string, not a boolean"));
  EXPECT_TRUE(says(with_metadata("labels: [a]"), "metadata.labels must be a mapping, not a list"));
}

TEST(Meta, FieldsOfTheApiServerAreQuietAndOthersAreNamed) {
  EXPECT_EQ(notices(with_metadata("uid: a, resourceVersion: \"1\", generation: 1, finalizers: [], "
                                  "managedFields: [], ownerReferences: [], generateName: a-")),
            "");
  EXPECT_TRUE(says(with_metadata("lables: {}"), "unknown field \"metadata.lables\""));
}

TEST(Names, LabelsAndSubdomainsHaveTheirLengths) {
  EXPECT_TRUE(is_dns_label(std::string(63, 'a')));
  EXPECT_FALSE(is_dns_label(std::string(64, 'a')));
  for (const char* bad : {"", "-a", "a-", "A", "a_b", "a.b", "a b", "\xc3\xa9"})
    EXPECT_FALSE(is_dns_label(bad)) << bad;
  std::string name = "aaaaa";
  for (int i = 0; i < 4; ++i) name.insert(0, std::string(61, 'a')).insert(61, 1, '.');
  ASSERT_EQ(name.size(), 253u);
  EXPECT_TRUE(is_dns_subdomain(name));
  EXPECT_FALSE(is_dns_subdomain("a" + name));
  for (const char* bad : {"", ".", "a.", ".a", "a..b"}) EXPECT_FALSE(is_dns_subdomain(bad)) << bad;
}

}  // namespace
}  // namespace weft::manifest
