#include "agent/node/enrolment.h"

#include <gtest/gtest.h>

#include "mesh/model/test_objects.h"

namespace weft::node {
namespace {

const std::set<std::string> kSystem = {"kube-system", "weft"};
const model::Labels kNone, kTrue = {{"weft.mesh/enrol", "true"}},
                           kFalse = {{"weft.mesh/enrol", "false"}};

model::PodObject pod(const model::Labels& labels, const std::string& namespace_name = "shop") {
  auto result = model::test::pod("web-0", "10.0.0.1", labels);
  result.meta.namespace_name = namespace_name;
  return result;
}

Verdict verdict(const model::PodObject& of, const model::Labels* namespace_labels) {
  return enrolment_of(of, namespace_labels, kSystem);
}

TEST(Enrolment, TheNamespacesLabelDecides) {
  EXPECT_EQ(verdict(pod({{"app", "web"}}), &kTrue),
            (Verdict{true, "namespace shop is labelled weft.mesh/enrol=true"}));
  EXPECT_EQ(verdict(pod({}), &kFalse),
            (Verdict{false, "namespace shop is labelled weft.mesh/enrol=false"}));
  EXPECT_EQ(verdict(pod({}), &kNone),
            (Verdict{false, "namespace shop is not labelled weft.mesh/enrol=true"}));
}

TEST(Enrolment, ThePodsLabelOverridesTheNamespaces) {
  EXPECT_EQ(verdict(pod(kFalse), &kTrue),
            (Verdict{false, "the pod is labelled weft.mesh/enrol=false"}));
  for (const auto* place : {&kTrue, &kFalse, &kNone})
    EXPECT_EQ(verdict(pod(kTrue), place),
              (Verdict{true, "the pod is labelled weft.mesh/enrol=true"}));
}

TEST(Enrolment, AnUnknownNamespaceEnrolsNobodyButWhoSaysSo) {
  EXPECT_EQ(verdict(pod({}), nullptr), (Verdict{false, "namespace shop is not known yet"}));
  EXPECT_TRUE(verdict(pod(kTrue), nullptr).enrolled);
  EXPECT_FALSE(verdict(pod(kFalse), nullptr).enrolled);
}

TEST(Enrolment, HostNetworkIsNeverEnrolled) {
  for (const auto& labels : {kNone, kTrue, kFalse}) {
    auto host = pod(labels);
    host.host_network = true;
    EXPECT_EQ(verdict(host, &kTrue), (Verdict{false, "the pod is in the host's network"}));
  }
}

TEST(Enrolment, SystemNamespacesAreNotUnlessThePodSaysSo) {
  for (const std::string name : {"kube-system", "weft"}) {
    const Verdict system{false, "namespace " + name + " is a system namespace"};
    EXPECT_EQ(verdict(pod({}, name), &kTrue), system);
    EXPECT_EQ(verdict(pod({}, name), nullptr), system);
    EXPECT_TRUE(verdict(pod(kTrue, name), &kNone).enrolled);
    EXPECT_FALSE(verdict(pod(kFalse, name), &kTrue).enrolled);
  }
  EXPECT_TRUE(verdict(pod({}, "kube-systems"), &kTrue).enrolled);
}

TEST(Enrolment, AnUnclearLabelEnrolsNobodyAndSaysSo) {
  for (const std::string value : {"", "yes", "True", " true", "1"}) {
    const model::Labels unclear = {{"weft.mesh/enrol", value}};
    EXPECT_EQ(verdict(pod(unclear), &kTrue),
              (Verdict{false, "the pod is labelled weft.mesh/enrol=" + value +
                                  ", which is neither true nor false"}));
    EXPECT_EQ(verdict(pod({}), &unclear),
              (Verdict{false, "namespace shop is labelled weft.mesh/enrol=" + value +
                                  ", which is neither true nor false"}));
  }
}

TEST(Enrolment, OnlyTheWholeLabelNameCounts) {
  const model::Labels near = {{"weft.mesh/enroll", "true"}, {"enrol", "true"}};
  EXPECT_FALSE(verdict(pod(near), &near).enrolled);
}

}  // namespace
}  // namespace weft::node
