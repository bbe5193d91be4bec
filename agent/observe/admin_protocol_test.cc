#include "agent/observe/admin_protocol.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "agent/kernel/breaker.h"

namespace weft::observe {
namespace {

using nlohmann::json;

model::Notice notice(model::Severity severity, int line, const char* object, const char* message) {
  model::Notice made;
  made.severity = severity;
  made.origin.file = std::make_shared<const std::string>("mesh/web.yaml");
  made.origin.line = line;
  made.object = object;
  made.message = message;
  return made;
}

Snapshot example(Clock::time_point now) {
  auto mesh = std::make_shared<model::Mesh>();
  const auto file = std::make_shared<const std::string>("mesh/web.yaml");
  auto service = std::make_shared<model::Service>();
  service->key = {"shop", "web"};
  service->balancer = model::Balancer::kSourceHash;
  service->origin = {file, 3};
  mesh->services.set(service->key, service);
  auto notices = std::make_shared<std::vector<model::Notice>>();
  notices->push_back(notice(model::Severity::kInfo, 1, "Deployment shop/web", "passed over"));
  notices->push_back(notice(model::Severity::kWarning, 2, "Service shop/web", "odd \xff byte"));
  notices->push_back(notice(model::Severity::kRejected, 9, "Service shop/db", "port 70000"));
  mesh->notices = notices;
  Snapshot snapshot;
  snapshot.version = "1.2.3";
  snapshot.node = "n1";
  snapshot.started = now - std::chrono::seconds(60);
  snapshot.generation = 57;
  snapshot.ready = true;
  snapshot.sources.push_back({"dir:mesh", "error", "vanished", now - std::chrono::seconds(2)});
  snapshot.sources.push_back({.uri = "dir:b", .state = "starting"});
  snapshot.features = {{"set_retval", false, "refusals are EPERM"}};
  snapshot.neighbours = {{"NodeLocal DNS", "goes on"}};
  snapshot.proxy = {"serving", 77, 3, 9, 2, 1, 0, 5, 4, ""};
  snapshot.bypass = {"auto", "auto", "", {"splice(2): ends"}};
  snapshot.mesh = mesh;
  snapshot.refused = {"shop/big: no room"};
  snapshot.apply.last_writes = 12;
  snapshot.apply.last_duration = std::chrono::milliseconds(250);
  return snapshot;
}

TEST(AdminProtocol, StatusSaysEverything) {
  const auto now = Clock::now();
  const auto text = status_reply(example(now), 4711, now);
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  EXPECT_EQ(json::parse(text), json::parse(R"({"version":1,"ok":true,"result":{
    "pid":4711,"node":"n1","version":"1.2.3","uptime_seconds":60.0,"generation":57,"ready":true,
    "sources":[{"uri":"dir:mesh","state":"error","age_seconds":2.0,"error":"vanished"},
               {"uri":"dir:b","state":"starting","age_seconds":null,"error":""}],
    "features":[{"name":"set_retval","enabled":false,"reason":"refusals are EPERM"}],
    "neighbours":[{"name":"NodeLocal DNS","what":"goes on"}],
    "proxy":{"state":"serving","pid":77,"generation":3,"connections":9,"requests":2,"draining":1,
             "restarts":0,"workloads":5,"captured":4,"error":""},
    "bypass":{"mode":"auto","reason":"","differences":["splice(2): ends"]},
    "notices":[{"severity":"rejected","file":"mesh/web.yaml","line":9,"object":"Service shop/db",
                "message":"port 70000"},
               {"severity":"warning","file":"mesh/web.yaml","line":2,"object":"Service shop/web",
                "message":"odd � byte"}],
    "notices_omitted":0,"held_back":null,"refused":["shop/big: no room"],
    "last_apply":{"writes":12,"duration_seconds":0.25,"error":""}}})"));
}

TEST(AdminProtocol, HeldBackIsSaid) {
  Snapshot snapshot;
  snapshot.held_back = true;
  snapshot.held_back_text = "9 of 10 endpoints would go";
  EXPECT_EQ(json::parse(status_reply(snapshot, 1, Clock::now()))["result"]["held_back"],
            "9 of 10 endpoints would go");
}

TEST(AdminProtocol, StatusKeepsTheWorstNotices) {
  auto notices = std::make_shared<std::vector<model::Notice>>();
  for (std::size_t i = 0; i < kMaxNotices + 5; ++i)
    notices->push_back(notice(model::Severity::kWarning, 1, "", "w"));
  notices->push_back(notice(model::Severity::kRejected, 1, "", "r"));
  auto mesh = std::make_shared<model::Mesh>();
  mesh->notices = notices;
  Snapshot snapshot;
  snapshot.mesh = mesh;
  const auto result = json::parse(status_reply(snapshot, 1, Clock::now()))["result"];
  EXPECT_EQ(result["notices"].size(), kMaxNotices);
  EXPECT_EQ(result["notices"][0]["message"], "r");
  EXPECT_EQ(result["notices_omitted"], 6);
}

TEST(AdminProtocol, ServiceSaysWhereItCameFrom) {
  const auto snapshot = example(Clock::now());
  EXPECT_EQ(json::parse(service_reply(snapshot, "shop/web"))["result"],
            json::parse(R"({"file":"mesh/web.yaml","line":3,"balancer":"maglev",)"
                        R"("port_policies":[],"routes":[]})"));
  EXPECT_EQ(json::parse(service_reply(snapshot, "shop/no")),
            json::parse(R"({"version":1,"ok":false,"error":"no source has a service shop/no"})"));
}

TEST(AdminProtocol, ServiceNamesPortsWithAPolicyOfTheirOwn) {
  auto snapshot = example(Clock::now());
  auto service = std::make_shared<model::Service>(**snapshot.mesh->services.find({"shop", "web"}));
  service->ports.resize(2);
  service->ports[1].port = 81;
  service->ports[1].policy = std::make_shared<const model::PortPolicy>();
  auto mesh = std::make_shared<model::Mesh>(*snapshot.mesh);
  mesh->services.set(service->key, service);
  snapshot.mesh = mesh;
  EXPECT_EQ(json::parse(service_reply(snapshot, "shop/web"))["result"]["port_policies"],
            json::parse(R"([{"port":81,"protocol":"TCP","balancer":"round-robin"}])"));
}

TEST(AdminProtocol, HealthIsOfThoseThatAreChecked) {
  Snapshot snapshot;
  EXPECT_EQ(json::parse(health_reply(snapshot))["result"], json::array());
  const auto address = *model::Address::parse("10.0.0.1");
  snapshot.health = std::make_shared<std::vector<EndpointHealth>>(
      std::vector<EndpointHealth>{{{"shop", "web"}, address, 80, false, "HTTP 503"},
                                  {{"shop", "web"}, address, 81, true, "HTTP 200"},
                                  {{"shop", "web"}, address, 82, {}, ""}});
  EXPECT_EQ(json::parse(health_reply(snapshot))["result"], json::parse(R"([
    {"service":"shop/web","address":"10.0.0.1","port":80,"health":"unhealthy","reason":"HTTP 503"},
    {"service":"shop/web","address":"10.0.0.1","port":81,"health":"healthy","reason":"HTTP 200"},
    {"service":"shop/web","address":"10.0.0.1","port":82,"health":"unknown","reason":""}])"));
  EXPECT_FALSE(changes_something(AdminCommand::kHealth));
}

TEST(AdminProtocol, ReadsRequests) {
  const auto service = parse_request(R"({"version":1,"command":"service","service":"shop/web"})");
  ASSERT_TRUE(service.ok()) << service.status();
  EXPECT_EQ(service->command, AdminCommand::kService);
  EXPECT_EQ(service->service, "shop/web");
  EXPECT_EQ(parse_request(R"({"command":"confirm","version":1})")->command, AdminCommand::kConfirm);
}

TEST(AdminProtocol, RefusesWhatItDoesNotUnderstand) {
  for (const char* text :
       {"", "status", "[1]", "{", R"({"command":"status"})", R"({"version":2,"command":"status"})",
        R"({"version":"1","command":"status"})", R"({"version":1})", R"({"version":1,"command":7})",
        R"({"version":1,"command":"halt"})", R"({"version":1,"command":"service"})",
        R"({"version":1,"command":"service","service":"web"})",
        R"({"version":1,"command":"status"} {})"})
    EXPECT_FALSE(parse_request(text).ok()) << text;
}

TEST(AdminProtocol, WhatChangesSomethingIsForRootOnly) {
  for (const auto command : {AdminCommand::kConfirm, AdminCommand::kHandover,
                             AdminCommand::kBreaker, AdminCommand::kProxyReload})
    EXPECT_TRUE(changes_something(command));
  for (const auto command :
       {AdminCommand::kStatus, AdminCommand::kAudit, AdminCommand::kService, AdminCommand::kEvents})
    EXPECT_FALSE(changes_something(command));
}

TEST(AdminProtocol, ReadsOrdersToBreakers) {
  const auto request = parse_request(
      R"({"version":1,"command":"breaker","action":"open","endpoints":[3,4],"expires_ms":60000,)"
      R"("reason":"cluster","epoch":7})");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->breaker.action, "open");
  EXPECT_EQ(request->breaker.endpoints, (std::vector<std::uint32_t>{3, 4}));
  EXPECT_EQ(request->breaker.expires, std::chrono::seconds(60));
  EXPECT_TRUE(request->breaker.from_cluster);
  EXPECT_EQ(request->breaker.epoch, 7u);
}

TEST(AdminProtocol, NoBreakerIsOpenedForEver) {
  const std::string order = R"({"version":1,"command":"breaker","endpoints":[3],"action":)";
  for (const char* rest :
       {R"("open"})", R"("open","expires_ms":0})", R"("open","expires_ms":-5})",
        R"("open","expires_ms":1e30})", R"("open","expires_ms":99999999999})", R"("shut"})", "7}"})
    EXPECT_FALSE(parse_request(order + rest).ok()) << rest;
  const std::string open = order + R"("open","expires_ms":)";
  const auto longest = kernel::kLongestVerdict.count();
  EXPECT_EQ(parse_request(open + std::to_string(longest) + "}")->breaker.expires,
            std::chrono::days(30));
  EXPECT_FALSE(parse_request(open + std::to_string(longest + 1) + "}").ok());
  EXPECT_TRUE(parse_request(order + R"("close"})").ok());
  for (const char* endpoints : {"[]", "3", R"(["3"])", "[-1]", "[4294967296]", "[3.5]"})
    EXPECT_FALSE(parse_request(R"({"version":1,"command":"breaker","action":"close","endpoints":)" +
                               std::string(endpoints) + "}")
                     .ok())
        << endpoints;
}

// Cut to 32 bits, 2^32 + 1 would be the oldest epoch of all and 2^32 nobody's.
TEST(AdminProtocol, AnEpochThatDoesNotFitIsRefused) {
  const std::string order =
      R"({"version":1,"command":"breaker","action":"close","endpoints":[3],"epoch":)";
  EXPECT_EQ(parse_request(order + "4294967295}")->breaker.epoch, 0xffffffffu);
  EXPECT_EQ(parse_request(order + "0}")->breaker.epoch, 0u);
  for (const char* epoch : {"4294967296", "4294967297", "-1", "1.5", R"("7")", "null"})
    EXPECT_FALSE(parse_request(order + epoch + "}").ok()) << epoch;
}

TEST(AdminProtocol, EventsComeWithTheNumberToGoOnFrom) {
  BreakerLog log;
  BreakerEvent event;
  event.namespace_name = "shop";
  event.service = "web";
  event.to = "open";
  event.reason = "refused";
  for (int i = 0; i < 3; ++i) log.add(event);
  const auto result = json::parse(events_reply(log.after(1), log.last()))["result"];
  EXPECT_EQ(result["last"], 3);
  ASSERT_EQ(result["events"].size(), 2u);
  EXPECT_EQ(result["events"][0]["sequence"], 2);
  EXPECT_EQ(result["events"][0]["service"], "shop/web");
  EXPECT_EQ((log.counts()->at({"shop", "web", 0, "open", "refused"})), 3u);
  EXPECT_FALSE(parse_request(R"({"version":1,"command":"events"})")->after);
  EXPECT_EQ(parse_request(R"({"version":1,"command":"events","after":5})")->after, 5u);
}

// What a watcher of the one before asks for is all that this one has.
TEST(BreakerLog, NumbersOfTheNextAgentAreGreater) {
  BreakerLog first(5000), second(5001);
  for (int i = 0; i < 1000; ++i) first.add({});
  EXPECT_LE(first.last(), second.last());
  second.add({});
  EXPECT_EQ(second.after(first.last()).size(), 1u);
  EXPECT_EQ(second.after(0).size(), 1u);
}

TEST(AdminProtocol, WhatHasLeftTheMeshIsGone) {
  BreakerEvent event;
  event.service = event.endpoint = "gone";
  const auto result = json::parse(events_reply({event}, 1))["result"];
  EXPECT_EQ(result["events"][0]["service"], "gone");
}

}  // namespace
}  // namespace weft::observe
