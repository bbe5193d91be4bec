#include "mesh/model/routes.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "mesh/model/destination.h"
#include "mesh/model/join.h"
#include "mesh/model/precedence.h"
#include "mesh/model/shares.h"

namespace weft::model {
namespace {

const VirtualServiceObject* routes_in_force(const ServiceKey& service, const Inventory& inventory,
                                            std::vector<Notice>& notices) {
  const auto warn = [&](const std::string& id, const Object& object, const std::string& why) {
    notices.push_back({Severity::kWarning, meta_of(object).origin, id, why});
  };
  Inventory::ById exported;
  for (const auto& [id, object] : inventory.routes_of(service)) {
    const auto& routes = std::get<VirtualServiceObject>(*object);
    if (routes.tcp.empty()) continue;
    if (is_exported(routes.export_to, routes.meta.namespace_name, service.namespace_name))
      exported.emplace(id, object);
    else
      warn(id, *object,
           "has no effect on " + inventory.title_of(service) +
               ": spec.exportTo keeps it from that namespace");
  }
  const auto* oldest = oldest_of<VirtualServiceObject>(exported);
  for (const auto& [id, object] : exported)
    if (&std::get<VirtualServiceObject>(*object) != oldest)
      warn(id, *object,
           "has no effect on " + inventory.title_of(service) + ": VirtualService " +
               key_of(oldest->meta).to_text() + in_file(oldest->meta.origin) +
               " is for the same host and older");
  return oldest;
}

bool matches(const TcpRule& rule, std::uint16_t port) {
  return rule.ports.empty() ||
         std::find(rule.ports.begin(), rule.ports.end(), port) != rule.ports.end();
}

class Router {
 public:
  Router(const VirtualServiceObject& routes, const Inventory& inventory, const ServiceKey& routed,
         std::vector<Notice>& notices)
      : routes_(routes),
        id_(id_of(routes).to_text()),
        inventory_(inventory),
        routed_(routed),
        compared_(compared_labels(inventory, routed)),
        notices_(notices) {}

  void route(ServicePort& port);
  void say_rules_without_port(const std::vector<ServicePort>& ports);
  void say_strangers();

 private:
  // Nothing: the rule is passed over.
  std::optional<std::vector<Target>> targets_of(const TcpRule& rule, std::uint16_t dialled);
  void warn(const Origin& origin, std::string message) {
    Notice notice{Severity::kWarning, origin, id_, std::move(message)};
    // What is wrong with a destination is wrong for every port.
    if (std::find(notices_.begin(), notices_.end(), notice) == notices_.end())
      notices_.push_back(std::move(notice));
  }

  const VirtualServiceObject& routes_;
  const std::string id_;
  const Inventory& inventory_;
  const ServiceKey& routed_;
  const std::set<std::string> compared_;  // whose rule orders the endpoints, whosever they are
  std::vector<Notice>& notices_;
  std::map<ServiceKey, std::set<Address>> strangers_;
};

void Router::route(ServicePort& port) {
  for (const auto& rule : routes_.tcp) {
    if (!matches(rule, port.port)) continue;
    const auto targets = targets_of(rule, port.port);
    if (!targets) continue;
    std::vector<ShareGroup> groups;
    for (std::size_t i = 0; i < targets->size(); ++i) {
      const auto& target = (*targets)[i];
      std::set<Address> strangers;
      groups.push_back(
          {endpoints_of(target, inventory_, strangers, compared_), rule.destinations[i].weight});
      if (target.service) strangers_[*target.key].merge(strangers);
    }
    port.endpoints = share_out(std::move(groups));
    // Hints say which of one service's endpoints are near; to go by them among several would empty
    // a share whose endpoints are elsewhere.
    if (targets->size() > 1)
      for (auto& endpoint : port.endpoints) endpoint.for_zones.clear();
    port.routed_by = RoutedBy{key_of(routes_.meta).to_text(), rule.origin};
    return;
  }
}

std::optional<std::vector<Target>> Router::targets_of(const TcpRule& rule, std::uint16_t dialled) {
  std::vector<Target> targets;
  for (const auto& to : rule.destinations) {
    targets.push_back(find_target(
        inventory_, {to.host, routes_.meta.namespace_name, to.subset, to.port, dialled}));
    const auto& target = targets.back();
    if (target.unclear) {
      warn(to.origin, "the rule is passed over for port " + std::to_string(dialled) + " of " +
                          inventory_.title_of(routed_) + ": " + target.why);
      return std::nullopt;
    }
    if (!target.service)
      warn(to.origin, target.why + ": nobody is sent there, other destinations have its share");
  }
  return targets;
}

void Router::say_rules_without_port(const std::vector<ServicePort>& ports) {
  for (const auto& rule : routes_.tcp)
    if (std::none_of(ports.begin(), ports.end(), [&](const ServicePort& port) {
          return port.protocol == Protocol::kTcp && matches(rule, port.port);
        }))
      warn(rule.origin, "the rule has no effect on " + inventory_.title_of(routed_) +
                            ", which has no TCP port that it matches");
}

void Router::say_strangers() {
  for (const auto& [service, addresses] : strangers_) {
    if (addresses.empty()) continue;
    warn(routes_.meta.origin,
         std::to_string(addresses.size()) + " endpoints of " + inventory_.title_of(service) + " (" +
             addresses.begin()->to_text() + (addresses.size() > 1 ? ", ..." : "") +
             ") are in no subset: their Pods, whose labels decide, are not known here");
  }
}

}  // namespace

void apply_routes(const Inventory& inventory, Service& service, std::vector<Notice>& notices) {
  if (inventory.routes_of(service.key).empty()) return;  // nearly all services
  const auto* routes = routes_in_force(service.key, inventory, notices);
  if (!routes) return;
  Router router(*routes, inventory, service.key, notices);
  for (auto& port : service.ports)
    if (port.protocol == Protocol::kTcp) router.route(port);
  router.say_rules_without_port(service.ports);
  router.say_strangers();
}

void say_unchosen_subsets(const DestinationRuleObject& rule, const ServiceKey& service,
                          const Inventory& inventory, std::vector<Notice>& notices) {
  if (rule.subsets.empty()) return;
  for (const auto& [id, object] : inventory.routes_to(service)) {
    const auto& routes = std::get<VirtualServiceObject>(*object);
    const auto chooses = [&](const auto& to) {
      return !to.subset.empty() &&
             inventory.is_host_of(service, to.host, routes.meta.namespace_name) &&
             std::any_of(rule.subsets.begin(), rule.subsets.end(),
                         [&](const Subset& subset) { return subset.name == to.subset; });
    };
    if (std::any_of(routes.backends.begin(), routes.backends.end(), chooses)) return;
    for (const auto& tcp : routes.tcp)
      if (std::any_of(tcp.destinations.begin(), tcp.destinations.end(), chooses)) return;
  }
  notices.push_back({Severity::kWarning, rule.subsets_origin, id_of(rule).to_text(),
                     "spec.subsets have no effect: no route chooses one"});
}

}  // namespace weft::model
