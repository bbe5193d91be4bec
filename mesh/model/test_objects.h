// Objects in a few words, for tests of whoever reads a mesh or makes one.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mesh/model/object.h"

namespace weft::model::test {

inline Address address(const std::string& text) { return Address::parse(text).value(); }

inline ObjectMeta meta(const std::string& name, const std::string& namespace_name = "shop") {
  ObjectMeta result;
  result.namespace_name = namespace_name;
  result.name = name;
  return result;
}

inline ServiceObject service(const std::string& name,
                             std::initializer_list<const char*> cluster_ips,
                             std::vector<ServicePortSpec> ports = {{"", 80, Protocol::kTcp, {}}}) {
  ServiceObject result;
  result.meta = meta(name);
  for (const char* ip : cluster_ips) result.cluster_ips.push_back(address(ip));
  result.ports = std::move(ports);
  return result;
}

// A ServiceEntry of the name db in namespace data, with one port: 5432.
inline ServiceObject entry(std::vector<std::string> hosts, const std::string& address_text,
                           std::vector<std::pair<std::string, Labels>> endpoints = {}) {
  ServiceObject result;
  result.meta = meta("db", "data");
  result.external_ips = {address(address_text)};
  result.ports = {{"sql", 5432, Protocol::kTcp, {}}};
  result.entry.emplace();
  result.entry->hosts = std::move(hosts);
  for (auto& [ip, labels] : endpoints) {
    auto& endpoint = result.entry->endpoints.emplace_back();
    endpoint.address = address(ip);
    endpoint.labels = std::move(labels);
  }
  return result;
}

inline SliceEndpoint slice_endpoint(const std::string& ip, bool ready = true, bool serving = true,
                                    bool terminating = false) {
  SliceEndpoint result;
  result.address = address(ip);
  result.ready = ready;
  result.serving = serving;
  result.terminating = terminating;
  return result;
}

inline EndpointSliceObject slice(const std::string& name, const std::string& of,
                                 std::vector<SliceEndpoint> endpoints,
                                 std::vector<SlicePort> ports = {{{}, 8080, Protocol::kTcp}}) {
  EndpointSliceObject result;
  result.meta = meta(name);
  result.service = of;
  result.endpoints = std::move(endpoints);
  result.ports = std::move(ports);
  return result;
}

inline PodObject pod(const std::string& name, const std::string& ip, Labels labels,
                     bool ready = true) {
  PodObject result;
  result.meta = meta(name);
  result.meta.labels = std::move(labels);
  result.ips = {address(ip)};
  result.ready = ready;
  return result;
}

inline PodLabelsObject pod_labels(const std::string& name, Labels labels) {
  PodLabelsObject result{meta(name)};
  result.meta.labels = std::move(labels);
  return result;
}

inline DestinationRuleObject rule(const std::string& name, const std::string& host,
                                  Balancer balancer) {
  DestinationRuleObject result;
  result.meta = meta(name);
  result.host = host;
  result.balancer = balancer;
  return result;
}

inline std::shared_ptr<const Unit> unit(std::vector<Object> objects,
                                        std::vector<Notice> notices = {}) {
  auto result = std::make_shared<Unit>();
  for (auto& object : objects)
    result->objects.push_back(std::make_shared<const Object>(std::move(object)));
  result->notices = std::move(notices);
  return result;
}

}  // namespace weft::model::test
