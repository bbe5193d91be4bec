#include "agent/node/pod_cgroup.h"

#include <gtest/gtest.h>

#include <vector>

namespace weft::node {
namespace {

const std::string kUuid = "0f6c8a2e-93b1-4d55-8e0a-1b2c3d4e5f60";
const std::string kEscaped = "0f6c8a2e_93b1_4d55_8e0a_1b2c3d4e5f60";
const std::string kHash = "5f3a9c0d1e2b4a6788990aabbccddeef";

TEST(PodCgroup, SystemdDriverNamesASliceAndEscapesDashes) {
  for (const std::string above : {"kubepods-", "kubepods-burstable-", "kubepods-besteffort-"}) {
    EXPECT_EQ(pod_uid_of(above + "pod" + kEscaped + ".slice"), kUuid) << above;
    EXPECT_EQ(pod_uid_of(above + "pod" + kHash + ".slice"), kHash) << above;
  }
}

TEST(PodCgroup, CgroupfsDriverNamesTheUidAsItIs) {
  EXPECT_EQ(pod_uid_of("pod" + kUuid), kUuid);
  EXPECT_EQ(pod_uid_of("pod" + kHash), kHash);
}

TEST(PodCgroup, KubeletsOwnRootMayComeInFront) {
  EXPECT_EQ(pod_uid_of("kubelet-kubepods-besteffort-pod" + kEscaped + ".slice"), kUuid);
  EXPECT_EQ(pod_uid_of("kubelet-kubepods-pod" + kHash + ".slice"), kHash);
  EXPECT_EQ(pod_uid_of("a-b_c-kubepods-pod" + kEscaped + ".slice"), kUuid);
}

TEST(PodCgroup, TheUidIsLowerCase) {
  EXPECT_EQ(pod_uid_of("pod0F6C8A2E-93B1-4D55-8E0A-1B2C3D4E5F60"), kUuid);
  EXPECT_EQ(pod_uid_of("kubepods-pod0F6C8A2E_93B1_4D55_8E0A_1B2C3D4E5F60.slice"), kUuid);
  EXPECT_EQ(pod_uid_of("pod5F3A9C0D1E2B4A6788990AABBCCDDEEF"), kHash);
}

TEST(PodCgroup, WhatLiesAroundPodsIsNoPod) {
  const std::string id = kHash + kHash;
  const std::vector<std::string> names = {
      "", "pod", ".slice", "pod.slice", "kubepods", "kubepods.slice", "burstable", "besteffort",
      "kubepods-burstable.slice", "kubepods-besteffort.slice", "kubelet-kubepods-burstable.slice",
      "kubelet.slice", "kubelet.service", "system.slice", "user-1000.slice", "init.scope",
      // Containers and other runtimes' pods.
      id, kHash, kUuid, "cri-containerd-" + id + ".scope", "crio-" + id + ".scope",
      "crio-conmon-" + id + ".scope", "crio-" + id, "docker-" + id + ".scope",
      "libpod-" + id + ".scope", "libpod_pod_" + id, "machine-libpod_pod_" + id + ".slice",
      "user-libpod_pod_" + id + ".slice"};
  for (const auto& name : names) EXPECT_EQ(pod_uid_of(name), std::nullopt) << name;
}

TEST(PodCgroup, NearMissesAreNoPod) {
  const std::vector<std::string> names = {
      // The other driver's separator.
      "pod" + kEscaped, "kubepods-pod" + kUuid + ".slice", "kubepods-burstable-pod" + kUuid,
      // Not below kubepods.
      "pod" + kEscaped + ".slice", "pod" + kHash + ".slice", "foo-pod" + kEscaped + ".slice",
      "burstable-pod" + kEscaped + ".slice", "kubepods-guaranteed-pod" + kEscaped + ".slice",
      "mykubepods-pod" + kEscaped + ".slice", "kubepods--pod" + kEscaped + ".slice",
      "kubepods-burstable-burstable-pod" + kHash + ".slice", "-pod" + kEscaped + ".slice",
      // Not quite a UID.
      "pod" + kUuid.substr(1), "pod" + kUuid + "0", "pod" + kHash.substr(1), "pod" + kHash + "0",
      "podg" + kUuid.substr(1), "podg" + kHash.substr(1), "pod0f6c8a2e93-b1-4d55-8e0a-1b2c3d4e5f60",
      "pod0f6c8a2e_93b1-4d55-8e0a-1b2c3d4e5f60", "pod" + std::string(36, '-'),
      "kubepods-pod" + std::string(36, '_') + ".slice",
      "pod" + kUuid.substr(1) + std::string(1, '\0'),
      // Around it.
      " pod" + kUuid, "pod" + kUuid + " ", "pod-" + kUuid, "Pod" + kUuid, "pods" + kUuid,
      "pod" + kUuid + "/", "kubepods-pod" + kEscaped + ".slice.d", "kubepods-pod" + kEscaped,
      "kubepods-pod" + kEscaped + ".scope", "kubepods-" + kEscaped + ".slice"};
  for (const auto& name : names) EXPECT_EQ(pod_uid_of(name), std::nullopt) << name;
}

}  // namespace
}  // namespace weft::node
