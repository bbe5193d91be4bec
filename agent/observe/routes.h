// HTTP rules on the admin socket: which there are, in the order of trial, and what they would make
// of a request, by the code by which the proxy routes. Pure.
//
//   {"version":1,"command":"routes"[,"service":"ns/name"]} -> result [{service, port, kind,
//       otherwise, rules:[RULE]}] of ports that have rules. RULE is {number, object, name, file,
//       line, matches:[text], action: text, type: "forward"|"redirect"|"answer", status|null,
//       destinations:[{cluster, weight, missing}]}; no matches: everything
//   {"version":1,"command":"explain","service":"ns/name","port":N,"method":"GET",
//    "authority":"web.shop","target":"/a?b","headers":[["name","value"], ...],"netns_cookie":N}
//       -> result {service, port, kind, otherwise, caller: namespace, path, refused, rule: N|null,
//       rules:[RULE with won and why], clusters:[{name, service, weight, missing,
//       endpoints:[{address, port, state}]}]}. `path` is what rules compare. `refused` says why
//       it is 400 before any rule is asked, else "". Null: the port has no rules
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "agent/observe/snapshot.h"
#include "userspace_proxy/routes/table.h"

namespace weft::observe {

struct RouteQuestion {
  std::uint16_t port = 0;
  std::string method = "GET", authority, target = "/";
  std::vector<std::pair<std::string, std::string>> headers;
  std::uint64_t netns_cookie = 0;  // of the caller; 0: not known
};

// Whole answers, ending in a newline. `service` is "ns/name", or empty where all are asked for.
std::string routes_reply(const Snapshot& snapshot, const std::string& service);
std::string explain_reply(const Snapshot& snapshot, const std::string& service,
                          const RouteQuestion& question, const routes::Caller& caller);

}  // namespace weft::observe
