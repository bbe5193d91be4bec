// One thread of the proxy: its loop, its connections, its share of the counting. Workers share the
// configuration, the kernel's tables and counts that limits hold for; no lock on a request's way.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "userspace_proxy/http/codec.h"
#include "userspace_proxy/net/access_log.h"
#include "userspace_proxy/net/breaker.h"
#include "userspace_proxy/net/client.h"
#include "userspace_proxy/net/config.h"
#include "userspace_proxy/net/local_cluster.h"
#include "userspace_proxy/net/loop.h"
#include "userspace_proxy/net/metrics.h"
#include "userspace_proxy/net/queue.h"
#include "userspace_proxy/net/socket_source.h"
#include "userspace_proxy/net/stream.h"
#include "userspace_proxy/net/upstream.h"
#include "userspace_proxy/net/waiting_list.h"

namespace weft::net {

// A service with the clusters of its rules, resolved once a configuration.
struct LocalService {
  ServicePtr config;
  std::vector<std::shared_ptr<LocalCluster>>
      clusters;  // as the table's indexes mean them; null: unknown
};

// The pieces of what one upstream read gives the client, so that they go with one system call.
class Gather {
 public:
  void begin(Stream& stream);
  void end();
  void drop(const Client& client) {
    if (client_ == &client) clear();
  }
  bool collects_for(const Client& client) const { return client_ == &client; }
  void add(std::string_view piece);
  // A small piece that is kept here until end().
  std::string& text();
  void add_text(std::size_t from);  // text() from there on

 private:
  void clear();
  Client* client_ = nullptr;
  struct Piece {
    std::string_view view;  // or, where it has no data, a part of text_
    std::size_t from = 0, size = 0;
  };
  std::vector<Piece> pieces_;
  std::string text_;
};

struct WorkerOptions {
  http::Limits limits;
  std::uint32_t max_clients = 100000;
  std::uint32_t max_upstreams = 65536;
  std::uint32_t max_upstreams_per_caller = 4096;
  // A local caller writes its request right behind connect(); who says nothing for so long is
  // either early, which costs a connection to an endpoint, or waits for a greeting, which comes so
  // much later.
  std::chrono::milliseconds detect_timeout{100};
  std::chrono::milliseconds head_timeout = std::chrono::seconds(60);
  std::chrono::milliseconds idle_timeout = std::chrono::hours(1);
  std::chrono::milliseconds stall_timeout = std::chrono::minutes(5);
  AccessLog::Format log_format = AccessLog::Format::kText;
  std::uint32_t log_every = 0;
  int log_fd = 1;
  std::optional<Dialled> assume;  // what every connection is taken to have dialled; without capture
};

class Worker {
 public:
  Worker(const WorkerOptions& options, std::function<std::unique_ptr<SocketSource>(Loop&)> sockets,
         Tell tell, std::uint64_t seed);
  ~Worker();

  // Runs a task on every worker's thread; before they run. Without it there is this one alone.
  void set_peers(std::function<void(std::function<void(Worker&)>)> each) {
    each_worker_ = std::move(each);
  }
  Loop& loop() { return loop_; }
  void run() { loop_.run(); }

  // All of these are called on the worker's thread (loop().post).
  void apply(ConfigPtr config);
  void listen(base::Fd listener, CallerPtr caller);
  void rename(const CallerPtr& caller);  // of its namespace; for connections from here on
  void forget(std::uint64_t netns_cookie);
  void drain();  // no new connections; the others end when their request has
  std::size_t clients() const { return clients_.size(); }

  // --- for its connections ---
  const http::Limits& limits() const { return options_.limits; }
  const WorkerOptions& options() const { return options_; }
  std::array<char, 64 * 1024>& scratch() { return scratch_; }
  http::RequestHead& request_head() { return request_head_; }
  http::Fields& request_trailers() { return request_trailers_; }
  http::ResponseHead& response_head() { return response_head_; }
  http::Fields& response_trailers() { return response_trailers_; }
  Gather& gather() { return gather_; }
  SocketSource& sockets() { return *sockets_; }
  Metrics& metrics() { return metrics_; }
  AccessLog& log() { return log_; }
  const Breaker& breaker() const { return breaker_; }
  Random& random() { return random_; }
  WaitingList& idle() { return idle_; }      // clients between two requests
  WaitingList& silent() { return silent_; }  // ... that have said nothing yet
  WaitingList& idle_upstreams() { return idle_upstreams_; }
  std::uint64_t epoch() const { return epoch_; }
  bool draining() const { return draining_; }
  std::shared_ptr<LocalService> service(const Dialled& dialled);
  // One that went a moment ago, for connections that were captured before and accepted after that.
  std::shared_ptr<LocalService> service_that_went(const Dialled& dialled);
  // A connection to the endpoint for a client, `fresh`: that nobody used. Null where there is none
  // and `room` says which limit is reached.
  Upstream* connection(const Cluster& cluster, const Endpoint& endpoint, const Client& client,
                       bool fresh, Room& room);
  // A request for whose connection there is no room waits for one of the endpoint's, or of its
  // service's where that is what is full.
  void wait(Stream& stream, Queue::Ticket& ticket, const SharesPtr& shares,
            const ClusterCounts& cluster, Room full);
  Queue& queue() { return queue_; }
  void room_came(const Shares& shares);  // a connection was closed, or has nothing to do
  // An idle connection is of more use to a request that waits in another worker.
  bool is_wanted_elsewhere(const Shares& shares) const {
    return Queue::somebody_waits(shares) && !queue_.has(shares.total);
  }
  std::unique_ptr<Stream> new_stream();
  void recycle(std::unique_ptr<Stream> stream);
  void remove(Client& client);
  // A copy of a request for another cluster; nobody waits for its answer.
  void mirror(const Client& of, std::shared_ptr<LocalService> service,
              std::shared_ptr<LocalCluster> cluster, std::string request, bool head_only);
  void remove_shadow(Client& client);

 private:
  void keep_for_late_comers(const Config& next);
  class Listener;
  bool accept_from(Listener& listener);  // whether there may be more
  bool make_room();                      // by closing a client that waits; false: none does
  WaitingLink* longest_waiting();
  void admit(base::Fd fd, const Listener& listener);
  std::uint32_t& upstreams_of(std::uint64_t owner);
  Pool& pool_of(const Cluster& cluster, const Endpoint& endpoint, const Client& client);
  bool close_idle(const Shares& wanted, Room full);
  bool has_room_for(const Pool& pool);

  struct PoolKey {
    const Shares* endpoint;
    std::uint64_t owner;
    bool operator==(const PoolKey&) const = default;
    template <class H>
    friend H AbslHashValue(H state, const PoolKey& key) {
      return H::combine(std::move(state), key.endpoint, key.owner);
    }
  };

  void retire(const std::vector<PoolKey>& keys);

  const WorkerOptions options_;
  Loop loop_;
  std::unique_ptr<SocketSource> sockets_;
  Breaker breaker_;
  Random random_;
  Metrics metrics_;
  AccessLog log_;
  Timer log_timer_;
  ConfigPtr config_ = std::make_shared<Config>();
  std::uint64_t epoch_ = 1;
  absl::flat_hash_map<const Service*, std::shared_ptr<LocalService>> services_;
  struct Gone {
    std::shared_ptr<LocalService> service;
    std::uint64_t until_ms = 0;
  };
  absl::flat_hash_map<Dialled, Gone> gone_;
  std::map<std::string, std::shared_ptr<LocalCluster>> clusters_;
  WaitingList idle_, silent_, idle_upstreams_;  // outlive whom they hold
  absl::flat_hash_map<PoolKey, std::unique_ptr<Pool>> pools_;
  absl::flat_hash_map<std::uint64_t, std::unique_ptr<std::uint32_t>> upstreams_of_;  // by owner
  Queue queue_;
  Timer queue_timer_;
  std::function<void(std::function<void(Worker&)>)> each_worker_ =
      [this](std::function<void(Worker&)> task) {
        loop_.post([this, task = std::move(task)] { task(*this); });
      };
  std::vector<std::unique_ptr<Pool>> retired_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::unique_ptr<Client>> shadows_;
  std::vector<std::unique_ptr<Stream>> spare_streams_;
  std::array<char, 64 * 1024> scratch_;
  http::RequestHead request_head_;
  http::ResponseHead response_head_;
  http::Fields request_trailers_, response_trailers_;
  Gather gather_;
  bool draining_ = false;
};

}  // namespace weft::net
