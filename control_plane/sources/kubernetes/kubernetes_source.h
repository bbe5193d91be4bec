// The Kubernetes API as a source: list and watch of Services, EndpointSlices, Namespaces, this
// node's Pods and this Node. Every object is a unit, read by the same manifest reader as files.
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
