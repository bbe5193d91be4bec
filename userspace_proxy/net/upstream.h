// A connection to an endpoint, and the pools that keep those that wait for their next request.
//
// A pool belongs to one worker, one endpoint and one caller: the endpoint sees the caller's
// address, so a connection of one caller is of no use to another (with weft.mesh/source-address:
// node all callers are one).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "userspace_proxy/http/codec.h"
#include "userspace_proxy/net/config.h"
#include "userspace_proxy/net/place.h"
#include "userspace_proxy/net/socket.h"
#include "userspace_proxy/net/waiting_list.h"

namespace weft::net {

class Pool;
class Stream;
class Worker;

class Upstream final : public Socket, public WaitingLink {
 public:
  Upstream(Worker& worker, Pool& pool, Place place);
  ~Upstream() override;

  void begin(Stream& stream);  // a connection of its pool that is idle, or has yet to be made
  void push();                 // the stream has bytes to send
  void resume();               // the client takes bytes again
  // The stream wants nothing more of it. Reusable ones go back to the pool, others are closed.
  void release();
  void abandon();  // closed, whatever was under way

  // After 101, or for bytes that are no HTTP: what the client sends.
  void become_tunnel() { state_ = State::kTunnel; }
  void tunnel(std::string_view bytes);
  void end_tunnel_writing();
  void pause_tunnel() { want_read(false); }
  std::size_t tunnel_backlog() const { return backlog(); }

  bool is_connecting() const { return state_ == State::kConnecting; }
  bool is_busy() const { return state_ == State::kBusy; }
  bool was_used() const { return served_ > 1; }  // by a request before this one
  std::string peer_text() const;

 private:
  friend class Pool;
  enum class State : std::uint8_t { kNew, kConnecting, kBusy, kTunnel, kIdle, kClosed };

  void take_socket(base::Fd fd, int error);
  void connect();
  void connected();
  void failed(int error);
  void on_readable() override;
  void on_writable() override;
  void on_broken() override;
  void read_tunnel();
  void parse(std::string_view input, bool eof);
  bool handle(const http::Event& event);
  bool nonsense(const char* why);  // false, always
  void on_time();

  Worker& worker_;
  Pool* pool_;
  Stream* stream_ = nullptr;
  http::ResponseReader reader_;
  std::string in_;  // what could not be read to its end yet
  Timer timer_;     // to connect, or to be idle
  State state_ = State::kNew;
  bool shut_after_backlog_ = false, eof_ = false, write_failed_ = false;  // of a tunnel
  bool interim_ = false;             // the head that was read last is a 1xx
  bool extra_ = false;               // more came than the response
  std::shared_ptr<Upstream*> self_;  // for whoever makes its socket: is it still there?
  std::uint32_t served_ = 0;
  std::uint32_t interims_ = 0;
  std::uint32_t index_ = 0;  // in the pool's list
  Place place_;              // among the endpoint's connections
};

class Pool {
 public:
  Pool(Worker& worker, const Cluster& cluster, const Endpoint& endpoint, CallerPtr caller,
       std::uint64_t netns_cookie);

  Upstream& take_idle();       // where has_idle()
  Upstream& add(Place place);  // a new one, that connects
  void close_idle();           // the one that was used longest ago, where has_idle()
  const Endpoint& endpoint() const { return endpoint_; }
  std::uint64_t netns_cookie() const { return netns_cookie_; }
  std::size_t size() const { return all_.size(); }
  bool has_idle() const { return !idle_.empty(); }
  std::uint32_t* owner_count = nullptr;  // connections of this owner, of all its pools

  // No new requests: idle ones are closed, the others when their request is over.
  void retire();
  bool retired() const { return retired_; }
  void adopt(const Cluster& cluster);  // limits may have changed

 private:
  friend class Upstream;
  void put_back(Upstream& upstream);
  void remove(Upstream& upstream);

  Worker& worker_;
  Endpoint endpoint_;
  CallerPtr caller_;
  std::uint64_t netns_cookie_;
  std::chrono::milliseconds connect_timeout_{}, idle_timeout_{};
  std::uint32_t most_requests_ = 0;
  std::vector<std::unique_ptr<Upstream>> all_;
  std::vector<Upstream*> idle_;  // the one used last is used first
  bool retired_ = false;
};

}  // namespace weft::net
