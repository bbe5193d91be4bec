#include "userspace_proxy/net/queue.h"

#include <utility>
#include <vector>

#include "userspace_proxy/net/stream.h"

namespace weft::net {

void Queue::add(Stream& stream, Ticket& ticket, SharesPtr shares) {
  auto& list = streams_[shares->total];
  ticket.at_ = list.insert(list.end(), &stream);
  ++*shares->waiting;
  ticket.shares_ = std::move(shares);
}

void Queue::remove(Ticket& ticket) {
  const auto shares = std::exchange(ticket.shares_, nullptr);
  if (!shares) return;
  --*shares->waiting;
  const auto found = streams_.find(shares->total);
  found->second.erase(ticket.at_);
  if (found->second.empty()) streams_.erase(found);
}

void Queue::serve(const weft_service_state* service) {
  while (true) {
    const auto found = streams_.find(service);
    if (found == streams_.end() || !found->second.front()->on_room()) return;
  }
}

void Queue::serve_all() {
  std::vector<const weft_service_state*> services;
  for (const auto& [service, list] : streams_) services.push_back(service);
  for (const auto* service : services) serve(service);
}

}  // namespace weft::net
