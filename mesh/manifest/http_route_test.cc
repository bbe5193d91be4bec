#include <gtest/gtest.h>

#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using model::DirectResponse;
using model::Forward;
using model::HttpRouteObject;
using model::PathEdit;
using model::PathMatch;
using model::Redirect;
using model::TextMatch;
using std::chrono::milliseconds;
using test::first;
using test::ids;
using test::notices;
using test::rejected;
using test::says;

const std::string kParent = "{group: \"\", kind: Service, name: web}";

ParseResult read(const std::string& spec, const std::string& version = "v1") {
  return test::yaml("apiVersion: gateway.networking.k8s.io/" + version +
                    "\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: {" + spec +
                    "}\n");
}
ParseResult rules(const std::string& list) {
  return read("parentRefs: [" + kParent + "], rules: " + list);
}
const std::string kTo = "backendRefs: [{name: web, port: 80}]";
const std::string kStart = "HTTPRoute shop/r: ";

model::HttpRule rule(const std::string& fields) {
  const auto result = rules("[{" + fields + "}]");
  EXPECT_EQ(notices(result), "") << fields;
  if (result.objects.empty()) return {};
  return first<HttpRouteObject>(result).rules.at(0);
}
Forward forward(const std::string& fields) { return std::get<Forward>(rule(fields).action); }
model::HttpMatch match(const std::string& fields) {
  return rule("matches: [{" + fields + "}], " + kTo).matches.at(0);
}
std::string filter(const std::string& fields) { return "filters: [{" + fields + "}], "; }

std::string wrong(const std::string& fields) {
  const auto result = rules("[{" + fields + "}]");
  EXPECT_EQ(rejected(result), "HTTPRoute shop/r") << fields << "\n" << notices(result);
  const std::string start = "f:4: rejected: " + kStart + "spec.rules[0]";
  const auto text = notices(result);
  EXPECT_EQ(text.substr(0, start.size()), start);
  return text.substr(std::min(start.size(), text.size()));
}

TEST(ManifestHttpRoute, OfEveryVersionIsRead) {
  for (const char* version : {"v1", "v1beta1"}) {
    const auto result =
        read("parentRefs: [" + kParent + "], rules: [{name: all, " + kTo + "}]", version);
    EXPECT_EQ(notices(result), "");
    const auto& route = first<HttpRouteObject>(result);
    EXPECT_EQ(route.parents.at(0).namespace_name, "shop");
    EXPECT_EQ(route.parents.at(0).name, "web");
    EXPECT_EQ(route.rules.at(0).name, "all");
    EXPECT_EQ(route.rules.at(0).object, "HTTPRoute shop/r");
    EXPECT_EQ(route.rules.at(0).origin.to_text(), "f:4");
    EXPECT_EQ(route.backends.at(0).host, "web.shop");
    EXPECT_EQ(route.backends.at(0).port, 80);
  }
}

TEST(ManifestHttpRoute, IsForServicesThatItNamesAsParents) {
  const auto result = read(
      "parentRefs: [{name: gateway}, {group: \"\", kind: Service, name: web, namespace: other, "
      "port: 80, sectionName: http}, {kind: Service, name: odd}], rules: [{" +
      kTo + "}]");
  const auto& parents = first<HttpRouteObject>(result).parents;
  ASSERT_EQ(parents.size(), 1u);
  EXPECT_EQ(parents[0].namespace_name, "other");
  EXPECT_EQ(parents[0].port, 80);
  EXPECT_EQ(parents[0].port_name, "http");
  for (const char* none : {"parentRefs: [{name: gateway}]", "parentRefs: []",
                           "parentRefs: [{kind: Service, name: web}]"}) {
    const auto other = read(std::string(none) + ", rules: [{" + kTo + "}]");
    EXPECT_EQ(ids(other) + rejected(other), "");
    EXPECT_TRUE(says(other, "has no effect: none of spec.parentRefs is a Service")) << none;
  }
}

TEST(ManifestHttpRoute, HostnamesAreReported) {
  EXPECT_TRUE(says(read("parentRefs: [" + kParent + "], hostnames: [a.b], rules: [{" + kTo + "}]"),
                   "spec.hostnames have no effect: for a Service the address that is called"));
}

TEST(ManifestHttpRoute, MatchesEverythingUnlessToldOtherwise) {
  const PathMatch all{PathMatch::Kind::kSegmentPrefix, "/", false};
  EXPECT_EQ(rule(kTo).matches.at(0).path, all);
  EXPECT_EQ(match("").path, all);
  EXPECT_EQ(match("path: {}").path, all);
}

TEST(ManifestHttpRoute, MatchesPaths) {
  using Kind = PathMatch::Kind;
  EXPECT_EQ(match("path: {type: Exact, value: /a/}").path, (PathMatch{Kind::kExact, "/a/", false}));
  EXPECT_EQ(match("path: {value: /a/}").path, (PathMatch{Kind::kSegmentPrefix, "/a", false}));
  EXPECT_EQ(match("path: {type: RegularExpression, value: \"/a+\"}").path,
            (PathMatch{Kind::kRegex, "/a+", false}));
  for (const char* bad : {"a", "\"\"", "/a//b", "/./a", "/a/..", "/%2fa", "\"/a#b\""})
    EXPECT_TRUE(wrong("matches: [{path: {value: " + std::string(bad) + "}}], " + kTo)
                    .starts_with(".matches[0].path.value"))
        << bad;
  EXPECT_TRUE(wrong("matches: [{path: {type: Glob, value: /}}], " + kTo)
                  .starts_with(".matches[0].path.type \"Glob\""));
  EXPECT_TRUE(wrong("matches: [{path: {type: RegularExpression, value: \"(\"}}], " + kTo)
                  .starts_with(".matches[0].path.value \"(\" is not a regular expression of RE2"));
}

TEST(ManifestHttpRoute, MatchesHeadersQueryAndMethod) {
  const auto found = match(
      "headers: [{name: X-A, value: a}, {name: x-b, type: RegularExpression, value: b+}], "
      "queryParams: [{name: Page, value: \"1\"}], method: GET");
  using Kind = TextMatch::Kind;
  EXPECT_EQ(found.headers,
            (std::vector<model::FieldMatch>{{"x-a", {Kind::kExact, "a", false}, false},
                                            {"x-b", {Kind::kRegex, "b+", false}, false}}));
  EXPECT_EQ(found.query,
            (std::vector<model::FieldMatch>{{"Page", {Kind::kExact, "1", false}, false}}));
  EXPECT_EQ(found.method, (TextMatch{Kind::kExact, "GET", false}));
  EXPECT_TRUE(says(
      rules("[{matches: [{headers: [{name: a, value: b}, {name: A, value: c}]}], " + kTo + "}]"),
      "headers[1] has no effect: \"a\" is there already"));
  EXPECT_TRUE(says(rules("[{matches: [{header: []}], " + kTo + "}]"),
                   "unknown field \"spec.rules[0].matches[0].header\": requests would match"));
  EXPECT_EQ(wrong("matches: [{headers: [{name: a}]}], " + kTo),
            ".matches[0].headers[0].value is missing\n");
}

TEST(ManifestHttpRoute, SharesRequestsAmongBackends) {
  const auto result = rules(
      "[{backendRefs: [{name: web, port: 80, weight: 9}, {name: db, namespace: data, port: 81}, "
      "{name: web, port: 80, weight: 0}]}]");
  EXPECT_EQ(notices(result), "");
  const auto& route = first<HttpRouteObject>(result);
  ASSERT_EQ(route.backends.size(), 2u);
  EXPECT_EQ(route.backends[1].host, "db.data");
  const auto& to = std::get<Forward>(route.rules[0].action).destinations;
  ASSERT_EQ(to.size(), 3u);
  EXPECT_EQ(to[0].weight, 9u);
  EXPECT_EQ(to[1].weight, 1u);
  EXPECT_EQ(to[2].weight, 0u);
  EXPECT_EQ(to[2].cluster, 0u);
}

TEST(ManifestHttpRoute, ABackendOfAnotherKindIsNobody) {
  const auto result = rules("[{backendRefs: [{kind: Bucket, group: x, name: web}]}]");
  EXPECT_EQ(first<HttpRouteObject>(result).backends.at(0).missing,
            "a backendRef of kind \"Bucket\" is not supported by this build");
  EXPECT_EQ(wrong("backendRefs: [{name: web}]"),
            ".backendRefs[0].port is missing: a Service needs one\n");
  EXPECT_EQ(wrong("backendRefs: [{port: 80}]"), ".backendRefs[0].name is missing\n");
}

TEST(ManifestHttpRoute, WithoutBackendsForwardsToNobody) {
  EXPECT_TRUE(forward("name: x").destinations.empty());
}

TEST(ManifestHttpRoute, ModifiesHeaders) {
  const auto edited = rule(
      "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: "
      "a}], add: [{name: b, value: c}], remove: [X-D]}}, {type: ResponseHeaderModifier, "
      "responseHeaderModifier: {remove: [e]}}], " +
      kTo);
  EXPECT_EQ(edited.request_headers, (model::HeaderEdits{{"x-d"}, {{"X-A", "a"}}, {{"b", "c"}}}));
  EXPECT_EQ(edited.response_headers, (model::HeaderEdits{{"e"}, {}, {}}));
  EXPECT_EQ(forward("backendRefs: [{name: web, port: 80, filters: [{type: RequestHeaderModifier, "
                    "requestHeaderModifier: {remove: [A]}}]}]")
                .destinations.at(0)
                .request_headers.remove,
            std::vector<std::string>{"a"});
}

TEST(ManifestHttpRoute, Mirrors) {
  const auto mirror = [](const std::string& more) {
    return forward(filter("type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}" +
                          more + "}") +
                   kTo)
        .mirrors;
  };
  EXPECT_EQ(mirror(""), (std::vector<model::Mirror>{{0, 1'000'000}}));
  EXPECT_EQ(mirror(", percent: 5"), (std::vector<model::Mirror>{{0, 50'000}}));
  EXPECT_EQ(mirror(", fraction: {numerator: 1, denominator: 1000}"),
            (std::vector<model::Mirror>{{0, 1000}}));
  EXPECT_EQ(mirror(", fraction: {numerator: 1}"), (std::vector<model::Mirror>{{0, 10'000}}));
  EXPECT_TRUE(mirror(", percent: 0").empty());
}

TEST(ManifestHttpRoute, Redirects) {
  const auto redirect = [](const std::string& fields) {
    return std::get<Redirect>(
        rule("filters: [{type: RequestRedirect, requestRedirect: {" + fields + "}}]").action);
  };
  EXPECT_EQ(redirect(""), (Redirect{302, {}, {}, {}, {}}));
  EXPECT_EQ(redirect("scheme: https, hostname: a.b, statusCode: 301, path: {type: "
                     "ReplaceFullPath, replaceFullPath: /x}"),
            (Redirect{301, "https", "a.b", 443, PathEdit{PathEdit::Kind::kWhole, "/x", ""}}));
  EXPECT_EQ(redirect("scheme: https, port: 8443").port, 8443);
  EXPECT_EQ(redirect("path: {type: ReplacePrefixMatch, replacePrefixMatch: /y}").path,
            (PathEdit{PathEdit::Kind::kPrefix, "/y", ""}));
  const std::string all = "filters: [{type: RequestRedirect, requestRedirect: {}}";
  EXPECT_EQ(wrong(all + "], " + kTo), " has both RequestRedirect and backendRefs\n");
  EXPECT_EQ(wrong(all + ", {type: URLRewrite, urlRewrite: {hostname: a}}]"),
            ".filters has both RequestRedirect and URLRewrite\n");
  EXPECT_TRUE(wrong("filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]")
                  .starts_with(".filters[0].requestRedirect.statusCode 304"));
}

TEST(ManifestHttpRoute, RewritesPathAndHost) {
  const auto rewritten = forward(
      "matches: [{path: {value: /a}}], " +
      filter("type: URLRewrite, urlRewrite: {hostname: a.b, path: {type: ReplacePrefixMatch, "
             "replacePrefixMatch: /b}}") +
      kTo);
  EXPECT_EQ(rewritten.authority, "a.b");
  EXPECT_EQ(rewritten.path, (PathEdit{PathEdit::Kind::kPrefix, "/b", ""}));
  EXPECT_EQ(wrong("matches: [{path: {type: Exact, value: /a}}], " +
                  filter("type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, "
                         "replacePrefixMatch: /b}}") +
                  kTo),
            ".filters: replacePrefixMatch needs one match, whose path is a PathPrefix\n");
  EXPECT_TRUE(wrong(filter("type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, "
                           "replacePrefixMatch: /b}}") +
                    kTo)
                  .starts_with(".filters[0].urlRewrite.path must have type"));
  EXPECT_EQ(forward("backendRefs: [{name: web, port: 80, filters: [{type: URLRewrite, urlRewrite: "
                    "{hostname: c}}]}]")
                .destinations.at(0)
                .authority,
            "c");
}

TEST(ManifestHttpRoute, AllowsOrigins) {
  const auto cors =
      rule(filter("type: CORS, cors: {allowOrigins: [\"*\", \"https://*.a.b\"], allowMethods: "
                  "[GET], allowHeaders: [\"*\"], exposeHeaders: [x], allowCredentials: true}") +
           kTo)
          .cors;
  ASSERT_TRUE(cors);
  EXPECT_EQ(cors->allow_origins[0], (TextMatch{TextMatch::Kind::kExact, "*", false}));
  EXPECT_EQ(cors->allow_origins[1],
            (TextMatch{TextMatch::Kind::kRegex, "https\\:\\/\\/[0-9A-Za-z.-]+\\.a\\.b", false}));
  EXPECT_EQ(cors->max_age, std::chrono::seconds(5));
  EXPECT_FALSE(cors->forward_unmatched_preflights);
}

TEST(ManifestHttpRoute, WhatAFilterThatIsNotKnownWasForIsAnError) {
  const auto result = rules("[{" + filter("type: ExternalAuth, externalAuth: {}") + kTo + "}]");
  EXPECT_EQ(std::get<DirectResponse>(first<HttpRouteObject>(result).rules.at(0).action).status,
            500);
  EXPECT_TRUE(says(result, "f:4: not_enforced: " + kStart +
                               "spec.rules[0].filters[0] \"ExternalAuth\" is NOT ENFORCED: this "
                               "build does not have it; what it was for is answered 500"));
  const auto backend = rules(
      "[{backendRefs: [{name: web, port: 80, filters: [{type: CORS, cors: {}}]}, {name: web, port: "
      "80}]}]");
  const auto& route = first<HttpRouteObject>(backend);
  const auto& to = std::get<Forward>(route.rules[0].action).destinations;
  ASSERT_EQ(to.size(), 2u);
  EXPECT_NE(route.backends.at(to[0].cluster).missing, "");
  EXPECT_EQ(route.backends.at(to[1].cluster).missing, "");
  EXPECT_TRUE(says(backend, "spec.rules[0].backendRefs[0].filters is NOT ENFORCED"));
}

TEST(ManifestHttpRoute, BadFiltersAreRejected) {
  EXPECT_EQ(wrong(filter("type: CORS") + kTo), ".filters[0].cors is missing\n");
  EXPECT_EQ(wrong(filter("cors: {}") + kTo).substr(0, 30), ".filters[0].type is missing\nf:");
  EXPECT_EQ(wrong("filters: [{type: CORS, cors: {}}, {type: CORS, cors: {}}], " + kTo),
            ".filters[1].type \"CORS\" is there twice\n");
}

TEST(ManifestHttpRoute, TimeoutsAndRetries) {
  const auto timed = rule("timeouts: {request: 10s, backendRequest: 2s}, " + kTo);
  EXPECT_EQ(timed.timeout, milliseconds(10'000));
  EXPECT_EQ(timed.retries->per_try_timeout, milliseconds(2000));
  EXPECT_EQ(timed.retries->attempts, 2u);
  EXPECT_EQ(timed.retries->on, 0);
  EXPECT_EQ(rule("timeouts: {request: 0s}, " + kTo).timeout, milliseconds(0));
  EXPECT_EQ(wrong("timeouts: {request: 1s, backendRequest: 2s}, " + kTo),
            ".timeouts.backendRequest is longer than spec.rules[0].timeouts.request\n");
  const auto again =
      rule("retry: {codes: [503, 504], attempts: 4, backoff: 100ms}, " + kTo).retries.value();
  EXPECT_EQ(again.attempts, 4u);
  EXPECT_EQ(again.statuses, (std::vector<std::uint16_t>{503, 504}));
  EXPECT_EQ(again.on, 1 | 2 | 4 | 64);
  EXPECT_EQ(again.backoff, milliseconds(100));
  EXPECT_EQ(wrong("retry: {codes: [200]}, " + kTo), ".retry.codes[0] 200 is not in 400..599\n");
  EXPECT_TRUE(
      says(rules("[{sessionPersistence: {}, " + kTo + "}]"), "sessionPersistence is NOT ENFORCED"));
}

}  // namespace
}  // namespace weft::manifest
