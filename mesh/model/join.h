// Which endpoints a service port gets from a slice or from a pod. The rules are Kubernetes'
// (discovery.k8s.io/v1 and the endpoint controllers); merge.cc decides which slices and pods to
// ask.
#pragma once

#include <vector>

#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::model {

// Every selector entry is among the labels. An empty selector selects nobody here.
bool selects(const Labels& selector, const Labels& labels);

void add_slice_endpoints(const EndpointSliceObject& slice, const ServiceObject& service,
                         const ServicePortSpec& port, std::vector<Endpoint>& endpoints);
void add_pod_endpoint(const PodObject& pod, const ServiceObject& service,
                      const ServicePortSpec& port, std::vector<Endpoint>& endpoints);

// By (address, port); of duplicates (an endpoint on the move is in two slices) the readiest stays.
void sort_unique(std::vector<Endpoint>& endpoints);

}  // namespace weft::model
