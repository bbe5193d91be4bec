#include "agent/node/workloads.h"

#include <gtest/gtest.h>

#include <random>

#include "mesh/model/test_objects.h"

namespace weft::node {
namespace {

using model::test::unit;

const model::Labels kTrue = {{"weft.mesh/enrol", "true"}}, kFalse = {{"weft.mesh/enrol", "false"}};

model::NamespaceObject place(const std::string& name, model::Labels labels) {
  model::NamespaceObject result;
  result.meta = model::test::meta(name, "");
  result.meta.labels = std::move(labels);
  return result;
}

model::PodObject pod(const std::string& name, const std::string& uid, model::Labels labels = {},
                     const std::string& namespace_name = "shop") {
  auto result = model::test::pod(name, "10.0.0.1", std::move(labels));
  result.meta.namespace_name = namespace_name;
  result.uid = uid;
  result.service_account = name + "-sa";
  return result;
}

PodCgroup cgroup(const std::string& uid, std::uint64_t id) {
  return {uid, "/kubepods/pod" + uid + "#" + std::to_string(id), id};
}

class WorkloadsTest : public testing::Test {
 protected:
  // "+7 -7": what was written since the last call.
  std::string writes() { return std::exchange(writes_, ""); }

  Workload only() const {
    const auto all = workloads_.list();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? Workload{} : all.front();
  }
  // "shop/web-0 a 7 enrolled; ..."
  std::string text() const {
    std::string text;
    for (const auto& w : workloads_.list())
      text += (text.empty() ? "" : "; ") + w.namespace_name + "/" + w.name + " " + w.uid + " " +
              std::to_string(w.cgroup_id) + (w.known ? "" : " unknown") +
              (w.verdict.enrolled ? " enrolled" : "");
    return text;
  }

  void label_shop(const model::Labels& labels) {
    workloads_.set_unit("Namespace shop", unit({place("shop", labels)}));
  }

  std::string writes_;
  Workloads workloads_{{"kube-system", "weft"}, [this](std::uint64_t id, bool enrolled) {
                         writes_ += (writes_.empty() ? "" : " ") +
                                    std::string(enrolled ? "+" : "-") + std::to_string(id);
                       }};
};

TEST_F(WorkloadsTest, PodCgroupBeforeTheApiObject) {
  label_shop(kTrue);
  workloads_.cgroup_appeared(cgroup("a", 7));
  EXPECT_EQ(only().verdict, (Verdict{false, "the API has not told of the pod"}));
  EXPECT_FALSE(only().known);
  EXPECT_EQ(writes(), "");
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a")}));
  EXPECT_EQ(writes(), "+7");
  EXPECT_EQ(only(), (Workload{"shop",
                              "web-0",
                              "a",
                              "web-0-sa",
                              "/kubepods/poda#7",
                              7,
                              0,
                              true,
                              {true, "namespace shop is labelled weft.mesh/enrol=true"}}));
}

TEST_F(WorkloadsTest, PodCgroupAfterTheApiObject) {
  label_shop(kTrue);
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a")}));
  EXPECT_EQ(text(), "shop/web-0 a 0 enrolled");
  EXPECT_EQ(only().cgroup, "");
  EXPECT_EQ(workloads_.enrolled(), 0u);  // nothing of it runs
  EXPECT_EQ(workloads_.total(), 1u);
  EXPECT_EQ(writes(), "");
  workloads_.cgroup_appeared(cgroup("a", 7));
  EXPECT_EQ(writes(), "+7");
  EXPECT_EQ(text(), "shop/web-0 a 7 enrolled");
  EXPECT_EQ(workloads_.enrolled(), 1u);
}

TEST_F(WorkloadsTest, PodAndCgroupBeforeTheNamespace) {
  workloads_.cgroup_appeared(cgroup("a", 7));
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a")}));
  EXPECT_EQ(only().verdict, (Verdict{false, "namespace shop is not known yet"}));
  EXPECT_EQ(writes(), "");
  label_shop(kTrue);
  EXPECT_EQ(writes(), "+7");
}

TEST_F(WorkloadsTest, TheNamespacesLabelChangesLater) {
  label_shop({});
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a")}));
  workloads_.set_unit("Pod shop/web-1", unit({pod("web-1", "b", kFalse)}));
  workloads_.set_unit("Pod bank/web-0", unit({pod("web-0", "c", {}, "bank")}));
  for (const auto& [uid, id] : {std::pair("a", 1), std::pair("b", 2), std::pair("c", 3)})
    workloads_.cgroup_appeared(cgroup(uid, static_cast<std::uint64_t>(id)));
  EXPECT_EQ(writes(), "");
  label_shop(kTrue);
  EXPECT_EQ(writes(), "+1");  // not the pod that says no, not the other namespace's
  label_shop({{"weft.mesh/enrol", "true"}, {"team", "x"}});
  EXPECT_EQ(writes(), "");
  label_shop(kFalse);
  EXPECT_EQ(writes(), "-1");
  label_shop(kTrue);
  EXPECT_EQ(writes(), "+1");
  workloads_.set_unit("Namespace shop", nullptr);
  EXPECT_EQ(writes(), "") << "a namespace cannot go before its pods: what it last said stands";
}

TEST_F(WorkloadsTest, ThePodsLabelOverrides) {
  label_shop({});
  workloads_.cgroup_appeared(cgroup("a", 7));
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a", kTrue)}));
  EXPECT_EQ(writes(), "+7");
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a")}));
  EXPECT_EQ(writes(), "-7");
  label_shop(kTrue);
  EXPECT_EQ(writes(), "+7");
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a", kFalse)}));
  EXPECT_EQ(writes(), "-7");
}

TEST_F(WorkloadsTest, SystemNamespacesAndHostNetworkAreNot) {
  workloads_.set_unit("n", unit({place("weft", kTrue), place("shop", kTrue)}));
  auto host = pod("agent", "b");
  host.host_network = true;
  workloads_.set_unit("p", unit({pod("control", "a", {}, "weft"), host}));
  workloads_.cgroup_appeared(cgroup("a", 1));
  workloads_.cgroup_appeared(cgroup("b", 2));
  EXPECT_EQ(writes(), "");
  EXPECT_EQ(text(), "shop/agent b 2; weft/control a 1");
  EXPECT_EQ(workloads_.enrolled(), 0u);
}

TEST_F(WorkloadsTest, ThePodIsMadeAgainUnderTheSameName) {
  label_shop(kTrue);
  workloads_.cgroup_appeared(cgroup("a", 7));
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a")}));
  EXPECT_EQ(writes(), "+7");
  // The API has the next one already, the last one's cgroup is not gone yet.
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "b")}));
  EXPECT_EQ(writes(), "");
  EXPECT_EQ(text(), "shop/web-0 a 7 unknown enrolled; shop/web-0 b 0 enrolled");
  workloads_.cgroup_appeared(cgroup("b", 8));
  EXPECT_EQ(writes(), "+8");
  workloads_.cgroup_gone(cgroup("a", 7));
  EXPECT_EQ(writes(), "-7");
  EXPECT_EQ(text(), "shop/web-0 b 8 enrolled");
}

TEST_F(WorkloadsTest, ThePodIsMadeAgainAndItsCgroupComesFirst) {
  label_shop(kTrue);
  workloads_.cgroup_appeared(cgroup("a", 7));
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a")}));
  workloads_.cgroup_gone(cgroup("a", 7));
  workloads_.cgroup_appeared(cgroup("b", 8));
  EXPECT_EQ(writes(), "+7 -7");
  EXPECT_EQ(text(), "/ b 8 unknown; shop/web-0 a 0 enrolled");
  workloads_.set_unit("Pod shop/web-0", nullptr);
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "b")}));
  EXPECT_EQ(writes(), "+8");
  EXPECT_EQ(text(), "shop/web-0 b 8 enrolled");
}

TEST_F(WorkloadsTest, PodCgroupGoneThenDeletedFromTheApi) {
  label_shop(kTrue);
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a")}));
  workloads_.cgroup_appeared(cgroup("a", 7));
  workloads_.cgroup_gone(cgroup("a", 7));
  EXPECT_EQ(writes(), "+7 -7");
  EXPECT_EQ(text(), "shop/web-0 a 0 enrolled");
  EXPECT_EQ(workloads_.enrolled(), 0u);
  workloads_.set_unit("Pod shop/web-0", nullptr);
  EXPECT_EQ(writes(), "");
  EXPECT_EQ(text(), "");
}

TEST_F(WorkloadsTest, DeletedFromTheApiThenPodCgroupGone) {
  label_shop(kTrue);
  workloads_.set_unit("Pod shop/web-0", unit({pod("web-0", "a")}));
  workloads_.cgroup_appeared(cgroup("a", 7));
  EXPECT_EQ(writes(), "+7");
  workloads_.set_unit("Pod shop/web-0", nullptr);
  EXPECT_EQ(writes(), "");  // what is left of it keeps its connections as they are
  EXPECT_EQ(only().verdict, (Verdict{true,
                                     "namespace shop is labelled weft.mesh/enrol=true (when "
                                     "the API last had the pod)"}));
  EXPECT_FALSE(only().known);
  EXPECT_EQ(only().service_account, "web-0-sa");
  workloads_.set_unit("Namespace shop", nullptr);
  EXPECT_EQ(writes(), "");
  EXPECT_EQ(workloads_.enrolled(), 1u);
  workloads_.cgroup_gone(cgroup("a", 7));
  EXPECT_EQ(writes(), "-7");
  EXPECT_EQ(workloads_.total(), 0u);
}

TEST_F(WorkloadsTest, AnObjectThatMovesBetweenUnitsStays) {
  workloads_.set_unit("z.yaml", unit({place("shop", kTrue), pod("web-0", "a")}));
  workloads_.cgroup_appeared(cgroup("a", 7));
  EXPECT_EQ(writes(), "+7");
  workloads_.set_unit("b.yaml", unit({place("shop", kTrue), pod("web-0", "a")}));
  workloads_.set_unit("z.yaml", unit({}));
  EXPECT_EQ(writes(), "");
  EXPECT_TRUE(only().known);
  // Of two that differ the first unit's is in force, in whatever order they came.
  workloads_.set_unit("c.yaml", unit({place("shop", kFalse), pod("web-0", "a", kFalse)}));
  EXPECT_EQ(writes(), "");
  workloads_.set_unit("a.yaml", unit({place("shop", kFalse)}));
  EXPECT_EQ(writes(), "-7");
  workloads_.set_unit("a.yaml", nullptr);
  EXPECT_EQ(writes(), "+7");
  workloads_.set_unit("b.yaml", nullptr);
  EXPECT_EQ(writes(), "-7");
}

TEST_F(WorkloadsTest, AUnitOfOtherKindsIsPassedOver) {
  workloads_.set_unit("s.yaml", unit({model::test::service("web", {"10.96.0.1"}),
                                      model::test::slice("web-1", "web", {})}));
  workloads_.set_unit("s.yaml", nullptr);
  workloads_.set_unit("never.yaml", nullptr);
  EXPECT_EQ(text(), "");
}

TEST_F(WorkloadsTest, APodWithoutUidIsNobodysCgroup) {
  workloads_.set_unit("p.yaml", unit({pod("web-0", "")}));
  EXPECT_EQ(workloads_.total(), 0u);
}

TEST_F(WorkloadsTest, TheCaseOfAUidDoesNotMatter) {
  workloads_.set_unit("p.yaml", unit({pod("web-0", "ABC", kTrue)}));
  workloads_.cgroup_appeared(cgroup("abc", 7));
  EXPECT_EQ(writes(), "+7");
}

TEST_F(WorkloadsTest, AFinishedPodIsListedOnlyWhileItHasACgroup) {
  auto done = pod("job", "a");
  done.finished = true;
  workloads_.set_unit("p", unit({done}));
  EXPECT_EQ(workloads_.total(), 0u);
  workloads_.cgroup_appeared(cgroup("a", 7));
  EXPECT_EQ(workloads_.total(), 1u);
  workloads_.cgroup_gone(cgroup("a", 7));
  EXPECT_EQ(workloads_.total(), 0u);
  EXPECT_TRUE(workloads_.list().empty());
}

TEST_F(WorkloadsTest, ACgroupReplacedInEitherOrderIsWrittenOnce) {
  workloads_.set_unit("p", unit({pod("web-0", "a", kTrue)}));
  workloads_.cgroup_appeared(cgroup("a", 7));
  workloads_.cgroup_appeared(cgroup("a", 7));
  EXPECT_EQ(writes(), "+7");
  workloads_.cgroup_appeared(cgroup("a", 8));
  EXPECT_EQ(writes(), "+8");
  EXPECT_EQ(only().cgroup_id, 8u);
  workloads_.cgroup_gone(cgroup("a", 7));
  EXPECT_EQ(writes(), "-7");
  EXPECT_EQ(only().cgroup_id, 8u);
  workloads_.cgroup_gone(cgroup("a", 7));
  workloads_.cgroup_gone(cgroup("never", 9));
  EXPECT_EQ(writes(), "");
  workloads_.set_unit("p", unit({pod("web-0", "a", kFalse)}));
  EXPECT_EQ(writes(), "-8");
  workloads_.cgroup_gone(cgroup("a", 8));
  EXPECT_EQ(writes(), "");  // it was not enrolled any more
}

TEST_F(WorkloadsTest, TheCookieIsThatOfTheLivingCgroup) {
  workloads_.set_netns_cookie("a", 5);
  workloads_.set_unit("p", unit({pod("web-0", "a")}));
  workloads_.set_netns_cookie("a", 5);
  EXPECT_EQ(only().netns_cookie, 0u);
  workloads_.cgroup_appeared(cgroup("a", 7));
  workloads_.set_netns_cookie("a", 6);
  EXPECT_EQ(only().netns_cookie, 6u);
  workloads_.cgroup_gone(cgroup("a", 7));
  EXPECT_EQ(only().netns_cookie, 0u);
}

TEST_F(WorkloadsTest, TheListIsSorted) {
  workloads_.set_unit("p", unit({pod("b", "1", {}, "x"), pod("a", "2", {}, "x"),
                                 pod("c", "3", {}, "w"), pod("a", "0", {}, "x")}));
  workloads_.cgroup_appeared(cgroup("9", 9));
  EXPECT_EQ(text(), "/ 9 9 unknown; w/c 3 0; x/a 0 0; x/a 2 0; x/b 1 0");
  EXPECT_EQ(workloads_.total(), 5u);
}

// Whatever happened on the way, what was written equals what the end says.
TEST_F(WorkloadsTest, AnyOrderOfEventsEndsTheSame) {
  std::mt19937 random(20240501);
  const auto roll = [&](int sides) { return static_cast<int>(random() % sides); };
  for (int round = 0; round < 300; ++round) {
    std::map<std::uint64_t, bool> kernel;
    Workloads workloads({"kube-system"}, [&](std::uint64_t id, bool enrolled) {
      EXPECT_NE(kernel[id], enrolled) << "not a change";
      kernel[id] = enrolled;
    });
    std::map<std::string, std::uint64_t> cgroups;  // by UID
    std::map<std::string, std::string> pods;       // unit -> UID
    std::uint64_t next = 1;
    const auto label = [&] {
      return std::vector<model::Labels>{{}, kTrue, kFalse}[static_cast<std::size_t>(roll(3))];
    };
    for (int step = 0; step < 40; ++step) {
      const std::string name = "web-" + std::to_string(roll(3)), uid = std::to_string(roll(5));
      switch (roll(5)) {
        case 0:
          workloads.set_unit("ns", unit({place("shop", label())}));
          break;
        case 1:
          workloads.set_unit(name, unit({pod(name, uid, label())}));
          break;
        case 2:
          workloads.set_unit(name, nullptr);
          break;
        case 3:
          if (!cgroups.contains(uid)) workloads.cgroup_appeared(cgroup(uid, cgroups[uid] = next++));
          break;
        default:
          if (cgroups.contains(uid)) workloads.cgroup_gone(cgroup(uid, cgroups[uid]));
          cgroups.erase(uid);
      }
    }
    std::map<std::uint64_t, bool> expected;
    std::size_t enrolled = 0;
    for (const auto& w : workloads.list()) {
      EXPECT_EQ(w.cgroup_id, cgroups.contains(w.uid) ? cgroups[w.uid] : 0);
      if (w.cgroup_id && w.verdict.enrolled) expected[w.cgroup_id] = true;
    }
    std::erase_if(kernel, [](const auto& entry) { return !entry.second; });
    EXPECT_EQ(kernel, expected);
    enrolled = expected.size();
    EXPECT_EQ(workloads.enrolled(), enrolled);
    EXPECT_EQ(workloads.total(), workloads.list().size());
  }
}

}  // namespace
}  // namespace weft::node
