#include "mesh/model/workload.h"

#include <gtest/gtest.h>

namespace weft::model {
namespace {

TEST(Workload, IsTheDeploymentWhoseTemplateHashThePodNames) {
  const auto of = [](const char* pod, const Labels& labels) {
    return workload_of("shop", pod, labels).name;
  };
  EXPECT_EQ(of("web-v1-7d4b9c-x2x9p", {{"pod-template-hash", "7d4b9c"}}), "web-v1");
  EXPECT_EQ(of("web-0", {}), "web-0");
  EXPECT_EQ(of("web-0", {{"pod-template-hash", "7d4b9c"}}), "web-0");
}

TEST(Workload, IsCalledAsIstioCallsIt) {
  const auto plain = workload_of("shop", "web-0", {});
  EXPECT_EQ(plain, (Workload{"shop", "web-0", "", "", "web-0", "latest"}));
  Labels labels{{"app", "web"}, {"version", "v1"}};
  EXPECT_EQ(workload_of("shop", "web-0", labels),
            (Workload{"shop", "web-0", "web", "v1", "web", "v1"}));
  labels["app.kubernetes.io/name"] = "shop-web";
  labels["app.kubernetes.io/version"] = "1.2";
  EXPECT_EQ(workload_of("shop", "web-0", labels),
            (Workload{"shop", "web-0", "web", "v1", "shop-web", "1.2"}));
  labels["service.istio.io/canonical-name"] = "front";
  labels["service.istio.io/canonical-revision"] = "green";
  EXPECT_EQ(workload_of("shop", "web-0", labels),
            (Workload{"shop", "web-0", "web", "v1", "front", "green"}));
}

TEST(Workload, IsComparedByWhatItSays) {
  const auto ref = [](const char* pod) {
    return WorkloadRef{std::make_shared<const Workload>(workload_of("shop", pod, {}))};
  };
  EXPECT_EQ(ref("a"), ref("a"));
  EXPECT_NE(ref("a"), ref("b"));
  EXPECT_NE(ref("a"), WorkloadRef{});
  EXPECT_EQ(WorkloadRef{}, WorkloadRef{});
}

}  // namespace
}  // namespace weft::model
