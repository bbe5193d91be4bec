// What else turns service addresses into endpoints on this node, as far as the caller's network
// namespace tells. Only looked at, never touched: status says what runs beside weft, so that nobody
// has to guess who translated a connection.
#pragma once

#include <string>
#include <vector>

namespace weft::node {

struct Neighbour {
  std::string name;  // "kube-proxy (nftables)", "NodeLocal DNS", "Cilium"
  std::string what;  // one sentence: what it means beside weft

  bool operator==(const Neighbour&) const = default;
};

// At most a dozen questions to the kernel by name, plus tables of legacy iptables up to 1 MiB, the
// interfaces' addresses, and no process is started: cheap enough for once a minute, but not for the
// control thread (a kernel that is asked for nftables may load that module first).
//
// Never fails. What cannot be read is left out, and `why` says so, one clause each, joined by "; ".
// Needs CAP_NET_ADMIN in the namespace.
std::vector<Neighbour> network_neighbours(std::string* why = nullptr);

}  // namespace weft::node
