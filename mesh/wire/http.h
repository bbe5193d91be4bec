// model::HttpRoutes as weft.v1.HttpRoutes and back.
//
// What comes from the wire is not trusted to be what to_wire() wrote: the proxy runs on for as long
// as it lives with what from_wire() lets through, so every number is checked where it is read. An
// error names the place: "rule 3 (VirtualService shop/web): destination 1: cluster 9 of 3".
#pragma once

#include <absl/status/statusor.h>
#include <weft/v1/proxy.pb.h>

#include "mesh/model/http.h"

namespace weft::wire {

weft::v1::HttpRoutes to_wire(const model::HttpRoutes& routes);
absl::StatusOr<model::HttpRoutes> from_wire(const weft::v1::HttpRoutes& routes);

weft::v1::ClusterName to_wire(const model::HttpCluster& cluster);
absl::StatusOr<model::HttpCluster> from_wire(const weft::v1::ClusterName& name);

}  // namespace weft::wire
