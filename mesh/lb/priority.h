// Failover: who is in rotation while breakers hold some endpoints out, and who stands by.
//
// Endpoints with priority 0 serve; those with higher ones stand by. Load moves as in Envoy: a
// priority whose healthy share is at least `below_percent` takes all that is left for it, one with
// less takes share/below_percent of it, and the rest spills to the next. So losing one of two at 71
// % moves 30 % of the load, not all of it.
//
// Rules, so that nobody guesses:
//   - no split needed: the first priority keeps its own weights, so that equal ones give a slot
//   each.
//   - ejected endpoints of a priority in rotation stay in rotation: the kernel passes over them,
//   and
//     the one connection that it lets through when an ejection has run out is how they come back.
//     In a split they have weight 1, the least there is.
//   - that holds for a priority whose endpoints are all ejected, too: it carries no load, but must
//     be probed.
//   - everybody is ejected: nobody is better than another, so all stays as if nobody was.
#pragma once

#include <cstdint>
#include <vector>

#include "mesh/model/mesh.h"

namespace weft::lb {

struct Choice {
  std::vector<std::uint32_t> rotation;  // indexes, ascending: the candidates of a Fill
  // By index into the endpoints, for use() before a Fill. In a split at most 100, and small: a
  // table grows with them.
  std::vector<std::uint16_t> weights;
  std::vector<std::uint32_t> spares;  // candidates out of rotation, best priority first, each once

  bool operator==(const Choice&) const = default;
};

// `healthy` has false where a breaker holds the endpoint out; where it is shorter, true. Endpoints
// that are no candidates() and those of weight 0 are in neither list.
[[nodiscard]] Choice choose(const std::vector<model::Endpoint>& endpoints,
                            const std::vector<bool>& healthy, unsigned below_percent);

// What a Fill reads: the endpoints with the choice's weights.
void use(const Choice& choice, std::vector<model::Endpoint>& endpoints);

}  // namespace weft::lb
