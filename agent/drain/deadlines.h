// Which endpoints' connections are to be closed, and when: those of endpoints that are terminating,
// or have left the mesh, after their service's weft.mesh/drain-deadline. Pure: the clock is the
// caller's.
//
// Rules, so that nobody guesses:
//   - the time counts from when the endpoint was first seen terminating or gone; a new agent begins
//     anew with those that are terminating then.
//   - while a port has no ready endpoint its terminating ones serve: nothing is closed, since what
//     is closed would come back to them. It is made up for as soon as one is ready.
//   - connected UDP sockets to an endpoint that is gone are closed at once, deadline or not:
//   nothing
//     else tells their owners that nobody hears them (kube-proxy and Cilium do the same).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "agent/compile/map_state.h"
#include "mesh/model/mesh.h"

namespace weft::drain {

using Clock = std::chrono::steady_clock;

// An endpoint whose connections are to be closed.
struct Doomed {
  std::uint32_t id = 0, incarnation = 0;
  model::ServiceKey service;
  model::Address address;
  std::uint16_t port = 0;  // host order
  model::Protocol protocol = model::Protocol::kTcp;
  bool gone = false;  // else terminating

  bool operator==(const Doomed&) const = default;
};

class Deadlines {
 public:
  // Of an endpoint id, as long as that is placed.
  using Incarnation = std::function<std::uint32_t(std::uint32_t id)>;
  // `inherited`: what the maps hold before the first update. Of what went while no agent ran, UDP
  // endpoints are known.
  Deadlines(Incarnation incarnation, const compile::MapState& inherited);

  // `placed` is what the maps hold of `mesh` since just now. Costs what changed.
  void update(const model::Mesh& mesh, const compile::MapState& placed, Clock::time_point now);

  // When there is something to take next; nothing: not before another update.
  std::optional<Clock::time_point> next() const;
  // Each is told once, but a terminating one again that was ready in between.
  std::vector<Doomed> take_due(Clock::time_point now);

 private:
  struct Endpoint {
    Doomed doomed;
    std::optional<Clock::time_point> since;  // terminating or gone; nothing: neither
    bool alone = false;                      // nobody else of its port is ready
    bool told = false;
  };
  struct Watched {
    std::optional<std::chrono::milliseconds> deadline;
    std::map<std::uint32_t, Endpoint> placed;  // by id
    std::vector<Endpoint> gone;                // to be told of; their ids may be others' by now

    std::optional<Clock::time_point> due(const Endpoint& endpoint) const;
  };

  void look_at(const model::ServiceKey& key, Clock::time_point now);
  void look_at(Watched& watched, const compile::PlacedService* placed,
               const model::Service* service, Clock::time_point now);
  static void leave(Watched& watched, Endpoint endpoint, Clock::time_point now);

  Incarnation incarnation_;
  model::BucketTable<model::Service> services_;
  compile::MapState placed_;
  std::map<model::ServiceKey, Watched> watched_;
};

}  // namespace weft::drain
