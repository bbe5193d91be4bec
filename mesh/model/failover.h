// failoverPriority of a localityLbSetting: labels by which endpoints come first, the most important
// at the front. Where an endpoint is it says itself; any other label is its Pod's.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "mesh/model/object.h"

namespace weft::model {

struct FailoverLabel {
  std::string_view key;
  // Of "key=value"; what an endpoint without the label has is "". Absent: the caller's own.
  std::optional<std::string_view> value;
};
FailoverLabel failover_label(std::string_view entry);

inline constexpr std::string_view kRegionLabel = "topology.kubernetes.io/region";
inline constexpr std::string_view kZoneLabel = "topology.kubernetes.io/zone";
inline constexpr std::string_view kSubzoneLabel = "topology.istio.io/subzone";
inline constexpr std::string_view kHostLabel = "kubernetes.io/hostname";
bool is_place(std::string_view key);  // one of these

// Labels of Pods that the rule compares, on any of its ports. Mostly none.
std::set<std::string> compared_labels(const DestinationRuleObject& rule);

}  // namespace weft::model
