// Who is behind a network namespace, from the Pods that sources tell of. In a cluster a pod is
// known by its cgroup, which it cannot choose; without one, where all is one's own, by an address
// that is both its Pod's and the namespace's. No I/O.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/proxy/workloads.h"
#include "mesh/model/address.h"
#include "mesh/model/object.h"

namespace weft::proxy {

Identity identity_of(const model::PodObject& pod);

class PodIndex {
 public:
  // Null removes the unit. True where a Pod was among what changed.
  bool set_unit(const std::string& name, const std::shared_ptr<const model::Unit>& unit);

  bool empty() const { return units_.empty(); }
  const model::PodObject* by_uid(const std::string& uid) const;
  // The only one with one of these addresses that is not of its host's network.
  const model::PodObject* by_address(const std::vector<model::Address>& addresses) const;

 private:
  using UnitPtr = std::shared_ptr<const model::Unit>;
  void change(const model::Unit& unit, bool present);

  std::map<std::string, UnitPtr> units_;  // those with a Pod
  std::multimap<std::string, const model::PodObject*> uids_;
  std::multimap<model::Address, const model::PodObject*> addresses_;
};

}  // namespace weft::proxy
