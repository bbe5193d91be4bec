#include "cli/cli.h"

#include <gtest/gtest.h>

#include "cli/collect.h"
#include "cli/routing.h"

namespace weft::cli {
namespace {

TEST(HostPort, WantsBracketsAroundIpv6) {
  const auto v6 = parse_host_port("[fd00::1]:80");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->host, "fd00::1");
  EXPECT_EQ(v6->port, 80);
  EXPECT_FALSE(parse_host_port("fd00::1:80"));
  EXPECT_TRUE(parse_host_port("web.shop:8080"));
}

TEST(HostPort, RefusesWhatIsNoPort) {
  for (const char* text :
       {"10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:70000", "10.0.0.1:x", ":80", ""})
    EXPECT_FALSE(parse_host_port(text)) << text;
}

TEST(Layout, AlignsColumnsAndLeavesNoTrailingSpace) {
  EXPECT_EQ(layout({"A", "LONG"}, {{"wide cell", "x"}, {"b", ""}}),
            "A          LONG\nwide cell  x\nb\n");
}

compile::MapState one_service() {
  compile::PlacedPort port;
  port.key = {80, model::Protocol::kTcp, model::Family::kIpv4};
  port.name = "http";
  port.index = 1;
  port.frontends = {*model::Address::parse("10.96.0.1")};
  port.affinity_seconds = 60;
  port.generation = 7;
  compile::PlacedEndpoint ready, draining;
  ready.id = 1;
  ready.address = *model::Address::parse("10.0.0.1");
  ready.port = 8080;
  draining = ready;
  draining.id = 2;
  draining.address = *model::Address::parse("10.0.0.2");
  draining.state = model::EndpointState::kDraining;
  port.endpoints = {ready, draining};
  port.slots = {1};
  auto service = std::make_shared<compile::PlacedService>();
  service->key = {"shop", "web"};
  service->ports = {port};
  compile::MapState state;
  state.set(service->key, service);
  return state;
}

TEST(Services, APortWithHttpRulesIsTheProxys) {
  auto state = one_service();
  auto service = std::make_shared<compile::PlacedService>(**state.services.find({"shop", "web"}));
  service->ports[0].policy.flags |= WEFT_POLICY_PROXY;
  state.set(service->key, service);
  const auto json = services_json(state, [](std::uint32_t) { return weft_endpoint_state{}; });
  EXPECT_EQ(json[0]["ports"][0]["path"], "proxy");
  EXPECT_NE(json[0]["ports"][0]["reason"], "no rule needs L7");
}

TEST(Services, HaveTheContractsShape) {
  const auto json =
      services_json(one_service(), [](std::uint32_t) { return weft_endpoint_state{}; });
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0]["namespace"], "shop");
  EXPECT_EQ(json[0]["name"], "web");
  EXPECT_EQ(json[0]["addresses"], Json::array({"10.96.0.1"}));
  EXPECT_EQ(json[0]["ports"][0]["path"], "kernel");
  EXPECT_EQ(json[0]["ports"][0]["protocol"], "TCP");
  EXPECT_EQ(json[0]["affinity_seconds"], 60);
  EXPECT_EQ(json[0]["endpoints"],
            (Json{{"total", 2}, {"ready", 1}, {"draining", 1}, {"ejected", 0}}));
  EXPECT_EQ(json[0]["generation"], 7);
}

TEST(Endpoints, CarryCountersAndState) {
  const auto state = one_service();
  const auto counters = [](std::uint32_t id) {
    weft_endpoint_state counted{};
    counted.active = id;
    counted.opened = 10 * id;
    return counted;
  };
  const auto json = endpoints_json(state, nullptr, counters);
  ASSERT_EQ(json.size(), 2u);
  EXPECT_EQ(json[0]["address"], "10.0.0.1");
  EXPECT_EQ(json[0]["target_port"], 8080);
  EXPECT_EQ(json[0]["state"], "ready");
  EXPECT_EQ(json[1]["state"], "draining");
  EXPECT_EQ(json[1]["connections"], (Json{{"active", 2}, {"opened", 20}, {"failed", 0}}));
  const model::ServiceKey other{"shop", "none"};
  EXPECT_TRUE(endpoints_json(state, &other, counters).empty());
}

// It takes no connections for that reason, and goes on taking none when its breaker closes.
TEST(Endpoints, OneThatDrainsIsDrainingWhateverItsBreakerSays) {
  auto state = one_service();
  auto service = std::make_shared<compile::PlacedService>(**state.services.find({"shop", "web"}));
  auto gone = service->ports[0].endpoints[1];
  gone.id = 3;
  gone.state = model::EndpointState::kNotReady;
  service->ports[0].endpoints.push_back(gone);
  state.set(service->key, service);
  for (const auto breaker : {WEFT_BREAKER_OPEN, WEFT_BREAKER_HALF_OPEN}) {
    const auto counters = [&](std::uint32_t) {
      weft_endpoint_state counted{};
      counted.breaker = weft_breaker_make(breaker, WEFT_BREAKER_REFUSED, 1, 1, 1000);
      return counted;
    };
    const auto json = endpoints_json(state, nullptr, counters);
    EXPECT_EQ(json[0]["state"], breaker == WEFT_BREAKER_OPEN ? "ejected" : "half_open");
    EXPECT_EQ(json[1]["state"], "draining");
    EXPECT_EQ(json[2]["state"], "not_ready");
    EXPECT_EQ(services_json(state, counters)[0]["endpoints"],
              (Json{{"total", 3}, {"ready", 0}, {"draining", 1}, {"ejected", 1}}));
  }
}

TEST(Breakers, AreListedWhateverMayOpenThem) {
  const weft_endpoint_state never{};
  compile::PlacedPort port;
  EXPECT_FALSE(has_breaker(port, never));
  for (const auto threshold : {&weft_policy::threshold, &weft_policy::failing_for_ms,
                               &weft_policy::threshold_5xx, &weft_policy::threshold_gateway}) {
    compile::PlacedPort one;
    one.policy.*threshold = 1;
    EXPECT_TRUE(has_breaker(one, never));
  }
  weft_endpoint_state by_hand{};
  by_hand.breaker = weft_breaker_make(WEFT_BREAKER_OPEN, WEFT_BREAKER_OPERATOR, 0, 0, 1000);
  EXPECT_TRUE(has_breaker(port, by_hand));
}

TEST(Endpoints, HaveHealthWhereTheAgentChecksThem) {
  const auto none = [](std::uint32_t) { return weft_endpoint_state{}; };
  auto json = endpoints_json(one_service(), nullptr, none);
  add_health(json, Json::parse(R"([
    {"service":"shop/web","address":"10.0.0.1","port":8080,"health":"unhealthy","reason":"HTTP 503"},
    {"service":"shop/web","address":"10.0.0.2","port":8081,"health":"healthy","reason":"HTTP 200"},
    {"service":"shop/db","address":"10.0.0.2","port":8080,"health":"healthy","reason":""}])"));
  EXPECT_EQ(json[0]["health"], "unhealthy");
  EXPECT_EQ(json[0]["health_reason"], "HTTP 503");
  EXPECT_FALSE(json[1].contains("health"));
}

Json routing() {
  return Json::parse(R"({"service":"shop/web","port":80,"kind":"VirtualService","otherwise":"404",
    "method":"GET","authority":"web.shop","path":"/api","refused":"","rule":1,"rules":[
      {"number":0,"object":"VirtualService shop/web","name":"old","file":"r.yaml","line":7,
       "matches":["path /old"],"action":"redirect 301","won":false,"why":"path /api is not /old"},
      {"number":1,"object":"VirtualService shop/web","name":"","file":"r.yaml","line":9,
       "matches":[],"action":"shop/web:80","won":true,"why":""}],
    "clusters":[{"name":"shop/web:80","service":"shop/web","weight":1,"missing":"","endpoints":[
       {"address":"10.0.0.1","port":8080,"state":"ready"},
       {"address":"10.0.0.2","port":8080,"state":"ready"}]}]})");
}

TEST(Routing, SaysWhichRuleWonAndWhyTheOtherDidNot) {
  EXPECT_EQ(routing_text(routing()), R"(request     GET web.shop /api
rule        1, VirtualService shop/web, r.yaml:9
action      shop/web:80

RULE  DESCRIBED                                MATCHES     WHY NOT
0     VirtualService shop/web "old", r.yaml:7  path /old   path /api is not /old
1     VirtualService shop/web, r.yaml:9        everything  (it won)

CLUSTER      WEIGHT  ENDPOINT            STATE
shop/web:80  1       10.0.0.1 port 8080  ready
shop/web:80  1       10.0.0.2 port 8080  ready
)");
}

TEST(Routing, SaysWhatBecomesOfARequestThatNoRuleMatches) {
  auto none = routing();
  none["rule"] = nullptr;
  none["clusters"] = Json::array();
  EXPECT_NE(routing_text(none).find("rule        none matches: 404\n"), std::string::npos);
  none["refused"] = "400: odd path";
  EXPECT_NE(routing_text(none).find("rule        400: odd path\n"), std::string::npos);
}

TEST(Routing, EndpointsHaveTheBreakersState) {
  auto json = routing();
  add_states(json, one_service(), [](std::uint32_t id) {
    weft_endpoint_state state{};
    if (id == 1) state.breaker = weft_breaker_make(WEFT_BREAKER_OPEN, 0, 0, 0, 0);
    return state;
  });
  EXPECT_EQ(json["clusters"][0]["endpoints"][0]["state"], "ejected");
  EXPECT_EQ(json["clusters"][0]["endpoints"][1]["state"], "draining");
}

}  // namespace
}  // namespace weft::cli
