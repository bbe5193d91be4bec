#include "agent/node/rules.h"

// Before the kernel's headers, which define the same structures where libc has not.
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
// Then the kernel's.
#include <ifaddrs.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/netlink.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <span>
#include <string_view>
#include <utility>

#include "mesh/base/fd.h"

namespace weft::node {
namespace {

// As kube-proxy names them: pkg/proxy/{nftables,iptables,ipvs}/proxier.go. The canary is a chain in
// small tables of which the iptables mode looks whether a flush took it.
constexpr char kNftTable[] = "kube-proxy";
constexpr char kServicesChain[] = "KUBE-SERVICES";
constexpr char kCanaryChain[] = "KUBE-PROXY-CANARY";
constexpr char kIpvsInterface[] = "kube-ipvs0";
// As NodeLocal DNS is installed unless somebody chose otherwise.
constexpr char kDnsAddress[] = "169.254.20.10";
constexpr char kDnsInterface[] = "nodelocaldns";

// A rule of legacy iptables takes some 300 bytes, and a table is handed out whole or not at all:
// with ten thousand services it has 100 MB, with a few hundred it fits in here.
constexpr std::size_t kLargestLegacyTable = 1 << 20;

class Reasons {
 public:
  explicit Reasons(std::string* out) : out_(out) {
    if (out_) out_->clear();
  }
  void add(const std::string& what, int error = 0) {
    if (!out_) return;
    if (!out_->empty()) *out_ += "; ";
    *out_ += error ? what + ": " + std::strerror(error) : what;
  }

 private:
  std::string* out_;
};

// ---- nftables, by nfnetlink -------------------------------------------------------------------

// One request: header, family, two attributes that are names.
class NftRequest {
 public:
  NftRequest(int type, int family) {
    header().nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | type;
    header().nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    header().nlmsg_len = NLMSG_LENGTH(sizeof(nfgenmsg));
    auto& generic = *static_cast<nfgenmsg*>(NLMSG_DATA(&header()));
    generic.nfgen_family = family;
    generic.version = NFNETLINK_V0;
  }
  void add(std::uint16_t attribute, std::string_view name) {
    const nlattr head{static_cast<std::uint16_t>(NLA_HDRLEN + name.size() + 1), attribute};
    char* at = bytes_.data() + header().nlmsg_len;
    std::memcpy(at, &head, sizeof head);
    std::memcpy(at + NLA_HDRLEN, name.data(), name.size());  // the rest is zero already
    header().nlmsg_len += NLA_ALIGN(head.nla_len);
  }
  const void* data() const { return bytes_.data(); }
  std::size_t size() const { return reinterpret_cast<const nlmsghdr*>(bytes_.data())->nlmsg_len; }

 private:
  nlmsghdr& header() { return *reinterpret_cast<nlmsghdr*>(bytes_.data()); }
  alignas(nlmsghdr) std::array<char, 128> bytes_{};  // the names above are short
};

// 0 where the object is there, else the kernel's errno. What it says about the object itself is
// passed over: the acknowledgement that follows is the answer.
int nft_ask(const base::Fd& socket, const NftRequest& request) {
  if (send(socket.get(), request.data(), request.size(), 0) < 0) return errno;
  alignas(nlmsghdr) std::array<char, 8192> answer;
  for (;;) {
    const ssize_t got = recv(socket.get(), answer.data(), answer.size(), 0);
    if (got < 0) return errno;
    auto left = static_cast<std::size_t>(got);
    for (auto* at = reinterpret_cast<const nlmsghdr*>(answer.data()); NLMSG_OK(at, left);
         at = NLMSG_NEXT(at, left))
      if (at->nlmsg_type == NLMSG_ERROR)
        return -static_cast<const nlmsgerr*>(NLMSG_DATA(at))->error;
  }
}

// Kernels without nftables, or without IPv6, have none of it: no reason to complain.
bool nft_absent(int error) {
  return error == ENOENT || error == EINVAL || error == EOPNOTSUPP || error == EAFNOSUPPORT ||
         error == EPROTONOSUPPORT;
}

struct NftFindings {
  bool kube_proxy_table = false;
  bool services_chain = false;
};

NftFindings ask_nftables(Reasons& reasons) {
  NftFindings found;
  const auto failed = [&](int error) {
    if (!nft_absent(error)) reasons.add("cannot ask nftables", error);
    return found;
  };
  const base::Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!fd) return failed(errno);
  const timeval patience{5, 0};  // the kernel answers at once; nothing here may wait for ever
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  for (const int family : {NFPROTO_IPV4, NFPROTO_IPV6}) {
    NftRequest table(NFT_MSG_GETTABLE, family);
    table.add(NFTA_TABLE_NAME, kNftTable);
    NftRequest chain(NFT_MSG_GETCHAIN, family);
    chain.add(NFTA_CHAIN_TABLE, "nat");
    chain.add(NFTA_CHAIN_NAME, kServicesChain);
    for (const auto& [request, answer] :
         {std::pair{&table, &found.kube_proxy_table}, std::pair{&chain, &found.services_chain}}) {
      const int error = nft_ask(fd, *request);
      if (error == 0)
        *answer = true;
      else if (!nft_absent(error))
        return failed(error);
    }
  }
  return found;
}

// ---- legacy iptables, by socket options -------------------------------------------------------

// The two families' interfaces are the same but for their names.
struct Ipv4Tables {
  static constexpr int kFamily = AF_INET, kLevel = IPPROTO_IP;
  static constexpr int kInfo = IPT_SO_GET_INFO, kEntries = IPT_SO_GET_ENTRIES;
  static constexpr char kName[] = "iptables", kNames[] = "/proc/thread-self/net/ip_tables_names";
  using Info = ipt_getinfo;
  using Entries = ipt_get_entries;
  using Entry = ipt_entry;
};
struct Ipv6Tables {
  static constexpr int kFamily = AF_INET6, kLevel = IPPROTO_IPV6;
  static constexpr int kInfo = IP6T_SO_GET_INFO, kEntries = IP6T_SO_GET_ENTRIES;
  static constexpr char kName[] = "ip6tables", kNames[] = "/proc/thread-self/net/ip6_tables_names";
  using Info = ip6t_getinfo;
  using Entries = ip6t_get_entries;
  using Entry = ip6t_entry;
};

// A chain begins with an entry that goes to the target "ERROR", which carries the chain's name.
template <class Tables>
bool names_chain(std::span<const char> blob, std::string_view chain) {
  using Entry = typename Tables::Entry;
  std::size_t next = 0;
  for (std::size_t at = 0; at + sizeof(Entry) <= blob.size(); at += next) {
    const auto& entry = *reinterpret_cast<const Entry*>(blob.data() + at);
    next = entry.next_offset;
    const std::size_t end = entry.target_offset + sizeof(xt_error_target);
    if (next < sizeof(Entry) || next > blob.size() - at) return false;
    if (end > next) continue;  // some smaller target
    const auto& target =
        *reinterpret_cast<const xt_error_target*>(blob.data() + at + entry.target_offset);
    const auto text = [](const auto& name) {
      return std::string_view(name, strnlen(name, sizeof name));
    };
    if (text(target.target.u.user.name) == XT_ERROR_TARGET && text(target.errorname) == chain)
      return true;
  }
  return false;
}

// Only tables that are there: asking for one makes the kernel create it, and hook it into every
// packet's way.
template <class Tables>
bool legacy_table_exists(std::string_view table) {
  std::ifstream names(Tables::kNames);
  for (std::string name; names >> name;)
    if (name == table) return true;
  return false;
}

template <class Tables>
bool legacy_chain_exists(const char* table, const char* chain, Reasons& reasons) {
  if (!legacy_table_exists<Tables>(table)) return false;
  const std::string name = std::string("the table ") + table + " of " + Tables::kName;
  const auto failed = [&](int error) {
    reasons.add("cannot read " + name, error);
    return false;
  };
  const base::Fd fd(socket(Tables::kFamily, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return failed(errno);
  // The table may be replaced between the two calls, and then has another size.
  for (int attempt = 0; attempt < 5; ++attempt) {
    typename Tables::Info info{};
    std::strncpy(info.name, table, sizeof info.name - 1);
    socklen_t length = sizeof info;
    if (getsockopt(fd.get(), Tables::kLevel, Tables::kInfo, &info, &length)) return failed(errno);
    if (info.size > kLargestLegacyTable) {
      reasons.add(name + " is too large to read (" + std::to_string(info.size) + " bytes)");
      return false;
    }
    using Entries = typename Tables::Entries;
    constexpr std::size_t kHead = offsetof(Entries, entrytable);
    std::vector<std::uint64_t> room((kHead + info.size) / sizeof(std::uint64_t) + 1);
    auto& entries = *reinterpret_cast<Entries*>(room.data());
    std::strncpy(entries.name, table, sizeof entries.name - 1);
    entries.size = info.size;
    length = kHead + info.size;
    if (getsockopt(fd.get(), Tables::kLevel, Tables::kEntries, &entries, &length) == 0)
      return names_chain<Tables>({reinterpret_cast<const char*>(room.data()) + kHead, info.size},
                                 chain);
    if (errno != EAGAIN) return failed(errno);
  }
  return failed(EAGAIN);
}

template <class Tables>
bool legacy_kube_proxy(Reasons& reasons) {
  return legacy_chain_exists<Tables>("mangle", kCanaryChain, reasons) ||
         legacy_chain_exists<Tables>("nat", kServicesChain, reasons);
}

// ---- interfaces and addresses -----------------------------------------------------------------

bool interface_exists(const char* name) { return if_nametoindex(name) != 0; }

std::string text_of(const sockaddr& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.sa_family == AF_INET)
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text, sizeof text);
  else if (address.sa_family == AF_INET6)
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, text,
              sizeof text);
  return text;
}

bool link_local(std::string_view address) {
  return address.starts_with("169.254.") || address.starts_with("fe80:");
}

void add_node_local_dns(std::vector<Neighbour>& found, Reasons& reasons) {
  bool present = interface_exists(kDnsInterface);
  std::string also;  // addresses of services that its interface has too
  ifaddrs* list = nullptr;
  if (getifaddrs(&list)) return reasons.add("cannot read the interfaces' addresses", errno);
  for (const ifaddrs* at = list; at; at = at->ifa_next) {
    const std::string address = at->ifa_addr ? text_of(*at->ifa_addr) : "";
    if (address == kDnsAddress) present = true;
    if (!address.empty() && !link_local(address) && at->ifa_name == std::string_view(kDnsInterface))
      also += (also.empty() ? "" : ", ") + address;
  }
  freeifaddrs(list);
  if (!present) return;
  std::string what = "serves its link-local address as before: that is no service";
  if (!also.empty())
    what += "; it also listens at " + also +
            ", where enrolled pods reach the service's endpoints and not the cache";
  found.push_back({"NodeLocal DNS", what});
}

}  // namespace

std::vector<Neighbour> network_neighbours(std::string* why) {
  Reasons reasons(why);
  std::vector<Neighbour> found;
  const auto add_kube_proxy = [&](const char* mode) {
    found.push_back({std::string("kube-proxy (") + mode + ")",
                     "translates packets to service addresses: what weft does not take goes "
                     "through it as before"});
  };
  const bool ipvs = interface_exists(kIpvsInterface);
  const auto nft = ask_nftables(reasons);
  if (nft.kube_proxy_table) add_kube_proxy("nftables");
  // The ipvs mode has a chain of that name too, for the little that it does in iptables.
  if (ipvs)
    add_kube_proxy("ipvs");
  else if (nft.services_chain || legacy_kube_proxy<Ipv4Tables>(reasons) ||
           legacy_kube_proxy<Ipv6Tables>(reasons))
    add_kube_proxy("iptables");
  add_node_local_dns(found, reasons);
  if (interface_exists("cilium_host") || interface_exists("cilium_net"))
    found.push_back({"Cilium",
                     "may balance services at its own programs: pods that weft serves are weft's, "
                     "everything else stays Cilium's"});
  return found;
}

}  // namespace weft::node
