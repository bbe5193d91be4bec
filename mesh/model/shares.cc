#include "mesh/model/shares.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

namespace weft::model {
namespace {

struct Fraction {
  std::uint64_t part = 0;
  std::uint64_t of = 1;
};

// An endpoint on its way into the port; its weight is the sum.
struct Routed {
  Endpoint endpoint;
  std::vector<Fraction> weight;
};

// Endpoints that are weighed against each other: of one family and priority.
using Table = std::vector<Routed*>;

// Products of two of them, and sums of tens of thousands of those they are compared with, stay in
// 64 bits.
constexpr std::uint64_t kMostProduct = std::uint64_t{1} << 46;
constexpr std::uint64_t kMostWeight = std::numeric_limits<std::uint16_t>::max();

// Of one family: the endpoints of a group as fractions of its share.
void add_family(const ShareGroup& group, Family family, std::vector<Routed>& all) {
  std::vector<Endpoint> members;
  for (const auto& endpoint : group.endpoints)
    if (endpoint.address.family() == family) members.push_back(endpoint);
  // The best there are: the ready ones, else those that are draining.
  auto best = EndpointState::kNotReady;
  for (const auto& member : members) best = std::min(best, member.state);
  // The best of them are in the first rotation, whatever numbers the group gives its priorities.
  std::uint8_t first = std::numeric_limits<std::uint8_t>::max();
  for (const auto& member : members)
    if (member.state == best) first = std::min(first, member.priority);
  std::map<std::uint8_t, std::uint64_t> sums, sums_of_all;
  for (auto& member : members) {
    member.priority = member.priority > first ? member.priority - first : 0;
    if (member.state == best) sums[member.priority] += member.weight;
    sums_of_all[member.priority] += member.weight;
  }
  for (auto& member : members) {
    // Where none of a priority is among the best they are shown as if they were.
    const auto best_sum = sums[member.priority];
    const auto sum = best_sum ? best_sum : sums_of_all[member.priority];
    const auto part = std::uint64_t{group.share} * member.weight;
    const Fraction weight{part, part ? sum : 1};
    all.push_back({std::move(member), {weight}});
  }
}

// Of one (address, port) the readiest stays and has all the weights.
void join_twins(std::vector<Routed>& all) {
  const auto where = [](const Routed& r) { return std::tie(r.endpoint.address, r.endpoint.port); };
  std::stable_sort(all.begin(), all.end(), [&](const Routed& a, const Routed& b) {
    return std::tuple_cat(where(a), std::tie(a.endpoint.state)) <
           std::tuple_cat(where(b), std::tie(b.endpoint.state));
  });
  std::vector<Routed> unique;
  for (auto& routed : all) {
    if (unique.empty() || where(unique.back()) != where(routed)) {
      unique.push_back(std::move(routed));
      continue;
    }
    auto& twin = unique.back();
    twin.endpoint.priority = std::min(twin.endpoint.priority, routed.endpoint.priority);
    twin.weight.insert(twin.weight.end(), routed.weight.begin(), routed.weight.end());
  }
  all = std::move(unique);
}

// False: no whole numbers that fit are exact.
bool set_exact_weights(const Table& table) {
  std::uint64_t of = 1;
  for (const auto* routed : table)
    for (const auto& fraction : routed->weight) {
      const auto step = fraction.of / std::gcd(of, fraction.of);
      if (of > kMostProduct / step) return false;
      of *= step;
    }
  std::vector<std::uint64_t> weights;
  std::uint64_t divisor = 0;
  for (const auto* routed : table) {
    std::uint64_t weight = 0;
    for (const auto& fraction : routed->weight) {
      const auto factor = of / fraction.of;
      if (fraction.part > kMostProduct / factor) return false;
      weight += fraction.part * factor;
    }
    divisor = std::gcd(divisor, weight);
    weights.push_back(weight);
  }
  const auto heaviest = *std::max_element(weights.begin(), weights.end());
  if (divisor == 0) divisor = 1;  // all are 0
  if (heaviest / divisor > kMostWeight) return false;
  for (std::size_t i = 0; i < table.size(); ++i)
    table[i]->endpoint.weight = static_cast<std::uint16_t>(weights[i] / divisor);
  return true;
}

void set_rounded_weights(const Table& table) {
  const auto value = [](const Routed& routed) {
    double sum = 0;
    for (const auto& fraction : routed.weight)
      sum += static_cast<double>(fraction.part) / static_cast<double>(fraction.of);
    return sum;
  };
  double heaviest = 0;
  for (const auto* routed : table) heaviest = std::max(heaviest, value(*routed));
  for (auto* routed : table) {
    const double exact = value(*routed) / heaviest * static_cast<double>(kMostWeight);
    routed->endpoint.weight =
        static_cast<std::uint16_t>(exact > 0 ? std::max(1.0, std::round(exact)) : 0);
  }
}

}  // namespace

std::vector<Endpoint> share_out(std::vector<ShareGroup> groups) {
  std::uint32_t divisor = 0;
  for (const auto& group : groups) divisor = std::gcd(divisor, group.share);
  std::vector<Routed> all;
  for (auto& group : groups) {
    if (divisor) group.share /= divisor;
    for (const auto family : {Family::kIpv4, Family::kIpv6}) add_family(group, family, all);
  }
  join_twins(all);
  std::map<std::pair<Family, std::uint8_t>, Table> tables;
  for (auto& routed : all)
    tables[{routed.endpoint.address.family(), routed.endpoint.priority}].push_back(&routed);
  for (const auto& [key, table] : tables)
    if (!set_exact_weights(table)) set_rounded_weights(table);
  std::vector<Endpoint> endpoints;
  for (auto& routed : all) endpoints.push_back(std::move(routed.endpoint));
  return endpoints;
}

}  // namespace weft::model
