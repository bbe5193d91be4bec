#include "agent/node/workloads.h"

#include <algorithm>
#include <tuple>

namespace weft::node {
namespace {

// As pod_uid_of() has it.
std::string canonical(std::string uid) {
  for (char& c : uid)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return uid;
}

bool concerns_us(const model::Unit& unit) {
  return std::any_of(unit.objects.begin(), unit.objects.end(), [](const auto& object) {
    return std::holds_alternative<model::PodObject>(*object) ||
           std::holds_alternative<model::NamespaceObject>(*object);
  });
}

// The object as its own kind, or null. Keeps the whole object alive.
template <class Kind>
std::shared_ptr<const Kind> as(const std::shared_ptr<const model::Object>& object) {
  return {object, std::get_if<Kind>(object.get())};
}

}  // namespace

void Workloads::set_unit(const std::string& unit_name, const UnitPtr& unit) {
  const auto before = units_.find(unit_name);
  const bool concerns = unit && concerns_us(*unit);
  if (before == units_.end() && !concerns) return;
  Touched touched;
  if (before != units_.end()) {
    change(unit_name, *before->second, false, touched);
    units_.erase(before);
  }
  if (concerns) {
    change(unit_name, *unit, true, touched);
    units_[unit_name] = unit;
  }
  if (!touched.namespaces.empty())
    for (const auto& [uid, pod] : pods_)
      if (pod.object && touched.namespaces.contains(pod.object->meta.namespace_name))
        touched.uids.insert(uid);
  for (const auto& uid : touched.uids) decide(uid);
}

void Workloads::change(const std::string& unit_name, const model::Unit& unit, bool present,
                       Touched& touched) {
  const auto put = [&](auto& versions, const auto& object) {
    if (present)
      versions[unit_name] = object;
    else
      versions.erase(unit_name);
  };
  for (const auto& object : unit.objects) {
    if (const auto pod = as<model::PodObject>(object); pod && !pod->uid.empty()) {
      const auto uid = canonical(pod->uid);
      put(pods_[uid].versions, pod);
      touched.uids.insert(uid);
    } else if (const auto place = as<model::NamespaceObject>(object)) {
      put(namespaces_[place->meta.name], place);
      if (namespaces_[place->meta.name].empty()) namespaces_.erase(place->meta.name);
      touched.namespaces.insert(place->meta.name);
    }
  }
}

void Workloads::cgroup_appeared(const PodCgroup& cgroup) {
  auto& cgroups = pods_[cgroup.uid].cgroups;
  const bool told = std::any_of(cgroups.begin(), cgroups.end(),
                                [&](const auto& known) { return known.place.id == cgroup.id; });
  if (!told) cgroups.push_back({cgroup});
  decide(cgroup.uid);
}

void Workloads::cgroup_gone(const PodCgroup& cgroup) {
  const auto at = pods_.find(cgroup.uid);
  if (at == pods_.end()) return;
  auto& [uid, pod] = *at;
  const auto gone = std::find_if(pod.cgroups.begin(), pod.cgroups.end(),
                                 [&](const auto& known) { return known.place.id == cgroup.id; });
  if (gone == pod.cgroups.end()) return;
  if (gone->enrolled) write_(cgroup.id, false);
  pod.cgroups.erase(gone);
  if (pod.cgroups.empty()) pod.netns_cookie = 0;
  decide(cgroup.uid);
}

void Workloads::set_netns_cookie(const std::string& uid, std::uint64_t cookie) {
  const auto pod = pods_.find(uid);
  if (pod != pods_.end() && !pod->second.cgroups.empty()) pod->second.netns_cookie = cookie;
}

void Workloads::decide(const std::string& uid) {
  auto& pod = pods_[uid];
  if (!pod.versions.empty()) {
    pod.object = pod.versions.begin()->second;
    const auto place = namespaces_.find(pod.object->meta.namespace_name);
    if (place != namespaces_.end())
      pod.namespace_labels = place->second.begin()->second->meta.labels;
    pod.verdict = enrolment_of(*pod.object, pod.namespace_labels ? &*pod.namespace_labels : nullptr,
                               system_namespaces_);
  } else if (pod.cgroups.empty()) {
    pods_.erase(uid);
    return;
  } else if (!pod.object) {
    pod.verdict = {false, "the API has not told of the pod"};
  }
  for (auto& cgroup : pod.cgroups)
    if (cgroup.enrolled != pod.verdict.enrolled)
      write_(cgroup.place.id, cgroup.enrolled = pod.verdict.enrolled);
}

bool Workloads::is_listed(const Pod& pod) { return !pod.cgroups.empty() || !pod.object->finished; }

Workload Workloads::to_workload(const std::string& uid, const Pod& pod) {
  Workload workload;
  workload.uid = uid;
  workload.known = !pod.versions.empty();
  workload.verdict = pod.verdict;
  workload.netns_cookie = pod.netns_cookie;
  if (pod.object) {
    workload.namespace_name = pod.object->meta.namespace_name;
    workload.name = pod.object->meta.name;
    workload.service_account = pod.object->service_account;
    if (!workload.known) workload.verdict.reason += " (when the API last had the pod)";
  }
  if (!pod.cgroups.empty()) {
    workload.cgroup = pod.cgroups.back().place.path;
    workload.cgroup_id = pod.cgroups.back().place.id;
  }
  return workload;
}

std::vector<Workload> Workloads::list() const {
  std::vector<Workload> all;
  for (const auto& [uid, pod] : pods_)
    if (is_listed(pod)) all.push_back(to_workload(uid, pod));
  // Stable: pods_ is sorted by UID.
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return std::tie(a.namespace_name, a.name) < std::tie(b.namespace_name, b.name);
  });
  return all;
}

std::size_t Workloads::enrolled() const {
  return static_cast<std::size_t>(std::count_if(pods_.begin(), pods_.end(), [](const auto& entry) {
    return !entry.second.cgroups.empty() && entry.second.verdict.enrolled;
  }));
}

std::size_t Workloads::total() const {
  return static_cast<std::size_t>(std::count_if(
      pods_.begin(), pods_.end(), [](const auto& entry) { return is_listed(entry.second); }));
}

}  // namespace weft::node
