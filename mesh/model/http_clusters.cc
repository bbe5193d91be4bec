#include "mesh/model/http_clusters.h"

#include <algorithm>
#include <utility>

#include "mesh/model/destination.h"

namespace weft::model {

HttpClusters::HttpClusters(const Inventory& inventory, const ServiceKey& dialled,
                           std::uint16_t port, std::vector<Endpoint> own)
    : inventory_(inventory), dialled_(port) {
  clusters_.push_back({dialled.namespace_name, dialled.name, "", port, ""});
  endpoints_.push_back(std::move(own));
}

std::uint32_t HttpClusters::index_of(const HttpBackend& backend,
                                     const std::string& namespace_name) {
  Target target;
  if (backend.missing.empty())
    target = find_target(inventory_,
                         {backend.host, namespace_name, backend.subset, backend.port, dialled_});
  else
    target.why = backend.missing;
  HttpCluster cluster;
  if (!target.key) target.key = host_to_key(backend.host, namespace_name);
  cluster.namespace_name = target.key ? target.key->namespace_name : namespace_name;
  cluster.service = target.key ? target.key->name : backend.host;
  cluster.subset = backend.subset;
  cluster.port = target.port ? target.port->port : 0;
  cluster.missing = target.why;
  const auto known = std::find(clusters_.begin(), clusters_.end(), cluster);
  if (known != clusters_.end()) return static_cast<std::uint32_t>(known - clusters_.begin());
  std::set<Address> strangers;
  endpoints_.push_back(endpoints_of(target, inventory_, strangers));
  if (!strangers.empty()) strangers_[*target.key].merge(strangers);
  clusters_.push_back(std::move(cluster));
  return static_cast<std::uint32_t>(clusters_.size() - 1);
}

std::vector<std::vector<Endpoint>> HttpClusters::take_endpoints() {
  for (std::size_t i = 0; i < clusters_.size(); ++i)
    name_workloads({clusters_[i].namespace_name, clusters_[i].service}, endpoints_[i]);
  return std::move(endpoints_);
}

// targetRef is who an endpoint is; without one, and where no slice speaks for it, the address says.
void HttpClusters::name_workloads(const ServiceKey& key, std::vector<Endpoint>& endpoints) const {
  std::map<Address, const std::string*> pods;
  for (const auto& [name, object] : inventory_.slices_of(key))
    for (const auto& one : std::get<EndpointSliceObject>(*object).endpoints)
      if (!one.pod.empty()) pods.emplace(one.address, &one.pod);
  std::map<Workload, std::shared_ptr<const Workload>> known;
  for (auto& endpoint : endpoints) {
    const auto named = pods.find(endpoint.address);
    const auto* pod =
        named == pods.end() ? inventory_.pod_at(key.namespace_name, endpoint.address) : nullptr;
    const auto* labels = pod ? &pod->meta.labels
                         : named != pods.end()
                             ? inventory_.labels_of(key.namespace_name, *named->second)
                             : nullptr;
    if (!labels) continue;
    auto workload = workload_of(key.namespace_name, pod ? pod->meta.name : *named->second, *labels);
    auto& shared = known[workload];
    if (!shared) shared = std::make_shared<const Workload>(std::move(workload));
    endpoint.workload.to = shared;
  }
}

HttpRule HttpClusters::resolved(HttpRule rule, const std::vector<HttpBackend>& backends,
                                const ObjectMeta& object, std::vector<Notice>& notices) {
  auto* forward = std::get_if<Forward>(&rule.action);
  if (!forward) return rule;
  const auto resolve = [&](std::uint32_t& at, const char* consequence) {
    const auto& backend = backends.at(at);
    at = index_of(backend, object.namespace_name);
    const auto& cluster = clusters_[at];
    if (cluster.missing.empty()) return;
    Notice notice{Severity::kWarning, backend.origin, rule.object, cluster.missing + consequence};
    // What is wrong with a destination is wrong for every port and every match.
    if (std::find(notices.begin(), notices.end(), notice) == notices.end())
      notices.push_back(std::move(notice));
  };
  for (auto& destination : forward->destinations)
    resolve(destination.cluster, ": requests that are sent there fail");
  for (auto& mirror : forward->mirrors) resolve(mirror.cluster, ": nothing is mirrored there");
  return rule;
}

void HttpClusters::say_strangers(const std::string& object, const Origin& origin,
                                 std::vector<Notice>& notices) const {
  for (const auto& [service, addresses] : strangers_)
    notices.push_back(
        {Severity::kWarning, origin, object,
         std::to_string(addresses.size()) + " endpoints of " + inventory_.title_of(service) + " (" +
             addresses.begin()->to_text() + (addresses.size() > 1 ? ", ..." : "") +
             ") are in no subset: their Pods, whose labels decide, are not known here"});
}

}  // namespace weft::model
