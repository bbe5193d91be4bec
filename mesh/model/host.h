// What a host in an Istio object means here.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "mesh/model/mesh.h"

namespace weft::model {

// The Service that a DestinationRule's host means: "web", "web.shop", "web.shop.svc" or
// "web.shop.svc.cluster.local", relative to the rule's namespace as Istio resolves hosts. Nothing
// for a name that can be no Service's.
std::optional<ServiceKey> host_to_key(std::string_view host, std::string_view namespace_name);

// The Services that a VirtualService's host covers, the more specific kind the greater. Istio
// compares wildcards with whole names, so "*.shop" covers nobody.
struct HostScope {
  enum class Kind : std::uint8_t {
    kOwnNamespace,  // "*": istiod refuses it; here the services of its own namespace
    kMesh,          // "*.svc.cluster.local" and wider
    kNamespace,     // "*.shop.svc.cluster.local"
    kService,
  };
  Kind kind = Kind::kService;
  ServiceKey key;  // kMesh: empty; of a namespace its name alone

  bool covers(const ServiceKey& service) const;
  bool operator==(const HostScope&) const = default;
};
std::optional<HostScope> scope_of(std::string_view host, std::string_view namespace_name);

}  // namespace weft::model
