// Mesh -> MapState: what the kernel maps should hold. Pure but for the numbers it takes from Ids.
//
// Costs time only for services that changed between two snapshots. Everything that cannot be placed
// (a map would overflow) is refused by name before anything is written, and keeps its old place.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "agent/compile/ids.h"
#include "agent/compile/map_state.h"
#include "mesh/lb/locality.h"
#include "mesh/model/mesh.h"

namespace weft::compile {

// A service's ports as they should lie in the maps, before they have numbers.
struct PortLayout {
  PortKey key;
  std::string name;
  std::vector<model::Address> frontends;
  std::uint32_t selector = 0;
  std::uint32_t affinity_seconds = 0;
  std::vector<model::Endpoint> endpoints;  // usable for this family; sorted by (address, port)
  std::vector<std::uint32_t> slots;        // indexes into endpoints
  std::vector<std::uint32_t> spares;  // ... of later priorities; of a long table light ones too
  weft_policy policy{};
};
// What a layout depends on beside the service.
struct View {
  lb::Where here;  // this node
  // Whether the breaker of an endpoint of that port is open or half-open; empty: nobody's is.
  std::function<bool(const PortKey&, const model::Endpoint&)> is_ejected;
  bool proxy = false;  // this node has one: ports with HTTP rules are its
  // Slots of the table that the port hashes into now; empty, or 0: it has none. See lb::Fill.
  std::function<std::uint32_t(const PortKey&)> table_size;
};
std::vector<PortLayout> lay_out(const model::Service& service, const View& view = {});

struct Input {
  const model::Mesh* before = nullptr;  // null: compare everything (start, or after a failed plan)
  const model::Mesh* after = nullptr;
  const MapState* placed = nullptr;     // what the maps hold now
  std::set<model::ServiceKey> pending;  // services that the last compile refused or held back
  bool allow_mass_removal = false;
  bool confirmed = false;  // ... because somebody said so, not because time has passed
  // The most endpoints there were of late: a removal that comes in pieces is measured against it.
  std::size_t recent_peak = 0;
  // The last compile held a removal back, and this is what it said might go. What is added
  // elsewhere does not raise it: only what was held coming back, or somebody's word, ends the hold.
  std::optional<std::size_t> allowance;
  // Not every source has spoken yet: what is not in the mesh may still come, so no service loses
  // endpoints.
  bool keep_absent = false;
  // Ids of endpoints whose breakers are not closed, ascending: where a service has priorities, its
  // traffic moves. Services named in `touched` are looked at again for it.
  const std::set<std::uint32_t>* ejected = nullptr;
  std::set<model::ServiceKey> touched;
  lb::Where here;      // this node; the same in every call
  bool proxy = false;  // ... and whether it has a proxy
};

struct Output {
  MapState desired;
  // More than half of all endpoints would go at once: more often a fault than a wish. The services
  // that would lose endpoints are left as they are; the rest applies.
  bool held_back = false;
  bool kept_api_server = false;  // default/kubernetes would have lost its last endpoint
  std::size_t endpoints_before = 0;
  std::size_t endpoints_after = 0;  // as the mesh wants it
  std::size_t allowance = 0;        // so many may go without being held back
  std::set<model::ServiceKey> pending;
  std::vector<std::string> refused;  // one line a service: which map, how many needed, which flag
};
Output compile(const Input& input, Ids& ids, std::uint64_t generation);

}  // namespace weft::compile
