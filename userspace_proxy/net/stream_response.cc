// What comes back, what goes wrong, and what is tried again.
#include <algorithm>
#include <cerrno>

#include "userspace_proxy/net/stream.h"
#include "userspace_proxy/net/worker.h"

namespace weft::net {
namespace {

constexpr std::uint32_t kDefaultRetries = 2;
constexpr std::uint32_t kRetriesAlways = 3;        // at once, whatever the budget says
constexpr std::uint32_t kRetryBudgetPercent = 20;  // of the requests in flight
constexpr std::uint32_t kLongestBackoff = 10;      // times the base

bool has(std::uint16_t on, model::RetryOn bit) { return on & static_cast<std::uint16_t>(bit); }

std::uint32_t reason_of(int error) {
  switch (error) {
    case ECONNREFUSED:
      return WEFT_BREAKER_REFUSED;
    case ETIMEDOUT:
      return WEFT_BREAKER_TIMEOUT;
    case EHOSTUNREACH:
    case ENETUNREACH:
      return WEFT_BREAKER_UNREACHABLE;
    case ECONNRESET:
    case EPIPE:
      return WEFT_BREAKER_RESET;
    default:
      return WEFT_BREAKER_NONE;  // of our own making: no descriptor, no port
  }
}

}  // namespace

void Stream::account_status(std::uint16_t status) {
  auto& shares = *endpoint_->shares;
  worker_.breaker().on_status(shares, status, std::exchange(probe_, false),
                              worker_.loop().now_ms());
  note_response_time();
}

// Also of what was not answered in time: it took that long at least.
void Stream::note_response_time() {
  const auto us = std::min<std::uint64_t>((worker_.loop().now_ns() - tried_ns_) / 1000, 1u << 30);
  endpoint_->shares->response_time.note(static_cast<std::uint32_t>(us), worker_.loop().now_ms());
}

void Stream::on_response_head(http::ResponseHead& head) {
  if (head.status < 200 && head.status != 101) {
    if (minor_ == 0) return;  // an HTTP/1.0 client knows of no interim responses
    http::WriteResponse line;
    line.status = head.status;
    line.reason = head.reason;
    return client_->respond(line, head.fields, http::Framing::kNone, 0);
  }
  try_deadline_.cancel();
  account_status(head.status);
  if (may_retry(Failure::kStatus, head.status) && reserve_retry()) {
    drop_upstream();
    return retry(Failure::kStatus);
  }
  response_started_ = true;
  status_ = head.status;
  add_response_edits(head);
  if (log_) log_->upstream = upstream_->peer_text();
  http::WriteResponse line;
  line.status = head.status;
  line.reason = head.reason;
  line.minor = minor_;
  line.head_only = head_only_;
  line.has_content_length = head.has_content_length;
  auto framing = head.framing;
  if (framing == http::Framing::kChunked || framing == http::Framing::kUntilClose)
    framing = minor_ ? http::Framing::kChunked : http::Framing::kUntilClose;
  chunked_response_ = framing == http::Framing::kChunked;
  // An answer before the request was whole: neither side can be used for another.
  response_keep_ = framing != http::Framing::kUntilClose && client_->may_keep() && request_whole();
  line.keep_alive = response_keep_;
  if (head.framing == http::Framing::kTunnel) {
    upgraded_ = true;
    line.upgrade = head.upgrade;
    upstream_->become_tunnel();
    client_->respond(line, head.fields, framing, 0);
    deadline_.cancel();
    return client_->become_tunnel();
  }
  client_->respond(line, head.fields, framing, head.content_length);
}

void Stream::on_response_data(std::string_view data) {
  bytes_out_ += data.size();
  client_->respond_data(data, chunked_response_);
}

void Stream::on_response_end(const http::Fields& trailers) {
  client_->respond_end(chunked_response_, trailers);
  auto* upstream = std::exchange(upstream_, nullptr);
  if (!upstream) return;  // the client went away meanwhile
  leave();
  response_keep_ &= request_whole();
  if (request_whole() && unsent().empty())
    upstream->release();
  else
    upstream->abandon();
  finish();
}

// --- failures ---

bool Stream::may_retry(Failure failure, std::uint16_t status) const {
  if (response_started_ || !replayable_ || tunnel_ || asked_upgrade_) return false;
  const auto* wish = rule_ && rule_->retries ? &*rule_->retries : nullptr;
  if (attempts_ >= (wish ? wish->attempts : kDefaultRetries)) return false;
  if (!wish || !wish->on) {
    if (failure == Failure::kConnect) return true;
    return failure == Failure::kReset && idempotent_;
  }
  using enum model::RetryOn;
  switch (failure) {
    case Failure::kConnect:
      return has(wish->on, kConnectFailure) || has(wish->on, k5xx) || has(wish->on, kRefusedStream);
    case Failure::kReset:
      return has(wish->on, kReset) || has(wish->on, k5xx);
    case Failure::kTimeout:
      return has(wish->on, k5xx) || has(wish->on, kGateway) || has(wish->on, kReset);
    case Failure::kStatus:
      return (has(wish->on, k5xx) && status >= 500) ||
             (has(wish->on, kGateway) && status >= 502 && status <= 504) ||
             (has(wish->on, kRetriable4xx) && status == 409) ||
             (has(wish->on, kStatuses) && std::find(wish->statuses.begin(), wish->statuses.end(),
                                                    status) != wish->statuses.end());
  }
  return false;
}

// False where the budget says no: when everything fails, retries make it worse (SRE book, ch. 22).
bool Stream::reserve_retry() {
  if (retrying_) return true;
  const auto budget =
      std::max(kRetriesAlways, counts().requests.load() * kRetryBudgetPercent / 100);
  const auto limit = cluster_->config().limits.max_retries;
  if (!reserve(counts().retries, limit ? limit : budget)) {
    ++worker_.metrics().retry_overflow;
    flags_ |= flag(FlagBit::kUpstreamOverflow);
    return false;
  }
  retrying_ = true;
  return true;
}

void Stream::retry(Failure failure) {
  ++worker_.metrics().retries;
  ++attempts_;
  tried_.push_back(endpoint_->shares.get());
  const auto fresh = tried_.size() < cluster_->config().endpoints.size();
  // Another endpoint first, and at once: the first time after any failure of a connection, and for
  // as long as there is one that was not asked where an endpoint took no connection at all.
  if (fresh && (failure == Failure::kConnect || (attempts_ == 1 && failure != Failure::kStatus)))
    return attempt();
  const auto base =
      static_cast<std::uint32_t>(rule_ && rule_->retries ? rule_->retries->backoff.count() : 25);
  const auto most = base * std::min(1u << std::min(attempts_, 10u), kLongestBackoff);
  worker_.loop().set(backoff_, worker_.random().below(most + 1));
}

void Stream::leave() {
  try_deadline_.cancel();
  stop_waiting();
  auto* column = std::exchange(column_, nullptr);
  if (column && is_current(*endpoint_->shares)) one_less(*column);
}

void Stream::drop_upstream() {
  leave();
  settle_probe();
  if (auto* upstream = std::exchange(upstream_, nullptr)) upstream->abandon();
}

void Stream::settle_probe() {
  if (std::exchange(probe_, false))
    worker_.breaker().lose(*endpoint_->shares, worker_.loop().now_ms());
}

void Stream::on_upstream_failed(bool connecting, int error) {
  const bool reused = upstream_ && upstream_->was_used();
  upstream_ = nullptr;
  leave();
  if (tunnel_ || upgraded_) {
    if (const auto reason = reason_of(error); reason && tunnel_ && connecting)
      worker_.breaker().charge(*endpoint_->shares, reason, std::exchange(probe_, false),
                               worker_.loop().now_ms());
    settle_probe();
    if (tunnel_ && connecting && attempts_ < kDefaultRetries) {
      ++attempts_;
      tried_.push_back(endpoint_->shares.get());
      return attempt_tunnel();
    }
    flags_ |= flag(connecting ? FlagBit::kUpstreamFailure : FlagBit::kUpstreamReset);
    record();
    return client_->abort();
  }
  if (response_started_) {
    flags_ |= flag(FlagBit::kUpstreamReset);
    record();
    return client_->abort();
  }
  // Whoever closes an idle connection just when it is used again did not fail the request.
  if (!connecting && reused && idempotent_ && replayable_ && !stale_retry_) {
    stale_retry_ = true;
    settle_probe();
    return attempt();
  }
  if (const auto reason = reason_of(error); reason && (connecting || !reused))
    worker_.breaker().charge(*endpoint_->shares, reason, std::exchange(probe_, false),
                             worker_.loop().now_ms());
  endpoint_->shares->response_time.renew(worker_.loop().now_ms());
  settle_probe();
  give_up(connecting ? Failure::kConnect : Failure::kReset,
          flag(connecting ? FlagBit::kUpstreamFailure : FlagBit::kUpstreamReset));
}

void Stream::on_upstream_nonsense(const char* why) {
  upstream_ = nullptr;
  leave();
  settle_probe();
  flags_ |= flag(FlagBit::kUpstreamProtocol);
  if (response_started_) {
    record();
    return client_->abort();
  }
  reply(502, flags_, std::string("the endpoint's answer cannot be understood: ") + why + " (UPE)");
}

void Stream::give_up(Failure failure, Flags flags) {
  if (may_retry(failure, 0) && reserve_retry()) return retry(failure);
  if (attempts_) flags |= flag(FlagBit::kRetriesExceeded);
  flags_ |= flags;
  if (failure == Failure::kTimeout)
    return reply(504, flags_, "the endpoint did not answer in time (UT)");
  reply(503, flags_,
        failure == Failure::kConnect ? "no connection to an endpoint could be made (UF)"
                                     : "the endpoint's connection ended before its answer (UC)");
}

// Of an endpoint that was kept waiting itself, for the rest of the request, nothing is known.
void Stream::charge_timeout() {
  if (!upstream_ || response_started_ || !rule_) return;
  const auto now = worker_.loop().now_ms();
  auto& shares = *endpoint_->shares;
  if (upstream_->is_connecting())
    worker_.breaker().charge(shares, WEFT_BREAKER_TIMEOUT, std::exchange(probe_, false), now);
  else if (upstream_->is_busy() && request_whole() && unsent().empty())
    worker_.breaker().on_timeout(shares, std::exchange(probe_, false), now);
  else
    return;
  note_response_time();
}

void Stream::on_try_deadline() {
  charge_timeout();
  drop_upstream();
  give_up(Failure::kTimeout, flag(FlagBit::kUpstreamTimeout));
}

void Stream::on_deadline() {
  backoff_.cancel();
  charge_timeout();
  drop_upstream();
  flags_ |= flag(FlagBit::kUpstreamTimeout);
  if (response_started_) {
    record();
    return client_->abort();
  }
  reply(504, flags_, "the request took longer than its rule allows (UT)");
}

void Stream::on_client_gone(FlagBit why) {
  flags_ |= flag(why);
  // An endpoint whose client went away in the middle has not failed.
  drop_upstream();
  record();
}

void Stream::withdraw() {
  drop_upstream();
  record();
}

void Stream::refuse(std::uint16_t status, const char* why) {
  backoff_.cancel();
  drop_upstream();
  flags_ |= flag(FlagBit::kDownstreamProtocol);
  if (!response_started_) return reply(status, flags_, why);
  record();
  client_->abort();
}

void Stream::on_client_drained() {
  if (upstream_) upstream_->resume();
}

// --- the end ---

void Stream::reply(std::uint16_t status, Flags flags, std::string_view text,
                   std::string_view content_type) {
  status_ = status;
  flags_ |= flags;
  response_started_ = true;
  http::ResponseHead head;
  if (!content_type.empty()) head.fields.add("content-type", content_type, http::Known::kOther);
  if (rule_ && std::holds_alternative<model::DirectResponse>(rule_->action))
    add_response_edits(head);
  else
    add_cors(head.fields);
  std::string body = flags ? "weft: " : "";
  body += text;
  if (flags) body += "\n";
  http::WriteResponse line;
  line.status = status;
  line.minor = minor_;
  // What is still to come of the request would be read as the next one: only a close is safe.
  line.keep_alive = response_keep_ = client_->may_keep() && request_whole();
  line.head_only = head_only_;
  line.has_content_length = true;
  const bool bodiless = head_only_ || status == 204 || status == 304;
  client_->respond(line, head.fields, bodiless ? http::Framing::kNone : http::Framing::kLength,
                   body.size());
  if (!bodiless) client_->respond_copy(body);
  bytes_out_ += bodiless ? 0 : body.size();
  finish();
}

void Stream::record() {
  if (!std::exchange(in_flight_, false)) return;
  auto& metrics = worker_.metrics();
  --metrics.in_flight;
  if (std::exchange(counted_, false)) --counts().requests;
  if (std::exchange(retrying_, false)) --counts().retries;
  const auto ms = static_cast<double>(Loop::clock_ns() - started_ns_) / 1e6;
  const auto& who = cluster_ ? cluster_ : service_->clusters[0];
  if (tunnel_) {
    auto& series = metrics.tunnels[{client_->caller().get(), who->config().who.get(), 0, 0}];
    series.touched_ms = worker_.loop().now_ms();
    ++series.closed;
    series.sent += bytes_in_;
    series.received += bytes_out_;
  } else {
    metrics.observe({client_->caller().get(), who->config().who.get(), status_, flags_},
                    endpoint_ ? endpoint_->workload : nullptr, ms, bytes_in_, bytes_out_,
                    worker_.loop().now_ms());
  }
  if (log_) worker_.log().write(*log_, {status_, flags_, bytes_in_, bytes_out_, ms, attempts_ + 1});
}

void Stream::finish() {
  record();
  auto* client = client_;
  const bool keep = response_keep_;
  client->finished(keep);  // gives this stream back: nothing of it is used below
}

// --- tunnels: bytes that are no HTTP, and what an upgrade turns into ---

void Stream::begin_tunnel(Client& client, std::shared_ptr<LocalService> service) {
  client_ = &client;
  service_ = std::move(service);
  cluster_ = service_->clusters[0];
  started_ns_ = worker_.loop().now_ns();
  tunnel_ = request_done_ = in_flight_ = true;
  ++worker_.metrics().in_flight;
  ++worker_.metrics().tunnels[{client.caller().get(), cluster_->config().who.get(), 0, 0}].opened;
  attempt_tunnel();
}

void Stream::attempt_tunnel() {
  const auto found = find_connection();
  if (found != Found::kYes) {
    flags_ |=
        flag(found == Found::kNobody ? FlagBit::kNoHealthyUpstream : FlagBit::kUpstreamOverflow);
    return finish_tunnel();
  }
  count_in_flight();
  upstream_->begin(*this);
}

void Stream::on_tunnel_connected() {
  connected_tunnel_ = true;
  worker_.breaker().on_status(*endpoint_->shares, 200, std::exchange(probe_, false),
                              worker_.loop().now_ms());
  if (!request_.empty()) upstream_->tunnel(request_);
  request_.clear();
  if (client_ended_) upstream_->end_tunnel_writing();
  client_->resume();
}

void Stream::on_client_tunnel(std::string_view data) {
  bytes_in_ += data.size();
  if (!upstream_ || (tunnel_ && !connected_tunnel_)) {
    request_.append(data);
    if (request_.size() >= kMaxBacklogBytes) client_->pause();
    return;
  }
  upstream_->tunnel(data);
  if (upstream_->tunnel_backlog() > 0) client_->pause();
}

void Stream::on_client_tunnel_end() {
  client_ended_ = true;
  if (!upstream_) return;
  if (!tunnel_ || connected_tunnel_) upstream_->end_tunnel_writing();
  if (upstream_ended_ && !upstream_->tunnel_backlog()) finish_tunnel();
}

void Stream::on_tunnel_data(std::string_view data) {
  if (data.empty()) return;
  bytes_out_ += data.size();
  client_->tunnel(data);
  if (upstream_ && client_->waiting()) upstream_->pause_tunnel();
}

void Stream::on_tunnel_end() {
  upstream_ended_ = true;
  client_->end_tunnel_writing();
  if (client_ended_ && !upstream_->tunnel_backlog()) finish_tunnel();
}

void Stream::on_tunnel_drained() {
  if (client_ended_ && upstream_ended_) return finish_tunnel();
  client_->resume();
}

void Stream::finish_tunnel() {
  drop_upstream();
  response_keep_ = false;
  finish();
}

}  // namespace weft::net
