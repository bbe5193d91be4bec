// The parts of a DestinationRule's trafficPolicy, one file each. `path` is the part's own.
#pragma once

#include <string>

#include "mesh/manifest/decode.h"

namespace weft::manifest {

// traffic_policy.cc
void decode_traffic_policy(Decoder& decoder, Value policy, const std::string& path,
                           model::DestinationRuleObject& rule);
// load_balancer.cc
void decode_load_balancer(Decoder& decoder, Value value, const std::string& path,
                          std::optional<model::Balancer>& balancer, model::TrafficRule& traffic);
// locality_setting.cc
model::LocalityPolicy decode_locality(Decoder& decoder, Value setting, const std::string& path);

}  // namespace weft::manifest
