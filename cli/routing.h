// What HTTP rules make of a request, as the agent tells (agent/observe/routes.h): for `why`.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/collect.h"

namespace weft::cli {

struct HttpQuestion {
  std::string method, path;          // empty: GET, "/"
  std::vector<std::string> headers;  // "K=V", as they were typed

  bool empty() const { return method.empty() && path.empty() && headers.empty(); }
};

// The agent's answer; null where the port has no rules. `to` is what was dialled, which a client
// sends as Host unless a header "host" is given.
absl::StatusOr<Json> ask_routing(const Context& context, const std::string& service,
                                 std::uint16_t port, const std::string& to,
                                 const HttpQuestion& question, std::uint64_t netns_cookie);
// Gives endpoints the states that the kernel knows, breakers included, in place of the model's.
void add_states(Json& routing, const compile::MapState& state, const StateOf& state_of);

std::string place_text(const Json& rule);  // "VirtualService shop/web "name", mesh/web.yaml:12"
std::string matches_text(const Json& rule);
std::string routing_text(const Json& routing);

}  // namespace weft::cli
