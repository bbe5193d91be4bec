// Which endpoints a service port has of its own. The rules are Kubernetes' (discovery.k8s.io/v1 and
// the endpoint controllers). What routes make of them is routes.h's.
#pragma once

#include <map>
#include <set>
#include <string>
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
  // Endpoints carry those labels of their Pods that the service's DestinationRule compares, and
  // `compared`: those of a service that is routed here.
  EndpointSources(const ServiceObject& service, const Inventory& inventory,
                  std::set<std::string> compared = {});

  // By (address, port); of duplicates (an endpoint on the move is in two slices) the readiest
  // stays.
  std::vector<Endpoint> endpoints(const ServicePortSpec& port) const;

  // Those of the subset. Endpoints whose Pod is not known have no labels; they go to `strangers`.
  std::vector<Endpoint> endpoints(const ServicePortSpec& port, const Subset& subset,
                                  std::set<Address>& strangers) const;

  // Where labels are compared: endpoints whose Pod is not known.
  const std::set<Address>& without_labels() const { return without_labels_; }

 private:
  const Labels* labels_of(const std::string& namespace_name, const SliceEndpoint& endpoint) const;
  void find_labels(const std::set<std::string>& compared);
  EndpointSliceObject members_of(const EndpointSliceObject& slice, const Subset& subset,
                                 std::set<Address>& strangers) const;
  void finish(std::vector<Endpoint>& endpoints) const;

  const ServiceObject& service_;
  const Inventory& inventory_;
  const Inventory::ById& slices_;
  std::vector<const PodObject*> pods_;
  std::map<Address, Labels> labels_;  // that are compared
  std::set<Address> without_labels_;
};

// Labels that the DestinationRule in force of a service compares.
std::set<std::string> compared_labels(const Inventory& inventory, const ServiceKey& service);

}  // namespace weft::model
