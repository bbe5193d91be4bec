// Balancing policies: from a service's endpoints to slots. The kernel never learns a policy's name;
// it picks a slot by rotating, at random or by a hash, and a policy is a way to fill the slots.
//
// A new policy is one file with a fill function and one line in the registry (policy.cc).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mesh/model/mesh.h"

namespace weft::lb {

// How the kernel turns a connect() into a slot number.
enum class Selector : std::uint8_t { kRotate, kRandom, kHash, kLeast, kEwma };

// `candidates` are indexes into `endpoints`, ascending; the result holds some of them, as often as
// their weight asks for. `present` is how many slots the port has now, 0 where it has none: a table
// that is hashed into keeps its size (hash.h). Deterministic: what it is given is all it knows.
using Fill = std::vector<std::uint32_t> (*)(const std::vector<model::Endpoint>& endpoints,
                                            std::span<const std::uint32_t> candidates,
                                            std::uint32_t present);

struct Policy {
  model::Balancer balancer;
  Selector selector;
  Fill fill;
};

// Every Balancer has one; the registry is checked by policy_test.cc.
const Policy& policy_of(model::Balancer balancer);

// Endpoints that may take new connections: the ready ones, or, when there are none, those that are
// terminating but still serving (EndpointSlice semantics, KEP-1669).
std::vector<std::uint32_t> candidates(const std::vector<model::Endpoint>& endpoints);

// The fills, one file each.
std::vector<std::uint32_t> fill_in_turn(const std::vector<model::Endpoint>&,
                                        std::span<const std::uint32_t>, std::uint32_t present = 0);
std::vector<std::uint32_t> fill_maglev(const std::vector<model::Endpoint>&,
                                       std::span<const std::uint32_t>, std::uint32_t present = 0);
std::vector<std::uint32_t> fill_ring_hash(const std::vector<model::Endpoint>&,
                                          std::span<const std::uint32_t>,
                                          std::uint32_t present = 0);

}  // namespace weft::lb
