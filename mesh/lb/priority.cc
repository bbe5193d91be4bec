#include "mesh/lb/priority.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "mesh/lb/policy.h"

namespace weft::lb {
namespace {

constexpr double kEnough = 1e-9;     // of load: less than that is rounding
constexpr double kTolerance = 0.01;  // a priority's load may be off by 1 % of all load
constexpr double kRounding = 0.1;    // an endpoint's weight may be off by 10 % of itself
constexpr unsigned kMostWeight = 100;

struct Group {
  std::vector<std::uint32_t> members;
  std::vector<std::uint32_t> healthy;
  double load = 0;  // of 1
};
using Groups = std::map<std::uint8_t, Group>;

Groups group(const std::vector<model::Endpoint>& endpoints, const std::vector<bool>& healthy) {
  Groups groups;
  for (const auto i : candidates(endpoints)) {
    if (endpoints[i].weight == 0) continue;
    auto& group = groups[endpoints[i].priority];
    group.members.push_back(i);
    if (i >= healthy.size() || healthy[i]) group.healthy.push_back(i);
  }
  return groups;
}

// Envoy's priority load. False: nobody is healthy.
bool share_out(Groups& groups, unsigned below_percent) {
  double left = 1;
  for (auto& [priority, group] : groups) {
    const double healthy = 100.0 * static_cast<double>(group.healthy.size()) /
                           static_cast<double>(group.members.size());
    const double takes =
        healthy >= below_percent ? (group.healthy.empty() ? 0 : 1) : healthy / below_percent;
    group.load = std::min(left, takes);
    left -= group.load;
    if (left < kEnough) left = 0;
  }
  // All priorities together are short of healthy endpoints: what there is carries everything.
  if (left > 1 - kEnough) return false;
  for (auto& [priority, group] : groups) group.load /= 1 - left;
  return true;
}

struct Part {
  std::uint32_t endpoint = 0;
  std::uint8_t priority = 0;
  double load = 0;  // of 1
};

std::vector<Part> parts_of(const Groups& groups, const std::vector<model::Endpoint>& endpoints) {
  std::vector<Part> parts;
  for (const auto& [priority, group] : groups) {
    if (group.load < kEnough) continue;
    double sum = 0;
    for (const auto i : group.healthy) sum += endpoints[i].weight;
    for (const auto i : group.healthy)
      parts.push_back({i, priority, group.load * endpoints[i].weight / sum});
  }
  return parts;
}

// The smallest whole weights that keep every load within what is tolerated; the finest ones
// allowed where none do.
void set_weights(const std::vector<Part>& parts, const Groups& groups,
                 std::vector<std::uint16_t>& weights) {
  double largest = 0;
  for (const auto& part : parts) largest = std::max(largest, part.load);
  for (unsigned most = 1; most <= kMostWeight; ++most) {
    std::map<std::uint8_t, double> sums;
    double sum = 0;
    bool fine = true;
    for (const auto& part : parts) {
      const double exact = part.load / largest * most;
      const double weight = std::max(1.0, std::round(exact));
      fine = fine && std::abs(weight - exact) <= kRounding * exact;
      weights[part.endpoint] = static_cast<std::uint16_t>(weight);
      sums[part.priority] += weight;
      sum += weight;
    }
    if (fine && std::all_of(sums.begin(), sums.end(), [&](const auto& entry) {
          return std::abs(entry.second / sum - groups.at(entry.first).load) <= kTolerance;
        }))
      return;
  }
}

}  // namespace

Choice choose(const std::vector<model::Endpoint>& endpoints, const std::vector<bool>& healthy,
              unsigned below_percent) {
  Choice choice;
  choice.weights.reserve(endpoints.size());
  for (const auto& endpoint : endpoints) choice.weights.push_back(endpoint.weight);
  auto groups = group(endpoints, healthy);
  if (groups.empty()) return choice;

  const auto first = groups.begin();
  const bool split = share_out(groups, below_percent) && first->second.load < 1 - kEnough;
  const auto last_loaded = std::find_if(groups.rbegin(), groups.rend(), [](const auto& entry) {
    return entry.second.load >= kEnough;
  });
  const auto last = split ? last_loaded->first : first->first;
  for (const auto& [priority, group] : groups) {
    auto& list = priority <= last ? choice.rotation : choice.spares;
    list.insert(list.end(), group.members.begin(), group.members.end());
  }
  std::sort(choice.rotation.begin(), choice.rotation.end());
  if (!split) return choice;
  for (const auto i : choice.rotation) choice.weights[i] = 1;  // the ejected ones keep that
  set_weights(parts_of(groups, endpoints), groups, choice.weights);
  return choice;
}

void use(const Choice& choice, std::vector<model::Endpoint>& endpoints) {
  for (std::size_t i = 0; i < endpoints.size(); ++i) endpoints[i].weight = choice.weights[i];
}

}  // namespace weft::lb
