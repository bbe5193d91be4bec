#include "mesh/model/failover.h"

namespace weft::model {

FailoverLabel failover_label(std::string_view entry) {
  const auto equals = entry.find('=');
  if (equals == entry.npos) return {entry, std::nullopt};
  return {entry.substr(0, equals), entry.substr(equals + 1)};
}

bool is_place(std::string_view key) {
  return key == kRegionLabel || key == kZoneLabel || key == kSubzoneLabel || key == kHostLabel;
}

std::set<std::string> compared_labels(const DestinationRuleObject& rule) {
  std::set<std::string> keys;
  const auto add = [&keys](const TrafficRule& traffic) {
    if (!traffic.locality || !traffic.locality->enabled) return;
    for (const auto& entry : traffic.locality->failover_priority) {
      const auto label = failover_label(entry);
      if (!is_place(label.key)) keys.emplace(label.key);
    }
  };
  add(rule.traffic);
  for (const auto& port : rule.ports) add(port.traffic);
  return keys;
}

}  // namespace weft::model
