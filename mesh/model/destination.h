// Whom a route's destination means: a Service, which of its ports, which of its endpoints. The same
// for tcp rules, which the kernel keeps, and for http rules, which the proxy does.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "mesh/model/inventory.h"
#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::model {

// Which of rules_for(service) counts: the oldest. Any namespace may have rules for a ServiceEntry;
// those of its own come before all others. Null: there is none.
const DestinationRuleObject* rule_in_force(const ServiceObject& service,
                                           const Inventory::ById& rules);

// A destination as written. Without a port it is the service's only TCP port, else the one of the
// number that was dialled.
struct Wanted {
  const std::string& host;
  const std::string& namespace_name;  // that `host` is relative to
  const std::string& subset;
  std::optional<std::uint16_t> port;
  std::uint16_t dialled = 0;
};

struct Target {
  std::optional<ServiceKey> key;           // as far as the host names one
  const ServiceObject* service = nullptr;  // null: nobody, see `why`
  const ServicePortSpec* port = nullptr;
  const Subset* subset = nullptr;  // null: all of it
  std::string why;                 // "there is no Service for ..."
  bool unclear = false;            // it cannot be told which port is meant
};
Target find_target(const Inventory& inventory, const Wanted& wanted);

// Its own ones; none where there is no service. Endpoints that are in no subset because their Pods
// are not known go to `strangers`. `compared`: see EndpointSources.
std::vector<Endpoint> endpoints_of(const Target& target, const Inventory& inventory,
                                   std::set<Address>& strangers,
                                   const std::set<std::string>& compared = {});

}  // namespace weft::model
