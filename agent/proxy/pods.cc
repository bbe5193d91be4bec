#include "agent/proxy/pods.h"

#include <algorithm>
#include <variant>

#include "mesh/model/workload.h"

namespace weft::proxy {
namespace {

const model::PodObject* pod_of(const std::shared_ptr<const model::Object>& object) {
  return std::get_if<model::PodObject>(object.get());
}

template <class Key>
void erase_one(std::multimap<Key, const model::PodObject*>& index, const Key& key,
               const model::PodObject* pod) {
  const auto [begin, end] = index.equal_range(key);
  const auto at = std::find_if(begin, end, [&](const auto& entry) { return entry.second == pod; });
  if (at != end) index.erase(at);
}

}  // namespace

Identity identity_of(const model::PodObject& pod) {
  Identity identity;
  identity.namespace_name = pod.meta.namespace_name;
  identity.name = pod.meta.name;
  identity.workload = model::deployment_of(pod.meta.name, pod.meta.labels);
  identity.service_account = pod.service_account;
  identity.labels = pod.meta.labels;
  identity.bypass = pod.bypass;
  return identity;
}

bool PodIndex::set_unit(const std::string& name, const UnitPtr& unit) {
  const auto has_pod = [](const UnitPtr& one) {
    return std::any_of(one->objects.begin(), one->objects.end(), pod_of);
  };
  const auto before = units_.find(name);
  const bool had = before != units_.end(), has = unit && has_pod(unit);
  if (had) {
    change(*before->second, false);
    units_.erase(before);
  }
  if (has) {
    change(*unit, true);
    units_.emplace(name, unit);
  }
  return had || has;
}

void PodIndex::change(const model::Unit& unit, bool present) {
  for (const auto& object : unit.objects) {
    const auto* pod = pod_of(object);
    if (!pod) continue;
    const bool has_own_address = !pod->host_network && !pod->finished;
    if (present) {
      if (!pod->uid.empty()) uids_.emplace(pod->uid, pod);
      if (has_own_address)
        for (const auto& address : pod->ips) addresses_.emplace(address, pod);
    } else {
      erase_one(uids_, pod->uid, pod);
      if (has_own_address)
        for (const auto& address : pod->ips) erase_one(addresses_, address, pod);
    }
  }
}

const model::PodObject* PodIndex::by_uid(const std::string& uid) const {
  const auto at = uids_.find(uid);
  return at == uids_.end() ? nullptr : at->second;
}

const model::PodObject* PodIndex::by_address(const std::vector<model::Address>& addresses) const {
  const model::PodObject* found = nullptr;
  for (const auto& address : addresses) {
    const auto [begin, end] = addresses_.equal_range(address);
    for (auto at = begin; at != end; ++at) {
      if (found && found != at->second) return nullptr;
      found = at->second;
    }
  }
  return found;
}

}  // namespace weft::proxy
