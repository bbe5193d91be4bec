// A captured connection: what its owner sends is read as HTTP/1.1, one request at a time, or passed
// on as it is.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "userspace_proxy/http/codec.h"
#include "userspace_proxy/net/config.h"
#include "userspace_proxy/net/flags.h"
#include "userspace_proxy/net/held_bytes.h"
#include "userspace_proxy/net/socket.h"
#include "userspace_proxy/net/waiting_list.h"

namespace weft::net {

class Stream;
class LocalCluster;
class Worker;
struct LocalService;

class Client final : public Socket, public WaitingLink {
 public:
  Client(Worker& worker, Dialled dialled, CallerPtr caller, std::uint64_t pool_owner);
  ~Client() override;

  void start(base::Fd fd);
  // Nobody at all, for a request that is mirrored: what it is answered is thrown away.
  void start_shadow(std::shared_ptr<LocalService> service, std::shared_ptr<LocalCluster> cluster,
                    std::string request, bool head_only);

  // --- for its stream ---
  // Pieces of the response; views that are valid until the worker's gather() ends.
  void respond(const http::WriteResponse& line, const http::Fields& fields, http::Framing framing,
               std::uint64_t content_length);
  void respond_data(std::string_view data, bool chunked);
  void respond_copy(std::string_view text);  // the same for what goes before gather() ends
  void respond_end(bool chunked, const http::Fields& trailers);
  void write(std::span<const std::string_view> pieces);
  void tunnel(std::string_view bytes);
  void become_tunnel();  // after 101, or a server's first byte: what is read from now on is the
                         // stream's as it is
  void end_tunnel_writing();
  void pause() { want_read(false); }
  void resume();  // the stream takes more of the request, or of the tunnel
  // The stream is over. `keep`: another request may follow on this connection.
  void finished(bool keep);
  void abort();  // in the middle of a response: all that tells is the end of the connection

  void keep_no_longer() { keep_ = false; }
  bool may_keep() const;  // whether a response can say keep-alive
  const CallerPtr& caller() const { return caller_; }
  std::uint64_t pool_owner() const { return pool_owner_; }
  const Dialled& dialled() const { return dialled_; }
  std::size_t waiting() const { return backlog(); }
  bool is_open() const { return Socket::is_open(); }

  // --- for the worker, when there is no more room ---
  bool has_unread() const;  // it does not wait: its next bytes are here and nobody has looked yet
  void drain();  // this process goes: after the request that is under way or comes within a second,
                 // without one after that

 private:
  void close_now();
  enum class Mode : std::uint8_t { kSniff, kHttp, kTunnel, kLinger };

  void on_readable() override;
  void on_writable() override;
  void on_broken() override;
  void process(std::string_view input, bool held);
  void advance(std::string_view input, bool held);
  bool step(std::string_view& input);  // false: nothing more can be done with what there is
  bool begin(http::RequestHead& head);
  bool sniff(std::string_view input);
  void try_tunnel();  // nothing came: the server may be the one who speaks first
  bool is_trying() const { return mode_ == Mode::kSniff && stream_; }
  void drop_trial();
  bool takes_request() const;
  void refuse(const http::Event& event);
  void hold(std::string_view rest, bool held);
  void read_tunnel();
  void linger();
  void gone(FlagBit why);
  void look_for_service();
  void look_again();
  void set_timer();
  void note_waiting();
  void on_time();
  bool takes() const;  // whether the next bytes can be worked on now
  bool wants_input() const;
  bool is_idle() const;  // between two requests

  Worker& worker_;
  Dialled dialled_;
  CallerPtr caller_;
  std::uint64_t pool_owner_;  // whose address upstream connections have
  std::shared_ptr<LocalService> service_;
  std::uint64_t epoch_ = 0;  // of the worker's configuration when service_ was looked up
  http::RequestReader reader_;
  HeldBytes in_;  // that could not be worked on yet
  std::unique_ptr<Stream> stream_;
  Timer timer_;
  Mode mode_ = Mode::kSniff;
  bool eof_ = false, keep_ = true, working_ = false, again_ = false, draining_ = false,
       shut_after_backlog_ = false;
  bool closing_ = false;  // after what waits was sent
  bool broken_ = false;   // nothing can be written any more
  bool removed_ = false, shadow_ = false;
  bool served_ = false;     // it had a request
  std::uint8_t looks_ = 0;  // for a service that is not known yet
  std::uint32_t place_ = 0;
  friend class Worker;
};

}  // namespace weft::net
