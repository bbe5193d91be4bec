// One request and its response: routed, sent to an endpoint, tried again where that is safe, told
// to the client. It is the unit of the proxy: a client's connection makes one for each request,
// whatever its protocol.
//
// It knows the client by what Client::respond...() does, and an endpoint by an Upstream; it owns
// neither.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "userspace_proxy/http/codec.h"
#include "userspace_proxy/net/access_log.h"
#include "userspace_proxy/net/flags.h"
#include "userspace_proxy/net/local_cluster.h"
#include "userspace_proxy/net/place.h"
#include "userspace_proxy/net/queue.h"
#include "userspace_proxy/net/timers.h"
#include "userspace_proxy/routes/table.h"

namespace weft::net {

class Client;
class Upstream;
class Worker;
struct LocalService;

class Stream {
 public:
  explicit Stream(Worker& worker);
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  void reset();  // to be used again

  // --- from the client ---
  void begin(Client& client, std::shared_ptr<LocalService> service, http::RequestHead& head);
  void begin_shadow(Client& client, std::shared_ptr<LocalService> service,
                    std::shared_ptr<LocalCluster> cluster, std::string request, bool head_only);
  void begin_tunnel(Client& client, std::shared_ptr<LocalService> service);
  void on_body(std::string_view data);
  void on_body_end(const http::Fields& trailers);
  void on_input_pause();  // all that was read has been told: what it came to is sent at once
  void refuse(std::uint16_t status, const char* why);  // its body is broken: nothing follows
  void on_client_gone(FlagBit why);
  void withdraw();  // a tunnel that nothing went through: its client is served in another way
  void on_client_drained();  // what waited for it was sent
  void on_client_tunnel(std::string_view data);
  void on_client_tunnel_end();
  bool wants_body() const { return backlog() < kMaxBacklogBytes; }
  bool request_done() const { return request_done_; }
  bool upstream_ended() const { return upstream_ended_; }  // a tunnel's
  bool is_tunnel() const { return tunnel_; }               // from its beginning

  // --- from the upstream ---
  bool is_head_only() const { return head_only_; }
  bool asked_upgrade() const { return asked_upgrade_; }
  std::string_view unsent() const { return std::string_view(request_).substr(sent_); }
  void sent(std::size_t bytes);
  void on_sent_all();
  void on_response_head(http::ResponseHead& head);
  void on_response_data(std::string_view data);
  void on_response_end(const http::Fields& trailers);
  void on_upstream_failed(bool connecting, int error);
  void on_upstream_nonsense(const char* why);
  void on_tunnel_connected();
  void on_tunnel_data(std::string_view data);
  void on_tunnel_end();
  void on_tunnel_drained();

  // --- from the queue ---
  bool on_room();  // there may be a connection; false: it waits on

  Client* client() { return client_; }

 private:
  static constexpr std::size_t kMaxBacklogBytes = 64 * 1024;
  enum class Failure : std::uint8_t { kConnect, kReset, kTimeout, kStatus };

  // Of begin().
  bool normalize(http::RequestHead& head);
  void act(http::RequestHead& head, routes::Match match);
  void forward(http::RequestHead& head, routes::Match match, const model::Forward* forward);
  void reply_direct(const model::DirectResponse& direct);
  void redirect(const http::RequestHead& head, routes::Match match, const model::Redirect& to);
  bool answer_preflight(const http::RequestHead& head);
  void write_request(http::RequestHead& head, routes::Match match, const model::Forward* forward,
                     const model::HttpDestination* to);

  ClusterCounts& counts() const { return *cluster_->config().counts; }
  bool request_whole() const { return request_done_ || bodiless_; }

  // Of trying.
  enum class Found : std::uint8_t { kYes, kNobody, kFull, kProxyFull };
  Found find_connection();  // to an endpoint that may be asked
  void count_in_flight();
  void go_on(Found found);  // with what find_connection() came to
  void wait_for_room();
  void stop_waiting();
  void attempt_tunnel();
  void attempt();
  void start_timers();
  void mirror();
  bool may_retry(Failure failure, std::uint16_t status) const;
  bool reserve_retry();
  void retry(Failure failure);
  void give_up(Failure failure, Flags flags);
  void drop_upstream();
  void account_status(std::uint16_t status);
  void note_response_time();
  void settle_probe();
  void charge_timeout();
  void on_deadline();
  void on_try_deadline();

  void reply(std::uint16_t status, Flags flags, std::string_view text,
             std::string_view content_type = "text/plain");
  void add_response_edits(http::ResponseHead& head);
  void add_cors(http::Fields& fields);
  bool allows_origin() const;
  void finish();
  void finish_tunnel();
  void record();
  void leave();  // what it counts as in flight
  std::size_t backlog() const { return request_.size() - sent_; }

  Worker& worker_;
  Client* client_ = nullptr;
  Upstream* upstream_ = nullptr;
  std::shared_ptr<LocalService> service_;  // with its table: a request keeps what it began with
  std::shared_ptr<LocalCluster> cluster_;
  const model::HttpRule* rule_ = nullptr;  // null: the service itself
  const model::HttpDestination* destination_ = nullptr;
  const Endpoint* endpoint_ = nullptr;  // of cluster_
  std::uint32_t* column_ = nullptr;     // where it is counted as in flight
  bool probe_ = false;
  Room room_ = Room::kYes;  // which limit find_connection() met last
  Queue::Ticket ticket_;    // while it waits for a connection

  std::string request_;  // as it goes to the endpoint, head and body; from its beginning while it
                         // can be sent again
  std::size_t sent_ = 0;
  std::string path_;      // normalized, where that changed it
  std::string origin_;    // of the request, where the rule has CORS
  std::string dialled_;   // in place of an authority
  std::string grown_id_;  // x-request-id that was made here

  std::uint64_t started_ns_ = 0, tried_ns_ = 0;
  std::uint64_t bytes_in_ = 0, bytes_out_ = 0;
  std::uint32_t attempts_ = 0;  // that failed
  std::uint16_t status_ = 0;
  Flags flags_ = 0;
  std::uint8_t minor_ = 1;
  bool chunked_request_ = false, chunked_response_ = false;
  bool request_done_ = false, replayable_ = false, idempotent_ = false;
  bool head_only_ = false, asked_upgrade_ = false, tunnel_ = false, upgraded_ = false;
  bool response_started_ = false, response_keep_ = true, retrying_ = false, stale_retry_ = false;
  bool in_flight_ = false, client_ended_ = false, upstream_ended_ = false, waits_ = false;
  bool connected_tunnel_ = false, bodiless_ = false, counted_ = false;
  bool all_ejected_ = false;  // of a cluster in which nobody was found
  std::vector<const Shares*> tried_;
  std::unique_ptr<LogEntry> log_;  // where this request is to be logged
  Timer deadline_, try_deadline_, backoff_;
};

}  // namespace weft::net
