// Requests of one worker that wait for a connection, because their service has as many as it may
// (http1MaxPendingRequests bounds how many). First come, first served in a line of each cluster:
// where one subset's endpoints are full, another's requests are not held up.
#pragma once

#include <list>
#include <map>
#include <utility>

#include "userspace_proxy/net/config.h"

namespace weft::net {

class Stream;

class Queue {
 public:
  // A stream's, while it waits.
  class Ticket {
   public:
    explicit operator bool() const { return shares_ != nullptr; }

   private:
    friend class Queue;
    SharesPtr shares_;  // null: it waits for nothing
    const ClusterCounts* cluster_ = nullptr;
    std::list<Stream*>::iterator at_;
  };

  // `shares`: of an endpoint that had no room, by which the service is known; `cluster` is the
  // stream's for as long as it waits.
  void add(Stream& stream, Ticket& ticket, SharesPtr shares, const ClusterCounts& cluster);
  void remove(Ticket& ticket);  // also where it does not wait

  bool is_empty() const { return lines_.empty(); }
  bool has(const weft_service_state* service) const;
  bool has(const weft_service_state* service, const ClusterCounts& cluster) const {
    return lines_.contains({service, &cluster});
  }
  // There may be room: those in a line are asked in turn until one of them still finds none.
  void serve(const weft_service_state* service);
  void serve_all();

  // Whether anybody waits for a place of the service, in whichever worker.
  static bool somebody_waits(const Shares& shares) { return shares.waiting->load() != 0; }

 private:
  using Key = std::pair<const weft_service_state*, const ClusterCounts*>;
  void serve_line(const Key& key);

  // Never empty ones: whoever leaves last takes the line along.
  std::map<Key, std::list<Stream*>> lines_;
};

}  // namespace weft::net
