#include "mesh/model/object.h"

namespace weft::model {

const char* to_text(Protocol protocol) { return protocol == Protocol::kTcp ? "TCP" : "UDP"; }

const char* to_text(AppProtocol protocol) {
  switch (protocol) {
    case AppProtocol::kHttp:
      return "HTTP";
    case AppProtocol::kHttp2:
      return "HTTP/2";
    case AppProtocol::kGrpc:
      return "gRPC";
    case AppProtocol::kTls:
      return "TLS";
    case AppProtocol::kTcp:
      return "TCP";
    case AppProtocol::kUnknown:
      break;
  }
  return "unknown";
}

const char* to_text(Balancer balancer) {
  switch (balancer) {
    case Balancer::kRoundRobin:
      return "round-robin";
    case Balancer::kRandom:
      return "random";
    case Balancer::kSourceHash:
      return "maglev";
    case Balancer::kRingHash:
      return "ring-hash";
    case Balancer::kLeastRequest:
      return "least-request";
    case Balancer::kPeakEwma:
      break;
  }
  return "peak-ewma";
}

const ObjectMeta& meta_of(const Object& object) {
  return std::visit([](const auto& value) -> const ObjectMeta& { return value.meta; }, object);
}

const char* kind_of(const Object& object) {
  struct Kind {
    const char* operator()(const ServiceObject& service) const {
      return service.entry ? "ServiceEntry" : "Service";
    }
    const char* operator()(const EndpointSliceObject&) const { return "EndpointSlice"; }
    const char* operator()(const PodObject&) const { return "Pod"; }
    const char* operator()(const PodLabelsObject&) const { return "PartialObjectMetadata"; }
    const char* operator()(const NamespaceObject&) const { return "Namespace"; }
    const char* operator()(const NodeObject&) const { return "Node"; }
    const char* operator()(const DestinationRuleObject&) const { return "DestinationRule"; }
    const char* operator()(const VirtualServiceObject&) const { return "VirtualService"; }
    const char* operator()(const HttpRouteObject&) const { return "HTTPRoute"; }
  };
  return std::visit(Kind{}, object);
}

std::string ObjectId::to_text() const { return kind + " " + namespace_name + "/" + name; }

ObjectId id_of(const Object& object) {
  const auto& meta = meta_of(object);
  return {kind_of(object), meta.namespace_name, meta.name};
}

}  // namespace weft::model
