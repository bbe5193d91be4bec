// Maps -> JSON values in the shapes of the contract. Pure over a MapState and the counters.
#pragma once

#include <functional>
#include <string>

#include "agent/compile/map_state.h"
#include "cli/cli.h"

namespace weft::cli {

// Not what a change has just removed: that keeps its record until no program can be reading it.
bool in_use(const compile::PlacedPort& port, const compile::PlacedEndpoint& endpoint);

using StateOf = std::function<weft_endpoint_state(std::uint32_t id)>;
StateOf state_of(const kernel::Maps& maps);
// "draining" and "not_ready" by the model: such an endpoint takes no new connections whatever its
// breaker says. One that is ready is "ejected" or "half_open" where the breaker says so.
const char* state_text(const compile::PlacedEndpoint& endpoint, const weft_endpoint_state& state);
// Whether anything could open it, or has: what sockets see, what the proxy sees, or somebody's
// word.
bool has_breaker(const compile::PlacedPort& port, const weft_endpoint_state& state);
const char* balancer_text(std::uint32_t selector);
// Of one service; of all where `service` is null.
Json endpoints_json(const compile::MapState& state, const model::ServiceKey* service,
                    const StateOf& state_of);
// What the agent's "health" says of them: `health`, and `health_reason` where a check was made.
void add_health(Json& endpoints, const Json& health);
// A service as people know it is one PlacedService; its ports are split by family only in the
// kernel.
Json service_json(const compile::PlacedService& service, const StateOf& state_of);
Json services_json(const compile::MapState& state, const StateOf& state_of);

}  // namespace weft::cli
