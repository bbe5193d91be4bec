// In network namespaces of its own, with rules that the real nft, iptables-nft and iptables-legacy
// write there. Needs root.
#include "agent/node/rules.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <thread>

namespace weft::node {
namespace {

using Names = std::vector<std::string>;

class RulesTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(geteuid(), 0u) << "needs root: makes network namespaces and rules in them";
    for (const char* tool : {"nft", "iptables-nft", "iptables-legacy", "ip6tables-legacy", "ip"})
      ASSERT_EQ(std::system((std::string("command -v ") + tool + " >/dev/null").c_str()), 0)
          << "needs " << tool << " (Debian packages nftables, iptables, iproute2)";
  }

  // On a thread in a network namespace of its own, which goes with it.
  static void elsewhere(const std::function<void()>& body) {
    std::thread([&] {
      ASSERT_EQ(unshare(CLONE_NEWNET), 0);
      body();
    }).join();
  }

  // iptables-legacy with -w: it has one lock for all namespaces, and other tests call it, too.
  static void run(const std::string& command) {
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }

  // What is found after those commands, and that nothing stood in the way.
  std::vector<Neighbour> after(const std::vector<std::string>& commands) {
    std::vector<Neighbour> found;
    elsewhere([&] {
      for (const auto& command : commands) run(command);
      std::string why = "not cleared";
      found = network_neighbours(&why);
      EXPECT_EQ(why, "");
    });
    return found;
  }

  std::vector<std::string> names_after(const std::vector<std::string>& commands) {
    std::vector<std::string> names;
    for (const auto& neighbour : after(commands)) {
      EXPECT_NE(neighbour.what, "") << neighbour.name;
      names.push_back(neighbour.name);
    }
    return names;
  }
};

TEST_F(RulesTest, AnEmptyNamespaceHasNone) { EXPECT_EQ(names_after({}), (Names{})); }

TEST_F(RulesTest, RulesOfOthersAreNobodysProxy) {
  EXPECT_EQ(names_after({"nft add table ip proxy-kube", "nft add table inet kube-proxy",
                         "iptables-nft -t nat -N DOCKER", "iptables-nft -t filter -N KUBE-SERVICES",
                         "iptables-legacy -w -t nat -N KUBE-SERVICES-NOT",
                         "iptables-legacy -w -t nat -A POSTROUTING -j MASQUERADE"}),
            (Names{}));
}

TEST_F(RulesTest, KubeProxyOfNftablesHasATable) {
  EXPECT_EQ(names_after({"nft add table ip kube-proxy"}), (Names{"kube-proxy (nftables)"}));
  EXPECT_EQ(names_after({"nft add table ip6 kube-proxy"}), (Names{"kube-proxy (nftables)"}));
}

TEST_F(RulesTest, KubeProxyOfIptablesHasAChainInEitherImplementation) {
  for (const char* tool : {"iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"})
    EXPECT_EQ(names_after({std::string(tool) + " -w -t nat -N KUBE-SERVICES"}),
              (Names{"kube-proxy (iptables)"}))
        << tool;
}

TEST_F(RulesTest, TheChainIsFoundAmongRulesOfAllLengths) {
  std::vector<std::string> commands;
  for (const char* chain : {"A", "KUBE-SVC-WEB", "ZZZ", "KUBE-SERVICES"}) {
    const std::string tool = "iptables-legacy -w -t nat ";
    commands.push_back(tool + "-N " + chain);
    commands.push_back(tool + "-A " + chain +
                       " -p tcp --dport 80 -m comment --comment x -j RETURN");
    commands.push_back(tool + "-A " + chain + " -p tcp -j DNAT --to-destination 10.0.0.1:80");
    commands.push_back(tool + "-I OUTPUT -j " + chain);
  }
  EXPECT_EQ(names_after(commands), (Names{"kube-proxy (iptables)"}));
}

// Ten thousand services make a table that is not read; a chain in another one tells all the same.
TEST_F(RulesTest, ATableTooLargeIsNamedAndTheCanaryTells) {
  std::string many =
      "(echo '*nat'; echo ':KUBE-SERVICES - [0:0]'; for i in $(seq 6000); do "
      "echo \"-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport $i -j RETURN\"; "
      "done; echo COMMIT) | iptables-legacy-restore -w";
  elsewhere([&] {
    run(many);
    std::string why;
    EXPECT_TRUE(network_neighbours(&why).empty());
    EXPECT_NE(why.find("the table nat of iptables is too large to read ("), std::string::npos)
        << why;
    run("iptables-legacy -w -t mangle -N KUBE-PROXY-CANARY");
    const auto found = network_neighbours(&why);
    EXPECT_EQ(why, "");
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].name, "kube-proxy (iptables)");
  });
}

// A kernel of which a table is asked makes it: then every packet would pass through it.
TEST_F(RulesTest, LookingMakesNoTable) {
  EXPECT_EQ(names_after({}), (Names{}));
  elsewhere([] {
    network_neighbours();
    run("test -z \"$(cat /proc/net/ip_tables_names /proc/net/ip6_tables_names)\"");
    run("test -z \"$(nft list tables)\"");
  });
}

TEST_F(RulesTest, KubeProxyOfIpvsHasAnInterfaceAndIsNotTakenForIptables) {
  EXPECT_EQ(names_after({"ip link add kube-ipvs0 type bridge",
                         "iptables-legacy -w -t nat -N KUBE-SERVICES"}),
            (Names{"kube-proxy (ipvs)"}));
}

TEST_F(RulesTest, NodeLocalDnsIsKnownByInterfaceOrAddress) {
  EXPECT_EQ(names_after({"ip link add nodelocaldns type bridge"}), (Names{"NodeLocal DNS"}));
  EXPECT_EQ(names_after({"ip addr add 169.254.20.10/32 dev lo"}), (Names{"NodeLocal DNS"}));
}

TEST_F(RulesTest, NodeLocalDnsAtTheServicesAddressIsSaid) {
  const auto found = after(
      {"ip link add nodelocaldns type bridge", "ip addr add 169.254.20.10/32 dev nodelocaldns",
       "ip addr add 10.96.0.10/32 dev nodelocaldns", "ip addr add 10.9.9.9/32 dev lo"});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].what.find("it also listens at 10.96.0.10, "), std::string::npos)
      << found[0].what;
}

TEST_F(RulesTest, CiliumIsKnownByItsInterfaces) {
  EXPECT_EQ(names_after({"ip link add cilium_host type veth peer name cilium_net"}),
            (Names{"Cilium"}));
}

TEST_F(RulesTest, AllAreFoundSideBySide) {
  EXPECT_EQ(
      names_after({"nft add table ip kube-proxy", "iptables-nft -t nat -N KUBE-SERVICES",
                   "ip link add nodelocaldns type bridge", "ip link add cilium_net type bridge"}),
      (Names{"kube-proxy (nftables)", "kube-proxy (iptables)", "NodeLocal DNS", "Cilium"}));
}

// Another thread's namespace is not looked at.
TEST_F(RulesTest, TheCallersNamespaceCounts) {
  elsewhere([&] {
    run("iptables-legacy -w -t nat -N KUBE-SERVICES");
    run("ip link add cilium_net type bridge");
    EXPECT_EQ(names_after({}), (Names{}));
    EXPECT_EQ(network_neighbours().size(), 2u);
  });
}

TEST_F(RulesTest, WithoutTheRightItSaysSo) {
  elsewhere([] {
    run("iptables-legacy -w -t nat -N KUBE-SERVICES");
    // Of the thread only: the effective capabilities go with the user.
    ASSERT_EQ(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
    std::string why;
    EXPECT_TRUE(network_neighbours(&why).empty());
    EXPECT_NE(why.find("cannot ask nftables: Operation not permitted"), std::string::npos) << why;
  });
}

}  // namespace
}  // namespace weft::node
