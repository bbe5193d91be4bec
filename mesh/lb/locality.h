// Nearness: turns where endpoints are into priorities and weights, which priority.h and the fills
// then act on. A preference is a priority and not a filter: the far ones are used while no near one
// is ready, and take part of the load while breakers hold the near ones out.
//
// Rules, so that nobody guesses:
//   - only_local (internalTrafficPolicy: Local) is a demand: endpoints of other nodes are dropped.
//     Nobody left means refused, as with kube-proxy.
//   - an endpoint's own priority (weft.mesh/priority) comes first; among equals failoverPriority,
//     then the default order (subzone, zone, region, failover region, rest), then
//     trafficDistribution. A node without a subzone tells none apart.
//   - hints: as kube-proxy, if every candidate has hints.forZones and some name our zone, near
//   means
//     hinted for it; else zones themselves are compared.
//   - regions that are not known do not tell zones apart: zone names are unique in practice.
//   - distribute: shares go by candidates' own weights within a locality; a locality without
//     candidates leaves its share to the others (Istio sends it into the void, istio/istio#33470);
//     candidates that no entry names get weight 0, unless the entries name nobody.
#pragma once

#include <string>
#include <vector>

#include "mesh/model/mesh.h"

namespace weft::lb {

// Of the node that connects: its name and its labels topology.kubernetes.io/region and /zone, and
// topology.istio.io/subzone.
struct Where {
  std::string region;
  std::string zone;
  std::string node;
  std::string subzone = {};

  bool operator==(const Where&) const = default;
};

// Endpoints keep their order. Where the policy asks for nothing and no hints apply they stay as
// they are; else priorities are numbered anew from 0 without gaps.
void apply(const model::LocalityPolicy& policy, const Where& here,
           std::vector<model::Endpoint>& endpoints);

}  // namespace weft::lb
