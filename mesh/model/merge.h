// Many units of objects -> one Mesh. Pure: no I/O, no clock; what it returns depends only on the
// set of units it holds, never on the order they came in (merge_test.cc checks that with random
// orders).
//
// Rules, so that nobody guesses:
//   - two documents of one object id: the older wins (creationTimestamp; absent is newest; then
//   file
//     and line), the other is rejected and both are named.
//   - one address in two services: a cluster IP belongs to one service; an external IP may be
//   shared as
//     long as {address, port, protocol} is not. The older service wins (creationTimestamp, then
//     namespace/name), the younger loses that address only, and both are named.
//   - endpoints of a service: all slices that name it; if none does and it has a selector, matching
//   Pods.
//   - duplicates across slices (an endpoint on the move is in two): the readiest entry wins.
//   - a VirtualService's tcp rules: routes.h. Its http rules, and HTTPRoutes: http_routes.h.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::model {

class Merger {
 public:
  Merger();
  ~Merger();
  Merger(const Merger&) = delete;
  Merger& operator=(const Merger&) = delete;

  // Replaces the unit of that name (a source URI and a path in it, say); null removes it.
  void set(const std::string& unit_name, std::shared_ptr<const Unit> unit);

  // The mesh of all units. Costs time only for services that a set() since the last call touched.
  MeshPtr build();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The same in one go, for tests and `weftctl check`.
MeshPtr merge(const std::map<std::string, std::shared_ptr<const Unit>>& units);

}  // namespace weft::model
