#include "mesh/model/claims.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

namespace weft::model {
namespace {

const ServiceObject& service_of(const std::shared_ptr<const Object>& object) {
  return std::get<ServiceObject>(*object);
}

// Ends in the name, not in the file: the same objects spread over other files give the same mesh.
bool older(const ServiceObject& a, const ServiceObject& b) {
  const auto age = [](const ServiceObject& s) {
    return std::tuple(s.meta.created.value_or(std::numeric_limits<std::int64_t>::max()),
                      std::string_view(s.meta.namespace_name), std::string_view(s.meta.name));
  };
  return age(a) < age(b);
}

bool is_cluster_ip(const ServiceObject& service, const Address& address) {
  return std::find(service.cluster_ips.begin(), service.cluster_ips.end(), address) !=
         service.cluster_ips.end();
}

}  // namespace

std::vector<Address> addresses_of(const ServiceObject& service) {
  if (service.headless || service.unserved_type) return {};
  std::vector<Address> all = service.cluster_ips;
  all.insert(all.end(), service.external_ips.begin(), service.external_ips.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

void Claims::add(const ServiceKey& key, const ObjectPtr& service) {
  for (const auto& address : addresses_of(service_of(service))) {
    auto& claim = claims_[address];
    claim.claimants[key] = service;
    if (claim.claimants.size() > 1) stale_.insert(address);
  }
}

void Claims::remove(const ServiceKey& key, const ObjectPtr& service) {
  for (const auto& address : addresses_of(service_of(service))) {
    auto& claim = claims_[address];
    claim.claimants.erase(key);
    if (!claim.claimants.empty() || !claim.losers.empty())
      stale_.insert(address);
    else
      claims_.erase(address);
  }
}

Claims::Losers Claims::decide(const Address& address, const Claim& claim) {
  std::vector<std::pair<ServiceKey, ObjectPtr>> by_age(claim.claimants.begin(),
                                                       claim.claimants.end());
  std::sort(by_age.begin(), by_age.end(), [](const auto& a, const auto& b) {
    return older(service_of(a.second), service_of(b.second));
  });
  Losers losers;
  ObjectPtr oldest;
  bool exclusive = false;  // the oldest has it as its cluster IP
  std::map<std::pair<std::uint16_t, Protocol>, std::size_t> taken;  // -> whose, in by_age
  for (std::size_t i = 0; i < by_age.size(); ++i) {
    const auto& [key, object] = by_age[i];
    const auto& service = service_of(object);
    const bool wants_all = is_cluster_ip(service, address);
    std::size_t winner = by_age.size();
    for (const auto& port : service.ports)
      if (const auto at = taken.find({port.port, port.protocol}); at != taken.end())
        winner = std::min(winner, at->second);
    if (oldest && (exclusive || wants_all)) {
      losers.emplace(key, oldest);
    } else if (winner < by_age.size()) {
      losers.emplace(key, by_age[winner].second);
    } else {
      if (!oldest) oldest = object;
      exclusive |= wants_all;
      for (const auto& port : service.ports) taken.emplace(std::pair(port.port, port.protocol), i);
    }
  }
  return losers;
}

void Claims::settle(const std::function<void(const ServiceKey&)>& changed) {
  for (const auto& address : stale_) {
    const auto at = claims_.find(address);
    if (at == claims_.end()) continue;
    Losers before = std::exchange(at->second.losers, decide(address, at->second));
    const Losers& after = at->second.losers;
    for (const auto& [key, winner] : before)
      if (const auto still = after.find(key); still == after.end() || still->second != winner)
        changed(key);
    for (const auto& [key, winner] : after)
      if (!before.contains(key)) changed(key);
    if (at->second.claimants.empty()) claims_.erase(at);
  }
  stale_.clear();
}

const ServiceObject* Claims::in_the_way(const ServiceKey& key, const Address& address) const {
  const auto claim = claims_.find(address);
  if (claim == claims_.end()) return nullptr;
  const auto lost = claim->second.losers.find(key);
  return lost == claim->second.losers.end() ? nullptr : &service_of(lost->second);
}

}  // namespace weft::model
