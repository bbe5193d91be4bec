// ServiceEntries in the mesh: who they are, whose rules and routes are theirs, who is chosen.
#include <gtest/gtest.h>

#include "mesh/model/test_meshes.h"

namespace weft::model {
namespace {

using test::address;
using test::created;
using test::entry;
using test::merged;
using test::notices;
using test::pod;
using test::rule;
using test::service;
using test::slice;
using test::slice_endpoint;
using test::unit;

const ServiceKey kDb{"data", "db.example.com"};
ServiceObject database() {
  return entry({"db.example.com", "replica.example.com"}, "10.7.0.1",
               {{"192.0.2.1", {{"version", "v1"}}}, {"192.0.2.2", {{"version", "v2"}}}});
}

const Service& find(const MeshPtr& mesh, const ServiceKey& key = kDb) {
  return **mesh->services.find(key);
}

// "192.0.2.1:5432 192.0.2.2:5432*2" of one port.
std::string endpoints(const MeshPtr& mesh, const ServiceKey& key = kDb, std::size_t port = 0) {
  std::string text;
  for (const auto& e : find(mesh, key).ports.at(port).endpoints) {
    text += (text.empty() ? "" : " ") + e.address.to_text() + ":" + std::to_string(e.port);
    if (e.weight != 1) text += "*" + std::to_string(e.weight);
  }
  return text;
}

template <class T>
T in(T object, const std::string& namespace_name, const std::string& name = "") {
  object.meta.namespace_name = namespace_name;
  if (!name.empty()) object.meta.name = name;
  return object;
}

VirtualServiceObject routes(const std::string& host, std::vector<RouteDestination> destinations) {
  VirtualServiceObject result;
  result.meta = test::meta("routes", "data");
  result.hosts = {host};
  result.tcp = {{{}, std::move(destinations), {}}};
  return result;
}

TEST(Entries, AreServicesCalledByTheirFirstHost) {
  const auto mesh = merged({database()});
  EXPECT_EQ(mesh->services.size(), 1u);
  EXPECT_EQ(find(mesh).addresses, std::vector<Address>{address("10.7.0.1")});
  EXPECT_EQ(endpoints(mesh), "192.0.2.1:5432 192.0.2.2:5432");
  EXPECT_EQ(notices(mesh), "");
}

TEST(Entries, LeadToThePortThatTheEndpointSaysElseTheTargetElseTheNumber) {
  auto db = database();
  db.ports = {{"sql", 5432, Protocol::kTcp, TargetPort(std::uint16_t{6432})},
              {"web", 80, Protocol::kTcp, {}}};
  db.entry->endpoints[0].ports = {{"sql", 7432}, {"web", 8080}};
  const auto mesh = merged({db});
  EXPECT_EQ(endpoints(mesh, kDb, 0), "192.0.2.1:8080 192.0.2.2:80");
  EXPECT_EQ(endpoints(mesh, kDb, 1), "192.0.2.1:7432 192.0.2.2:6432");
}

TEST(Entries, GiveTheirEndpointsPlacesWeightsAndPriorities) {
  auto db = database();
  db.entry->endpoints[0].region = "europe";
  db.entry->endpoints[0].zone = "west";
  db.entry->endpoints[0].rank = {1, 7};
  const auto mesh = merged({db});
  const auto& first = find(mesh).ports[0].endpoints[0];
  EXPECT_EQ(first.region, "europe");
  EXPECT_EQ(first.zone, "west");
  EXPECT_EQ(first.weight, 7);
  EXPECT_EQ(first.priority, 1);
}

TEST(Entries, SelectPodsOfTheirNamespace) {
  auto db = entry({"db.example.com"}, "10.7.0.1");
  db.selector = {{"app", "db"}};
  Merger merger;
  merger.set("entry", unit({db}));
  merger.set("other", unit({pod("stranger", "10.0.0.9", {{"app", "db"}})}));  // of shop
  EXPECT_EQ(endpoints(merger.build()), "");
  merger.set("pod", unit({in(pod("a", "10.0.0.1", {{"app", "db"}}), "data")}));
  EXPECT_EQ(endpoints(merger.build()), "10.0.0.1:5432");
  merger.set("pod", unit({in(pod("a", "10.0.0.1", {{"app", "web"}}), "data")}));
  EXPECT_EQ(endpoints(merger.build()), "");
}

TEST(Entries, ThatAreUnservedAreKnownAndHaveNeitherAddressNorPort) {
  auto db = entry({"db.example.com"}, "10.7.0.1");
  db.unserved_type = true;
  const auto mesh = merged(
      {db, routes("web.shop", {{"db.example.com", "", {}, 1, {}}}), service("web", {"10.96.0.1"})});
  EXPECT_TRUE(find(mesh).addresses.empty());
  EXPECT_TRUE(find(mesh).ports.empty());
  EXPECT_NE(notices(mesh).find("destination ServiceEntry data/db.example.com has nobody to choose "
                               "from"),
            std::string::npos)
      << notices(mesh);
}

TEST(Entries, ThatAreCalledAlikeYieldToTheOlder) {
  Merger merger;
  merger.set("old", unit({created(database(), 1)}));
  auto young =
      created(in(entry({"db.example.com"}, "10.7.0.9", {{"192.0.2.9", {}}}), "data", "copy"), 2);
  merger.set("young", unit({young}));
  auto mesh = merger.build();
  EXPECT_EQ(endpoints(mesh), "192.0.2.1:5432 192.0.2.2:5432");
  EXPECT_EQ(notices(mesh),
            "rejected: ServiceEntry data/copy: is not served: ServiceEntry data/db is "
            "data/db.example.com, too, and older; remove one of the two\n");
  merger.set("old", nullptr);
  mesh = merger.build();
  EXPECT_EQ(endpoints(mesh), "192.0.2.9:5432");
  EXPECT_EQ(find(mesh).addresses, std::vector<Address>{address("10.7.0.9")});
  EXPECT_EQ(notices(mesh), "");
  // Oldest of all is a Service of that name; a host without dots may be one's.
  merger.set("short", unit({created(entry({"web"}, "10.7.0.2", {{"192.0.2.3", {}}}), 5)}));
  merger.set("service", unit({created(in(service("web", {"10.96.0.1"}), "data"), 4)}));
  mesh = merger.build();
  EXPECT_EQ(find(mesh, {"data", "web"}).addresses, std::vector<Address>{address("10.96.0.1")});
  EXPECT_EQ(notices(mesh),
            "rejected: ServiceEntry data/db: is not served: Service data/web is data/web, too, and "
            "older; remove one of the two\n");
}

TEST(Entries, LoseAnAddressToWhoIsOlder) {
  const auto mesh = merged({created(database(), 2), created(service("web", {"10.7.0.1"}), 1)});
  EXPECT_TRUE(find(mesh).addresses.empty());
  EXPECT_EQ(
      notices(mesh),
      "rejected: ServiceEntry data/db: address 10.7.0.1 belongs to Service shop/web, which is "
      "older: not served here; give one of the two another address\n");
}

TEST(Entries, ShareAnAddressWhereTheirPortsDiffer) {
  auto other = in(entry({"other.example.com"}, "10.7.0.1", {{"192.0.2.9", {}}}), "data", "other");
  other.ports[0].port = 3306;
  const auto mesh = merged({database(), other});
  EXPECT_EQ(notices(mesh), "");
  EXPECT_EQ(find(mesh, {"data", "other.example.com"}).addresses.size(), 1u);
  EXPECT_EQ(find(mesh).addresses.size(), 1u);
}

TEST(Entries, TakeRulesForAnyOfTheirHostsFromAnyNamespace) {
  for (const char* host : {"db.example.com", "replica.example.com"})
    for (const char* space : {"data", "shop"}) {
      const auto mesh = merged({in(rule("r", host, Balancer::kRandom), space), database()});
      EXPECT_EQ(find(mesh).balancer, Balancer::kRandom) << host << " in " << space;
      EXPECT_EQ(notices(mesh), "");
    }
}

TEST(Entries, TakeTheRuleOfTheirNamespaceBeforeOlderOnes) {
  Merger merger;
  merger.set("entry", unit({database()}));
  merger.set("old",
             unit({created(in(rule("old", "db.example.com", Balancer::kRandom), "shop"), 1)}));
  merger.set(
      "own",
      unit({created(in(rule("own", "replica.example.com", Balancer::kRingHash), "data"), 3)}));
  merger.set("mid",
             unit({created(in(rule("mid", "db.example.com", Balancer::kPeakEwma), "web"), 2)}));
  auto mesh = merger.build();
  EXPECT_EQ(find(mesh).balancer, Balancer::kRingHash);
  EXPECT_EQ(notices(mesh),
            "warning: DestinationRule shop/old: has no effect: DestinationRule data/own is for the "
            "same host, ServiceEntry data/db, and of its namespace\n"
            "warning: DestinationRule web/mid: has no effect: DestinationRule data/own is for the "
            "same host, ServiceEntry data/db, and of its namespace\n");
  merger.set("own", nullptr);
  mesh = merger.build();
  EXPECT_EQ(find(mesh).balancer, Balancer::kRandom);
  EXPECT_EQ(notices(mesh),
            "warning: DestinationRule web/mid: has no effect: DestinationRule shop/old is for the "
            "same host, ServiceEntry data/db, and older\n");
}

TEST(Entries, AreNotTheRulesOfWhomTheyAreNotExportedTo) {
  auto db = database();
  db.entry->export_to = {".", "shop"};
  const auto mesh = merged({db, in(rule("r", "db.example.com", Balancer::kRandom), "web")});
  EXPECT_EQ(find(mesh).balancer, Balancer::kRoundRobin);
  EXPECT_EQ(
      notices(mesh),
      "warning: DestinationRule web/r: has no effect: no ServiceEntry that its namespace sees "
      "has the host db.example.com; a Service is NAME, NAME.NAMESPACE or "
      "NAME.NAMESPACE.svc.cluster.local\n");
  EXPECT_EQ(find(merged({db, in(rule("r", "db.example.com", Balancer::kRandom), "shop")})).balancer,
            Balancer::kRandom);
}

TEST(Entries, MakeAnOrphanedRuleWorkWhenTheyCome) {
  for (const char* host : {"db.example.com", "db.example", "db.data.svc.cluster.local"}) {
    Merger merger;
    merger.set("rule", unit({in(rule("r", host, Balancer::kRandom), "data")}));
    EXPECT_NE(notices(merger.build()).find("DestinationRule data/r: has no effect"),
              std::string::npos);
    merger.set("entry", unit({entry({"first", host}, "10.7.0.1", {{"192.0.2.1", {}}})}));
    EXPECT_EQ(find(merger.build(), {"data", "first"}).balancer, Balancer::kRandom) << host;
    EXPECT_EQ(notices(merger.build()), "") << host;
    merger.set("entry", nullptr);
    EXPECT_NE(notices(merger.build()).find("DestinationRule data/r: has no effect"),
              std::string::npos);
  }
}

TEST(Entries, HaveSubsetsByTheirEndpointsOwnLabels) {
  auto canary = in(rule("r", "replica.example.com", Balancer::kRoundRobin), "data");
  canary.subsets = {{"v1", {{"version", "v1"}}}, {"v2", {{"version", "v2"}}}};
  const auto split = routes("db.example.com", {{"db.example.com", "v1", {}, 9, {}},
                                               {"replica.example.com", "v2", {}, 1, {}}});
  Merger merger;
  merger.set("entry", unit({database()}));
  merger.set("rules", unit({canary, split}));
  auto mesh = merger.build();
  EXPECT_EQ(endpoints(mesh), "192.0.2.1:5432*9 192.0.2.2:5432");
  EXPECT_EQ(notices(mesh), "");
  auto moved = database();
  moved.entry->endpoints[1].address = address("192.0.2.3");
  merger.set("entry", unit({moved}));
  EXPECT_EQ(endpoints(merger.build()), "192.0.2.1:5432*9 192.0.2.3:5432");
}

TEST(Entries, AreDestinationsOfAServicesRoutes) {
  Merger merger;
  merger.set("routes", unit({in(routes("web.shop", {{"db.example.com", "", {}, 1, {}}}), "shop"),
                             service("web", {"10.96.0.1"}, {{"", 5432, Protocol::kTcp, {}}})}));
  EXPECT_NE(notices(merger.build())
                .find("there is no ServiceEntry for the destination \"db.example.com\""),
            std::string::npos)
      << notices(merger.build());
  merger.set("entry", unit({database()}));
  EXPECT_EQ(endpoints(merger.build(), {"shop", "web"}), "192.0.2.1:5432 192.0.2.2:5432");
  EXPECT_EQ(notices(merger.build()), "");
  // Of two with that host the namespace's own is meant.
  merger.set("own", unit({in(entry({"db.example.com"}, "10.7.0.5", {{"192.0.2.5", {}}}), "shop")}));
  EXPECT_EQ(endpoints(merger.build(), {"shop", "web"}), "192.0.2.5:5432");
  auto hidden = database();
  hidden.entry->export_to = {"."};
  merger.set("own", nullptr);
  merger.set("entry", unit({hidden}));
  EXPECT_EQ(endpoints(merger.build(), {"shop", "web"}), "");
}

TEST(Entries, FollowTheirSelectedPodsAsDestinations) {
  auto db = entry({"db.example.com"}, "10.7.0.1");
  db.selector = {{"app", "db"}};
  Merger merger;
  merger.set("all", unit({db, routes("web.shop", {{"db.example.com", "", {}, 1, {}}}),
                          service("web", {"10.96.0.1"}, {{"", 5432, Protocol::kTcp, {}}})}));
  merger.build();
  merger.set("pod", unit({in(pod("a", "10.0.0.1", {{"app", "db"}}), "data")}));
  EXPECT_EQ(endpoints(merger.build(), {"shop", "web"}), "10.0.0.1:5432");
}

TEST(Entries, YieldToAServiceOfTheSameName) {
  // "web.shop" is a Service's short name before it is somebody's full one.
  auto web = in(entry({"web.shop"}, "10.7.0.1", {{"192.0.2.1", {}}}), "data");
  Merger merger;
  merger.set("entry", unit({web}));
  merger.set("routes", unit({in(routes("front", {{"web.shop", "", {}, 1, {}}}), "shop"),
                             service("front", {"10.96.0.1"}, {{"", 5432, Protocol::kTcp, {}}})}));
  EXPECT_EQ(endpoints(merger.build(), {"shop", "front"}), "192.0.2.1:5432");
  merger.set("service", unit({service("web", {"10.96.0.2"}),
                              slice("web-1", "web", {slice_endpoint("10.0.0.1")})}));
  EXPECT_EQ(endpoints(merger.build(), {"shop", "front"}), "10.0.0.1:8080");
}

TEST(Entries, HaveTheirHttpRoutesButNotThoseOfServicesWildcards) {
  const auto http = [](const std::string& host) {
    VirtualServiceObject result;
    result.meta = test::meta("http", "data");
    result.hosts = {host};
    HttpRuleSpec spec;
    spec.rule.action = DirectResponse{418, "", ""};
    result.http.push_back(spec);
    return result;
  };
  EXPECT_FALSE(find(merged({database(), http("*.svc.cluster.local")})).ports[0].http);
  EXPECT_FALSE(find(merged({database(), http("*.data.svc.cluster.local")})).ports[0].http);
  for (const char* host : {"db.example.com", "replica.example.com", "*"}) {
    const auto mesh = merged({database(), http(host)});
    EXPECT_TRUE(find(mesh).ports[0].http) << host << notices(mesh);
  }
}

TEST(Entries, DoNotTakeSlices) {
  auto slices = in(slice("web-1", "web", {slice_endpoint("10.0.0.1")}), "data");
  const auto mesh = merged({entry({"web"}, "10.7.0.1", {{"192.0.2.1", {}}}), slices});
  EXPECT_EQ(endpoints(mesh, {"data", "web"}), "192.0.2.1:5432");
  EXPECT_EQ(notices(mesh),
            "info: EndpointSlice data/web-1: ignored: data/web is ServiceEntry data/db, which has "
            "endpoints of its own\n");
}

}  // namespace
}  // namespace weft::model
