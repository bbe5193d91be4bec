#include <gtest/gtest.h>

#include "mesh/manifest/test_reading.h"

namespace weft::manifest {
namespace {

using model::DirectResponse;
using model::Forward;
using model::HttpRuleSpec;
using model::PathEdit;
using model::PathMatch;
using model::Redirect;
using model::RetryOn;
using model::TextMatch;
using model::VirtualServiceObject;
using std::chrono::milliseconds;
using test::first;
using test::ids;
using test::notices;
using test::rejected;
using test::says;

ParseResult read(const std::string& http, const std::string& more = "",
                 const std::string& version = "v1") {
  return test::yaml("apiVersion: networking.istio.io/" + version +
                    "\nkind: VirtualService\nmetadata: {name: v, namespace: shop}\nspec: {hosts: "
                    "[web], http: " +
                    http + more + "}\n");
}
const std::string kRoute = "route: [{destination: {host: web}}]";
const std::string kStart = "VirtualService shop/v: ";

// The only rule, of which nothing is said.
HttpRuleSpec rule(const std::string& fields) {
  const auto result = read("[{" + fields + "}]");
  EXPECT_EQ(notices(result), "") << fields;
  if (result.objects.empty()) return {};
  return first<VirtualServiceObject>(result).http.at(0);
}
model::HttpMatch match(const std::string& fields) {
  return rule("match: [{" + fields + "}], " + kRoute).rule.matches.at(0);
}
Forward forward(const std::string& fields) { return std::get<Forward>(rule(fields).rule.action); }

// What is said of a rule that rejects the document.
std::string wrong(const std::string& fields) {
  const auto result = read("[{" + fields + "}]");
  EXPECT_EQ(rejected(result), "VirtualService shop/v") << fields << "\n" << notices(result);
  const std::string start = "f:4: rejected: " + kStart + "spec.http[0]";
  const auto text = notices(result);
  EXPECT_EQ(text.substr(0, start.size()), start);
  return text.substr(std::min(start.size(), text.size()));
}

TEST(ManifestHttp, OfEveryVersionIsRead) {
  for (const char* version : {"v1", "v1beta1", "v1alpha3"}) {
    const auto result = read("[{name: all, " + kRoute + "}]", "", version);
    EXPECT_EQ(notices(result), "");
    const auto& routes = first<VirtualServiceObject>(result);
    ASSERT_EQ(routes.http.size(), 1u);
    const auto& read_rule = routes.http[0].rule;
    EXPECT_EQ(read_rule.name, "all");
    EXPECT_EQ(read_rule.object, "VirtualService shop/v");
    EXPECT_EQ(read_rule.origin.to_text(), "f:4");
    EXPECT_TRUE(read_rule.matches.empty());
    EXPECT_EQ(routes.backends.at(0).host, "web");
  }
}

TEST(ManifestHttp, MatchesPaths) {
  using Kind = PathMatch::Kind;
  EXPECT_EQ(match("uri: {exact: /a}").path, (PathMatch{Kind::kExact, "/a", false}));
  EXPECT_EQ(match("uri: {prefix: /a}, ignoreUriCase: true").path,
            (PathMatch{Kind::kPrefix, "/a", true}));
  EXPECT_EQ(match("uri: {regex: \"/a.*\"}").path, (PathMatch{Kind::kRegex, "/a.*", false}));
  EXPECT_TRUE(says(read("[{match: [{uri: {regex: a}, ignoreUriCase: true}], " + kRoute + "}]"),
                   "ignoreUriCase has no effect on a regex"));
}

TEST(ManifestHttp, MatchesWhatElseARequestHas) {
  const auto found = match(
      "scheme: {exact: http}, method: {regex: \"GET|HEAD\"}, authority: {prefix: web}, headers: "
      "{X-User: {exact: ann}, x-seen: {}, x-null: null}, withoutHeaders: {x-bot: {prefix: b}}, "
      "queryParams: {Page: {exact: \"1\"}}, sourceLabels: {app: front}, sourceNamespace: ops, "
      "statPrefix: s, name: n");
  using Kind = TextMatch::Kind;
  EXPECT_EQ(found.scheme, (TextMatch{Kind::kExact, "http", false}));
  EXPECT_EQ(found.method, (TextMatch{Kind::kRegex, "GET|HEAD", false}));
  EXPECT_EQ(found.authority, (TextMatch{Kind::kPrefix, "web", false}));
  EXPECT_EQ(found.headers,
            (std::vector<model::FieldMatch>{{"x-user", {Kind::kExact, "ann", false}, false},
                                            {"x-seen", {Kind::kPresent, "", false}, false},
                                            {"x-null", {Kind::kPresent, "", false}, false},
                                            {"x-bot", {Kind::kPrefix, "b", false}, true}}));
  EXPECT_EQ(found.query,
            (std::vector<model::FieldMatch>{{"Page", {Kind::kExact, "1", false}, false}}));
  EXPECT_EQ(found.source_labels, (model::Labels{{"app", "front"}}));
  EXPECT_EQ(found.source_namespace, "ops");
}

TEST(ManifestHttp, MatchesPortsOneByOne) {
  EXPECT_EQ(rule("match: [{port: 80}, {uri: {exact: /}}], " + kRoute).ports,
            (std::vector<std::uint16_t>{80, 0}));
}

TEST(ManifestHttp, BadMatchesAreRejected) {
  const auto bad = [](const std::string& fields) {
    return wrong("match: [{" + fields + "}], " + kRoute);
  };
  const std::string one_of = " must have one of exact, prefix and regex\n";
  EXPECT_EQ(bad("uri: {}"), ".match[0].uri" + one_of);
  EXPECT_EQ(bad("uri: {exact: a, prefix: b}"), ".match[0].uri" + one_of);
  EXPECT_EQ(bad("headers: {x: {suffix: b}}"), ".match[0].headers.x" + one_of);
  EXPECT_TRUE(bad("uri: {regex: \"(\"}")
                  .starts_with(".match[0].uri.regex \"(\" is not a regular expression of RE2: "));
  EXPECT_TRUE(bad("headers: {x: {regex: \"a(?=b)\"}}").starts_with(".match[0].headers.x.regex"));
  EXPECT_EQ(bad("uri: {regex: " + std::string(1025, 'a') + "}"),
            ".match[0].uri.regex is longer than 1024 bytes\n");
  EXPECT_TRUE(bad("uri: {regex: \"((a{100}){100}){100}\"}").starts_with(".match[0].uri.regex"));
  EXPECT_EQ(bad("headers: {\"a b\": {exact: x}}"),
            ".match[0].headers \"a b\" is not a header's name\n");
  EXPECT_EQ(bad("port: 0"), ".match[0].port 0 is not in 1..65535\n");
}

TEST(ManifestHttp, ARuleWhoseMatchAsksForMoreThanIsKnownIsPassedOver) {
  const auto result = read("[{match: [{uri: {exact: /}, tlsVersion: 1}], " + kRoute + "}]");
  EXPECT_EQ(ids(result) + rejected(result), "");
  EXPECT_EQ(notices(result), "f:4: not_enforced: " + kStart +
                                 "spec.http[0].match[0].tlsVersion is NOT ENFORCED: it is not "
                                 "known to this build; the rule is passed over\n");
}

TEST(ManifestHttp, MatchesForGatewaysAloneAreNoneOfTheMesh) {
  const auto result = read("[{match: [{gateways: [in]}, {gateways: [mesh, in], port: 81}], " +
                           kRoute + "}, {match: [{gateways: [in]}], " + kRoute + "}]");
  const auto& http = first<VirtualServiceObject>(result).http;
  ASSERT_EQ(http.size(), 1u);
  EXPECT_EQ(http[0].ports, std::vector<std::uint16_t>{81});
  EXPECT_TRUE(says(result,
                   "spec.http[0].match[0].gateways is NOT ENFORCED: this build has no "
                   "gateway; the match is passed over"));
  const auto gateway = read("[{" + kRoute + "}]", ", gateways: [in]");
  EXPECT_EQ(ids(gateway), "");
  EXPECT_TRUE(says(gateway,
                   "spec.gateways is NOT ENFORCED: this build has no gateway; the rules "
                   "are passed over"));
}

TEST(ManifestHttp, RoutesToDestinations) {
  const auto result = read(
      "[{route: [{destination: {host: web, subset: v1, port: {number: 81}}, weight: 90, headers: "
      "{request: {set: {X-A: a}, add: {x-b: b}, remove: [X-C]}, response: {add: {x-d: d}}}},"
      " {destination: {host: db.data}, weight: 10}, {destination: {host: web, subset: v1, port: "
      "{number: 81}}}]}]");
  EXPECT_EQ(notices(result), "");
  const auto& routes = first<VirtualServiceObject>(result);
  ASSERT_EQ(routes.backends.size(), 2u);
  EXPECT_EQ(routes.backends[0].subset, "v1");
  EXPECT_EQ(routes.backends[0].port, 81);
  EXPECT_EQ(routes.backends[1].host, "db.data");
  const auto& to = std::get<Forward>(routes.http[0].rule.action).destinations;
  ASSERT_EQ(to.size(), 3u);
  EXPECT_EQ(to[0].weight, 90u);
  EXPECT_EQ(to[1].cluster, 1u);
  EXPECT_EQ(to[2].cluster, 0u);
  EXPECT_EQ(to[2].weight, 0u);
  EXPECT_EQ(to[0].request_headers, (model::HeaderEdits{{"x-c"}, {{"X-A", "a"}}, {{"x-b", "b"}}}));
  EXPECT_EQ(to[0].response_headers, (model::HeaderEdits{{}, {}, {{"x-d", "d"}}}));
}

TEST(ManifestHttp, TheOnlyDestinationGetsEverythingWhateverItsWeight) {
  EXPECT_EQ(forward(kRoute).destinations.at(0).weight, 1u);
  EXPECT_EQ(wrong("route: [{destination: {host: a}}, {destination: {host: b}}]"),
            ".route: the weights are 0 in all\n");
}

TEST(ManifestHttp, SettingTheHostIsRewritingTheAuthority) {
  EXPECT_EQ(forward("headers: {request: {set: {Host: a.b}}}, " + kRoute).authority, "a.b");
  EXPECT_EQ(forward("route: [{destination: {host: web}, headers: {request: {set: {\":authority\": "
                    "\"a:80\"}}}}]")
                .destinations.at(0)
                .authority,
            "a:80");
  EXPECT_TRUE(says(read("[{headers: {request: {set: {\":path\": /}}}, " + kRoute + "}]"),
                   "\":path\" is not a header's name"));
}

TEST(ManifestHttp, RewritesPathsAndAuthorities) {
  const auto prefix =
      rule("match: [{uri: {prefix: /a}}], rewrite: {uri: /b, authority: w}, " + kRoute);
  EXPECT_EQ(std::get<Forward>(prefix.rule.action).path,
            (PathEdit{PathEdit::Kind::kPrefix, "/b", ""}));
  EXPECT_EQ(std::get<Forward>(prefix.rule.action).authority, "w");
  EXPECT_EQ(
      forward("rewrite: {uriRegexRewrite: {match: \"^/a/(.*)\", rewrite: \"/\\\\1\"}}, " + kRoute)
          .path,
      (PathEdit{PathEdit::Kind::kRegex, "/\\1", "^/a/(.*)"}));
}

TEST(ManifestHttp, TheReplacedPrefixIsSlashWhereNoPathIsMatched) {
  const auto all = rule("rewrite: {uri: /b}, " + kRoute);
  ASSERT_EQ(all.rule.matches.size(), 1u);
  EXPECT_EQ(all.rule.matches[0].path, (PathMatch{PathMatch::Kind::kPrefix, "/", false}));
  EXPECT_EQ(all.ports, std::vector<std::uint16_t>{0});
  EXPECT_TRUE(rule("match: [{port: 80}], rewrite: {uri: /b}, " + kRoute).rule.matches[0].path);
}

TEST(ManifestHttp, BadRewritesAreRejected) {
  EXPECT_TRUE(wrong("rewrite: {uriRegexRewrite: {match: a, rewrite: \"\\\\1\"}}, " + kRoute)
                  .starts_with(".rewrite.uriRegexRewrite.rewrite \"\\1\" cannot replace what the "
                               "expression matches"));
  EXPECT_TRUE(wrong("rewrite: {uriRegexRewrite: {match: \"[\", rewrite: a}}, " + kRoute)
                  .starts_with(".rewrite.uriRegexRewrite.match \"[\" is not a regular"));
  EXPECT_EQ(wrong("rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}, " + kRoute),
            ".rewrite has both uri and uriRegexRewrite: it is one of them\n");
  EXPECT_EQ(wrong("rewrite: {uri: \"/a b\"}, " + kRoute), ".rewrite.uri \"/a b\" is not a path\n");
  EXPECT_EQ(wrong("rewrite: {authority: \"a/b\"}, " + kRoute),
            ".rewrite.authority \"a/b\" is not HOST or HOST:PORT\n");
}

TEST(ManifestHttp, Redirects) {
  const auto redirect = [](const std::string& fields) {
    return std::get<Redirect>(rule("redirect: {" + fields + "}").rule.action);
  };
  EXPECT_EQ(redirect("uri: /x, authority: a.b, scheme: HTTPS, port: 8443, redirectCode: 308"),
            (Redirect{308, "https", "a.b", 8443, PathEdit{PathEdit::Kind::kWhole, "/x", ""}}));
  EXPECT_EQ(redirect("authority: a"), (Redirect{301, {}, "a", {}, {}}));
  EXPECT_EQ(redirect("scheme: https, derivePort: FROM_PROTOCOL_DEFAULT").port, 443);
  EXPECT_EQ(redirect("derivePort: FROM_REQUEST_PORT").port, std::nullopt);
  EXPECT_EQ(redirect("uri: \"%PREFIX()%/x\"").path, (PathEdit{PathEdit::Kind::kPrefix, "/x", ""}));
  EXPECT_EQ(wrong("redirect: {redirectCode: 304}"),
            ".redirect.redirectCode 304 is not 301, 302, 303, 307 or 308\n");
  EXPECT_EQ(wrong("redirect: {scheme: ftp}"), ".redirect.scheme \"ftp\" is not http or https\n");
  EXPECT_EQ(wrong("redirect: {uri: /}, " + kRoute), " has both redirect and route\n");
  const auto passed = read("[{redirect: {authority: a, derivePort: FROM_REQUEST_PORT}}]");
  EXPECT_EQ(ids(passed), "");
  EXPECT_TRUE(says(passed, "the rule is passed over"));
}

TEST(ManifestHttp, AnswersItself) {
  EXPECT_EQ(std::get<DirectResponse>(
                rule("directResponse: {status: 503, body: {string: later}}").rule.action),
            (DirectResponse{503, "later", ""}));
  EXPECT_EQ(std::get<DirectResponse>(
                rule("directResponse: {status: 200, body: {bytes: aGk=}}").rule.action)
                .body,
            "hi");
  EXPECT_EQ(wrong("directResponse: {}"), ".directResponse.status is missing\n");
  EXPECT_EQ(wrong("directResponse: {status: 199}"),
            ".directResponse.status 199 is not in 200..599\n");
  EXPECT_EQ(wrong("directResponse: {status: 200, body: {bytes: \"*\"}}"),
            ".directResponse.body.bytes is not base64\n");
  EXPECT_EQ(wrong("directResponse: {status: 200}, rewrite: {uri: /}"),
            " has both directResponse and rewrite\n");
}

TEST(ManifestHttp, AnActionIsNeeded) {
  EXPECT_EQ(wrong("name: x"), " has no route, redirect or directResponse\n");
  EXPECT_EQ(wrong("route: []"), " has no route, redirect or directResponse\n");
  EXPECT_EQ(wrong("route: [{}]"), ".route[0].destination.host is missing\n");
  EXPECT_EQ(wrong("route: [{destination: {host: \"*.a\"}}]"),
            ".route[0].destination.host \"*.a\" is not a host's name\n");
}

TEST(ManifestHttp, DelegatesAndFaultsAreNotEnforced) {
  const auto delegate = read("[{delegate: {name: x}}, {" + kRoute + "}]");
  EXPECT_EQ(first<VirtualServiceObject>(delegate).http.size(), 1u);
  EXPECT_EQ(notices(delegate), "f:4: not_enforced: " + kStart +
                                   "spec.http[0].delegate is NOT ENFORCED: the rule is passed "
                                   "over\n");
  const auto fault = read("[{fault: {abort: {httpStatus: 500}}, " + kRoute + "}]");
  EXPECT_EQ(first<VirtualServiceObject>(fault).http.size(), 1u);
  EXPECT_TRUE(says(fault, "spec.http[0].fault is NOT ENFORCED: no fault is injected"));
}

TEST(ManifestHttp, EditsHeadersOfTheWholeRule) {
  const auto edited =
      rule("headers: {request: {remove: [X-A]}, response: {set: {Via: weft}}}, " + kRoute).rule;
  EXPECT_EQ(edited.request_headers.remove, std::vector<std::string>{"x-a"});
  EXPECT_EQ(edited.response_headers.set.at(0),
            (std::pair<std::string, std::string>("Via", "weft")));
  EXPECT_EQ(wrong("headers: {response: {add: {x: \"a\\r\\nb\"}}}, " + kRoute),
            ".headers.response.add.x \"a\\x0d\\x0ab\" has a control character\n");
  EXPECT_EQ(wrong("headers: {request: {remove: [host]}}, " + kRoute),
            ".headers.request.remove: a request has a host\n");
  EXPECT_TRUE(says(read("[{headers: {request: {set: {x: \"%REQ(a)%\"}}}, " + kRoute + "}]"),
                   "is NOT ENFORCED: variables are not filled in"));
}

TEST(ManifestHttp, MirrorsToSome) {
  const auto one =
      forward("mirror: {host: shadow, subset: v2}, mirrorPercentage: {value: 12.5}, " + kRoute);
  ASSERT_EQ(one.mirrors.size(), 1u);
  EXPECT_EQ(one.mirrors[0].cluster, 1u);
  EXPECT_EQ(one.mirrors[0].parts_per_million, 125'000u);
  EXPECT_EQ(forward("mirror: {host: a}, " + kRoute).mirrors[0].parts_per_million, 1'000'000u);
  EXPECT_EQ(forward("mirror: {host: a}, mirrorPercent: 5, " + kRoute).mirrors[0].parts_per_million,
            50'000u);
  EXPECT_TRUE(
      forward("mirror: {host: a}, mirrorPercentage: {value: 0}, " + kRoute).mirrors.empty());
  EXPECT_EQ(forward("mirrors: [{destination: {host: a}}, {destination: {host: b}, percentage: "
                    "{value: 0.0001}}], " +
                    kRoute)
                .mirrors,
            (std::vector<model::Mirror>{{1, 1'000'000}, {2, 1}}));
  EXPECT_TRUE(wrong("mirror: {host: a}, mirrors: [{destination: {host: a}}], " + kRoute)
                  .starts_with(" has both mirror and mirrors"));
  EXPECT_EQ(wrong("mirror: {host: a}, mirrorPercentage: {value: 101}, " + kRoute),
            ".mirrorPercentage.value 101 is not in 0..100\n");
}

TEST(ManifestHttp, AllowsOrigins) {
  const auto cors = rule(
                        "corsPolicy: {allowOrigins: [{exact: \"https://a\"}, {regex: \".*[.]b\"}], "
                        "allowMethods: [GET], allowHeaders: [x-a], exposeHeaders: [x-b], maxAge: "
                        "24h, allowCredentials: true, unmatchedPreflights: IGNORE}, " +
                        kRoute)
                        .rule.cors;
  ASSERT_TRUE(cors);
  EXPECT_EQ(cors->allow_origins,
            (std::vector<TextMatch>{{TextMatch::Kind::kExact, "https://a", false},
                                    {TextMatch::Kind::kRegex, ".*[.]b", false}}));
  EXPECT_EQ(cors->allow_methods, std::vector<std::string>{"GET"});
  EXPECT_EQ(cors->allow_headers, std::vector<std::string>{"x-a"});
  EXPECT_EQ(cors->expose_headers, std::vector<std::string>{"x-b"});
  EXPECT_EQ(cors->max_age, std::chrono::seconds(86400));
  EXPECT_EQ(cors->allow_credentials, true);
  EXPECT_FALSE(cors->forward_unmatched_preflights);
  EXPECT_TRUE(rule("corsPolicy: {}, " + kRoute).rule.cors->forward_unmatched_preflights);
  EXPECT_TRUE(wrong("corsPolicy: {unmatchedPreflights: DROP}, " + kRoute)
                  .starts_with(".corsPolicy.unmatchedPreflights \"DROP\""));
  EXPECT_TRUE(says(read("[{corsPolicy: {allowOrigin: [\"*\"]}, " + kRoute + "}]"),
                   "allowOrigin is deprecated"));
}

TEST(ManifestHttp, Timeouts) {
  EXPECT_EQ(rule("timeout: 1.5s, " + kRoute).rule.timeout, milliseconds(1500));
  EXPECT_EQ(rule("timeout: 0s, " + kRoute).rule.timeout, milliseconds(0));
  EXPECT_EQ(rule(kRoute).rule.timeout, std::nullopt);
  EXPECT_TRUE(wrong("timeout: \"0\", " + kRoute).starts_with(".timeout \"0\" is not a duration"));
}

TEST(ManifestHttp, TriesAgain) {
  const auto retries = [](const std::string& fields) {
    return rule("retries: {" + fields + "}, " + kRoute).rule.retries.value();
  };
  const auto all = retries(
      "attempts: 3, perTryTimeout: 2s, backoff: 10ms, retryIgnorePreviousHosts: true, retryOn: "
      "\"5xx, gateway-error,reset,connect-failure,refused-stream,retriable-4xx,503\"");
  EXPECT_EQ(all.attempts, 3u);
  EXPECT_EQ(all.per_try_timeout, milliseconds(2000));
  EXPECT_EQ(all.backoff, milliseconds(10));
  EXPECT_EQ(all.on, 127);
  EXPECT_EQ(all.statuses, std::vector<std::uint16_t>{503});
  EXPECT_EQ(retries("attempts: 2").on, 0);  // the default
  EXPECT_EQ(retries("").attempts, 0u);
  EXPECT_EQ(retries("attempts: 1, retryOn: reset-before-request").on,
            static_cast<int>(RetryOn::kConnectFailure));
  EXPECT_EQ(retries("attempts: 1, retryOn: retriable-status-codes").statuses,
            std::vector<std::uint16_t>{503});
  EXPECT_EQ(wrong("retries: {attempts: -1}, " + kRoute), ".retries.attempts -1 is not in 0..100\n");
}

TEST(ManifestHttp, ConditionsThatNobodyKnowsAreReportedAndAloneMeanNoRetry) {
  const auto result =
      read("[{retries: {attempts: 2, retryOn: \"unavailable,700\"}, " + kRoute + "}]");
  EXPECT_TRUE(says(result, "spec.http[0].retries.retryOn \"unavailable\" is NOT ENFORCED"));
  EXPECT_TRUE(says(result, "spec.http[0].retries.retryOn \"700\" is NOT ENFORCED"));
  EXPECT_EQ(first<VirtualServiceObject>(result).http.at(0).rule.retries->attempts, 0u);
  EXPECT_TRUE(says(read("[{retries: {attempts: 1, retryRemoteLocalities: true, "
                        "retryIgnorePreviousHosts: false}, " +
                        kRoute + "}]"),
                   "retryRemoteLocalities is NOT ENFORCED"));
}

TEST(ManifestHttp, UnknownFieldsAreReported) {
  EXPECT_TRUE(says(read("[{retry: {}, " + kRoute + "}]"), "unknown field \"spec.http[0].retry\""));
  EXPECT_TRUE(says(read("{}"), "spec.http must be a list"));
  EXPECT_TRUE(says(read("[1]"), "spec.http[0] must be a mapping"));
}

}  // namespace
}  // namespace weft::manifest
