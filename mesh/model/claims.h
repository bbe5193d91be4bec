// Which service an address belongs to where several name it. Apart from merge.cc because it is the
// one rule by which a service changes although nothing of its own did: when a rival comes, goes or
// changes.
//
// Oldest first (creationTimestamp, then namespace/name), a service gets the address unless an older
// one that got it is in the way: a cluster IP is shared with nobody, an external IP with everybody
// who has other {port, protocol}s.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "mesh/model/mesh.h"
#include "mesh/model/object.h"

namespace weft::model {

// Addresses that a service would be served under, sorted and unique: none of headless and unserved
// ones.
std::vector<Address> addresses_of(const ServiceObject& service);

class Claims {
 public:
  using ObjectPtr = std::shared_ptr<const Object>;  // holds a ServiceObject

  // `service` is what was added under that key and not removed since.
  void add(const ServiceKey& key, const ObjectPtr& service);
  void remove(const ServiceKey& key, const ObjectPtr& service);

  // Decides again where something changed, and says whose result is another one than before.
  void settle(const std::function<void(const ServiceKey&)>& changed);

  // Who has the address in this service's place; null where it has it itself. As of the last
  // settle().
  const ServiceObject* in_the_way(const ServiceKey& key, const Address& address) const;

 private:
  using Losers = std::map<ServiceKey, ObjectPtr>;  // -> the winner
  struct Claim {
    std::map<ServiceKey, ObjectPtr> claimants;
    Losers losers;
  };
  static Losers decide(const Address& address, const Claim& claim);

  std::map<Address, Claim> claims_;
  std::set<Address> stale_;
};

}  // namespace weft::model
