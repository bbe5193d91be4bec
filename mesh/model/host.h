// What a host in an Istio object means here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/model/mesh.h"

namespace weft::model {

// The Service that a DestinationRule's host means: "web", "web.shop", "web.shop.svc" or
// "web.shop.svc.cluster.local", relative to the rule's namespace as Istio resolves hosts. Nothing
// for a name that can be no Service's.
std::optional<ServiceKey> host_to_key(std::string_view host, std::string_view namespace_name);

// A name as such, whoever has it. A full one is the same from everywhere: its key has no namespace,
// and is no service's. Only ServiceEntries have names; which of them this is Inventory knows.
ServiceKey name_key(std::string_view host, std::string_view namespace_name);

// Whom a host may mean: a Service, a name, or either ("web.shop"). Empty: a wildcard.
std::vector<ServiceKey> keys_of(std::string_view host, std::string_view namespace_name);

// Whether an object of namespace `own` with that spec.exportTo is there for namespace `to`.
bool is_exported(const std::vector<std::string>& export_to, std::string_view own,
                 std::string_view to);

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
