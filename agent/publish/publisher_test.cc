#include "agent/publish/publisher.h"

#include <gtest/gtest.h>

#include <random>

#include "agent/compile/compile.h"
#include "agent/publish/test_history.h"

namespace weft::publish {
namespace {

// What a proxy knows, from what it was told.
struct Receiver {
  std::uint64_t told = 0;
  std::map<std::string, std::string> services, clusters;  // by name, as bytes

  static std::string text_of(const weft::v1::ClusterName& name) {
    return name.namespace_name() + "/" + name.service() + ":" + std::to_string(name.port()) + "/" +
           name.subset();
  }
  void take(const std::vector<weft::v1::Config>& configs) {
    for (const auto& config : configs) {
      if (config.whole()) services.clear(), clusters.clear();
      for (const auto& one : config.clusters())
        clusters[text_of(one.name())] = one.SerializeAsString();
      for (const auto& one : config.services()) {
        services[one.namespace_name() + "/" + one.name() + ":" + std::to_string(one.port()) + "/"] =
            one.SerializeAsString();
        for (const auto& cluster : one.routes().clusters())
          EXPECT_TRUE(clusters.contains(text_of(cluster))) << text_of(cluster);
      }
      // Also of what came and went since he heard last, which he never knew.
      for (const auto& name : config.removed_services()) services.erase(text_of(name));
      for (const auto& name : config.removed_clusters()) clusters.erase(text_of(name));
      told = config.generation();
    }
  }
};

std::uint32_t incarnation_of(std::uint32_t id) { return id + 1000; }
Publisher make_publisher() { return Publisher({"", "here", "n1"}, incarnation_of); }

class PublisherTest : public ::testing::Test {
 protected:
  // The world as it is now, published.
  bool publish() { return publisher.update(history.mesh(), history.placed()); }
  std::vector<weft::v1::Config> news() {
    auto configs = publisher.since(receiver.told);
    receiver.take(configs);
    return configs;
  }

  tests::History history;
  Publisher publisher = make_publisher();
  Receiver receiver;
};

TEST_F(PublisherTest, TellsANewProxyAlsoThatThereIsNothing) {
  EXPECT_TRUE(publish());
  const auto configs = news();
  ASSERT_EQ(configs.size(), 1u);
  EXPECT_TRUE(configs[0].whole());
  EXPECT_EQ(configs[0].generation(), publisher.last());
  EXPECT_TRUE(news().empty());
}

TEST_F(PublisherTest, TellsOfServicePortsWithRulesOnly) {
  history.put("web", {"10.1.0.1"});
  history.put("plain", {"10.1.0.2"});
  history.route("web", {"plain"});
  publish();
  const auto config = news().at(0);
  ASSERT_EQ(config.services_size(), 1);
  EXPECT_EQ(config.services(0).name(), "web");
  EXPECT_EQ(config.services(0).port(), 80u);
  EXPECT_EQ(config.services(0).addresses_size(), 1);
  EXPECT_TRUE(config.services(0).tunnel());
  ASSERT_EQ(config.clusters_size(), 2);
}

TEST_F(PublisherTest, NamesEndpointsByTheKernelsNumbers) {
  history.put("web", {"10.1.0.1"});
  history.route("web", {});
  publish();
  const auto cluster = news().at(0).clusters(0);
  const auto& port = (*history.placed().services.find({"shop", "web"}))->ports[0];
  EXPECT_EQ(cluster.service_index(), port.index);
  ASSERT_EQ(cluster.endpoints_size(), 1);
  EXPECT_EQ(cluster.endpoints(0).id(), port.endpoints[0].id);
  EXPECT_EQ(cluster.endpoints(0).incarnation(), port.endpoints[0].id + 1000);
  EXPECT_EQ(cluster.endpoints(0).service_index(), port.index);
  EXPECT_EQ(cluster.endpoints(0).address().size(), 16u);
}

TEST_F(PublisherTest, AnEndpointThatTheKernelDoesNotBalanceToHasNoNumber) {
  history.put("web", {"10.1.0.1"});
  history.route("web", {});
  publisher.update(history.mesh(), {});
  EXPECT_EQ(news().at(0).clusters(0).endpoints(0).id(), 0u);
}

TEST_F(PublisherTest, AnEndpointsComingCostsNoRule) {
  history.put("web", {"10.1.0.1"});
  history.put("api", {"10.1.0.2"});
  history.route("web", {"api"});
  publish();
  news();
  history.put("api", {"10.1.0.2", "10.1.0.3"});
  EXPECT_TRUE(publish());
  const auto config = news().at(0);
  EXPECT_FALSE(config.whole());
  EXPECT_EQ(config.services_size(), 0);
  ASSERT_EQ(config.clusters_size(), 1);
  EXPECT_EQ(config.clusters(0).endpoints_size(), 2);
}

TEST_F(PublisherTest, WhatChangesNothingForAProxyIsNotTold) {
  history.put("web", {"10.1.0.1"});
  history.put("plain", {"10.1.0.2"});
  history.route("web", {});
  publish();
  news();
  history.put("plain", {"10.1.0.9"});
  EXPECT_FALSE(publish());
  EXPECT_TRUE(news().empty());
}

TEST_F(PublisherTest, AClustersPolicyIsThatOfTheServiceItIsOf) {
  history.put("web", {"10.1.0.1"});
  history.put("api", {"10.1.0.2"});
  history.route("web", {"api"});
  publish();
  news();
  history.edit("api", [](model::Service& service) {
    service.traffic.http.max_requests = 7;
    service.traffic.outlier.emplace().consecutive_gateway = 3;
    service.traffic.limits.connect_timeout = std::chrono::milliseconds(250);
    service.traffic.source_address = model::SourceAddress::kNode;
  });
  publish();
  const auto config = news().at(0);
  ASSERT_EQ(config.clusters_size(), 1);
  const auto& cluster = config.clusters(0);
  EXPECT_EQ(cluster.name().service(), "api");
  EXPECT_EQ(cluster.max_requests(), 7u);
  EXPECT_EQ(cluster.consecutive_gateway(), 3u);
  EXPECT_EQ(cluster.connect_timeout_ms(), 250u);
  EXPECT_TRUE(cluster.node_source());
}

TEST_F(PublisherTest, AClusterOfAPortWithAPolicyOfItsOwnHasThat) {
  history.put("web", {"10.1.0.1"});
  history.put("api", {"10.1.0.2"});
  history.route("web", {"api"});
  publish();
  news();
  history.edit("api", [](model::Service& service) {
    service.traffic.http.max_requests = 7;
    service.traffic.outlier.emplace().consecutive_gateway = 3;
    model::PortPolicy own;
    own.balancer = model::Balancer::kLeastRequest;
    own.traffic.http.max_requests = 8;
    service.ports.at(0).policy = std::make_shared<const model::PortPolicy>(own);
  });
  publish();
  const auto config = news().at(0);
  ASSERT_EQ(config.clusters_size(), 1);
  const auto& cluster = config.clusters(0);
  EXPECT_EQ(cluster.max_requests(), 8u);
  EXPECT_EQ(cluster.consecutive_gateway(), 0u);
  EXPECT_EQ(cluster.balancer(), static_cast<std::uint32_t>(model::Balancer::kLeastRequest));
}

// --- who serves and who stands by ---

model::Endpoint endpoint_at(const std::string& address, std::uint8_t priority = 0,
                            const std::string& zone = {}) {
  model::Endpoint endpoint{*model::Address::parse(address), 8080};
  endpoint.priority = priority;
  endpoint.zone = zone;
  return endpoint;
}

class NearnessTest : public PublisherTest {
 protected:
  // "10.1.0.1*3/0": the last byte of the address, weight, priority.
  std::string told(const weft::v1::Cluster& cluster) {
    std::string text;
    for (const auto& endpoint : cluster.endpoints())
      text += (text.empty() ? "" : " ") + std::to_string(endpoint.address().back()) + "*" +
              std::to_string(endpoint.weight()) + "/" + std::to_string(endpoint.priority());
    return text;
  }
  std::string told_of(const std::string& subset) {
    const auto config = publisher.since(0).at(0);
    for (const auto& cluster : config.clusters())
      if (cluster.name().subset() == subset) return told(cluster);
    return "nothing";
  }
  std::set<std::uint32_t> ids_of(std::initializer_list<int> last_bytes) {
    std::set<std::uint32_t> ids;
    for (const auto& port : (*history.placed().services.find({"shop", "web"}))->ports)
      for (const auto& endpoint : port.endpoints)
        for (const int byte : last_bytes)
          if (endpoint.address.bytes[15] == byte) ids.insert(endpoint.id);
    return ids;
  }
  void put_web(std::vector<model::Endpoint> endpoints,
               const std::function<void(model::Service&)>& how = {}) {
    history.put("web", {});
    history.edit("web", [&](model::Service& service) {
      service.ports[0].endpoints = std::move(endpoints);
      if (how) how(service);
    });
  }
};

TEST_F(NearnessTest, EndpointsOfTheOwnZoneAreBeforeTheOthers) {
  put_web({endpoint_at("10.1.0.1", 0, "there"), endpoint_at("10.1.0.2", 0, "here")},
          [](model::Service& service) {
            service.traffic.locality.prefer = model::LocalityPolicy::Prefer::kZone;
          });
  history.route("web", {});
  publish();
  EXPECT_EQ(told_of(""), "1*1/1 2*1/0");
}

TEST_F(NearnessTest, SharesOfLocalitiesAreSharedWithinAFamily) {
  // Half of all requests go to each zone, whoever is there of the other family.
  put_web({endpoint_at("2001:db8::3", 0, "here"), endpoint_at("2001:db8::4", 0, "here"),
           endpoint_at("10.1.0.1", 0, "here"), endpoint_at("10.1.0.2", 0, "there")},
          [](model::Service& service) {
            auto& distribute = service.traffic.locality.distribute.emplace_back();
            distribute.from = "*";
            distribute.to = {{"*/here", 50}, {"*/there", 50}};
          });
  history.route("web", {});
  publish();
  EXPECT_EQ(told_of(""), "1*1000/0 2*1000/0 3*1000/0 4*1000/0");
}

TEST_F(NearnessTest, HintsOfOneFamilyDoNotDependOnTheOther) {
  auto hinted = endpoint_at("10.1.0.1"), elsewhere = endpoint_at("10.1.0.2");
  hinted.for_zones = {"here"};
  elsewhere.for_zones = {"there"};
  put_web({endpoint_at("2001:db8::3"), hinted, elsewhere});
  history.route("web", {});
  publish();
  EXPECT_EQ(told_of(""), "1*1/0 2*1/1 3*1/0");
}

TEST_F(NearnessTest, OnlyTheOwnNodesEndpointsAreToldWhereThePolicyIsLocal) {
  auto near = endpoint_at("10.1.0.1"), far = endpoint_at("10.1.0.2");
  near.node = "n1";
  far.node = "n2";
  put_web({near, far}, [](model::Service& service) { service.traffic.locality.only_local = true; });
  history.route("web", {});
  publish();
  EXPECT_EQ(told_of(""), "1*1/0");
}

TEST_F(NearnessTest, LoadSpillsToTheNextPriorityAsTheHealthyShareFallsBelowTheThreshold) {
  put_web({endpoint_at("10.1.0.1"), endpoint_at("10.1.0.2"), endpoint_at("10.1.0.3", 1)},
          [](model::Service& service) { service.traffic.failover_below_percent = 71; });
  history.route("web", {});
  publish();
  EXPECT_EQ(told_of(""), "1*1/0 2*1/0 3*1/1");
  // Half of them are healthy: 50/71 of the load stays.
  publisher.touch({"shop", "web"});
  EXPECT_TRUE(publisher.update(history.mesh(), history.placed(), ids_of({1})));
  EXPECT_EQ(told_of(""), "1*1/0 2*7/0 3*3/0");
  publisher.touch({"shop", "web"});
  EXPECT_TRUE(publisher.update(history.mesh(), history.placed(), {}));
  EXPECT_EQ(told_of(""), "1*1/0 2*1/0 3*1/1");
}

TEST_F(NearnessTest, APortsOwnPolicySaysWhoIsNear) {
  put_web({endpoint_at("10.1.0.1", 0, "there"), endpoint_at("10.1.0.2", 0, "here")},
          [](model::Service& service) {
            model::PortPolicy own;
            own.traffic.locality.prefer = model::LocalityPolicy::Prefer::kZone;
            service.ports.at(0).policy = std::make_shared<const model::PortPolicy>(own);
          });
  history.route("web", {});
  publish();
  EXPECT_EQ(told_of(""), "1*1/1 2*1/0");
}

TEST_F(NearnessTest, ASubsetSpillsByItsOwnEndpoints) {
  // Of the service three in four are healthy, of its subset one in two.
  put_web({endpoint_at("10.1.0.1"), endpoint_at("10.1.0.2"), endpoint_at("10.1.0.3"),
           endpoint_at("10.1.0.4"), endpoint_at("10.1.0.5", 1)},
          [](model::Service& service) { service.traffic.failover_below_percent = 70; });
  history.put_subset(
      "web/v1", {endpoint_at("10.1.0.1"), endpoint_at("10.1.0.2"), endpoint_at("10.1.0.5", 1)});
  history.route("web", {"web/v1"});
  publish();
  publisher.touch({"shop", "web"});
  publisher.update(history.mesh(), history.placed(), ids_of({1}));
  EXPECT_EQ(told_of(""), "1*1/0 2*1/0 3*1/0 4*1/0 5*1/1");
  EXPECT_EQ(told_of("v1"), "1*1/0 2*5/0 5*2/0");
}

TEST_F(PublisherTest, AClusterGoesWithTheLastRuleThatNamesIt) {
  history.put("web", {"10.1.0.1"});
  history.put("app", {"10.1.0.3"});
  history.put("api", {"10.1.0.2"});
  history.route("web", {"api"});
  history.route("app", {"api"});
  publish();
  news();
  history.route("web", {});
  publish();
  EXPECT_EQ(news().at(0).removed_clusters_size(), 0);
  history.unroute("app");
  publish();
  const auto config = news().at(0);
  EXPECT_EQ(config.removed_services_size(), 1);
  EXPECT_EQ(config.removed_clusters_size(), 2);  // api and app itself
}

TEST_F(PublisherTest, WhatIsTooLongForOneMessageComesInSeveral) {
  for (int i = 0; i < 50; ++i) {
    const auto name = "s" + std::to_string(i);
    history.put(name, {"10.1.0." + std::to_string(i + 1)});
    history.route(name, {});
  }
  publish();
  const auto configs = publisher.since(0, 1000);
  EXPECT_GT(configs.size(), 5u);
  receiver.take(configs);
  EXPECT_EQ(receiver.services.size(), 50u);
  EXPECT_EQ(receiver.clusters.size(), 50u);
  EXPECT_EQ(receiver.told, publisher.last());
  for (std::size_t i = 0; i < configs.size(); ++i) {
    EXPECT_EQ(configs[i].whole(), i == 0);
    EXPECT_EQ(configs[i].generation(), i + 1 == configs.size() ? publisher.last() : 0u);
  }
}

TEST_F(PublisherTest, WhatWasRemovedIsForgottenOnceAllHaveHeard) {
  for (int round = 0; round < 20; ++round) {
    history.put("web" + std::to_string(round), {"10.1.0.1"});
    history.route("web" + std::to_string(round), {});
    publish();
    news();
    history.erase("web" + std::to_string(round));
    publish();
    news();
    publisher.forget_removed(receiver.told);
  }
  EXPECT_TRUE(receiver.services.empty());
  EXPECT_TRUE(receiver.clusters.empty());
}

TEST(Publisher, ReplayingWhatWasToldGivesTheWholeThroughRandomHistories) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    tests::History history(seed);
    auto publisher = make_publisher();
    std::vector<Receiver> receivers(3);
    for (int step = 0; step < 60; ++step) {
      history.step();
      publisher.update(history.mesh(), history.placed());
      // Some hear of every change, some of few.
      for (std::size_t i = 0; i < receivers.size(); ++i)
        if (history.below(static_cast<int>(i) * 4 + 1) == 0)
          receivers[i].take(publisher.since(receivers[i].told, 2000));
      const auto least = std::min({receivers[0].told, receivers[1].told, receivers[2].told});
      if (least) publisher.forget_removed(least);
    }
    auto fresh = make_publisher();
    fresh.update(history.mesh(), history.placed());
    Receiver whole;
    whole.take(fresh.since(0));
    for (auto& receiver : receivers) {
      receiver.take(publisher.since(receiver.told));
      EXPECT_EQ(receiver.services, whole.services) << "seed " << seed;
      EXPECT_EQ(receiver.clusters, whole.clusters) << "seed " << seed;
    }
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace weft::publish
