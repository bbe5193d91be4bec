#include "userspace_proxy/net/config_builder.h"

#include <gtest/gtest.h>

#include "userspace_proxy/net/standalone.h"

namespace weft::net {
namespace {

Dialled at(const char* text) { return *parse_address(text); }

struct Told {
  ConfigBuilder builder{std::nullopt, 0};
  std::vector<std::string> rejected;
  ConfigPtr apply(const weft::v1::Config& config) {
    rejected.clear();
    return builder.apply(config, rejected);
  }
};

weft::v1::Config two_endpoints() {
  return one_service(at("10.96.0.1:80"), {at("10.0.0.1:8080"), at("10.0.0.2:8080")}, 3, "exact");
}

TEST(ConfigBuilder, AServiceIsFoundByWhatWasDialled) {
  Told told;
  const auto config = told.apply(two_endpoints());
  EXPECT_TRUE(told.rejected.empty());
  ASSERT_TRUE(config->services.contains(at("10.96.0.1:80")));
  EXPECT_FALSE(config->services.contains(at("10.96.0.1:81")));
  const auto& service = *config->services.at(at("10.96.0.1:80"));
  EXPECT_EQ(service.table->routes().rules.size(), 3u);
  EXPECT_EQ(config->clusters.at(service.clusters[0])->endpoints.size(), 2u);
}

TEST(ConfigBuilder, WhatIsNotNamedKeepsItsPointer) {
  Told told;
  const auto first = told.apply(two_endpoints());
  weft::v1::Config change;
  change.set_generation(2);
  *change.add_clusters() = two_endpoints().clusters(0);
  const auto second = told.apply(change);
  EXPECT_EQ(first->services.at(at("10.96.0.1:80")), second->services.at(at("10.96.0.1:80")));
  EXPECT_NE(first->clusters.begin()->second, second->clusters.begin()->second);
}

// The last one that serves is never ejected, however many have no share of the traffic.
TEST(ConfigBuilder, OneWithoutWeightIsNobodyWhoStays) {
  const auto spared = [](weft::v1::Config message) {
    Told told;
    const auto config = told.apply(message);
    return config->clusters.begin()->second->endpoints[0].shares->policy->max_ejected;
  };
  auto message = two_endpoints();
  EXPECT_EQ(spared(message), 1u);
  message.mutable_clusters(0)->mutable_endpoints(1)->set_weight(0);
  EXPECT_EQ(spared(message), 0u);
  message.mutable_clusters(0)->mutable_endpoints(1)->set_weight(1);
  message.mutable_clusters(0)->mutable_endpoints(1)->set_state(
      static_cast<std::uint32_t>(model::EndpointState::kNotReady));
  EXPECT_EQ(spared(message), 0u);
}

TEST(ConfigBuilder, TheWordsOfAnEndpointOutliveAConfiguration) {
  Told told;
  const auto first = told.apply(two_endpoints());
  auto message = two_endpoints();
  message.mutable_clusters(0)->mutable_endpoints()->DeleteSubrange(0, 1);
  const auto second = told.apply(message);
  const auto& before = first->clusters.begin()->second->endpoints;
  const auto& after = second->clusters.begin()->second->endpoints;
  ASSERT_EQ(after.size(), 1u);
  EXPECT_EQ(before[1].shares, after[0].shares);
}

TEST(ConfigBuilder, WholeMeansThatTheRestIsGone) {
  Told told;
  told.apply(two_endpoints());
  weft::v1::Config nothing;
  nothing.set_whole(true);
  const auto config = told.apply(nothing);
  EXPECT_TRUE(config->services.empty());
  EXPECT_TRUE(config->clusters.empty());
}

TEST(ConfigBuilder, WhatIsRemovedIsGone) {
  Told told;
  told.apply(two_endpoints());
  weft::v1::Config change;
  *change.add_removed_clusters() = two_endpoints().clusters(0).name();
  *change.add_removed_services() = two_endpoints().clusters(0).name();
  const auto config = told.apply(change);
  EXPECT_TRUE(config->services.empty());
  EXPECT_TRUE(config->clusters.empty());
}

TEST(ConfigBuilder, ABadServiceIsNamedAndItsLastGoodVersionStays) {
  Told told;
  told.apply(two_endpoints());
  auto bad = two_endpoints();
  auto& rule = *bad.mutable_services(0)->mutable_routes()->mutable_rules(0);
  rule.mutable_matches(0)->mutable_path()->set_kind(
      static_cast<std::uint32_t>(model::PathMatch::Kind::kRegex));
  rule.mutable_matches(0)->mutable_path()->set_text("(((");
  const auto config = told.apply(bad);
  ASSERT_EQ(told.rejected.size(), 1u);
  EXPECT_NE(told.rejected[0].find("standalone/service:80"), std::string::npos);
  EXPECT_TRUE(config->services.contains(at("10.96.0.1:80")));
}

TEST(ConfigBuilder, ARuleThatLeadsOutOfItsClustersIsRefused) {
  Told told;
  auto bad = two_endpoints();
  bad.mutable_services(0)
      ->mutable_routes()
      ->mutable_rules(0)
      ->mutable_forward()
      ->mutable_destinations(0)
      ->set_cluster(5);
  told.apply(bad);
  EXPECT_EQ(told.rejected.size(), 1u);
}

TEST(ParseAddress, TakesBothFamiliesAndNamesWhatItCannotRead) {
  EXPECT_EQ(at("[::1]:80").address.to_text(), "::1");
  for (const char* bad : {"10.0.0.1", "10.0.0.1:0", "10.0.0.1:70000", "name:80", ":80", "[::1]"})
    EXPECT_FALSE(parse_address(bad).ok()) << bad;
}

}  // namespace
}  // namespace weft::net
