#include "agent/observe/routes.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "agent/observe/admin_protocol.h"

namespace weft::observe {
namespace {

using nlohmann::json;
using Path = model::PathMatch::Kind;

const auto kFile = std::make_shared<const std::string>("mesh/routes.yaml");

model::HttpRule rule(int line, Path kind, const char* path) {
  model::HttpRule made;
  made.object = "VirtualService shop/web";
  made.origin = {kFile, line};
  made.matches.emplace_back();
  made.matches[0].path = model::PathMatch{kind, path, false};
  return made;
}

model::Forward to(std::uint32_t cluster, std::uint32_t weight = 1) {
  model::HttpDestination destination;
  destination.cluster = cluster;
  destination.weight = weight;
  model::Forward forward;
  forward.destinations.push_back(destination);
  return forward;
}

// /api of callers in "front" to shop/api, /old elsewhere, /api of a canary to both; else itself.
Snapshot example() {
  auto routes = std::make_shared<model::HttpRoutes>();
  routes->kind = "VirtualService";
  routes->otherwise = model::HttpRoutes::Otherwise::kService;
  routes->clusters.resize(2);
  routes->clusters[0] = {"shop", "web", "", 80, ""};
  routes->clusters[1] = {"shop", "api", "", 80, ""};
  auto front = rule(10, Path::kPrefix, "/api");
  front.matches[0].source_namespace = "front";
  front.action = to(1);
  auto old = rule(14, Path::kExact, "/old");
  old.action = model::Redirect{.status = 308, .authority = "new.example"};
  auto canary = rule(20, Path::kPrefix, "/api");
  canary.name = "canary";
  canary.matches[0].headers.push_back({"x-canary", {model::TextMatch::Kind::kExact, "1"}, false});
  auto both = to(0, 9);
  both.destinations.push_back(to(1).destinations[0]);
  canary.action = both;
  routes->rules = {front, old, canary};

  auto service = std::make_shared<model::Service>();
  service->key = {"shop", "web"};
  model::ServicePort port;
  port.port = 80;
  port.http = routes;
  const auto endpoint = [](const char* address) {
    model::Endpoint made;
    made.address = *model::Address::parse(address);
    made.port = 8080;
    return made;
  };
  port.http_endpoints = {{endpoint("10.0.0.1")}, {endpoint("10.0.1.1"), endpoint("10.0.1.2")}};
  service->ports = {port};
  auto plain = std::make_shared<model::Service>();
  plain->key = {"shop", "db"};
  plain->ports = {{.name = "", .port = 5432, .endpoints = {}}};
  auto mesh = std::make_shared<model::Mesh>();
  mesh->services.set(service->key, service);
  mesh->services.set(plain->key, plain);
  Snapshot snapshot;
  snapshot.mesh = mesh;
  return snapshot;
}

json explained(RouteQuestion question, const routes::Caller& caller = {}) {
  question.port = 80;
  return json::parse(explain_reply(example(), "shop/web", question, caller))["result"];
}

TEST(RoutesReply, ListsRulesInTheOrderOfTrial) {
  const auto result = json::parse(routes_reply(example(), ""))["result"];
  ASSERT_EQ(result.size(), 1u);
  EXPECT_EQ(result[0]["service"], "shop/web");
  EXPECT_EQ(result[0]["port"], 80);
  EXPECT_EQ(result[0]["kind"], "VirtualService");
  EXPECT_EQ(result[0]["otherwise"], "shop/web:80");
  ASSERT_EQ(result[0]["rules"].size(), 3u);
  EXPECT_EQ(result[0]["rules"][2], json::parse(R"({"number":2,"object":"VirtualService shop/web",
    "name":"canary","file":"mesh/routes.yaml","line":20,
    "matches":["prefix /api, header x-canary=1"],"type":"forward","status":null,
    "action":"shop/web:80 weight=9 | shop/api:80 weight=1",
    "destinations":[{"cluster":"shop/web:80","weight":9,"missing":""},
                    {"cluster":"shop/api:80","weight":1,"missing":""}]})"));
  EXPECT_EQ(result[0]["rules"][1]["status"], 308);
  EXPECT_EQ(result[0]["rules"][1]["action"], "redirect 308 authority=new.example");
}

TEST(RoutesReply, IsEmptyForAServiceThatTheKernelServesAlone) {
  EXPECT_EQ(json::parse(routes_reply(example(), "shop/db"))["result"], json::array());
  EXPECT_EQ(json::parse(routes_reply(example(), "shop/no"))["error"],
            "no source has a service shop/no");
  RouteQuestion question;
  question.port = 5432;
  const auto reply = json::parse(explain_reply(example(), "shop/db", question, {}));
  EXPECT_EQ(reply["ok"], true);
  EXPECT_EQ(reply["result"], nullptr);
}

TEST(ExplainReply, NamesTheRuleThatWonAndWhyTheOthersDidNot) {
  RouteQuestion question;
  question.target = "//api/./v1?x=1";
  question.headers = {{"X-Canary", "1"}};
  const auto result = explained(question);
  EXPECT_EQ(result["path"], "/api/v1");
  EXPECT_EQ(result["rule"], 2);
  EXPECT_EQ(result["rules"][0]["why"], "the caller's namespace \"\" is not front");
  EXPECT_EQ(result["rules"][1]["why"], "path /api/v1 is not /old");
  EXPECT_EQ(result["rules"][2]["won"], true);
  ASSERT_EQ(result["clusters"].size(), 2u);
  EXPECT_EQ(result["clusters"][1]["endpoints"][1],
            json::parse(R"({"address":"10.0.1.2","port":8080,"state":"ready"})"));
}

TEST(ExplainReply, LooksAtWhoAsks) {
  RouteQuestion question;
  question.target = "/api";
  question.headers = {{"x-canary", "1"}};
  const auto result = explained(question, {"front", {}});
  EXPECT_EQ(result["caller"], "front");
  EXPECT_EQ(result["rule"], 0);
  EXPECT_EQ(result["rules"][2]["why"], "matches, but rule 0 comes first");
}

TEST(ExplainReply, WhatMatchesNothingGoesToTheService) {
  const auto result = explained({});
  EXPECT_EQ(result["rule"], nullptr);
  EXPECT_EQ(result["clusters"].size(), 1u);
  EXPECT_EQ(result["clusters"][0]["name"], "shop/web:80");
}

TEST(ExplainReply, APathThatIsRefusedAsksNoRule) {
  RouteQuestion question;
  question.target = "/a%2fb";
  const auto result = explained(question);
  EXPECT_EQ(result["refused"], "400: the path is not one that two readers would read alike");
  EXPECT_EQ(result["rules"], json::array());
}

TEST(ExplainReply, ARedirectHasNoCluster) {
  RouteQuestion question;
  question.target = "/old";
  EXPECT_EQ(explained(question)["rule"], 1);
  EXPECT_EQ(explained(question)["clusters"], json::array());
}

TEST(ExplainRequest, IsReadWhole) {
  const auto request = parse_request(R"({"version":1,"command":"explain","service":"shop/web",
    "port":80,"method":"PUT","authority":"web.shop","target":"/a?b","headers":[["k","v"]],
    "netns_cookie":7})");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->route.port, 80);
  EXPECT_EQ(request->route.method, "PUT");
  EXPECT_EQ(request->route.target, "/a?b");
  EXPECT_EQ(request->route.headers.at(0).second, "v");
  EXPECT_EQ(request->route.netns_cookie, 7u);
  for (const char* odd : {R"("service":"shop/web")", R"("service":"shop/web","port":70000)",
                          R"("port":80)", R"("service":"shop/web","port":80,"headers":[["k"]])",
                          R"("service":"shop/web","port":80,"headers":[7])"})
    EXPECT_FALSE(
        parse_request(std::string(R"({"version":1,"command":"explain",)") + odd + "}").ok())
        << odd;
}

}  // namespace
}  // namespace weft::observe
