// The request's way: from its head to the bytes that an endpoint is sent. stream_response.cc is the
// way back.
#include "userspace_proxy/net/stream.h"

#include <algorithm>

#include "userspace_proxy/http/chars.h"
#include "userspace_proxy/http/path.h"
#include "userspace_proxy/net/cors.h"
#include "userspace_proxy/net/worker.h"

namespace weft::net {
namespace {

bool is_idempotent(std::string_view method) {  // RFC 9110 9.2.2
  return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "PUT" ||
         method == "DELETE" || method == "TRACE";
}

void edit(http::Fields& fields, const model::HeaderEdits& edits) {
  const auto drop = [&](std::string_view name) {
    for (auto& field : fields.all())
      if (http::equal_ignoring_case(field.name, name)) field.dropped = true;
  };
  for (const auto& name : edits.remove) drop(name);
  for (const auto& [name, value] : edits.set) {
    drop(name);
    fields.add(name, value, http::Known::kOther);
  }
  for (const auto& [name, value] : edits.add) fields.add(name, value, http::Known::kOther);
}

constexpr std::uint64_t kShadowMs = 15000;  // a mirrored request's answer is waited for

constexpr char kNoRule[] = "no rule of this service matches the request (NR)";

// A version 4 UUID, as Envoy makes them.
std::string make_request_id(Random& random) {
  const auto high = (random.next() & ~0xf000ull) | 0x4000;
  const auto low = (random.next() & ~(3ull << 62)) | 2ull << 62;
  // Not snprintf: that was 23 % of the instructions of a request (callgrind).
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text(36, '-');
  std::size_t at = 0;
  for (const auto half : {high, low})
    for (int shift = 60; shift >= 0; shift -= 4) {
      if (at == 8 || at == 13 || at == 18 || at == 23) ++at;
      text[at++] = kHex[half >> shift & 15];
    }
  return text;
}

}  // namespace

Stream::Stream(Worker& worker)
    : worker_(worker),
      deadline_([this] { on_deadline(); }),
      try_deadline_([this] { on_try_deadline(); }),
      backoff_([this] { attempt(); }) {}

void Stream::reset() {
  stop_waiting();
  deadline_.cancel();
  try_deadline_.cancel();
  backoff_.cancel();
  client_ = nullptr;
  upstream_ = nullptr;
  service_.reset();
  cluster_.reset();
  rule_ = nullptr;
  destination_ = nullptr;
  endpoint_ = nullptr;
  column_ = nullptr;
  probe_ = false;
  if (request_.capacity() > 16 * 1024)
    std::string().swap(request_);
  else
    request_.clear();
  sent_ = 0;
  path_.clear();
  origin_.clear();
  grown_id_.clear();
  started_ns_ = tried_ns_ = bytes_in_ = bytes_out_ = 0;
  attempts_ = 0;
  status_ = 0;
  flags_ = 0;
  minor_ = 1;
  chunked_request_ = chunked_response_ = request_done_ = replayable_ = idempotent_ = false;
  head_only_ = asked_upgrade_ = tunnel_ = upgraded_ = response_started_ = false;
  response_keep_ = true;
  retrying_ = stale_retry_ = in_flight_ = client_ended_ = upstream_ended_ = waits_ = false;
  connected_tunnel_ = bodiless_ = counted_ = false;
  tried_.clear();
  log_.reset();
}

void Stream::begin(Client& client, std::shared_ptr<LocalService> service, http::RequestHead& head) {
  client_ = &client;
  service_ = std::move(service);
  started_ns_ = worker_.loop().now_ns();
  minor_ = head.minor;
  head_only_ = head.head_only;
  idempotent_ = is_idempotent(head.method);
  bodiless_ = head.framing == http::Framing::kNone;
  asked_upgrade_ = !head.upgrade.empty();
  replayable_ = true;
  cluster_ = service_->clusters[0];
  ++worker_.metrics().in_flight;
  in_flight_ = true;
  if (worker_.log().wants_next()) {
    log_ = std::make_unique<LogEntry>();
    log_->method = head.method;
    log_->path = std::string(head.path) + (head.has_query ? "?" + std::string(head.query) : "");
    log_->authority = head.authority;
    log_->minor = head.minor;
    if (const auto* agent = head.fields.find(http::Known::kUserAgent))
      log_->user_agent = agent->value;
  }
  if (head.is_connect)
    return reply(405, flag(FlagBit::kDownstreamProtocol), "CONNECT is not offered here");
  if (!head.expects_continue && head.fields.find(http::Known::kExpect))
    return reply(417, flag(FlagBit::kDownstreamProtocol), "only 100-continue can be expected");
  if (!normalize(head)) return;
  routes::Request request;
  request.method = head.method;
  request.authority = head.authority;
  request.path = head.path;
  request.query = head.query;
  request.fields = &head.fields;
  request.caller = &client.caller()->rules;
  act(head, service_->config->table->match(request));
}

bool Stream::normalize(http::RequestHead& head) {
  switch (http::normalize_path(head.path, path_)) {
    case http::PathVerdict::kChanged:
      head.path = path_;
      return true;
    case http::PathVerdict::kUnchanged:
      return true;
    case http::PathVerdict::kRefused:
      break;
  }
  client_->keep_no_longer();
  reply(400, flag(FlagBit::kDownstreamProtocol),
        "the path is not one that two readers would read alike");
  return false;
}

void Stream::act(http::RequestHead& head, routes::Match match) {
  const auto& routes = service_->config->table->routes();
  if (match.rule == routes::kNone) {
    if (routes.otherwise == model::HttpRoutes::Otherwise::kService)
      return forward(head, match, nullptr);
    return reply(404, flag(FlagBit::kNoRoute), kNoRule);
  }
  rule_ = &routes.rules[match.rule];
  if (log_) log_->route = rule_->object + (rule_->name.empty() ? "" : "/" + rule_->name);
  if (rule_->cors && answer_preflight(head)) return;
  if (const auto* direct = std::get_if<model::DirectResponse>(&rule_->action))
    return reply_direct(*direct);
  if (const auto* to = std::get_if<model::Redirect>(&rule_->action))
    return redirect(head, match, *to);
  forward(head, match, &std::get<model::Forward>(rule_->action));
}

bool Stream::answer_preflight(const http::RequestHead& head) {
  const auto* origin = head.fields.find(http::Known::kOrigin);
  if (!origin) return false;
  origin_ = origin->value;
  if (head.method != "OPTIONS" || !head.fields.find("access-control-request-method")) return false;
  const bool allowed = allows_origin();
  if (!allowed && rule_->cors->forward_unmatched_preflights) return false;
  status_ = 200;
  http::Fields fields;
  if (allowed) add_preflight_fields(*rule_->cors, origin_, fields);
  http::WriteResponse line;
  line.status = 200;
  line.minor = minor_;
  line.keep_alive = response_keep_ = client_->may_keep();
  client_->respond(line, fields, http::Framing::kLength, 0);
  finish();
  return true;
}

void Stream::reply_direct(const model::DirectResponse& direct) {
  if (rule_->name == model::kNothingMatched)
    return reply(direct.status, flag(FlagBit::kNoRoute), kNoRule);
  reply(direct.status, 0, direct.body, direct.content_type);
}

void Stream::redirect(const http::RequestHead& head, routes::Match match,
                      const model::Redirect& to) {
  std::string target = to.scheme.value_or("http") + "://";
  auto authority = std::string(to.authority ? std::string_view(*to.authority) : head.authority);
  if (to.port || to.authority) {
    // A port that was dialled belongs to the host that was dialled.
    const auto colon = authority.rfind(':');
    if (to.port && colon != std::string::npos && authority.find(']', colon) == std::string::npos)
      authority.resize(colon);
    const bool usual = to.port && ((*to.port == 80 && to.scheme.value_or("http") == "http") ||
                                   (*to.port == 443 && to.scheme == "https"));
    if (to.port && !usual) authority += ":" + std::to_string(*to.port);
  }
  target += authority;
  target += to.path ? service_->config->table->edited_path(*to.path, match, head.path)
                    : std::string(head.path);
  if (head.has_query) target += "?" + std::string(head.query);
  status_ = to.status;
  http::Fields fields;
  fields.add("location", target, http::Known::kOther);
  edit(fields, rule_->response_headers);
  http::WriteResponse line;
  line.status = to.status;
  line.minor = minor_;
  line.keep_alive = response_keep_ = client_->may_keep();
  client_->respond(line, fields, http::Framing::kLength, 0);
  finish();
}

void Stream::forward(http::RequestHead& head, routes::Match match, const model::Forward* to) {
  if (to) {
    const auto chosen = routes::Table::destination(*to, worker_.random().next32());
    if (chosen == routes::kNone)
      return reply(500, flag(FlagBit::kNoRoute), "the rule that matches leads nowhere");
    destination_ = &to->destinations[chosen];
    cluster_ = service_->clusters[destination_->cluster];
  }
  // Gateway API answers 500 for a backend that is nobody, Istio 503 (docs/proxy.md).
  if (!cluster_ || !cluster_->config().who->missing.empty())
    return reply(rule_ && rule_->object.starts_with("HTTPRoute") ? 500 : 503,
                 flag(FlagBit::kNoHealthyUpstream),
                 cluster_ ? cluster_->config().who->missing : "the destination is not known here");
  if (!reserve(counts().requests, cluster_->config().limits.max_requests))
    return reply(503, flag(FlagBit::kUpstreamOverflow), "as many requests are under way as may be");
  counted_ = true;
  write_request(head, match, to, destination_);
  start_timers();
  if (head.framing == http::Framing::kNone || head.expects_continue) return attempt();
  waits_ = true;  // for the body that came with the head: one system call for both
}

void Stream::write_request(http::RequestHead& head, routes::Match match, const model::Forward* to,
                           const model::HttpDestination* destination) {
  http::WriteRequest line;
  line.method = head.method;
  line.path = head.path;
  line.query = head.query;
  line.has_query = head.has_query;
  line.authority = head.authority;
  if (line.authority.empty()) {  // HTTP/1.0 may leave it out, an endpoint may not
    dialled_ = client_->dialled().address.to_text();
    if (client_->dialled().address.family() == model::Family::kIpv6)
      dialled_ = "[" + dialled_ + "]";
    dialled_ += ":" + std::to_string(client_->dialled().port);
    line.authority = dialled_;
  }
  line.upgrade = head.upgrade;
  std::string path;
  if (to) {
    const auto* edit_of_path = destination->path ? &*destination->path
                               : to->path        ? &*to->path
                                                 : nullptr;
    if (edit_of_path) {
      path = service_->config->table->edited_path(*edit_of_path, match, head.path);
      line.path = path;
    }
    if (to->authority) line.authority = *to->authority;
    if (destination->authority) line.authority = *destination->authority;
    edit(head.fields, rule_->request_headers);
    edit(head.fields, destination->request_headers);
  }
  if (!head.fields.find(http::Known::kRequestId)) {
    grown_id_ = make_request_id(worker_.random());
    head.fields.add("x-request-id", grown_id_, http::Known::kRequestId);
  }
  if (log_)
    if (const auto* id = head.fields.find(http::Known::kRequestId)) log_->request_id = id->value;
  chunked_request_ = head.framing == http::Framing::kChunked;
  http::write_head(line, head.fields, head.framing, head.content_length, request_);
}

void Stream::start_timers() {
  if (rule_ && rule_->timeout && rule_->timeout->count())
    worker_.loop().set(deadline_, static_cast<std::uint64_t>(rule_->timeout->count()));
}

void Stream::on_body(std::string_view data) {
  bytes_in_ += data.size();
  if (chunked_request_) {
    http::write_chunk_head(data.size(), request_);
    request_.append(data).append("\r\n");
  } else {
    request_.append(data);
  }
}

void Stream::on_body_end(const http::Fields& trailers) {
  request_done_ = true;
  if (chunked_request_) http::write_last_chunk(trailers, request_);
  if (rule_ && !asked_upgrade_) mirror();
}

// At the end of the request, when it is known whole: bodies that are too large to be kept are not
// mirrored.
void Stream::mirror() {
  const auto* forward = std::get_if<model::Forward>(&rule_->action);
  if (!forward || forward->mirrors.empty()) return;
  for (const auto& mirror : forward->mirrors) {
    const auto& to = service_->clusters[mirror.cluster];
    if (!to || worker_.random().below(1000000) >= mirror.parts_per_million) continue;
    if (replayable_)
      worker_.mirror(*client_, service_, to, request_, head_only_);
    else
      ++worker_.metrics().mirrors_dropped;
  }
}

void Stream::begin_shadow(Client& client, std::shared_ptr<LocalService> service,
                          std::shared_ptr<LocalCluster> cluster, std::string request,
                          bool head_only) {
  client_ = &client;
  service_ = std::move(service);
  cluster_ = std::move(cluster);
  request_ = std::move(request);
  started_ns_ = worker_.loop().now_ns();
  head_only_ = head_only;
  request_done_ = in_flight_ = counted_ = true;
  ++worker_.metrics().in_flight;
  ++counts().requests;
  worker_.loop().set(deadline_, kShadowMs);  // nobody is there to lose patience
  attempt();
}

void Stream::on_input_pause() {
  if (std::exchange(waits_, false)) return attempt();
  if (upstream_ && !unsent().empty()) upstream_->push();
}

void Stream::sent(std::size_t bytes) {
  sent_ += bytes;
  // Too much to keep for another try: what was sent is let go of.
  if (request_.size() <= kMaxBacklogBytes || sent_ < kMaxBacklogBytes / 2) return;
  replayable_ = false;
  request_.erase(0, sent_);
  sent_ = 0;
}

void Stream::on_sent_all() {
  if (!request_done_ && client_) client_->resume();
}

// Endpoints that have no room for another connection are passed over, as the kernel does.
Stream::Found Stream::find_connection() {
  auto passed = tried_;
  const auto first_full = static_cast<std::ptrdiff_t>(passed.size());
  while (true) {
    const auto picked =
        cluster_->pick(client_->dialled().address.family(), passed, worker_.breaker(),
                       worker_.random(), worker_.loop().now_ms());
    all_ejected_ = picked.all_ejected;
    const bool none_with_room = first_full != std::ssize(passed);
    if (!picked.endpoint) return none_with_room ? Found::kFull : Found::kNobody;
    const auto* shares = picked.endpoint->shares.get();
    if (std::find(passed.begin() + first_full, passed.end(), shares) != passed.end())
      return Found::kFull;  // everybody else was tried
    endpoint_ = picked.endpoint;
    probe_ = picked.probe;
    room_ = Room::kServiceFull;
    if (ticket_ || !worker_.queue().has(shares->total, counts()))  // else others were here before
      upstream_ = worker_.connection(cluster_->config(), *endpoint_, *client_, stale_retry_, room_);
    if (upstream_) return Found::kYes;
    settle_probe();
    if (room_ == Room::kProxyFull) return Found::kProxyFull;
    if (room_ == Room::kServiceFull) return Found::kFull;
    passed.push_back(shares);
  }
}

void Stream::count_in_flight() {
  column_ = endpoint_->shares->requests;
  __atomic_fetch_add(column_, 1, __ATOMIC_RELAXED);
}

void Stream::attempt() {
  auto& loop = worker_.loop();
  tried_ns_ = loop.now_ns();
  sent_ = 0;
  if (rule_ && rule_->retries && rule_->retries->per_try_timeout)
    loop.set(try_deadline_, static_cast<std::uint64_t>(rule_->retries->per_try_timeout->count()));
  go_on(find_connection());
}

void Stream::go_on(Found found) {
  switch (found) {
    case Found::kNobody:
      return reply(503, flag(FlagBit::kNoHealthyUpstream) | flags_,
                   all_ejected_ ? "every endpoint's circuit breaker is open (UH)"
                                : "the service has no endpoint that is ready (UH)");
    case Found::kProxyFull:
      return reply(503, flag(FlagBit::kUpstreamOverflow), "no more connections may be made (UO)");
    case Found::kFull:
      return wait_for_room();
    case Found::kYes:
      count_in_flight();
      return upstream_->begin(*this);
  }
}

void Stream::wait_for_room() {
  if (!reserve(counts().pending, cluster_->config().limits.max_pending))
    return reply(503, flag(FlagBit::kUpstreamOverflow),
                 "as many requests wait for a connection as may (UO)");
  worker_.wait(*this, ticket_, endpoint_->shares, counts(), room_);
}

bool Stream::on_room() {
  const auto found = find_connection();
  if (found == Found::kFull) return false;
  stop_waiting();
  go_on(found);
  return true;
}

void Stream::stop_waiting() {
  if (!ticket_) return;
  worker_.queue().remove(ticket_);
  --counts().pending;
}

bool Stream::allows_origin() const {
  const auto& origins = service_->config->origins;
  const auto found = origins.find(rule_);
  return found != origins.end() && found->second.allows(origin_);
}

void Stream::add_cors(http::Fields& fields) {
  if (rule_ && rule_->cors && !origin_.empty() && allows_origin())
    add_cors_fields(*rule_->cors, origin_, fields);
}

void Stream::add_response_edits(http::ResponseHead& head) {
  if (!rule_) return;
  if (destination_) edit(head.fields, destination_->response_headers);
  edit(head.fields, rule_->response_headers);
  add_cors(head.fields);
}

}  // namespace weft::net
