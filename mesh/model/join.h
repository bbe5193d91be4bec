// Which endpoints a service port has of its own. The rules are Kubernetes' (discovery.k8s.io/v1 and
// the endpoint controllers). What routes make of them is routes.h's.
#pragma once

#include <set>
#include <vector>

#include "mesh/model/inventory.h"
#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::model {

// Every selector entry is among the labels. An empty selector selects nobody here.
bool selects(const Labels& selector, const Labels& labels);

// All slices that name the service; if none does and it has a selector, matching Pods. Of a
// ServiceEntry its own endpoints or matching Pods; slices are not looked at. Holds what it was made
// of by reference.
class EndpointSources {
 public:
  EndpointSources(const ServiceObject& service, const Inventory& inventory);

  // By (address, port); of duplicates (an endpoint on the move is in two slices) the readiest
  // stays.
  std::vector<Endpoint> endpoints(const ServicePortSpec& port) const;

  // Those of the subset. Endpoints whose Pod is not known have no labels; they go to `strangers`.
  std::vector<Endpoint> endpoints(const ServicePortSpec& port, const Subset& subset,
                                  std::set<Address>& strangers) const;

 private:
  EndpointSliceObject members_of(const EndpointSliceObject& slice, const Subset& subset,
                                 std::set<Address>& strangers) const;
  void finish(std::vector<Endpoint>& endpoints) const;

  const ServiceObject& service_;
  const Inventory& inventory_;
  const Inventory::ById& slices_;
  std::vector<const PodObject*> pods_;
};

}  // namespace weft::model
