#include "agent/proxy/generation.h"

#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "mesh/base/log.h"

namespace weft::proxy {

namespace asio = boost::asio;

Generation::Generation(asio::io_context& io, std::uint32_t number, Process process, base::Fd socket,
                       const Timing& timing, Events events)
    : number_(number),
      process_(std::move(process)),
      timing_(timing),
      events_(std::move(events)),
      end_(io, fcntl(process_.pidfd.get(), F_DUPFD_CLOEXEC, 0)),
      look_timer_(io),
      drain_timer_(io) {
  wait_for_end();
  if (!socket) return;
  // A closed channel alone is no end: the process is gone, or about to be, or is found silent.
  channel_ = std::make_unique<Channel>(
      io, std::move(socket),
      Channel::Events{[this](std::string_view bytes) { receive(bytes); }, {}});
  look();
}

void Generation::send(const weft::v1::ToProxy& message, const std::vector<int>& descriptors) {
  if (channel_) channel_->send(message, descriptors);
}

void Generation::serve_now() {
  if (state_ != State::kStarting) return;
  state_ = State::kServing;
  events_.serving(*this);
}

void Generation::drain(std::chrono::milliseconds deadline) {
  const auto now = std::chrono::steady_clock::now();
  const bool first = state_ != State::kDraining;
  if (first) drained_ = now;
  const auto at = std::max(drained_ + deadline, now);
  if (!first && at >= deadline_) return;
  state_ = State::kDraining;
  deadline_ = at;
  if (channel_) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(at - now);
    weft::v1::ToProxy message;
    message.mutable_drain()->set_deadline_ms(static_cast<std::uint64_t>(left.count()));
    send(message);
  } else if (first) {
    proxy::kill(process_, SIGTERM);
  }
  // It ends by itself at the deadline; a look later it has had the time to.
  drain_timer_.expires_at(at + timing_.look);
  drain_timer_.async_wait([this, alive = std::weak_ptr(alive_)](auto error) {
    if (error || alive.expired()) return;
    why_ = "did not end by the deadline of its draining";
    kill();
  });
}

void Generation::kill() { proxy::kill(process_, SIGKILL); }

void Generation::receive(std::string_view bytes) {
  weft::v1::FromProxy message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    log::error("proxy", {{"pid", pid()}, {"error", "what it says is no message: killed"}});
    why_ = "said what is no message";
    return kill();
  }
  heard_ = true;
  silent_ = 0;
  const std::weak_ptr<int> alive = alive_;
  if (message.has_heartbeat()) heartbeat_ = message.heartbeat();
  if (message.has_applied()) apply(message.applied());
  if (!message.has_heartbeat() && !alive.expired() && events_.said) events_.said(*this, message);
}

void Generation::apply(const weft::v1::Applied& applied) {
  for (const auto& why : applied.rejected()) log::warning("proxy rejects", {{"what", why}});
  if (awaited_ && applied.generation() >= *awaited_) serve_now();
}

// Counts looks, not time: where this thread itself was late there was no look either, and what the
// proxy said meanwhile is read before the next.
void Generation::look() {
  const auto patience = heard_ ? timing_.stalled : timing_.start;
  if (silent_++ * timing_.look >= patience && !why_) {
    why_ = heard_ ? "was stalled: no heartbeat" : "never spoke";
    log::error("proxy",
               {{"pid", pid()}, {"generation", number_}, {"error", why_}, {"now", "killed"}});
    kill();
  }
  look_timer_.expires_after(timing_.look);
  look_timer_.async_wait([this, alive = std::weak_ptr(alive_)](auto error) {
    if (!error && !alive.expired()) look();
  });
}

void Generation::wait_for_end() {
  end_.async_wait(end_.wait_read, [this, alive = std::weak_ptr(alive_)](auto error) {
    if (error || alive.expired()) return;
    look_timer_.cancel();
    drain_timer_.cancel();
    channel_.reset();
    auto how = reap(process_);
    if (why_) how = std::string(why_) + "; " + how;
    const auto ended = events_.ended;
    ended(*this, how);
  });
}

}  // namespace weft::proxy
