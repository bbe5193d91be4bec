#include "mesh/wire/http.h"

#include <gtest/gtest.h>

#include "mesh/base/text.h"
#include "tests/random_routes.h"

namespace weft::wire {
namespace {

weft::v1::HttpRoutes through_bytes(const weft::v1::HttpRoutes& message) {
  weft::v1::HttpRoutes read;
  EXPECT_TRUE(read.ParseFromString(message.SerializeAsString()));
  return read;
}

TEST(Wire, RandomRoutesComeBackAsTheyWere) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    tests::RandomRoutes random(seed);
    const auto routes = random.routes(static_cast<int>(seed % 9));
    const auto back = from_wire(through_bytes(to_wire(routes)));
    ASSERT_TRUE(back.ok()) << "seed " << seed << ": " << back.status();
    ASSERT_EQ(*back, routes) << "seed " << seed;
  }
}

TEST(Wire, ABodyNeedNotBeText) {
  model::HttpRoutes routes;
  routes.rules.resize(1);
  routes.rules[0].action = model::DirectResponse{200, std::string("\xff\0\xfe", 3), "image/png"};
  const auto back = from_wire(through_bytes(to_wire(routes)));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, routes);
}

TEST(Wire, RulesOfOneFileShareItsName) {
  model::HttpRoutes routes;
  routes.rules.resize(2);
  for (auto& rule : routes.rules) rule.origin = {std::make_shared<std::string>("web.yaml"), 3};
  const auto back = from_wire(to_wire(routes));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->rules[0].origin.file, back->rules[1].origin.file);
}

// Valid: one rule that forwards to the one cluster. Each test breaks it in one place.
weft::v1::HttpRoutes valid() {
  weft::v1::HttpRoutes routes;
  routes.add_clusters()->set_service("web");
  auto& rule = *routes.add_rules();
  rule.set_object("VirtualService shop/web");
  rule.mutable_forward()->add_destinations()->set_weight(1);
  return routes;
}

std::string refusal(const weft::v1::HttpRoutes& routes) {
  const auto read = from_wire(routes);
  return read.ok() ? "" : base::message_of(read.status());
}

TEST(Wire, TheLeastThatIsValidIsTaken) { EXPECT_EQ(refusal(valid()), ""); }

TEST(Wire, AClusterThatIsNotThereIsRefusedByName) {
  auto routes = valid();
  routes.mutable_rules(0)->mutable_forward()->mutable_destinations(0)->set_cluster(1);
  EXPECT_EQ(refusal(routes), "rule 0 (VirtualService shop/web): destination 0: cluster 1 of 1");
  routes = valid();
  routes.mutable_rules(0)->mutable_forward()->add_mirrors()->set_cluster(7);
  EXPECT_EQ(refusal(routes), "rule 0 (VirtualService shop/web): mirror 0: cluster 7 of 1");
}

TEST(Wire, AnUnknownKindIsRefused) {
  auto routes = valid();
  routes.mutable_rules(0)->add_matches()->mutable_path()->set_kind(4);
  EXPECT_EQ(refusal(routes), "rule 0 (VirtualService shop/web): kind of match 4 is not within 0-3");
  routes = valid();
  routes.mutable_rules(0)->add_matches()->add_headers()->mutable_value()->set_kind(~0u);
  EXPECT_NE(refusal(routes), "");
  routes = valid();
  routes.mutable_rules(0)->mutable_forward()->mutable_path()->set_kind(3);
  EXPECT_NE(refusal(routes), "");
  routes = valid();
  routes.set_otherwise(2);
  EXPECT_EQ(refusal(routes), "otherwise 2 is not within 0-1");
}

TEST(Wire, ARuleWithoutAnActionIsRefused) {
  auto routes = valid();
  routes.mutable_rules(0)->clear_action();
  EXPECT_EQ(refusal(routes), "rule 0 (VirtualService shop/web): no action that is known");
}

TEST(Wire, WhereNothingMatchedGoesToTheServiceThereIsOne) {
  weft::v1::HttpRoutes routes;
  routes.set_otherwise(1);
  EXPECT_EQ(refusal(routes), "no cluster, though what no rule matches goes to the service");
}

TEST(Wire, NumbersOutOfRangeAreRefused) {
  auto routes = valid();
  routes.mutable_clusters(0)->set_port(65536);
  EXPECT_EQ(refusal(routes), "cluster 0: port 65536 is not within 0-65535");
  for (const auto status : {0u, 200u, 400u, 65836u}) {
    routes = valid();
    routes.mutable_rules(0)->mutable_redirect()->set_status(status);
    EXPECT_NE(refusal(routes), "") << status;
  }
  routes = valid();
  routes.mutable_rules(0)->mutable_direct()->set_status(199);
  EXPECT_NE(refusal(routes), "");
  routes = valid();
  routes.mutable_rules(0)->mutable_forward()->add_mirrors()->set_parts_per_million(1000001);
  EXPECT_NE(refusal(routes), "");
  routes = valid();
  routes.mutable_rules(0)->set_timeout_ms(~0ull);
  EXPECT_NE(refusal(routes), "");
  routes = valid();
  routes.mutable_rules(0)->mutable_retries()->set_on(128);
  EXPECT_NE(refusal(routes), "");
}

TEST(Wire, WhatWouldEndALineOfAHeadIsRefused) {
  auto routes = valid();
  auto& set = *routes.mutable_rules(0)->mutable_request_headers()->add_set();
  set.set_name("x-a");
  set.set_value("1\r\nx-b: 2");
  EXPECT_EQ(refusal(routes),
            "rule 0 (VirtualService shop/web): a header's value has a control character");
  set.set_value("1");
  set.set_name("x a");
  EXPECT_EQ(refusal(routes), "rule 0 (VirtualService shop/web): a header's name is no token");
  routes = valid();
  routes.mutable_rules(0)->mutable_forward()->mutable_path()->set_text("/a HTTP/1.1");
  EXPECT_NE(refusal(routes), "");
  routes = valid();
  routes.mutable_rules(0)->mutable_forward()->set_authority("web\n");
  EXPECT_NE(refusal(routes), "");
}

}  // namespace
}  // namespace weft::wire
