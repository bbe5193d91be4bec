// The objects in force, indexed both ways: a service finds its slices, pods and rules without
// looking at anybody else's, and a change finds the services it touches. That is what makes one
// change among 10,000 services cost one service.
//
// A routed service (VirtualService, HTTPRoute) depends on its destinations, one step deep: whatever
// makes a destination dirty makes it dirty, too. Both depend on which routes there are.
//
// Rules and routes stand under whatever their hosts may mean, see keys_of(): under a Service's key,
// under a full name's, or both. A ServiceEntry has those under its own key and under its names.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "mesh/model/claims.h"
#include "mesh/model/host.h"
#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::model {

class Inventory {
 public:
  using ObjectPtr = std::shared_ptr<const Object>;
  using ById = std::map<std::string, ObjectPtr>;  // by name, or by id where namespaces differ

  void add(const ObjectPtr& object) { change(object, true); }
  void remove(const ObjectPtr& object) { change(object, false); }

  // Services that may differ since the last call, present or not, and names, see name_key().
  std::set<ServiceKey> take_dirty();

  // The oldest of that key.
  const ServiceObject* service(const ServiceKey& key) const;
  // All of that key, by id: a Service and a ServiceEntry may be called alike, and two of these.
  const ById& claimants_of(const ServiceKey& key) const;
  // "Service shop/web", "ServiceEntry data/db.example.com": the service, whatever its object is
  // called.
  std::string title_of(const ServiceKey& key) const;
  // Whom a host means: its Service, else the ServiceEntry with that name which `namespace_name`
  // sees, its own before the oldest. Where nobody is there the Service's key that it would be.
  std::optional<ServiceKey> resolve(const std::string& host,
                                    const std::string& namespace_name) const;
  // Whether the host is one of the service's, for an object of that namespace.
  bool is_host_of(const ServiceKey& key, const std::string& host,
                  const std::string& namespace_name) const;
  // Whether that namespace sees a ServiceEntry with that name.
  bool is_name(const std::string& host, const std::string& namespace_name) const {
    return entry_named(host, namespace_name) != nullptr;
  }

  const ById& slices_of(const ServiceKey& key) const;  // by name; empty: no slice names it
  ById rules_for(const ServiceKey& key) const;         // DestinationRules by id
  ById routes_of(const ServiceKey& key) const;         // VirtualServices with its host, by id
  ById routes_to(const ServiceKey& key) const;         // those with it as a destination, by id
  // VirtualServices with http rules and a wildcard for a host that covers the service, by id.
  ById wide_routes_of(const ServiceKey& key) const;
  const ById& http_routes_of(const ServiceKey& key) const;  // HTTPRoutes attached to it, by id
  // Of a Pod, or of what is known of it otherwise; null: nothing.
  const Labels* labels_of(const std::string& namespace_name, const std::string& pod) const;
  // Null where several pods have the address, as those of their host's network do.
  const PodObject* pod_at(const std::string& namespace_name, const Address& address) const;
  std::vector<const PodObject*> pods_for(const ServiceObject& service) const;
  // By a node's labels; empty: not known.
  const std::string& region_of(const std::string& node) const { return place_of(node).region; }
  const std::string& subzone_of(const std::string& node) const { return place_of(node).subzone; }
  const Claims& claims() const { return claims_; }  // settled by take_dirty()

 private:
  using Label = std::pair<std::string, std::string>;
  struct Namespace {
    std::map<Label, ById> pods;  // a pod stands under each of its labels
    std::unordered_map<std::string, ObjectPtr> pods_by_name;
    std::unordered_map<std::string, ObjectPtr> labels_by_name;  // PodLabelsObjects
    std::map<Address, ById> pods_by_address;  // without finished ones, whose addresses are reused
    std::map<Label, std::set<ServiceKey>> selecting;  // a service under the first of its selector
    std::unordered_set<std::string> services;         // names
    ById routes;  // VirtualServices that cover all of them: http rules only
  };

  struct Place {
    std::string region, subzone;

    bool operator==(const Place&) const = default;
  };

  // What there is under one pod's name.
  struct PodVersions {
    ObjectPtr pod, labels;
  };

  void change(const ObjectPtr& object, bool present);
  using Index = std::unordered_map<ServiceKey, ById, KeyHash>;

  void change_service(const ServiceObject& service, const ObjectPtr& object, bool present);
  ObjectPtr in_force(const ServiceKey& key) const;
  void establish(const ServiceKey& key, const ObjectPtr& object, bool present);
  void change_names(const ServiceKey& key, const EntryPart& entry, bool present);
  const ServiceObject* entry_named(const std::string& host,
                                   const std::string& namespace_name) const;
  ById under_all_keys(const Index& index, const ServiceKey& key) const;
  void change_node(const NodeObject& node, bool present);
  const Place& place_of(const std::string& node) const;
  void change_pod(const PodObject& pod, const ObjectPtr& object, bool present);
  void change_pod_labels(const PodLabelsObject& labels, const ObjectPtr& object, bool present);
  PodVersions pod_versions(const std::string& namespace_name, const std::string& name) const;
  void remember_pod(const ObjectMeta& meta);
  void change_routes(const VirtualServiceObject& routes, const ObjectPtr& object, bool present);
  void change_http_route(const HttpRouteObject& route, const ObjectPtr& object, bool present);
  void index_wide(const HostScope& scope, const ObjectPtr& object, bool present);
  void add_covered(const HostScope& scope, std::set<ServiceKey>& keys) const;
  void add_routed(const VirtualServiceObject& routes, std::set<ServiceKey>& keys) const;
  void mark_regrouped();
  void mark_routed();
  void mark_named();

  // By hash: at 1,000 changes a second searching ordered maps of 10,000 keys was a tenth of the
  // CPU.
  Index services_;
  Index slices_;
  Index rules_;
  Index routes_of_;
  Index routes_to_;
  ById routes_everywhere_;
  Index http_routes_of_;
  Index http_routes_to_;
  Index comparing_;  // rules that compare labels of Pods
  std::unordered_map<ServiceKey, std::set<ServiceKey>, KeyHash> entries_;  // in force, by each name
  // By namespace and name; of pods touched since take_dirty(), while somebody asks for labels.
  std::map<std::pair<std::string, std::string>, PodVersions> pods_before_;
  std::map<std::string, Namespace> namespaces_;
  std::unordered_map<std::string, Place> places_;  // by node
  std::map<std::string, Place> places_before_;     // of nodes touched since take_dirty()
  Claims claims_;
  std::set<ServiceKey> dirty_;
};

}  // namespace weft::model
