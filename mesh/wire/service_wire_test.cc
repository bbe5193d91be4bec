#include "mesh/wire/service.h"

#include <gtest/gtest.h>

#include "mesh/base/text.h"
#include "tests/random_routes.h"

namespace weft::wire {
namespace {

using std::chrono::milliseconds;

Endpoint endpoint() {
  return {*model::Address::parse("10.0.0.7"), 8080,   5, 2, 3, 1,
          model::EndpointState::kDraining,    "eu-1a"};
}

Cluster cluster() {
  Cluster cluster;
  cluster.name = {"shop", "web", "v1", 80, ""};
  cluster.endpoints = {endpoint(), endpoint()};
  cluster.endpoints[1].address = *model::Address::parse("fd00::7");
  cluster.endpoints.push_back(endpoint());
  const model::Workload web{"shop", "web", "app", "v1", "web", "v1"};
  cluster.endpoints[1].workload.to = std::make_shared<const model::Workload>(web);
  cluster.endpoints[2].workload.to = std::make_shared<const model::Workload>(web);
  cluster.balancer = model::Balancer::kPeakEwma;
  cluster.service_index = 9;
  cluster.connect_timeout = milliseconds(1500);
  cluster.limits = {1, 2, 3, 4, milliseconds(60000)};
  cluster.consecutive_5xx = 5;
  cluster.consecutive_gateway = 6;
  cluster.warmup = milliseconds(30000);
  cluster.node_source = true;
  return cluster;
}

TEST(WireService, AClusterComesBackAsItWas) {
  const auto back = from_wire(to_wire(cluster()));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, cluster());
  const auto plain = from_wire(to_wire(Cluster{}));
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(*plain, Cluster{});
}

TEST(WireService, AServiceComesBackAsItWas) {
  const Service service{"shop",
                        "web",
                        80,
                        {*model::Address::parse("10.96.0.1"), *model::Address::parse("fd00::1")},
                        tests::RandomRoutes(7).routes(5),
                        true};
  const auto back = from_wire(to_wire(service));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, service);
}

TEST(WireService, AnEndpointOfTheMeshTakesTheKernelsNumbers) {
  model::Endpoint of_mesh;
  of_mesh.address = *model::Address::parse("10.0.0.7");
  of_mesh.port = 8080;
  of_mesh.weight = 3;
  of_mesh.priority = 1;
  of_mesh.state = model::EndpointState::kDraining;
  of_mesh.zone = "eu-1a";
  EXPECT_EQ(endpoint_of(of_mesh, 5, 2), endpoint());
}

std::string refusal(const auto& message) {
  const auto read = from_wire(message);
  return read.ok() ? "" : base::message_of(read.status());
}

TEST(WireService, WhatIsWrongIsRefusedByName) {
  auto message = to_wire(cluster());
  message.mutable_endpoints(1)->set_port(0);
  EXPECT_EQ(refusal(message), "cluster shop/web:80: endpoint 1: port 0 is not within 1-65535");
  message = to_wire(cluster());
  message.mutable_endpoints(0)->set_address("1234");
  EXPECT_EQ(refusal(message), "cluster shop/web:80: endpoint 0: an address of 4 bytes");
  message = to_wire(cluster());
  message.mutable_endpoints(0)->set_state(3);
  EXPECT_EQ(refusal(message), "cluster shop/web:80: endpoint 0: state 3 is not within 0-2");
  message = to_wire(cluster());
  message.mutable_endpoints(0)->set_weight(65536);
  EXPECT_NE(refusal(message), "");
  message = to_wire(cluster());
  message.mutable_endpoints(0)->set_priority(256);
  EXPECT_NE(refusal(message), "");
  message = to_wire(cluster());
  message.set_balancer(6);
  EXPECT_EQ(refusal(message), "cluster shop/web:80: balancer 6 is not within 0-5");
  message = to_wire(cluster());
  message.set_warmup_ms(~0ull);
  EXPECT_NE(refusal(message), "");
  message = to_wire(cluster());
  message.mutable_name()->set_port(70000);
  EXPECT_EQ(refusal(message), "cluster shop/web:70000: port 70000 is not within 0-65535");
}

TEST(WireService, ABrokenRuleIsNamedWithItsService) {
  auto message = to_wire(Service{"shop", "web", 80, {}, {}, false});
  message.mutable_routes()->add_rules()->set_object("VirtualService shop/web");
  EXPECT_EQ(refusal(message),
            "service shop/web:80: rule 0 (VirtualService shop/web): no action that is known");
}

}  // namespace
}  // namespace weft::wire
