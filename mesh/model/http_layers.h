// The layers of which a port's HTTP rules are made, and which VirtualServices make some: the parts
// of http_routes.h that need no cluster.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mesh/model/http.h"
#include "mesh/model/inventory.h"
#include "mesh/model/object.h"

namespace weft::model {

struct HttpLayer {
  std::string callers;  // their namespace; empty: everybody, and the last layer
  std::vector<HttpRule> rules;
  bool rest_to_service = false;  // what no rule matches goes to the service dialled; else it is 404
  const char* kind = "";
};

// One list; nothing where no layer has a rule.
std::optional<HttpRoutes> joined(std::vector<HttpLayer> layers);

struct ChosenVirtualService {
  const VirtualServiceObject* routes = nullptr;
  std::string callers;           // as HttpLayer's
  bool rest_to_service = false;  // its host is "*"
  bool for_service = false;      // its host is this service and no wildcard
};

// Those that are in force for the service, in the order of layers. Who is not in force for anybody
// although for the same host is named.
std::vector<ChosenVirtualService> choose_virtual_services(const Inventory& inventory,
                                                          const ServiceKey& service,
                                                          std::vector<Notice>& notices);

// The rule as far as it is for the port; nothing where none of its matches is.
std::optional<HttpRule> rule_for_port(const HttpRuleSpec& spec, std::uint16_t port);

}  // namespace weft::model
