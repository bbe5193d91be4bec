#include "agent/app/pods.h"

#include <sys/socket.h>

#include <boost/asio/post.hpp>

#include "agent/node/netns.h"
#include "mesh/base/fd.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

constexpr std::size_t kCookiesAtOnce = 32;

// A container's first process joins its cgroup before its namespace; a pod of the host's network
// has the node's for good.
std::uint64_t own_cookie() {
  constexpr int kSoNetnsCookie = 71;  // SO_NETNS_COOKIE, Linux 5.14
  const base::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  return fd && getsockopt(fd.get(), SOL_SOCKET, kSoNetnsCookie, &cookie, &length) == 0 ? cookie : 0;
}

}  // namespace

Pods::Pods(boost::asio::io_context& control, kernel::Maps& maps, kernel::Background& background,
           std::set<std::string> excluded_namespaces, std::function<void()> changed)
    : control_(control),
      maps_(maps),
      background_(background),
      changed_(std::move(changed)),
      workloads_(std::move(excluded_namespaces),
                 [this](std::uint64_t id, bool enrolled) { write(id, enrolled); }) {}

absl::Status Pods::start(const std::string& root) {
  if (auto status = maps_.workloads.for_each(
          [this](std::uint64_t id, std::uint64_t) { inherited_.insert(id); });
      !status.ok())
    return status;
  node::CgroupWatcher::Events events;
  events.appeared = [this](const node::PodCgroup& cgroup) {
    workloads_.cgroup_appeared(cgroup);
    changed_();
  };
  events.gone = [this](const node::PodCgroup& cgroup) {
    workloads_.cgroup_gone(cgroup);
    // Also where an earlier agent had enrolled it: its id is free for another.
    if (inherited_.erase(cgroup.id)) write(cgroup.id, false);
    changed_();
  };
  auto watcher = node::CgroupWatcher::start(control_, root, std::move(events));
  if (!watcher.ok()) return watcher.status();
  watcher_ = *std::move(watcher);
  return absl::OkStatus();
}

void Pods::set_unit(const std::string& name, const std::shared_ptr<const model::Unit>& unit) {
  workloads_.set_unit(name, unit);
}

void Pods::settle() {
  if (settled_) return;
  settled_ = true;
  for (const auto id : std::exchange(inherited_, {}))
    if (!enrolled_.contains(id)) write(id, false);
}

void Pods::write(std::uint64_t cgroup_id, bool enrolled) {
  if (enrolled)
    enrolled_.insert(cgroup_id);
  else
    enrolled_.erase(cgroup_id);
  failed_.erase(cgroup_id);
  const auto status = enrolled ? maps_.workloads.update(cgroup_id, WEFT_WORKLOAD_ENROLLED)
                               : maps_.workloads.erase(cgroup_id);
  if (status.ok() || absl::IsNotFound(status)) {
    if (failed_.empty()) write_error_.clear();
    return;
  }
  // Until it takes it the pod is served as it was.
  failed_[cgroup_id] = enrolled;
  const auto error = "weft_workloads: " + base::message_of(status);
  if (error != write_error_)
    log::error("workload", {{"cgroup_id", cgroup_id}, {"error", error}, {"retry_ms", 1000}});
  write_error_ = error;
}

void Pods::retry() {
  for (const auto& [cgroup_id, enrolled] : std::map(failed_)) write(cgroup_id, enrolled);
}

void Pods::look_up_cookies() {
  if (looking_) return;
  auto wanted = std::make_shared<std::vector<std::pair<std::string, std::string>>>();
  for (const auto& workload : workloads_.list())
    if (!workload.cgroup.empty() && !workload.netns_cookie)
      wanted->emplace_back(workload.uid, workload.cgroup);
  if (wanted->empty()) return;
  // Some never have one; everybody gets a turn.
  std::rotate(wanted->begin(), wanted->begin() + static_cast<long>(turn_++ % wanted->size()),
              wanted->end());
  if (wanted->size() > kCookiesAtOnce) wanted->resize(kCookiesAtOnce);
  looking_ = true;
  background_.post([this, wanted, alive = std::weak_ptr<int>(alive_)] {
    const auto own = own_cookie();
    auto found = std::make_shared<std::vector<std::pair<std::string, std::uint64_t>>>();
    for (const auto& [uid, cgroup] : *wanted)
      if (const auto cookie = node::netns_cookie_of_cgroup(cgroup); cookie && *cookie != own)
        found->emplace_back(uid, *cookie);
    boost::asio::post(control_, [this, found, alive] {
      if (alive.expired()) return;
      looking_ = false;
      for (const auto& [uid, cookie] : *found) workloads_.set_netns_cookie(uid, cookie);
      if (!found->empty()) changed_();
    });
  });
}

std::string Pods::error() const {
  return !write_error_.empty() ? write_error_ : watcher_ ? watcher_->error() : "";
}

}  // namespace weft::app
