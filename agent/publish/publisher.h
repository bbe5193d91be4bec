// Mesh -> what the node's proxies are told (weft.v1.Config): rules of every service port that has
// some, and the clusters that they name, with the numbers under which the kernel knows endpoints.
//
// Proxies come and go while the mesh changes, so what changed is kept as a log: a new one is told
// all of it, one that has heard up to a number only what came after. Costs what changed, not what
// there is. Pure, but for asking the endpoint table for incarnations.
//
// Who serves and who stands by is decided here, by what fills the kernel's slots (mesh/lb), so that
// a caller meets the same endpoints whether a port has rules or not: of what a proxy is told,
// priority 0 is in rotation with the weights that locality and breakers leave, later ones are
// spares.
#pragma once

#include <weft/v1/proxy.pb.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/compile/map_state.h"
#include "agent/publish/log.h"
#include "mesh/lb/locality.h"
#include "mesh/model/mesh.h"
#include "mesh/wire/service.h"

namespace weft::publish {

class Publisher {
 public:
  // Of an endpoint id in weft_endpoint_states.
  using Incarnation = std::function<std::uint32_t(std::uint32_t id)>;
  Publisher(lb::Where here, Incarnation incarnation)
      : here_(std::move(here)), incarnation_(std::move(incarnation)) {}

  // `placed` is what the maps hold of `mesh`; `ejected` are ids of endpoints whose breakers are not
  // closed. True where something is to be told.
  bool update(const model::MeshPtr& mesh, const compile::MapState& placed,
              const std::set<std::uint32_t>& ejected = {});

  // Breakers of the service have moved: the next update looks at its clusters again.
  void touch(const model::ServiceKey& key) { moved_.insert(key); }

  // Number of the newest change; at least 1 once there was an update.
  std::uint64_t last() const { return last_; }

  // In this order; whoever has applied all of them has last() and says so with the last one's
  // generation. `told` 0: he knows nothing, and is told even where there is nothing. Clusters come
  // no later than the rules that name them. What came and went meanwhile is told as removed.
  // Several only where one would be too long.
  std::vector<weft::v1::Config> since(std::uint64_t told, std::size_t max_bytes = kMaxBytes) const;

  // Nobody is left who has heard less.
  void forget_removed(std::uint64_t told);

  static constexpr std::size_t kMaxBytes = 16 << 20;  // a message has at most 64 MiB

 private:
  // One port with rules, as it was published last, and whose endpoints it knows.
  struct Port {
    model::ServicePtr service;  // holds what the clusters point to
    std::shared_ptr<const model::HttpRoutes> routes;
    std::size_t index;  // of service->ports
  };
  struct ServiceEntry {
    weft::v1::Service message;
    // What it was made of: rules, and all the rest of it as bytes.
    std::shared_ptr<const model::HttpRoutes> routes;
    std::string rest;
  };

  void change_service(const model::ServicePtr* before, const model::ServicePtr* after);
  void drop_port(const std::string& name);
  void publish_port(const std::string& name, const Port& port);
  void publish_cluster(const std::string& name);
  wire::Cluster to_cluster(const model::HttpCluster& cluster,
                           const std::vector<model::Endpoint>& endpoints) const;
  void add_endpoints(const model::Service& service, const model::TrafficPolicy& traffic,
                     model::Family family, const std::vector<model::Endpoint>& endpoints,
                     wire::Cluster& cluster) const;
  void touch_clusters_of(const model::ServiceKey& key);

  const lb::Where here_;
  const Incarnation incarnation_;
  model::MeshPtr mesh_ = std::make_shared<model::Mesh>();
  compile::MapState placed_;
  std::uint64_t last_ = 0;
  Log<ServiceEntry> services_;
  Log<wire::Cluster> clusters_;
  std::map<std::string, Port> ports_;  // by name
  // Which ports name a cluster, and where in their lists it stands.
  std::map<std::string, std::map<std::string, std::size_t>> owners_;
  std::map<model::ServiceKey, std::set<std::string>> clusters_of_;  // by the service they are of
  std::set<std::string> touched_;  // clusters to be looked at in this update
  std::set<model::ServiceKey> moved_;
  std::set<std::uint32_t> ejected_;
};

}  // namespace weft::publish
