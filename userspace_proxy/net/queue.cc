#include "userspace_proxy/net/queue.h"

#include <vector>

#include "userspace_proxy/net/stream.h"

namespace weft::net {

void Queue::add(Stream& stream, Ticket& ticket, SharesPtr shares, const ClusterCounts& cluster) {
  auto& line = lines_[{shares->total, &cluster}];
  ticket.at_ = line.insert(line.end(), &stream);
  ticket.cluster_ = &cluster;
  ++*shares->waiting;
  ticket.shares_ = std::move(shares);
}

void Queue::remove(Ticket& ticket) {
  const auto shares = std::exchange(ticket.shares_, nullptr);
  if (!shares) return;
  --*shares->waiting;
  const auto found = lines_.find({shares->total, ticket.cluster_});
  found->second.erase(ticket.at_);
  if (found->second.empty()) lines_.erase(found);
}

bool Queue::has(const weft_service_state* service) const {
  const auto first = lines_.lower_bound({service, nullptr});
  return first != lines_.end() && first->first.first == service;
}

void Queue::serve_line(const Key& key) {
  while (true) {
    const auto found = lines_.find(key);
    if (found == lines_.end() || !found->second.front()->on_room()) return;
  }
}

void Queue::serve(const weft_service_state* service) {
  std::vector<Key> keys;  // lines come and go meanwhile
  for (auto at = lines_.lower_bound({service, nullptr});
       at != lines_.end() && at->first.first == service; ++at)
    keys.push_back(at->first);
  for (const auto& key : keys) serve_line(key);
}

void Queue::serve_all() {
  std::vector<Key> keys;
  for (const auto& [key, line] : lines_) keys.push_back(key);
  for (const auto& key : keys) serve_line(key);
}

}  // namespace weft::net
