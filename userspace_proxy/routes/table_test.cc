#include "userspace_proxy/routes/table.h"

#include <gtest/gtest.h>

namespace weft::routes {
namespace {

using http::Known;
using model::HttpMatch;
using model::PathMatch;
using model::TextMatch;
using Path = PathMatch::Kind;
using Text = TextMatch::Kind;

model::HttpRoutes rules_of(const std::vector<std::vector<HttpMatch>>& rules) {
  model::HttpRoutes routes;
  for (const auto& matches : rules) {
    routes.rules.emplace_back();
    routes.rules.back().object = "VirtualService shop/web";
    routes.rules.back().matches = matches;
  }
  return routes;
}

std::shared_ptr<const Table> table_of(const std::vector<std::vector<HttpMatch>>& rules) {
  auto table = Table::compile(rules_of(rules));
  EXPECT_TRUE(table.ok()) << table.status();
  return *table;
}

HttpMatch path(Path kind, const char* text, bool ignore_case = false) {
  HttpMatch match;
  match.path = PathMatch{kind, text, ignore_case};
  return match;
}

HttpMatch header(const char* name, TextMatch value, bool inverted = false) {
  HttpMatch match;
  match.headers.push_back({name, std::move(value), inverted});
  return match;
}

HttpMatch query(const char* name, TextMatch value) {
  HttpMatch match;
  match.query.push_back({name, std::move(value), false});
  return match;
}

HttpMatch authority(Text kind, const char* text) {
  HttpMatch match;
  match.authority = TextMatch{kind, text, false};
  return match;
}

Request request_for(std::string_view path) {
  Request request;
  request.method = "GET";
  request.authority = "web.shop:8080";
  request.path = path;
  return request;
}

bool holds(const HttpMatch& match, const Request& request) {
  return table_of({{match}})->match(request).rule == 0;
}

TEST(Table, TheFirstRuleThatHoldsWinsWhateverItsKind) {
  const auto table = table_of({{path(Path::kPrefix, "/a/b")},
                               {path(Path::kExact, "/a/b/c"), path(Path::kExact, "/a/x")},
                               {path(Path::kRegex, "/a/.*")},
                               {path(Path::kExact, "/a/y")},
                               {}});
  EXPECT_EQ(table->match(request_for("/a/b/c")).rule, 0u);
  EXPECT_EQ(table->match(request_for("/a/x")).rule, 1u);
  EXPECT_EQ(table->match(request_for("/a/x")).match, 1u);
  EXPECT_EQ(table->match(request_for("/a/y")).rule, 2u);
  EXPECT_EQ(table->match(request_for("/z")).rule, 4u);
}

TEST(Table, NothingMatchesWhereThereAreNoRules) {
  EXPECT_EQ(table_of({})->match(request_for("/")).rule, kNone);
}

TEST(Table, APrefixIsOfTheStringAndASegmentPrefixOfSegments) {
  EXPECT_TRUE(holds(path(Path::kPrefix, "/service-b"), request_for("/service-bar")));
  EXPECT_FALSE(holds(path(Path::kSegmentPrefix, "/a"), request_for("/ab")));
  EXPECT_TRUE(holds(path(Path::kSegmentPrefix, "/a"), request_for("/a")));
  EXPECT_TRUE(holds(path(Path::kSegmentPrefix, "/a"), request_for("/a/")));
  EXPECT_TRUE(holds(path(Path::kSegmentPrefix, "/a/"), request_for("/a")));
  EXPECT_TRUE(holds(path(Path::kSegmentPrefix, "/a/"), request_for("/a/b")));
  EXPECT_TRUE(holds(path(Path::kSegmentPrefix, "/"), request_for("/a/b")));
  EXPECT_FALSE(holds(path(Path::kExact, "/a"), request_for("/a/")));
}

TEST(Table, AnAsteriskIsNoPathBelowTheRoot) {
  EXPECT_FALSE(holds(path(Path::kSegmentPrefix, "/"), request_for("*")));
  EXPECT_FALSE(holds(path(Path::kPrefix, "/"), request_for("*")));
  EXPECT_TRUE(holds({}, request_for("*")));
}

TEST(Table, CaseMattersUnlessItIsIgnored) {
  for (const auto kind : {Path::kExact, Path::kPrefix, Path::kSegmentPrefix, Path::kRegex}) {
    EXPECT_FALSE(holds(path(kind, "/Ab"), request_for("/aB")));
    EXPECT_TRUE(holds(path(kind, "/Ab", true), request_for("/aB")));
  }
}

TEST(Table, ARegularExpressionMatchesTheWholePath) {
  EXPECT_FALSE(holds(path(Path::kRegex, "/a"), request_for("/ab")));
  EXPECT_FALSE(holds(path(Path::kRegex, "a|b"), request_for("/a")));
  EXPECT_TRUE(holds(path(Path::kRegex, "/v[0-9]+/.*"), request_for("/v12/x")));
}

TEST(Table, MethodsHaveCase) {
  HttpMatch match;
  match.method = TextMatch{Text::kExact, "get", false};
  EXPECT_FALSE(holds(match, request_for("/")));
  match.method->ignore_case = true;
  EXPECT_TRUE(holds(match, request_for("/")));
}

TEST(Table, AnAuthorityHasNoCaseAndAPortOnlyWhereTheRuleHasOne) {
  EXPECT_TRUE(holds(authority(Text::kExact, "WEB.shop"), request_for("/")));
  EXPECT_TRUE(holds(authority(Text::kExact, "web.shop:8080"), request_for("/")));
  EXPECT_FALSE(holds(authority(Text::kExact, "web.shop:80"), request_for("/")));
  EXPECT_TRUE(holds(authority(Text::kPrefix, "web."), request_for("/")));
  EXPECT_TRUE(holds(authority(Text::kRegex, "web\\.SHOP"), request_for("/")));
  EXPECT_TRUE(holds(authority(Text::kRegex, ".*:8080"), request_for("/")));
  EXPECT_FALSE(holds(authority(Text::kRegex, "shop"), request_for("/")));
}

TEST(Table, TheSchemeIsHttp) {
  HttpMatch match;
  match.scheme = TextMatch{Text::kExact, "https", false};
  EXPECT_FALSE(holds(match, request_for("/")));
  match.scheme->text = "http";
  EXPECT_TRUE(holds(match, request_for("/")));
}

TEST(Table, HeadersAreComparedByEachKind) {
  http::Fields fields;
  fields.add("X-User", "jason", Known::kOther);
  auto request = request_for("/");
  request.fields = &fields;
  EXPECT_TRUE(holds(header("x-user", {Text::kExact, "jason"}), request));
  EXPECT_FALSE(holds(header("x-user", {Text::kExact, "Jason"}), request));
  EXPECT_TRUE(holds(header("x-user", {Text::kExact, "Jason", true}), request));
  EXPECT_TRUE(holds(header("x-user", {Text::kPrefix, "ja"}), request));
  EXPECT_TRUE(holds(header("x-user", {Text::kRegex, "j.*n"}), request));
  EXPECT_TRUE(holds(header("x-user", {Text::kPresent, ""}), request));
  EXPECT_FALSE(holds(header("x-group", {Text::kPresent, ""}), request));
  EXPECT_FALSE(holds(header("x-group", {Text::kRegex, ".*"}), request));
}

TEST(Table, AHeaderSentTwiceIsNotTheOneValueARuleAsksFor) {
  http::Fields fields;
  fields.add("x-role", "admin", Known::kOther);
  fields.add("x-role", "guest", Known::kOther);
  auto request = request_for("/");
  request.fields = &fields;
  EXPECT_FALSE(holds(header("x-role", {Text::kExact, "admin"}), request));
  EXPECT_TRUE(holds(header("x-role", {Text::kExact, "admin,guest"}), request));
}

TEST(Table, AnAbsentHeaderCountsAsEmptyWhereTheRuleIsInverted) {
  const auto request = request_for("/");
  EXPECT_TRUE(holds(header("x-user", {Text::kExact, "jason"}, true), request));
  EXPECT_FALSE(holds(header("x-user", {Text::kExact, ""}, true), request));
  EXPECT_TRUE(holds(header("x-user", {Text::kPresent, ""}, true), request));
}

TEST(Table, TheHostHeaderIsTheAuthority) {
  http::Fields fields;
  fields.add("Host", "evil", Known::kHost);
  auto request = request_for("/");
  request.fields = &fields;
  EXPECT_FALSE(holds(header("host", {Text::kExact, "evil"}), request));
  EXPECT_TRUE(holds(header("host", {Text::kExact, "web.shop:8080"}), request));
}

TEST(Table, QueryParametersAreComparedDecodedOnBothSides) {
  auto request = request_for("/");
  request.query = "v=a%20b&v=c";
  EXPECT_TRUE(holds(query("v", {Text::kExact, "a b"}), request));
  EXPECT_TRUE(holds(query("v", {Text::kExact, "a%20b"}), request));
  EXPECT_TRUE(holds(query("v", {Text::kRegex, "a b"}), request));
  EXPECT_FALSE(holds(query("v", {Text::kExact, "c"}), request));
}

TEST(Table, ALineFeedInAParameterDoesNotEscapeADot) {
  auto request = request_for("/");
  request.query = "v=a%0Ab%FF";
  EXPECT_TRUE(holds(query("v", {Text::kRegex, "a.*"}), request));
}

TEST(Table, TheCallerIsComparedByNamespaceAndLabels) {
  HttpMatch match;
  match.source_namespace = "shop";
  match.source_labels = {{"app", "cart"}, {"tier", "front"}};
  auto request = request_for("/");
  EXPECT_FALSE(holds(match, request));
  Caller caller{"shop", {{"app", "cart"}, {"tier", "front"}, {"more", ""}}};
  request.caller = &caller;
  EXPECT_TRUE(holds(match, request));
  caller.labels["app"] = "web";
  EXPECT_FALSE(holds(match, request));
}

TEST(Table, RulesOfOnePathLieApartByTheirHeaders) {
  std::vector<std::vector<HttpMatch>> rules;
  for (int i = 0; i < 100; ++i) {
    rules.push_back({header("x-user", {Text::kExact, std::to_string(i)})});
    rules.back()[0].path = PathMatch{Path::kSegmentPrefix, "/"};
  }
  rules.push_back({path(Path::kSegmentPrefix, "/")});
  http::Fields fields;
  fields.add("x-user", "73", Known::kOther);
  auto request = request_for("/x");
  EXPECT_EQ(table_of(rules)->match(request).rule, 100u);
  request.fields = &fields;
  EXPECT_EQ(table_of(rules)->match(request).rule, 73u);
}

std::string refusal(const HttpMatch& match) {
  const auto table = Table::compile(rules_of({{}, {match}}));
  return table.ok() ? "" : std::string(table.status().message());
}

TEST(Table, ARegularExpressionThatDoesNotCompileIsRefusedByName) {
  EXPECT_EQ(refusal(path(Path::kRegex, "/a(b")),
            "VirtualService shop/web rule #1: regular expression /a(b: missing ): /a(b");
}

TEST(Table, ARegularExpressionThatIsTooLargeIsRefused) {
  EXPECT_NE(refusal(path(Path::kRegex, "(a|b){900}")).find("needs more than 1000 instructions"),
            std::string::npos);
  EXPECT_NE(refusal(path(Path::kRegex, "((a{50}){50}){50}")), "");
}

TEST(Table, ManyRegularExpressionsHaveOneBudget) {
  std::vector<std::vector<HttpMatch>> rules;
  for (int i = 0; i < 160; ++i)
    rules.push_back({path(Path::kRegex, ("/" + std::to_string(i) + "a{900}").c_str())});
  const auto table = Table::compile(rules_of(rules));
  ASSERT_FALSE(table.ok());
  EXPECT_NE(table.status().message().find("together"), std::string::npos) << table.status();
}

TEST(Explain, SaysOfEveryRuleWhyItDidNotWin) {
  HttpMatch both = header("x-user", {Text::kExact, "jason"});
  both.path = PathMatch{Path::kSegmentPrefix, "/a"};
  const auto table = table_of({{path(Path::kExact, "/b"), path(Path::kPrefix, "/c")},
                               {both},
                               {path(Path::kRegex, "/b.*")},
                               {header("x-user", {Text::kPresent, ""}, true)},
                               {path(Path::kSegmentPrefix, "/aa")},
                               {}});
  const auto why = explain(*table, request_for("/a"));
  ASSERT_EQ(why.size(), 6u);
  EXPECT_EQ(why[0].why, "path /a is not /b; path /a does not begin with /c");
  EXPECT_EQ(why[1].why, "header x-user is absent");
  EXPECT_EQ(why[2].why, "path /a does not match /b.*");
  EXPECT_TRUE(why[3].won);
  EXPECT_EQ(why[3].why, "");
  EXPECT_EQ(why[4].why, "path /a is not below /aa");
  EXPECT_EQ(why[5].why, "matches, but rule 3 comes first");
}

TEST(Explain, HoldsNoControlCharacterOfTheRequest) {
  const auto table = table_of({{path(Path::kExact, "/b")}});
  EXPECT_EQ(explain(*table, request_for("/\x1b[2J"))[0].why, "path /\\x1b[2J is not /b");
}

}  // namespace
}  // namespace weft::routes
