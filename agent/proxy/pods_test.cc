#include "agent/proxy/pods.h"

#include <gtest/gtest.h>

namespace weft::proxy {
namespace {

model::Address address(const char* text) { return *model::Address::parse(text); }

model::PodObject pod(const std::string& name, const char* ip) {
  model::PodObject pod;
  pod.meta.namespace_name = "shop";
  pod.meta.name = name;
  pod.meta.labels = {{"app", "web"}};
  pod.uid = "uid-" + name;
  pod.ips = {address(ip)};
  return pod;
}

std::shared_ptr<const model::Unit> unit(const std::vector<model::PodObject>& pods) {
  auto unit = std::make_shared<model::Unit>();
  for (const auto& one : pods) unit->objects.push_back(std::make_shared<model::Object>(one));
  return unit;
}

TEST(Pods, AreFoundByUidAndByTheirOwnAddress) {
  PodIndex index;
  EXPECT_TRUE(index.set_unit("a", unit({pod("web-1", "10.1.0.1"), pod("web-2", "10.1.0.2")})));
  EXPECT_EQ(index.by_uid("uid-web-2")->meta.name, "web-2");
  EXPECT_EQ(index.by_address({address("127.0.0.1"), address("10.1.0.1")})->meta.name, "web-1");
  EXPECT_EQ(index.by_uid("uid-other"), nullptr);
  EXPECT_EQ(index.by_address({address("10.1.0.3")}), nullptr);
}

TEST(Pods, OfTheHostsNetworkAndFinishedOnesHaveNoAddressOfTheirOwn) {
  auto host = pod("host", "10.1.0.1"), done = pod("done", "10.1.0.2");
  host.host_network = true;
  done.finished = true;
  PodIndex index;
  index.set_unit("a", unit({host, done}));
  EXPECT_EQ(index.by_address({address("10.1.0.1"), address("10.1.0.2")}), nullptr);
  EXPECT_NE(index.by_uid("uid-host"), nullptr);
}

TEST(Pods, WithOneAddressAreNobody) {
  PodIndex index;
  index.set_unit("a", unit({pod("web-1", "10.1.0.1")}));
  index.set_unit("b", unit({pod("web-2", "10.1.0.1")}));
  EXPECT_EQ(index.by_address({address("10.1.0.1")}), nullptr);
  index.set_unit("a", nullptr);
  EXPECT_EQ(index.by_address({address("10.1.0.1")})->meta.name, "web-2");
}

TEST(Pods, GoWithTheirUnit) {
  PodIndex index;
  index.set_unit("a", unit({pod("web-1", "10.1.0.1")}));
  EXPECT_TRUE(index.set_unit("a", unit({})));
  EXPECT_EQ(index.by_uid("uid-web-1"), nullptr);
  EXPECT_EQ(index.by_address({address("10.1.0.1")}), nullptr);
  EXPECT_FALSE(index.set_unit("a", unit({}))) << "nothing of a Pod has changed";
}

TEST(Pods, OfADeploymentSayWhose) {
  auto one = pod("web-7d4b9c-x2x9p", "10.1.0.1");
  EXPECT_EQ(identity_of(one).workload, "");
  one.meta.labels["pod-template-hash"] = "7d4b9c";
  const auto identity = identity_of(one);
  EXPECT_EQ(identity.workload, "web");
  EXPECT_EQ(identity.name, "web-7d4b9c-x2x9p");
  EXPECT_EQ(identity.labels.at("app"), "web");
}

}  // namespace
}  // namespace weft::proxy
