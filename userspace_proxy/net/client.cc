#include "userspace_proxy/net/client.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "userspace_proxy/net/stream.h"
#include "userspace_proxy/net/worker.h"

namespace weft::net {
namespace {

constexpr std::uint64_t kLingerMs = 2000;
constexpr std::uint64_t kDrainQuietMs = 1000;
constexpr std::uint64_t kLookMs = 10;
constexpr std::uint8_t kMostLooks = 100;
constexpr std::size_t kHeldMost = 64 * 1024;  // of requests that wait behind one that is under way

bool is_token_byte(unsigned char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
}

}  // namespace

Client::Client(Worker& worker, Dialled dialled, CallerPtr caller, std::uint64_t pool_owner)
    : Socket(worker.loop()),
      worker_(worker),
      dialled_(dialled),
      caller_(std::move(caller)),
      pool_owner_(pool_owner),
      reader_(worker.limits(), worker.request_head(), worker.request_trailers()),
      timer_([this] { on_time(); }) {}

Client::~Client() { worker_.gather().drop(*this); }

void Client::start(base::Fd fd) {
  if (!open(std::move(fd))) return worker_.remove(*this);
  look_for_service();
}

// The kernel captures for a service that is new a moment before this process is told of it.
void Client::look_for_service() {
  service_ = worker_.service(dialled_);
  if (!service_ && (service_ = worker_.service_that_went(dialled_))) draining_ = true;
  epoch_ = worker_.epoch();
  want_read(service_ != nullptr);
  if (!service_) return look_again();
  if (!service_->config->tunnel) mode_ = Mode::kHttp;
  set_timer();
}

void Client::look_again() {
  if (looks_++ < kMostLooks) return loop_.set(timer_, kLookMs);
  ++worker_.metrics().without_origin;
  worker_.remove(*this);
}

bool Client::takes_request() const { return (!stream_ || is_trying()) && !backlog(); }

// One timer for whatever is waited for; moving it on costs a store.
void Client::set_timer() {
  note_waiting();
  if (broken_) return;
  const auto& options = worker_.options();
  auto wait = options.stall_timeout;
  if (mode_ == Mode::kLinger)
    wait = std::chrono::milliseconds(kLingerMs);
  else if (takes_request() && !(reader_.at_start() && in_.empty()))
    wait = options.head_timeout;
  else if (mode_ == Mode::kSniff && !stream_)
    wait = options.detect_timeout;
  else if (takes_request())
    wait = draining_ ? std::chrono::milliseconds(kDrainQuietMs) : options.idle_timeout;
  loop_.set(timer_, static_cast<std::uint64_t>(wait.count()));
}

// Nothing of its next request has come, or of a tunnel.
void Client::note_waiting() {
  const bool waits = !broken_ && !closing_ && takes_request() && in_.empty() &&
                     reader_.at_start() && (mode_ == Mode::kSniff || mode_ == Mode::kHttp);
  if (!waits) return leave();
  if (served_)
    worker_.idle().join(*this, loop_.now_ms());
  else if (!WaitingLink::waits())
    worker_.silent().join(*this, loop_.now_ms());
}

bool Client::has_unread() const {
  char byte;
  return recv(fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void Client::on_time() {
  if (!service_) return look_for_service();
  if (broken_) return gone(FlagBit::kDownstreamClosed);
  if (mode_ == Mode::kSniff && !stream_ && in_.empty()) return try_tunnel();
  if (is_trying()) drop_trial();
  if (draining_ && is_idle() && !backlog()) return linger();
  if (!stream_ && (mode_ == Mode::kLinger || backlog() || (reader_.at_start() && in_.empty())))
    return worker_.remove(*this);
  if (!stream_) {
    // A head that does not come to its end: whoever sends so slowly holds a connection and nothing
    // else.
    http::Event late;
    late.status = 408;
    late.why = "the request's head did not come in time";
    return refuse(late);
  }
  // A response may take as long as it likes (that is a route's timeout); a body or a reader that
  // stands still may not, nor one side when the other has ended: who closed and who only
  // half-closed look alike.
  if (backlog() || !stream_->request_done() || eof_ || stream_->upstream_ended())
    return gone(FlagBit::kStreamIdle);
  set_timer();
}

bool Client::takes() const {
  if (closing_ || broken_ || mode_ == Mode::kLinger) return false;
  // An answer that waits for a slow reader holds the next request up.
  if (!stream_ || is_trying()) return takes_request();
  return !stream_->request_done() && stream_->wants_body();
}

void Client::on_readable() {
  if (mode_ == Mode::kTunnel) return read_tunnel();
  auto& scratch = worker_.scratch();
  const auto got = receive(scratch.data(), scratch.size());
  if (got < 0 && errno == EAGAIN) return;
  if (got < 0) return gone(FlagBit::kDownstreamClosed);
  if (mode_ == Mode::kLinger) {
    if (got == 0) worker_.remove(*this);
    return;  // thrown away
  }
  if (got == 0) {
    eof_ = true;
    want_read(false);
  }
  const std::string_view input(scratch.data(), static_cast<std::size_t>(got));
  if (in_.empty()) return process(input, false);
  in_.append(input);
  if (takes()) return process(in_.view(), true);
  want_read(wants_input());
}

void Client::process(std::string_view input, bool held) {
  again_ = true;
  // An answer that comes at once asks for the next request: a loop, since clients may send
  // thousands of them in a row.
  if (working_) return;
  working_ = true;
  while (is_open() && mode_ != Mode::kTunnel && std::exchange(again_, false)) {
    advance(input, held);
    input = in_.view();
    held = true;
  }
  working_ = false;
  if (!is_open() || mode_ == Mode::kTunnel || mode_ == Mode::kLinger || closing_) return;
  want_read(wants_input());
  set_timer();
}

void Client::advance(std::string_view input, bool held) {
  const auto whole = input.size();
  while (is_open() && takes() && mode_ != Mode::kTunnel && step(input)) {
  }
  if (!is_open() || mode_ == Mode::kLinger) return;
  if (mode_ == Mode::kTunnel) {
    const std::string rest(input);
    in_.clear();
    if (!rest.empty() && stream_) stream_->on_client_tunnel(rest);
    if (eof_ && stream_) stream_->on_client_tunnel_end();
    return;
  }
  if (!held || input.size() != whole) hold(input, held);
  if (stream_) stream_->on_input_pause();
}

// A request that is under way may be followed by so much of others; of its body comes what the
// endpoint takes.
bool Client::wants_input() const {
  if (eof_) return false;
  if (takes()) return true;
  return (!stream_ || stream_->request_done()) && in_.size() < kHeldMost;
}

void Client::hold(std::string_view rest, bool held) {
  if (held)
    in_.take(in_.size() - rest.size());
  else
    in_.append(rest);
}

bool Client::step(std::string_view& input) {
  if (mode_ == Mode::kSniff) {
    if (input.empty()) {
      if (eof_ && !stream_) worker_.remove(*this);     // who only looked whether anybody listens
      if (eof_ && is_trying()) mode_ = Mode::kTunnel;  // a server may speak to who says nothing
      if (mode_ == Mode::kTunnel) set_timer();
      return false;
    }
    if (!sniff(input)) return false;
  }
  const auto event = reader_.next(input, eof_);
  input.remove_prefix(event.used);
  switch (event.kind) {
    case http::Event::Kind::kNeedMore:
      if (eof_ && !stream_) worker_.remove(*this);
      return false;
    case http::Event::Kind::kHead:
      return begin(reader_.head());
    case http::Event::Kind::kData:
      if (stream_) stream_->on_body(event.data);
      return true;
    case http::Event::Kind::kEnd:
      if (stream_) stream_->on_body_end(reader_.trailers());
      return true;
    case http::Event::Kind::kTunnel:
      return false;
    case http::Event::Kind::kError:
      refuse(event);
      return false;
  }
  return false;
}

// Whether it is HTTP/1: a method's letters, and a space after them. Anything else on a port that
// may be anything is passed on as it is, HTTP/2's preface too.
bool Client::sniff(std::string_view input) {
  std::size_t i = 0;
  while (i < input.size() && i < 24 && is_token_byte(static_cast<unsigned char>(input[i]))) ++i;
  const bool is_http = i > 0 && (i == input.size() ? i < 24 : input[i] == ' ') &&
                       !input.starts_with("PRI ") && (input[0] < 'a' || input[0] > 'z');
  if (is_http && i == input.size() && !eof_) return false;  // the method is not whole yet
  const bool crlf = input[0] == '\r' || input[0] == '\n';
  if (is_http || crlf) {
    drop_trial();
    mode_ = Mode::kHttp;
    return true;
  }
  mode_ = Mode::kTunnel;
  if (!stream_) {  // or an endpoint is asked already
    stream_ = worker_.new_stream();
    stream_->begin_tunnel(*this, service_);
  }
  if (stream_) set_timer();
  return false;
}

// A client of MySQL or SMTP waits for its server's greeting. So an endpoint is connected, and the
// first byte decides: the endpoint's, or one of the client's that is no HTTP, makes it a tunnel; a
// request that comes late is read as any other.
void Client::try_tunnel() {
  stream_ = worker_.new_stream();
  stream_->begin_tunnel(*this, service_);
  if (is_trying()) set_timer();
}

void Client::drop_trial() {
  auto stream = std::move(stream_);
  if (!stream) return;
  stream->withdraw();
  worker_.recycle(std::move(stream));
}

bool Client::begin(http::RequestHead& head) {
  if (epoch_ != worker_.epoch()) {
    // A service that is gone serves what it has: its connections are told to close, and dial anew.
    if (auto service = worker_.service(dialled_))
      service_ = std::move(service);
    else
      draining_ = true;
    epoch_ = worker_.epoch();
  }
  keep_ = head.keep_alive;
  served_ = true;
  stream_ = worker_.new_stream();
  stream_->begin(*this, service_, head);
  return is_open();
}

void Client::refuse(const http::Event& event) {
  ++worker_.metrics().refused_heads;
  if (stream_) {
    if (eof_) return gone(FlagBit::kDownstreamClosed);
    keep_ = false;
    return stream_->refuse(event.status, event.why);
  }
  const std::string body = std::string("weft: ") + event.why + "\n";
  std::string head;
  http::Fields fields;
  fields.add("content-type", "text/plain", http::Known::kOther);
  http::WriteResponse line;
  line.status = event.status;
  line.keep_alive = false;
  http::write_head(line, fields, http::Framing::kLength, body.size(), head);
  head += body;
  worker_.metrics().observe({caller_.get(), service_->clusters[0]->config().who.get(), event.status,
                             flag(FlagBit::kDownstreamProtocol)},
                            0, 0, body.size(), loop_.now_ms());
  if (!Socket::send(head)) return worker_.remove(*this);
  linger();
}

// Closing with bytes unread resets the connection, and the peer may never see what it was told: so
// the rest is read and thrown away for a while (RFC 9112 9.6).
void Client::linger() {
  if (broken_) return worker_.remove(*this);
  if (backlog()) {
    closing_ = true;
    want_read(false);
    return set_timer();
  }
  shutdown(fd(), SHUT_WR);
  if (eof_) return worker_.remove(*this);
  mode_ = Mode::kLinger;
  in_.clear();
  want_read(true);
  set_timer();
}

void Client::on_writable() {
  const auto flushed = flush();
  if (flushed == Flushed::kBroken) return gone(FlagBit::kDownstreamClosed);
  set_timer();
  if (flushed == Flushed::kSome) return;
  if (closing_) {
    closing_ = false;
    return linger();
  }
  if (mode_ == Mode::kTunnel && shut_after_backlog_) shutdown(fd(), SHUT_WR);
  if (stream_)
    stream_->on_client_drained();
  else
    process(in_.view(), true);  // also the end of a message that was answered before it
}

void Client::on_broken() {
  // Both ends of a tunnel were told that it is over, but what was sent before is still on its way.
  if (mode_ == Mode::kTunnel && eof_ && stream_) return look_away();
  gone(FlagBit::kDownstreamClosed);
}

void Client::gone(FlagBit why) {
  if (!is_open()) return;
  worker_.gather().drop(*this);
  close();
  if (auto stream = std::move(stream_)) {
    stream->on_client_gone(why);
    worker_.recycle(std::move(stream));
  }
  worker_.remove(*this);
}

void Client::close_now() {
  worker_.gather().drop(*this);
  timer_.cancel();
  close();
  if (auto stream = std::move(stream_)) {
    stream->on_client_gone(FlagBit::kDownstreamClosed);
    worker_.recycle(std::move(stream));
  }
}

void Client::start_shadow(std::shared_ptr<LocalService> service,
                          std::shared_ptr<LocalCluster> cluster, std::string request,
                          bool head_only) {
  shadow_ = true;
  mode_ = Mode::kHttp;
  service_ = std::move(service);
  stream_ = worker_.new_stream();
  stream_->begin_shadow(*this, service_, std::move(cluster), std::move(request), head_only);
}

void Client::abort() {
  if (shadow_) return finished(false);
  if (!is_open()) return;
  worker_.gather().drop(*this);
  // A reset and no clean end: what was sent of the response must not pass for all of it.
  const ::linger hard{1, 0};
  setsockopt(fd(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close();
  if (stream_) worker_.recycle(std::move(stream_));
  worker_.remove(*this);
}

bool Client::may_keep() const {
  return keep_ && !(eof_ && in_.empty()) && !draining_ && !worker_.draining();
}

void Client::finished(bool keep) {
  auto stream = std::move(stream_);
  worker_.recycle(std::move(stream));
  if (shadow_) return worker_.remove_shadow(*this);
  if (!is_open()) return;
  const bool over = !keep || draining_ || worker_.draining();
  if (over || !in_.empty() || eof_) {
    // What was gathered for it goes before whatever is said next, and before the end.
    if (worker_.gather().collects_for(*this)) worker_.gather().end();
    if (!is_open()) return;
  }
  if (over) return linger();
  if (working_ || !in_.empty() || eof_) return process(in_.view(), true);
  want_read(true);
  set_timer();
}

void Client::resume() {
  if (!is_open()) return;
  if (mode_ == Mode::kTunnel) return want_read(!eof_);
  // Also with nothing left to read: the end of the body may still have to be told.
  if (takes()) return process(in_.view(), true);
  want_read(wants_input());
}

void Client::become_tunnel() {
  mode_ = Mode::kTunnel;
  reader_.tunnel();
  want_read(!eof_);
  set_timer();
  const auto held = std::exchange(in_, {});
  if (!held.empty()) stream_->on_client_tunnel(held.view());
  if (eof_ && stream_) stream_->on_client_tunnel_end();
}

void Client::tunnel(std::string_view bytes) {
  if (is_trying()) become_tunnel();
  auto& gather = worker_.gather();
  // Behind the 101 that came with it.
  if (gather.collects_for(*this)) return gather.add(bytes);
  write({&bytes, 1});
}

void Client::end_tunnel_writing() {
  if (is_trying()) become_tunnel();
  if (backlog())
    shut_after_backlog_ = true;
  else
    shutdown(fd(), SHUT_WR);
}

void Client::read_tunnel() {
  auto& scratch = worker_.scratch();
  const auto got = receive(scratch.data(), scratch.size());
  if (got < 0 && errno == EAGAIN) return;
  if (got < 0) return gone(FlagBit::kDownstreamClosed);
  set_timer();
  if (got == 0) {
    eof_ = true;
    want_read(false);
    return stream_->on_client_tunnel_end();
  }
  stream_->on_client_tunnel({scratch.data(), static_cast<std::size_t>(got)});
}

void Client::drain() {
  draining_ = true;
  // One that was just accepted has its request on the way, and one that is in use may have its next
  // one: that is answered, and the answer says that the connection ends.
  if (is_idle() || is_trying()) set_timer();
}

bool Client::is_idle() const {
  return service_ && !stream_ && mode_ != Mode::kLinger && in_.empty() && reader_.at_start();
}

}  // namespace weft::net
