#include "mesh/lb/policy.h"

namespace weft::lb {
namespace {

constexpr Policy kRegistry[] = {
    {model::Balancer::kRoundRobin, Selector::kRotate, fill_in_turn},
    {model::Balancer::kRandom, Selector::kRandom, fill_in_turn},
    {model::Balancer::kSourceHash, Selector::kHash, fill_maglev},
    {model::Balancer::kRingHash, Selector::kHash, fill_ring_hash},
    {model::Balancer::kLeastRequest, Selector::kLeast, fill_in_turn},
    {model::Balancer::kPeakEwma, Selector::kEwma, fill_in_turn},
};

}  // namespace

const Policy& policy_of(model::Balancer balancer) {
  for (const auto& policy : kRegistry)
    if (policy.balancer == balancer) return policy;
  __builtin_unreachable();  // the enum has no other value; policy_test.cc walks it
}

std::vector<std::uint32_t> candidates(const std::vector<model::Endpoint>& endpoints) {
  std::vector<std::uint32_t> ready, draining;
  for (std::uint32_t i = 0; i < endpoints.size(); ++i) {
    if (endpoints[i].state == model::EndpointState::kReady) ready.push_back(i);
    if (endpoints[i].state == model::EndpointState::kDraining) draining.push_back(i);
  }
  return ready.empty() ? draining : ready;
}

}  // namespace weft::lb
