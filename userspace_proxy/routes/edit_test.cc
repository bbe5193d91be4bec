#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "userspace_proxy/routes/table.h"

namespace weft::routes {
namespace {

using model::PathEdit;
using model::PathMatch;

std::string edited(std::optional<PathMatch> match, const PathEdit& edit, std::string_view path) {
  model::HttpRoutes routes;
  routes.rules.resize(1);
  routes.rules[0].matches.resize(1);
  routes.rules[0].matches[0].path = std::move(match);
  routes.rules[0].action = model::Forward{{}, edit, {}, {}};
  const auto table = Table::compile(routes);
  EXPECT_TRUE(table.ok()) << table.status();
  return (*table)->edited_path(edit, {0, 0}, path);
}

std::string prefix_edited(PathMatch::Kind kind, const char* match, const char* text,
                          const char* path) {
  return edited(PathMatch{kind, match}, {PathEdit::Kind::kPrefix, text, ""}, path);
}

TEST(PathEdit, FollowsEveryRowOfGatewayApisTable) {
  struct Row {
    const char *path, *match, *text, *result;
  };
  for (const Row& row : std::vector<Row>{{"/foo/bar", "/foo", "/xyz", "/xyz/bar"},
                                         {"/foo/bar", "/foo", "/xyz/", "/xyz/bar"},
                                         {"/foo/bar", "/foo/", "/xyz", "/xyz/bar"},
                                         {"/foo/bar", "/foo/", "/xyz/", "/xyz/bar"},
                                         {"/foo", "/foo", "/xyz", "/xyz"},
                                         {"/foo/", "/foo", "/xyz", "/xyz/"},
                                         {"/foo/bar", "/foo", "", "/bar"},
                                         {"/foo/", "/foo", "", "/"},
                                         {"/foo", "/foo", "", "/"},
                                         {"/foo/", "/foo", "/", "/"},
                                         {"/foo", "/foo", "/", "/"}})
    EXPECT_EQ(prefix_edited(PathMatch::Kind::kSegmentPrefix, row.match, row.text, row.path),
              row.result)
        << row.path << " " << row.match << " " << row.text;
}

TEST(PathEdit, AStringPrefixIsReplacedWhereItEnds) {
  EXPECT_EQ(prefix_edited(PathMatch::Kind::kPrefix, "/service-b", "/v2", "/service-bar"), "/v2ar");
  EXPECT_EQ(prefix_edited(PathMatch::Kind::kPrefix, "/api", "/", "/api/x"), "/x");
  EXPECT_EQ(prefix_edited(PathMatch::Kind::kPrefix, "/api/", "/", "/api/x"), "/x");
  EXPECT_EQ(prefix_edited(PathMatch::Kind::kPrefix, "/api", "", "/apix"), "/x");
}

TEST(PathEdit, AnExactPathAndARegularExpressionAreReplacedWhole) {
  EXPECT_EQ(prefix_edited(PathMatch::Kind::kExact, "/foo", "/bar", "/foo"), "/bar");
  EXPECT_EQ(prefix_edited(PathMatch::Kind::kRegex, "/f.*", "/bar", "/foo/x"), "/bar");
}

TEST(PathEdit, ARuleWithoutAPathStandsForTheRoot) {
  EXPECT_EQ(edited(std::nullopt, {PathEdit::Kind::kPrefix, "/v2", ""}, "/foo"), "/v2/foo");
}

TEST(PathEdit, TheWholePathAlwaysBeginsWithASlash) {
  EXPECT_EQ(edited(std::nullopt, {PathEdit::Kind::kWhole, "/x/y", ""}, "/a"), "/x/y");
  EXPECT_EQ(edited(std::nullopt, {PathEdit::Kind::kWhole, "x", ""}, "/a"), "/x");
  EXPECT_EQ(edited(std::nullopt, {PathEdit::Kind::kWhole, "", ""}, "/a"), "/");
}

TEST(PathEdit, ARegularExpressionReplacesEveryMatch) {
  EXPECT_EQ(edited(std::nullopt, {PathEdit::Kind::kRegex, "/x\\1", "/(a|b)"}, "/a/c/b"),
            "/xa/c/xb");
  EXPECT_EQ(edited(std::nullopt, {PathEdit::Kind::kRegex, "", "/"}, "/a/b"), "/ab");
}

TEST(PathEdit, ACaptureThatIsNotThereIsRefused) {
  model::HttpRoutes routes;
  routes.rules.resize(1);
  routes.rules[0].object = "VirtualService shop/web";
  routes.rules[0].action =
      model::Redirect{301, {}, {}, {}, PathEdit{PathEdit::Kind::kRegex, "\\2", "(a)"}};
  const auto table = Table::compile(routes);
  ASSERT_FALSE(table.ok());
  EXPECT_NE(table.status().message().find("VirtualService shop/web rule #0: rewrite"),
            std::string::npos)
      << table.status();
}

model::Forward weighted(const std::vector<std::uint32_t>& weights) {
  model::Forward forward;
  for (const auto weight : weights) {
    forward.destinations.emplace_back();
    forward.destinations.back().weight = weight;
  }
  return forward;
}

// The first random number that leads to the destination or a later one.
std::uint64_t boundary(const model::Forward& forward, std::uint32_t destination) {
  std::uint64_t low = 0, high = 1ull << 32;
  while (low < high) {
    const auto middle = (low + high) / 2;
    if (Table::destination(forward, static_cast<std::uint32_t>(middle)) >= destination)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

TEST(Destination, SharesAreExactToOneRandomNumberInFourBillion) {
  for (const auto& weights : std::vector<std::vector<std::uint32_t>>{
           {1, 1, 1}, {90, 10}, {0, 3, 0, 7}, {1, 99999}, {~0u, ~0u, 1, ~0u}}) {
    const auto forward = weighted(weights);
    long double total = 0;
    for (const auto weight : weights) total += weight;
    for (std::uint32_t i = 0; i < weights.size(); ++i) {
      const auto share = boundary(forward, i + 1) - boundary(forward, i);
      EXPECT_LE(std::abs(static_cast<long double>(share) - weights[i] / total * 4294967296.0L), 1)
          << "destination " << i << " of " << weights.size();
    }
    EXPECT_EQ(boundary(forward, static_cast<std::uint32_t>(weights.size())), 1ull << 32);
  }
}

TEST(Destination, AWeightOfZeroIsNeverChosen) {
  const auto forward = weighted({0, 1, 0});
  for (const auto random : {0u, 1u, 1u << 31, ~0u})
    EXPECT_EQ(Table::destination(forward, random), 1u);
}

TEST(Destination, ThereIsNoneWhereAllWeightsAreZero) {
  EXPECT_EQ(Table::destination(weighted({}), 5), kNone);
  EXPECT_EQ(Table::destination(weighted({0, 0}), 5), kNone);
}

}  // namespace
}  // namespace weft::routes
