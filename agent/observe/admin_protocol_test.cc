#include "agent/observe/admin_protocol.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

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
            json::parse(R"({"file":"mesh/web.yaml","line":3,"balancer":"maglev"})"));
  EXPECT_EQ(json::parse(service_reply(snapshot, "shop/no")),
            json::parse(R"({"version":1,"ok":false,"error":"no source has a service shop/no"})"));
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

TEST(AdminProtocol, OnlyConfirmChangesAnything) {
  EXPECT_TRUE(changes_something(AdminCommand::kConfirm));
  for (const auto command : {AdminCommand::kStatus, AdminCommand::kAudit, AdminCommand::kService})
    EXPECT_FALSE(changes_something(command));
}

}  // namespace
}  // namespace weft::observe
