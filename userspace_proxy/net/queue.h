// Requests of one worker that wait for a connection, because their service has as many as it may
// (http1MaxPendingRequests bounds how many). First come, first served among those of one service.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <list>

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
    std::list<Stream*>::iterator at_;
  };

  // `shares`: of an endpoint that had no room, by which the service is known.
  void add(Stream& stream, Ticket& ticket, SharesPtr shares);
  void remove(Ticket& ticket);  // also where it does not wait

  bool is_empty() const { return streams_.empty(); }
  bool has(const weft_service_state* service) const { return streams_.contains(service); }
  // There may be room: those who wait are asked in turn until one of them still finds none.
  void serve(const weft_service_state* service);
  void serve_all();

  // Whether anybody waits for a place of the service, in whichever worker.
  static bool somebody_waits(const Shares& shares) { return shares.waiting->load() != 0; }

 private:
  // Never empty lists: whoever leaves last takes the list along.
  absl::flat_hash_map<const weft_service_state*, std::list<Stream*>> streams_;
};

}  // namespace weft::net
