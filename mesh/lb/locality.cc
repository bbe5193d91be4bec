#include "mesh/lb/locality.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "mesh/lb/policy.h"
#include "mesh/model/failover.h"

namespace weft::lb {
namespace {

using model::Endpoint;
using model::LocalityPolicy;
using Prefer = LocalityPolicy::Prefer;

bool same(const std::string& a, const std::string& b) { return !a.empty() && a == b; }

bool in_zone(const Endpoint& endpoint, const Where& here) {
  const bool regions_differ =
      !endpoint.region.empty() && !here.region.empty() && endpoint.region != here.region;
  return same(endpoint.zone, here.zone) && !regions_differ;
}

// Of an endpoint, or of the node that connects.
template <class Place>
const std::string& part_of(const Place& place, std::string_view label) {
  if (label == model::kRegionLabel) return place.region;
  if (label == model::kZoneLabel) return place.zone;
  if (label == model::kSubzoneLabel) return place.subzone;
  return place.node;
}

// Of a place nobody is where nothing is known; any other label that is not there is "", as in
// Istio.
bool meets(std::string_view entry, const Where& here, const Endpoint& endpoint) {
  const auto label = model::failover_label(entry);
  if (!model::is_place(label.key)) {
    const auto own = endpoint.labels.find(std::string(label.key));
    return (own == endpoint.labels.end() ? "" : own->second) == label.value;
  }
  const auto& theirs = part_of(endpoint, label.key);
  return !theirs.empty() && theirs == label.value.value_or(part_of(here, label.key));
}

// How many labels at the front of the list match; fewer is worse.
unsigned unmatched(const std::vector<std::string>& labels, const Where& here,
                   const Endpoint& endpoint) {
  unsigned left = static_cast<unsigned>(labels.size());
  for (const auto& entry : labels) {
    if (!meets(entry, here, endpoint)) break;
    --left;
  }
  return left;
}

// Istio's LbPriority: 0 the same subzone, 1 the same zone, 2 the same region, 3 elsewhere; where a
// failover region is set for ours, 3 is that one and 4 the rest.
unsigned distance(const LocalityPolicy& policy, const Where& here, const Endpoint& endpoint) {
  if (in_zone(endpoint, here))
    return here.subzone.empty() || endpoint.subzone == here.subzone ? 0 : 1;
  if (same(endpoint.region, here.region)) return 2;
  for (const auto& [from, to] : policy.failover)
    if (from == here.region) return endpoint.region == to ? 3 : 4;
  return 3;
}

bool hinted(const Endpoint& endpoint, const std::string& zone) {
  const auto& zones = endpoint.for_zones;
  return std::find(zones.begin(), zones.end(), zone) != zones.end();
}

bool hints_apply(const std::vector<Endpoint>& endpoints, const Where& here) {
  // Most services have no hints: say so before candidates() makes lists.
  if (std::none_of(endpoints.begin(), endpoints.end(),
                   [&](const Endpoint& endpoint) { return hinted(endpoint, here.zone); }))
    return false;
  bool ours = false;
  for (const auto i : candidates(endpoints)) {
    if (endpoints[i].for_zones.empty()) return false;
    ours = ours || hinted(endpoints[i], here.zone);
  }
  return ours;
}

// What orders endpoints, the most important first.
using Rank = std::array<unsigned, 4>;

void set_priorities(const LocalityPolicy& policy, const Where& here,
                    std::vector<Endpoint>& endpoints) {
  const bool by_hints = hints_apply(endpoints, here);
  const bool by_distance =
      policy.enabled && (policy.failover_priority.empty() || !policy.failover.empty());
  if (!policy.enabled && policy.prefer == Prefer::kNothing && !by_hints) return;
  const auto rank_of = [&](const Endpoint& endpoint) {
    Rank rank = {endpoint.priority, 0, 0, 0};
    if (policy.enabled) rank[1] = unmatched(policy.failover_priority, here, endpoint);
    if (by_distance) rank[2] = distance(policy, here, endpoint);
    const bool near = by_hints ? hinted(endpoint, here.zone) : in_zone(endpoint, here);
    if (policy.prefer == Prefer::kNode)  // then the zone, then everybody (KEP-3015)
      rank[3] = same(endpoint.node, here.node) ? 0 : near ? 1 : 2;
    else if (policy.prefer == Prefer::kZone || by_hints)
      rank[3] = near ? 0 : 1;
    return rank;
  };
  std::set<Rank> ranks;
  for (const auto& endpoint : endpoints) ranks.insert(rank_of(endpoint));
  for (auto& endpoint : endpoints) {
    const auto place = std::distance(ranks.begin(), ranks.find(rank_of(endpoint)));
    endpoint.priority = static_cast<std::uint8_t>(std::min<std::ptrdiff_t>(place, 255));
  }
}

// "region/zone/subzone"; what is left out or "*" matches all.
template <class Place>
bool matches(std::string_view pattern, const Place& place) {
  const std::string_view parts[] = {place.region, place.zone, place.subzone};
  for (const auto part : parts) {
    const auto slash = pattern.find('/');
    const auto wanted = pattern.substr(0, slash);
    if (wanted != "*" && wanted != part) return false;
    if (slash == pattern.npos) return true;
    pattern.remove_prefix(slash + 1);
  }
  return false;
}

// The candidates of one priority by their locality's entry; those that none names under null.
using ByEntry =
    std::map<const std::pair<const std::string, std::uint32_t>*, std::vector<std::uint32_t>>;

void share_out(const ByEntry& by_entry, std::vector<Endpoint>& endpoints) {
  std::vector<std::pair<std::uint32_t, double>> shares;
  double largest = 0;
  for (const auto& [entry, members] : by_entry) {
    if (!entry) continue;
    double sum = 0;
    for (const auto i : members) sum += endpoints[i].weight;
    for (const auto i : members) {
      if (endpoints[i].weight == 0) continue;
      shares.emplace_back(i, entry->second * endpoints[i].weight / sum);
      largest = std::max(largest, shares.back().second);
    }
  }
  if (shares.empty()) return;  // nobody is where the entries want them: as if there were none
  if (const auto others = by_entry.find(nullptr); others != by_entry.end())
    for (const auto i : others->second) endpoints[i].weight = 0;
  constexpr double kMost = 1000;  // fine enough for one percent among ten endpoints
  for (const auto& [i, share] : shares)
    endpoints[i].weight =
        static_cast<std::uint16_t>(std::max(1.0, std::round(share / largest * kMost)));
}

void distribute(const LocalityPolicy& policy, const Where& here, std::vector<Endpoint>& endpoints) {
  const auto ours = std::find_if(policy.distribute.begin(), policy.distribute.end(),
                                 [&](const auto& entry) { return matches(entry.from, here); });
  if (ours == policy.distribute.end()) return;
  std::map<std::uint8_t, ByEntry> priorities;
  for (const auto i : candidates(endpoints)) {
    const auto& endpoint = endpoints[i];
    const auto entry = std::find_if(ours->to.begin(), ours->to.end(),
                                    [&](const auto& to) { return matches(to.first, endpoint); });
    priorities[endpoint.priority][entry == ours->to.end() ? nullptr : &*entry].push_back(i);
  }
  for (const auto& [priority, by_entry] : priorities) share_out(by_entry, endpoints);
}

}  // namespace

void apply(const LocalityPolicy& policy, const Where& here, std::vector<Endpoint>& endpoints) {
  if (policy.only_local)
    std::erase_if(endpoints, [&](const Endpoint& e) { return !same(e.node, here.node); });
  set_priorities(policy, here, endpoints);
  distribute(policy, here, endpoints);
}

}  // namespace weft::lb
