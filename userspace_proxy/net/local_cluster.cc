#include "userspace_proxy/net/local_cluster.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>

namespace weft::net {
namespace {

constexpr std::uint32_t kMostSlots = 4096;  // a group's, where weights are large

// Of a family, or of both where it has none.
std::vector<std::uint32_t> members_of(model::Family family, const std::vector<Endpoint>& all) {
  std::vector<std::uint32_t> every(all.size()), own;
  std::iota(every.begin(), every.end(), 0);
  std::copy_if(every.begin(), every.end(), std::back_inserter(own),
               [&](auto i) { return all[i].address.family() == family; });
  return own.empty() ? every : own;
}

// Ready ones, or, while there are none, those that are terminating but still serving (KEP-1669).
// As for the kernel (lb::candidates), ready ones of weight 0 are there all the same.
std::map<std::uint8_t, std::vector<std::uint32_t>> serving(
    const std::vector<Endpoint>& all, const std::vector<std::uint32_t>& members) {
  std::map<std::uint8_t, std::vector<std::uint32_t>> by_priority;
  for (const auto wanted : {model::EndpointState::kReady, model::EndpointState::kDraining}) {
    bool any = false;
    for (const auto i : members) {
      if (all[i].state != wanted) continue;
      any = true;
      if (all[i].weight) by_priority[all[i].priority].push_back(i);
    }
    if (any) break;
  }
  return by_priority;
}

// Each as often as its weight over the greatest common divisor, spread evenly: at every step the
// one that is furthest behind its share (nginx's smooth weighted round robin).
std::vector<std::uint32_t> spread(const std::vector<Endpoint>& all,
                                  const std::vector<std::uint32_t>& members) {
  std::uint32_t divisor = 0, total = 0;
  for (const auto i : members) divisor = std::gcd(divisor, std::uint32_t{all[i].weight});
  for (const auto i : members) total += all[i].weight / divisor;
  if (total == members.size()) return members;
  const auto slots = std::min(total, kMostSlots);
  std::vector<std::int64_t> behind(members.size());
  std::vector<std::uint32_t> order;
  for (std::uint32_t n = 0; n < slots; ++n) {
    std::size_t best = 0;
    for (std::size_t k = 0; k < members.size(); ++k) {
      behind[k] += all[members[k]].weight / divisor;
      if (behind[k] > behind[best]) best = k;
    }
    behind[best] -= total;
    order.push_back(members[best]);
  }
  return order;
}

}  // namespace

LocalCluster::LocalCluster(ClusterPtr config)
    : config_(std::move(config)),
      v4_(groups_of(model::Family::kIpv4)),
      v6_(groups_of(model::Family::kIpv6)) {}

LocalCluster::Groups LocalCluster::groups_of(model::Family family) const {
  const auto& all = config_->endpoints;
  Groups groups;
  for (const auto& [priority, members] : serving(all, members_of(family, all)))
    groups.push_back({spread(all, members)});
  return groups;
}

// One that is cut off weighs most, so that the draw finds the other one (bpf/lib/pick.bpf.h).
std::uint64_t LocalCluster::load_of(std::uint32_t index, const Breaker& breaker,
                                    std::uint64_t now_ms) const {
  const auto& shares = *config_->endpoints[index].shares;
  if (breaker.is_open(shares, now_ms)) return ~std::uint64_t{0};
  std::uint64_t in_flight = 0;
  for (const auto& column : shares.state->requests)
    in_flight += __atomic_load_n(&column, __ATOMIC_RELAXED);
  if (config_->balancer != model::Balancer::kPeakEwma) return in_flight;
  return weft_ewma_load(in_flight, shares.response_time.at(now_ms));
}

std::uint32_t LocalCluster::candidate(Group& group, const Breaker& breaker, Random& random,
                                      std::uint64_t now_ms) const {
  const auto count = static_cast<std::uint32_t>(group.slots.size());
  switch (config_->balancer) {
    case model::Balancer::kRandom:
      return group.slots[random.below(count)];
    case model::Balancer::kLeastRequest:
    case model::Balancer::kPeakEwma: {
      const auto first = random.below(count);
      if (count < 2) return group.slots[first];
      auto second = first + 1 + random.below(count - 1);
      if (second >= count) second -= count;
      const auto one = group.slots[first], other = group.slots[second];
      return load_of(other, breaker, now_ms) < load_of(one, breaker, now_ms) ? other : one;
    }
    default:
      return group.slots[group.cursor++ % count];
  }
}

Picked LocalCluster::pick(model::Family family, std::span<const Shares* const> tried,
                          const Breaker& breaker, Random& random, std::uint64_t now_ms) {
  const auto is_tried = [&](const Endpoint& endpoint) {
    return std::find(tried.begin(), tried.end(), endpoint.shares.get()) != tried.end();
  };
  Picked picked;
  const Endpoint* again = nullptr;
  for (auto& group : family == model::Family::kIpv4 ? v4_ : v6_) {
    const auto count = static_cast<std::uint32_t>(group.slots.size());
    const auto first = random.below(count);
    // A few as the policy draws them, then everybody once.
    for (std::uint32_t i = 0; i < 4 + count; ++i) {
      const bool drawn = i < 4;
      const auto index =
          drawn ? candidate(group, breaker, random, now_ms) : group.slots[(first + i) % count];
      const auto& endpoint = config_->endpoints[index];
      if (is_tried(endpoint)) {
        again = &endpoint;
        continue;
      }
      const auto admission = breaker.admit(*endpoint.shares, now_ms, random.next32());
      if (admission == Admission::kEjected || (admission == Admission::kLater && drawn)) {
        picked.all_ejected = true;
        continue;
      }
      return {&endpoint, admission == Admission::kProbe, false};
    }
  }
  if (again && !breaker.is_open(*again->shares, now_ms)) return {again, false, false};
  if (const auto* endpoint = last_resort(family, breaker, random, now_ms))
    return {endpoint, false, false};
  return picked;
}

// Where more are out than may be, and nobody else is left.
const Endpoint* LocalCluster::last_resort(model::Family family, const Breaker& breaker,
                                          Random& random, std::uint64_t now_ms) {
  for (const auto& group : family == model::Family::kIpv4 ? v4_ : v6_) {
    const auto count = static_cast<std::uint32_t>(group.slots.size());
    const auto first = random.below(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto& endpoint = config_->endpoints[group.slots[(first + i) % count]];
      if (breaker.admit(*endpoint.shares, now_ms, 0, /*last_resort=*/true) == Admission::kYes)
        return &endpoint;
    }
  }
  return nullptr;
}

}  // namespace weft::net
