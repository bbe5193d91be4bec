#include "mesh/model/host.h"

#include <algorithm>

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

ServiceKey name_key(std::string_view host, std::string_view namespace_name) {
  const bool full = host.find('.') != host.npos;
  return {std::string(full ? "" : namespace_name), std::string(host)};
}

std::vector<ServiceKey> keys_of(std::string_view host, std::string_view namespace_name) {
  std::vector<ServiceKey> keys;
  if (auto key = host_to_key(host, namespace_name)) keys.push_back(std::move(*key));
  const bool odd =
      host.starts_with('.') || host.find("..") != host.npos || host.find('*') != host.npos;
  if (!odd && host.find('.') != host.npos) keys.push_back(name_key(host, namespace_name));
  return keys;
}

bool is_exported(const std::vector<std::string>& export_to, std::string_view own,
                 std::string_view to) {
  return export_to.empty() ||
         std::any_of(export_to.begin(), export_to.end(), [&](const std::string& name) {
           return name == "*" || name == to || (name == "." && own == to);
         });
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
