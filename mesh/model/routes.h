// What a VirtualService's tcp rules make of a service: whose endpoints its ports have, and in which
// shares. Apart from merge.cc because it is the one place where a service is served by others'
// endpoints.
//
// Rules, so that nobody guesses:
//   - of several VirtualServices for a host the oldest wins. exportTo is asked for the namespace of
//     the service, not of the caller: the kernel has one table a service for all callers.
//   - every TCP port is routed by the first rule that matches the port that was dialled, whatever
//     the port's name says of its protocol. A rule with a destination whose port is not clear is
//     passed over.
//   - a destination gives its own endpoints, not those it is routed to: routes are followed one
//     step, so a service may be routed to itself. Its traffic policy does not come along; the
//     routed service's counts.
//   - a destination has its share of the connections whatever the number of its endpoints: weight
//     over the number of those that are ready (or, while none is, that are draining), in each
//     family and priority by themselves, since each is a table of its own. Endpoints' own weights
//     and priorities count within their destination.
//   - nobody to be had at a destination (unknown Service, unknown subset, no endpoint): the others
//     have its share. Nobody at all: the port has no endpoints and is refused, as Istio's "no
//     healthy upstream" is.
//   - of a destination with weight 0 the endpoints are shown with weight 0: not used.
#pragma once

#include <vector>

#include "mesh/model/inventory.h"
#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::model {

// Replaces the endpoints of ports that a VirtualService routes. `service` has its ports.
void apply_routes(const Inventory& inventory, Service& service, std::vector<Notice>& notices);

// Where the rule, which is in force for that service, has subsets and no route chooses any.
void say_unchosen_subsets(const DestinationRuleObject& rule, const ServiceKey& service,
                          const Inventory& inventory, std::vector<Notice>& notices);

}  // namespace weft::model
