// The Kubernetes API as a source: list and watch of Services, EndpointSlices, Namespaces, this
// node's Pods and this Node, and of Istio's DestinationRules, VirtualServices and ServiceEntries
// where there are any. Every object is a unit, read by the same manifest reader as files.
//
// The metadata of all other Pods is asked for from the first VirtualService on whose rules name a
// subset, or the first DestinationRule whose failoverPriority names a label: only then does anybody
// look at labels, and it is dear where pods are many. Such an object waits for that list, or its
// subsets would be empty meanwhile and refuse everybody. Pods of other nodes are asked for as a
// whole from the first ServiceEntry on that has a workloadSelector, which waits alike: nobody
// writes EndpointSlices for it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <string>

#include "control_plane/sources/source.h"

namespace weft::sources {

struct KubernetesOptions {
  std::string node_name;  // whose Pods are read
};

// `uri` is "kubernetes:" (the service account's files and environment) or "kubernetes:KUBECONFIG".
// What is wrong with it is in status(), and is tried again.
std::unique_ptr<Source> make_kubernetes_source(boost::asio::io_context& control,
                                               const std::string& uri,
                                               const KubernetesOptions& options, Events events);

}  // namespace weft::sources
