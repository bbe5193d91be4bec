// What VirtualServices' http rules and HTTPRoutes make of a service: the rules that the proxy tries
// on requests to each of its ports. routes.h is the same for connections.
//
// Rules, so that nobody guesses:
//   - the service and port that were dialled choose the rules, never a Host header. Endpoints that
//     are called by their own address use no route, so a headless service has none.
//   - only ports that may speak HTTP/1.1 have any; where somebody attached rules to another one,
//   that
//     is said.
//   - the rules of a port stand in layers, each for the callers of one namespace but the last,
//   which
//     is for all: first the HTTPRoutes of other namespaces than the service's (consumer routes,
//     each for its own namespace), then those of its own (producer routes) or, where there are
//     none, one VirtualService. A caller meets one layer only: the rules of the others ask for
//     another namespace, and behind the last rule of a layer stands one that takes the rest.
//   - HTTPRoutes of a layer are one list, in the order of http_precedence.h; what matches none is
//     404. A VirtualService that would be in their place is shadowed, and said to be.
//   - of VirtualServices that are exported to the caller's namespace the one with the most specific
//     host is in force, of equals the oldest; its rules are tried as they are written, and what
//     matches none is 404. That makes a layer for each namespace of an exportTo without "*".
//   - host "*" covers the services of its own namespace; what its rules do not match goes to the
//     service that was dialled.
//   - destinations give their own endpoints, as in routes.h. The first cluster is always the
//   service
//     itself with its own ones, whatever its tcp rules say.
#pragma once

#include <vector>

#include "mesh/model/inventory.h"
#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::model {

// Gives ports their rules and the endpoints of their clusters. `service` has its ports with their
// own endpoints.
void apply_http_routes(const Inventory& inventory, Service& service, std::vector<Notice>& notices);

// Makes ports whose rules are the same as before share them, so that whoever holds the old ones
// need not look.
void keep_http_routes(const Service& before, Service& service);

}  // namespace weft::model
