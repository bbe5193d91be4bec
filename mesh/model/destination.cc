#include "mesh/model/destination.h"

#include "mesh/model/join.h"
#include "mesh/model/precedence.h"

namespace weft::model {
namespace {

void give_nobody(Target& target, std::string why) {
  target.service = nullptr;
  target.port = nullptr;
  target.why = std::move(why);
}

void find_port(const Wanted& wanted, Target& target) {
  const auto name = (target.service->entry ? "ServiceEntry " : "Service ") + target.key->to_text();
  const ServicePortSpec* only = nullptr;
  std::size_t count = 0;
  for (const auto& port : target.service->ports) {
    if (port.protocol != Protocol::kTcp) continue;
    ++count;
    only = &port;
    if (!target.port && port.port == wanted.port.value_or(wanted.dialled)) target.port = &port;
  }
  if (!wanted.port && count == 1) target.port = only;
  if (target.port) return;
  if (wanted.port || count == 0)
    return give_nobody(target, name + " has no TCP port" +
                                   (wanted.port ? " " + std::to_string(*wanted.port) : ""));
  target.unclear = true;
  give_nobody(target, name + " has " + std::to_string(count) +
                          " TCP ports, none of that number; write destination.port.number");
}

void find_subset(const Inventory& inventory, const Wanted& wanted, Target& target) {
  if (wanted.subset.empty() || !target.service) return;
  const auto* rule = rule_in_force(*target.service, inventory.rules_for(*target.key));
  if (rule)
    for (const auto& subset : rule->subsets)
      if (subset.name == wanted.subset) target.subset = &subset;
  if (target.subset) return;
  give_nobody(target,
              (rule ? "DestinationRule " + key_of(rule->meta).to_text() + in_file(rule->meta.origin)
                    : "no DestinationRule of " + inventory.title_of(*target.key)) +
                  " has " + (rule ? "no" : "a") + " subset \"" + wanted.subset + "\"");
}

}  // namespace

const DestinationRuleObject* rule_in_force(const ServiceObject& service,
                                           const Inventory::ById& rules) {
  if (!service.entry) return oldest_of<DestinationRuleObject>(rules);
  auto own = rules;
  std::erase_if(own, [&](const auto& by_id) {
    return meta_of(*by_id.second).namespace_name != service.meta.namespace_name;
  });
  return oldest_of<DestinationRuleObject>(own.empty() ? rules : own);
}

Target find_target(const Inventory& inventory, const Wanted& wanted) {
  Target target;
  target.key = inventory.resolve(wanted.host, wanted.namespace_name);
  target.service = target.key ? inventory.service(*target.key) : nullptr;
  if (!target.service) {
    give_nobody(target, std::string("there is no Service") + (target.key ? "" : "Entry") +
                            " for the destination \"" + wanted.host + "\"");
  } else if (target.service->unserved_type) {
    give_nobody(target, "destination " + inventory.title_of(*target.key) +
                            (target.service->entry ? " has nobody to choose from"
                                                   : " is of type ExternalName"));
  } else {
    find_port(wanted, target);
    find_subset(inventory, wanted, target);
  }
  return target;
}

std::vector<Endpoint> endpoints_of(const Target& target, const Inventory& inventory,
                                   std::set<Address>& strangers,
                                   const std::set<std::string>& compared) {
  if (!target.service) return {};
  const EndpointSources sources(*target.service, inventory, compared);
  if (!target.subset) return sources.endpoints(*target.port);
  return sources.endpoints(*target.port, *target.subset, strangers);
}

}  // namespace weft::model
