// The order in which the rules of HTTPRoutes are tried: Gateway API's, HTTPRouteRule.matches. Apart
// from http_routes.cc, which knows what they are attached to.
//
// A match is a rule of its own here, since precedence is the match's. Of two the first of these
// that differs decides:
//   1. the path: exact, then regular expressions (whose place the specification leaves open: behind
//      prefixes the prefix "/" would hide them), then prefixes, the longer first
//   2. one with a method
//   3. the number of headers, then of query parameters
//   4. the older HTTPRoute, then namespace and name, then the order they are written in
#pragma once

#include <vector>

#include "mesh/model/http.h"
#include "mesh/model/object.h"

namespace weft::model {

struct RankedRule {
  const HttpRouteObject* route = nullptr;
  HttpRule rule;  // with one match
};

// All rules of the routes, as they are tried. Clusters stay indices into the route's backends.
std::vector<RankedRule> in_order_of_trial(const std::vector<const HttpRouteObject*>& routes);

}  // namespace weft::model
