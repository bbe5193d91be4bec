// The pods of this node: cgroups joined with what the API says about them, by UID. Either half may
// come first and either may go first. Decides for each cgroup whether it is enrolled and tells of
// changes only. No I/O; on the control thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/node/enrolment.h"
#include "agent/node/pod_cgroup.h"
#include "mesh/model/object.h"

namespace weft::node {

struct Workload {
  std::string namespace_name, name, uid, service_account;
  std::string cgroup;  // empty: no cgroup of it, so nothing of it runs here
  std::uint64_t cgroup_id = 0;
  std::uint64_t netns_cookie = 0;
  bool known = false;  // the API has it
  Verdict verdict;

  bool operator==(const Workload&) const = default;
};

class Workloads {
 public:
  // Every cgroup begins as not enrolled, and is not enrolled again when it is gone.
  using Write = std::function<void(std::uint64_t cgroup_id, bool enrolled)>;

  Workloads(std::set<std::string> system_namespaces, Write write)
      : system_namespaces_(std::move(system_namespaces)), write_(std::move(write)) {}

  // Pod and Namespace objects count, of the pods those that have a UID. Null removes the unit.
  //
  // A pod that the API deletes stays enrolled, or not, for as long as its cgroup lives: what is
  // left of it may be finishing requests, and its connections should not change hands half way.
  void set_unit(const std::string& unit_name, const std::shared_ptr<const model::Unit>& unit);
  void cgroup_appeared(const PodCgroup& cgroup);
  void cgroup_gone(const PodCgroup& cgroup);
  // Passed over where the pod has no cgroup (any more).
  void set_netns_cookie(const std::string& uid, std::uint64_t cookie);

  // Pods that have a cgroup, and those that the API has and that have not finished. Sorted by
  // namespace, name and UID; those that the API never told of come first.
  std::vector<Workload> list() const;
  std::size_t enrolled() const;  // pods with a cgroup that is enrolled
  std::size_t total() const;     // list().size()

 private:
  using UnitPtr = std::shared_ptr<const model::Unit>;
  using PodPtr = std::shared_ptr<const model::PodObject>;
  using NamespacePtr = std::shared_ptr<const model::NamespaceObject>;
  // By unit. Two units may have an object at once, as when it moves from one file to another; the
  // first one by name is in force.
  template <class Ptr>
  using Versions = std::map<std::string, Ptr>;

  struct Cgroup {
    PodCgroup place;
    bool enrolled = false;  // as written
  };
  struct Pod {
    Versions<PodPtr> versions;    // empty: the API does not have it
    PodPtr object;                // in force, else the last one; null: the API never told of it
    std::vector<Cgroup> cgroups;  // oldest first; more than one while kubelet makes another
    std::uint64_t netns_cookie = 0;
    Verdict verdict;
    // What its namespace last said: one cannot go before its pods, whatever a list says.
    std::optional<model::Labels> namespace_labels;
  };
  // What a change touches.
  struct Touched {
    std::set<std::string> uids, namespaces;
  };

  void change(const std::string& unit_name, const model::Unit& unit, bool present,
              Touched& touched);
  void decide(const std::string& uid);
  static bool is_listed(const Pod& pod);
  static Workload to_workload(const std::string& uid, const Pod& pod);

  std::set<std::string> system_namespaces_;
  Write write_;
  std::map<std::string, UnitPtr> units_;  // those with a Pod or a Namespace
  std::map<std::string, Pod> pods_;       // by UID
  std::map<std::string, Versions<NamespacePtr>> namespaces_;
};

}  // namespace weft::node
