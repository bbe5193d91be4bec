// The clusters of one service port's HTTP routes, collected as its rules are joined.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "mesh/model/http.h"
#include "mesh/model/inventory.h"
#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::model {

class HttpClusters {
 public:
  // The first cluster is the service itself, with `own` for endpoints.
  HttpClusters(const Inventory& inventory, const ServiceKey& dialled, std::uint16_t port,
               std::vector<Endpoint> own);

  // The rule with indices into clusters() where it has some into `backends`. What is wrong with a
  // destination is said once, in the words of `object`.
  HttpRule resolved(HttpRule rule, const std::vector<HttpBackend>& backends,
                    const ObjectMeta& object, std::vector<Notice>& notices);

  const std::vector<HttpCluster>& clusters() const { return clusters_; }
  // With what their Pods are a part of.
  std::vector<std::vector<Endpoint>> take_endpoints();
  // Endpoints that are in no subset because their Pods are not known, by service.
  void say_strangers(const std::string& object, const Origin& origin,
                     std::vector<Notice>& notices) const;

 private:
  void name_workloads(const ServiceKey& key, std::vector<Endpoint>& endpoints) const;
  std::uint32_t index_of(const HttpBackend& backend, const std::string& namespace_name);

  const Inventory& inventory_;
  std::uint16_t dialled_;
  std::vector<HttpCluster> clusters_;
  std::vector<std::vector<Endpoint>> endpoints_;  // one a cluster
  std::map<ServiceKey, std::set<Address>> strangers_;
};

}  // namespace weft::model
