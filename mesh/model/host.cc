#include "mesh/model/host.h"

#include <string>

namespace weft::model {

std::optional<ServiceKey> host_to_key(std::string_view host, std::string_view namespace_name) {
  const auto dot = host.find('.');
  const std::string name(host.substr(0, dot));
  if (name.empty() || name.find('*') != std::string::npos) return std::nullopt;
  if (dot == std::string_view::npos) return ServiceKey{std::string(namespace_name), name};
  const auto rest = host.substr(dot + 1);
  const auto end = rest.find('.');
  const std::string in(rest.substr(0, end));
  if (in.empty()) return std::nullopt;
  if (end != std::string_view::npos) {
    const auto suffix = rest.substr(end + 1);
    if (suffix != "svc" && suffix != "svc.cluster.local") return std::nullopt;
  }
  return ServiceKey{in, name};
}

bool HostScope::covers(const ServiceKey& service) const {
  if (kind == Kind::kMesh) return true;
  if (kind == Kind::kService) return key == service;
  return key.namespace_name == service.namespace_name;
}

std::optional<HostScope> scope_of(std::string_view host, std::string_view namespace_name) {
  using Kind = HostScope::Kind;
  if (host == "*") return HostScope{Kind::kOwnNamespace, {std::string(namespace_name), ""}};
  if (!host.starts_with("*.")) {
    auto key = host_to_key(host, namespace_name);
    return key ? std::optional(HostScope{Kind::kService, std::move(*key)}) : std::nullopt;
  }
  host.remove_prefix(2);
  if (host == "svc.cluster.local" || host == "cluster.local" || host == "local")
    return HostScope{Kind::kMesh, {}};
  const auto dot = host.find('.');
  if (dot == 0 || dot == host.npos || host.substr(dot) != ".svc.cluster.local") return std::nullopt;
  return HostScope{Kind::kNamespace, {std::string(host.substr(0, dot)), ""}};
}

}  // namespace weft::model
