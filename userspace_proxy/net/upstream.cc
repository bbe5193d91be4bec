#include "userspace_proxy/net/upstream.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "userspace_proxy/net/stream.h"
#include "userspace_proxy/net/worker.h"

namespace weft::net {
namespace {

constexpr std::uint32_t kMostInterims = 32;  // of one response; more is an endpoint gone wrong

socklen_t fill(const Endpoint& endpoint, sockaddr_storage& storage) {
  if (endpoint.address.family() == model::Family::kIpv4) {
    auto& address = reinterpret_cast<sockaddr_in&>(storage);
    address.sin_family = AF_INET;
    address.sin_port = htons(endpoint.port);
    std::memcpy(&address.sin_addr, endpoint.address.bytes.data() + 12, 4);
    return sizeof address;
  }
  auto& address = reinterpret_cast<sockaddr_in6&>(storage);
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(endpoint.port);
  std::memcpy(&address.sin6_addr, endpoint.address.bytes.data(), 16);
  return sizeof address;
}

}  // namespace

Upstream::Upstream(Worker& worker, Pool& pool, Place place)
    : Socket(worker.loop()),
      worker_(worker),
      pool_(&pool),
      reader_(worker.limits(), worker.response_head(), worker.response_trailers()),
      timer_([this] { on_time(); }),
      place_(std::move(place)) {
  ++worker_.metrics().upstreams;
}

Upstream::~Upstream() { --worker_.metrics().upstreams; }

std::string Upstream::peer_text() const {
  const auto& endpoint = pool_->endpoint();
  return endpoint.address.to_text() + ":" + std::to_string(endpoint.port);
}

void Upstream::begin(Stream& stream) {
  stream_ = &stream;
  ++served_;
  interims_ = 0;
  if (state_ == State::kIdle) {
    timer_.cancel();
    leave();
    state_ = State::kBusy;
    ++worker_.metrics().upstream_reused;
    return connected();
  }
  loop_.set(timer_, static_cast<std::uint64_t>(pool_->connect_timeout_.count()));
  self_ = std::make_shared<Upstream*>(this);
  worker_.sockets().take(pool_->netns_cookie(), pool_->endpoint().address.family(),
                         [weak = std::weak_ptr(self_)](base::Fd fd, int error) {
                           if (const auto self = weak.lock())
                             (*self)->take_socket(std::move(fd), error);
                         });
}

void Upstream::take_socket(base::Fd fd, int error) {
  if (state_ != State::kNew) return;
  if (!fd) return failed(error);
  sockaddr_storage address{};
  const auto length = fill(pool_->endpoint(), address);
  const int result = ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), length);
  if (result < 0 && errno != EINPROGRESS) return failed(errno);
  ++worker_.metrics().upstream_opened;
  state_ = State::kConnecting;
  if (!open(std::move(fd), true)) return failed(errno);
}

void Upstream::connected() {
  if (stream_->is_tunnel()) {
    state_ = State::kTunnel;
    return stream_->on_tunnel_connected();
  }
  reader_.expect(stream_->is_head_only(), /*is_connect=*/false, stream_->asked_upgrade());
  push();
}

void Upstream::failed(int error) {
  ++worker_.metrics().upstream_failed;
  auto* stream = std::exchange(stream_, nullptr);
  const auto was = state_;
  abandon();
  if (stream) stream->on_upstream_failed(was == State::kNew || was == State::kConnecting, error);
}

void Upstream::push() {
  if (state_ != State::kBusy) return;
  while (true) {
    const auto rest = stream_->unsent();
    if (rest.empty()) {
      want_write(false);
      return stream_->on_sent_all();
    }
    const auto sent = ::send(fd(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return want_write(true);
    // What the endpoint said before it closed is worth reading: an early answer, or the reason.
    if (sent < 0) return want_write(false);
    stream_->sent(static_cast<std::size_t>(sent));
  }
}

void Upstream::resume() {
  if ((state_ == State::kBusy || state_ == State::kTunnel) && !eof_) want_read(true);
}

void Upstream::on_writable() {
  if (state_ == State::kConnecting) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(fd(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) return failed(error);
    timer_.cancel();
    state_ = State::kBusy;
    want_write(false);
    return connected();
  }
  if (state_ == State::kBusy) return push();
  if (state_ != State::kTunnel) return;
  if (flush() == Flushed::kBroken) return failed(errno);
  if (backlog()) return;
  if (shut_after_backlog_) shutdown(fd(), SHUT_WR);
  stream_->on_tunnel_drained();
}

void Upstream::tunnel(std::string_view bytes) {
  if (write_failed_ || send(bytes)) return;
  // Reading tells: what the endpoint said before it closed comes first.
  write_failed_ = true;
  want_write(false);
}

void Upstream::end_tunnel_writing() {
  if (backlog())
    shut_after_backlog_ = true;
  else
    shutdown(fd(), SHUT_WR);
}

void Upstream::on_broken() {
  if (eof_) return failed(ECONNRESET);
  // What it sent before it broke off is still there to be read, when the client has taken the rest.
  look_away();
}

void Upstream::on_time() {
  if (state_ == State::kIdle) return abandon();
  if (state_ == State::kNew || state_ == State::kConnecting) failed(ETIMEDOUT);
}

void Upstream::on_readable() {
  if (state_ == State::kConnecting) return on_writable();
  if (state_ == State::kTunnel) return read_tunnel();
  // Nothing is expected of an idle one: bytes or an end, it is of no use any more.
  if (state_ != State::kBusy) return abandon();
  auto& scratch = worker_.scratch();
  const auto got = receive(scratch.data(), scratch.size());
  if (got < 0 && errno == EAGAIN) return;
  if (got < 0) return failed(errno);
  const std::string_view input(scratch.data(), static_cast<std::size_t>(got));
  if (in_.empty()) return parse(input, got == 0);
  in_.append(input);
  auto held = std::move(in_);
  in_.clear();
  parse(held, got == 0);
}

void Upstream::parse(std::string_view input, bool eof) {
  worker_.gather().begin(*stream_);
  while (true) {
    const auto event = reader_.next(input, eof);
    input.remove_prefix(event.used);
    if (event.kind == http::Event::Kind::kNeedMore) break;
    // It ended before its answer did; whether that can be tried again, the stream knows.
    if (event.kind == http::Event::Kind::kError && eof) break;
    extra_ = !input.empty();
    if (!handle(event)) return worker_.gather().end();
  }
  if (!input.empty()) in_.assign(input);
  worker_.gather().end();
  // A clean end is told by the reader; here the response was cut off.
  if (eof) return failed(ECONNRESET);
  if (stream_ && stream_->client()->waiting()) want_read(false);
}

// False: the stream is done with this connection, or never was.
bool Upstream::handle(const http::Event& event) {
  switch (event.kind) {
    case http::Event::Kind::kHead:
      interim_ = reader_.head().status < 200 && reader_.head().status != 101;
      if (interim_ && ++interims_ > kMostInterims) return nonsense("too many interim responses");
      stream_->on_response_head(reader_.head());
      return stream_ != nullptr;
    case http::Event::Kind::kData:
      stream_->on_response_data(event.data);
      return stream_ != nullptr;
    case http::Event::Kind::kEnd:
      if (std::exchange(interim_, false)) return true;
      stream_->on_response_end(reader_.trailers());
      return stream_ != nullptr;
    case http::Event::Kind::kTunnel:
      state_ = State::kTunnel;
      stream_->on_tunnel_data(event.data);
      return stream_ && !event.data.empty();
    default:
      return nonsense(event.why);
  }
}

bool Upstream::nonsense(const char* why) {
  auto* stream = std::exchange(stream_, nullptr);
  abandon();
  stream->on_upstream_nonsense(why);
  return false;
}

void Upstream::read_tunnel() {
  auto& scratch = worker_.scratch();
  const auto got = receive(scratch.data(), scratch.size());
  if (got < 0 && errno == EAGAIN) return;
  if (got < 0) return failed(errno);
  if (got == 0) {
    if (write_failed_) return failed(ECONNRESET);  // that took the error; this is no orderly end
    eof_ = true;
    want_read(false);
    return stream_->on_tunnel_end();
  }
  stream_->on_tunnel_data({scratch.data(), static_cast<std::size_t>(got)});
}

void Upstream::release() {
  stream_ = nullptr;
  const bool reusable = state_ == State::kBusy && reader_.is_reusable() && in_.empty() && !extra_ &&
                        !pool_->retired() &&
                        !worker_.is_wanted_elsewhere(*pool_->endpoint().shares) &&
                        (!pool_->most_requests_ || served_ < pool_->most_requests_);
  if (!reusable) return abandon();
  state_ = State::kIdle;
  want(true, false);
  loop_.set(timer_, static_cast<std::uint64_t>(pool_->idle_timeout_.count()));
  worker_.idle_upstreams().join(*this, loop_.now_ms());
  pool_->put_back(*this);
}

void Upstream::abandon() {
  if (state_ == State::kClosed) return;
  self_.reset();
  stream_ = nullptr;
  timer_.cancel();
  leave();
  state_ = State::kClosed;
  close();
  place_.give_back();
  pool_->remove(*this);
}

Pool::Pool(Worker& worker, const Cluster& cluster, const Endpoint& endpoint, CallerPtr caller,
           std::uint64_t netns_cookie)
    : worker_(worker),
      endpoint_(endpoint),
      caller_(std::move(caller)),
      netns_cookie_(netns_cookie) {
  adopt(cluster);
}

void Pool::adopt(const Cluster& cluster) {
  connect_timeout_ = cluster.connect_timeout;
  idle_timeout_ = cluster.limits.idle_timeout;
  most_requests_ = cluster.limits.max_per_connection;
}

Upstream& Pool::take_idle() {
  auto& upstream = *idle_.back();
  idle_.pop_back();
  return upstream;
}

Upstream& Pool::add(Place place) {
  if (owner_count) ++*owner_count;
  auto& upstream = *all_.emplace_back(std::make_unique<Upstream>(worker_, *this, std::move(place)));
  upstream.index_ = static_cast<std::uint32_t>(all_.size() - 1);
  return upstream;
}

void Pool::close_idle() { idle_.front()->abandon(); }

void Pool::put_back(Upstream& upstream) {
  idle_.push_back(&upstream);
  worker_.room_came(*endpoint_.shares);
}

void Pool::remove(Upstream& upstream) {
  std::erase(idle_, &upstream);
  if (owner_count) --*owner_count;
  const auto index = upstream.index_;
  auto gone = std::move(all_[index]);
  if (index + 1 != all_.size()) {
    all_[index] = std::move(all_.back());
    all_[index]->index_ = index;
  }
  all_.pop_back();
  worker_.loop().bury(std::move(gone));
  worker_.room_came(*endpoint_.shares);
}

void Pool::retire() {
  retired_ = true;
  const auto idle = idle_;
  for (auto* upstream : idle) upstream->abandon();
}

}  // namespace weft::net
