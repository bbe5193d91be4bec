#include "agent/proxy/workloads.h"

#include <algorithm>
#include <utility>

#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::proxy {

void Workloads::appeared(const Namespace& found) {
  inherited_.erase(found.cookie);
  auto& workload = known_[found.cookie];
  workload.found = found;
  workload.identity = hooks_.identify(found);
  hooks_.add(found.cookie, found.file->get());
  if (auto adopted = adopted_.extract(found.cookie))
    take(found.cookie, {std::move(adopted.mapped().listeners), adopted.mapped().families, ""});
  else
    listen(found.cookie, workload);
}

void Workloads::listen(std::uint64_t cookie, Workload& workload) {
  workload.listening = true;
  hooks_.listen(
      cookie, [this, cookie](Sockets::Listening listening) { take(cookie, std::move(listening)); });
}

void Workloads::take(std::uint64_t cookie, Sockets::Listening listening) {
  const auto at = known_.find(cookie);
  if (at == known_.end()) return;  // gone meanwhile
  auto& workload = at->second;
  workload.listening = false;
  if (!listening.error.empty() && workload.error != listening.error)
    log::warning("workload", {{"netns_cookie", cookie},
                              {"process", workload.found.process},
                              {"captured", listening.families ? "in part" : "no"},
                              {"error", listening.error}});
  workload.error = listening.error;
  if (!listening.families) return;
  workload.families = listening.families;
  workload.listeners = std::move(listening.listeners);
  hooks_.tell(message_of(workload), descriptors_of(workload));
  capture(cookie, workload);
  hooks_.changed();
}

void Workloads::capture(std::uint64_t cookie, Workload& workload) {
  const auto status = hooks_.capture(cookie, workload.families);
  workload.captured = status.ok();
  const auto error = base::message_of(status);
  if (!status.ok() && workload.error != error)
    log::error("workload", {{"netns_cookie", cookie}, {"captured", "no"}, {"error", error}});
  if (!status.ok()) workload.error = error;
}

void Workloads::gone(std::uint64_t cookie) {
  auto node = known_.extract(cookie);
  if (!node) return;
  hooks_.release(cookie);
  weft::v1::ToProxy message;
  message.mutable_workload_gone()->set_netns_cookie(cookie);
  hooks_.tell(message, {});
  hooks_.drop(cookie);
  hooks_.changed();
}

void Workloads::settle() {
  for (const auto cookie : std::exchange(inherited_, {})) hooks_.release(cookie);
  adopted_.clear();
}

void Workloads::introduce() {
  for (auto& [cookie, workload] : known_) {
    hooks_.add(cookie, workload.found.file->get());
    // What the old process was asked is answered by nobody.
    if (!workload.families) listen(cookie, workload);
  }
}

void Workloads::retry() {
  for (auto& [cookie, workload] : known_)
    if (!workload.families && !workload.listening)
      listen(cookie, workload);
    else if (workload.families && !workload.captured)
      capture(cookie, workload);
}

void Workloads::identify_again() {
  for (auto& [cookie, workload] : known_) {
    auto identity = hooks_.identify(workload.found);
    if (identity == workload.identity) continue;
    workload.identity = std::move(identity);
    if (!workload.families) continue;
    auto message = message_of(workload);
    message.mutable_workload()->set_listeners(0);  // they have them
    hooks_.tell(message, {});
  }
}

void Workloads::greet(const Tell& tell) const {
  for (const auto& [cookie, workload] : known_)
    if (workload.families) tell(message_of(workload), descriptors_of(workload));
}

std::size_t Workloads::captured() const {
  return static_cast<std::size_t>(std::count_if(
      known_.begin(), known_.end(), [](const auto& entry) { return entry.second.captured; }));
}

std::vector<Workloads::Listener> Workloads::listeners() const {
  std::vector<Listener> all;
  for (const auto& [cookie, workload] : known_) {
    auto families = workload.families;
    for (const auto& fd : workload.listeners) {
      const auto lowest = families & -families;  // in the order of the bits
      all.push_back({cookie, lowest, fd.get()});
      families &= ~lowest;
    }
  }
  return all;
}

const Identity* Workloads::identity_of(std::uint64_t cookie) const {
  const auto at = known_.find(cookie);
  return at == known_.end() ? nullptr : &at->second.identity;
}

weft::v1::ToProxy Workloads::message_of(const Workload& workload) {
  weft::v1::ToProxy message;
  auto& one = *message.mutable_workload();
  one.set_netns_cookie(workload.found.cookie);
  one.set_namespace_name(workload.identity.namespace_name);
  one.set_name(workload.identity.name.empty() ? workload.found.process : workload.identity.name);
  one.set_workload(workload.identity.workload);
  one.set_service_account(workload.identity.service_account);
  for (const auto& [name, value] : workload.identity.labels) (*one.mutable_labels())[name] = value;
  one.set_host_network(workload.found.host);
  one.set_listeners(static_cast<std::uint32_t>(workload.listeners.size()));
  return message;
}

std::vector<int> Workloads::descriptors_of(const Workload& workload) {
  std::vector<int> numbers;
  for (const auto& fd : workload.listeners) numbers.push_back(fd.get());
  return numbers;
}

}  // namespace weft::proxy
