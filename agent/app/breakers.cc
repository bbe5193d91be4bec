#include "agent/app/breakers.h"

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <chrono>
#include <utility>

#include "agent/compile/map_state.h"
#include "mesh/base/log.h"
#include "mesh/base/text.h"

namespace weft::app {
namespace {

using namespace std::chrono_literals;

// Under the time that the admin server gives the control thread to answer.
constexpr auto kPatience = 3s;
constexpr const char* kGone = "gone";

std::string name_text(const char (&name)[WEFT_NAME_MAX]) {
  return std::string(name, strnlen(name, sizeof name));
}

std::string endpoint_text(const weft_endpoint& endpoint) {
  const auto address = compile::from_abi(endpoint.addr);
  const auto text = address.to_text();
  const auto port = std::to_string(ntohs(weft_endpoint_port(kernel::load(endpoint.word))));
  return address.family() == model::Family::kIpv6 ? "[" + text + "]:" + port : text + ":" + port;
}

std::int64_t wall_ms(std::uint64_t monotonic_ms) {
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  return now.count() - static_cast<std::int64_t>(kernel::now_ms()) +
         static_cast<std::int64_t>(monotonic_ms);
}

bool is_out(std::uint64_t word) { return weft_breaker_state(word) != WEFT_BREAKER_CLOSED; }

}  // namespace

Breakers::Breakers(boost::asio::io_context& io, kernel::Maps& maps, kernel::Pins pins,
                   Touched touched)
    : io_(io), maps_(maps), pins_(std::move(pins)), touched_(std::move(touched)) {
  look_at_all();  // before the first plan: it must not undo what breakers have moved
}

absl::Status Breakers::start() {
  auto transitions = kernel::Transitions::open(pins_);
  if (!transitions.ok()) return transitions.status();
  transitions_ = *std::move(transitions);
  if (const auto wrong = kernel::recount_ejected(maps_))
    log::warning("breakers", {{"recounted_services", wrong}});
  // The descriptor is asio's own copy: it is closed twice otherwise.
  readable_.assign(dup(transitions_->poll_fd()));
  listen();  // also what is there already: the descriptor is readable then
  return absl::OkStatus();
}

void Breakers::listen() {
  readable_.async_wait(boost::asio::posix::stream_descriptor::wait_read, [this](auto error) {
    if (error) return;
    read();
    listen();
  });
}

void Breakers::read() {
  std::set<model::ServiceKey> touched;
  bool heard = false;
  for (const auto& told : transitions_->take()) {
    const auto event = note(told);
    heard = heard || event;
    if (event && !event->namespace_name.empty())
      touched.insert({event->namespace_name, event->service});
  }
  if (!heard) return;
  answer_waiting();
  touched_(touched);
}

void Breakers::hear(const weft_transition& told) {
  if (const auto event = note(told)) tell(*event);
}

// The endpoint itself is told as it was: its number may be another's soon. Who is touched hears of
// it later: this is called from within a plan, and he would begin the next one.
void Breakers::moved(const weft_transition& told, const weft_endpoint& endpoint) {
  ejected_.erase(told.endpoint);
  boost::asio::post(io_, [this, event = add(told, &endpoint)] { tell(event); });
}

void Breakers::tell(const observe::BreakerEvent& event) {
  answer_waiting();
  std::set<model::ServiceKey> touched;
  if (!event.namespace_name.empty()) touched.insert({event.namespace_name, event.service});
  touched_(touched);
}

// Counted and told also where the endpoint has left since: it happened. Nothing where no endpoint
// can have that number.
std::optional<observe::BreakerEvent> Breakers::note(const weft_transition& told) {
  if (told.endpoint >= maps_.endpoints.size()) return std::nullopt;
  const auto& state = maps_.endpoint_states.at(told.endpoint);
  const bool lives = state.incarnation == told.incarnation;
  // What the word is now, not what it was when this was told: an old event must not stand.
  if (lives && is_out(kernel::load(state.breaker)))
    ejected_.insert(told.endpoint);
  else if (lives)
    ejected_.erase(told.endpoint);
  return add(told, lives ? &maps_.endpoints.at(told.endpoint) : nullptr);
}

// What is known of it in words; `endpoint` null: it has left the mesh since. So may its service
// have.
observe::BreakerEvent Breakers::in_words(const weft_transition& told,
                                         const weft_endpoint* endpoint) const {
  const auto info = maps_.names.lookup(told.service);
  observe::BreakerEvent event;
  event.time_ms = wall_ms(told.at_ns / 1000000);
  event.service = kGone;
  if (info.ok()) {
    event.namespace_name = name_text(info->namespace_name);
    event.service = name_text(info->name);
    event.port = ntohs(info->port);
  }
  event.endpoint = endpoint ? endpoint_text(*endpoint) : kGone;
  event.endpoint_id = told.endpoint;
  event.from = kernel::breaker_state_text(weft_breaker_state(told.from));
  event.to = kernel::breaker_state_text(weft_breaker_state(told.to));
  event.reason = kernel::breaker_reason_text(told.reason);
  event.ejections = weft_breaker_ejections(told.to);
  if (is_out(told.to))
    event.for_ms = static_cast<std::int64_t>(weft_breaker_until_ms(told.to)) -
                   static_cast<std::int64_t>(told.at_ns / 1000000);
  return event;
}

observe::BreakerEvent Breakers::add(const weft_transition& told, const weft_endpoint* endpoint) {
  auto event = in_words(told, endpoint);
  log::info("breaker", {{"service", event.service_text()},
                        {"port", event.port},
                        {"endpoint", event.endpoint},
                        {"from", event.from},
                        {"to", event.to},
                        {"reason", event.reason},
                        {"ejections", event.ejections},
                        {"for_ms", event.for_ms}});
  log_.add(event);
  event.sequence = log_.last();
  return event;
}

void Breakers::look_at_all() {
  for (std::uint32_t id = 1; id < maps_.endpoint_states.size(); ++id)
    if (is_out(kernel::load(maps_.endpoint_states.at(id).breaker))) ejected_.insert(id);
}

const std::set<std::uint32_t>& Breakers::ejected() {
  // An endpoint that has left is told of when its id is cleared, a grace period later.
  std::erase_if(ejected_, [&](std::uint32_t id) {
    return !is_out(kernel::load(maps_.endpoint_states.at(id).breaker));
  });
  return ejected_;
}

absl::StatusOr<std::vector<observe::BreakerEvent>> Breakers::carry_out(
    const observe::BreakerOrder& order) {
  for (const auto id : order.endpoints)
    if (id == 0 || id >= maps_.endpoints.size() || !kernel::load(maps_.endpoints.at(id).word))
      return absl::NotFoundError("there is no endpoint " + std::to_string(id) +
                                 ": weftctl endpoint list shows them");
  using Action = kernel::Verdict::Action;
  kernel::Verdict verdict;
  verdict.action = order.action == "open"    ? Action::kOpen
                   : order.action == "close" ? Action::kClose
                                             : Action::kReset;
  verdict.expires = order.expires;
  verdict.epoch = order.epoch;
  if (order.from_cluster) verdict.reason = WEFT_BREAKER_CLUSTER;
  std::vector<observe::BreakerEvent> events;
  std::set<model::ServiceKey> touched;
  for (const auto id : order.endpoints) {
    const auto told = kernel::carry_out(maps_, id, verdict);
    if (!told) continue;
    if (auto event = note(*told)) {
      if (!event->namespace_name.empty()) touched.insert({event->namespace_name, event->service});
      events.push_back(*std::move(event));
    }
  }
  answer_waiting();
  if (!touched.empty()) touched_(touched);
  return events;
}

void Breakers::wait_for_events(std::optional<std::uint64_t> after,
                               observe::AdminHandlers::EventsDone done) {
  if (!after) return done({}, log_.last());
  auto sequence = *after;
  // A watcher of an agent before this one: numbers began anew.
  if (sequence > log_.last()) sequence = 0;
  if (sequence < log_.last()) return done(log_.after(sequence), log_.last());
  waiting_.push_back({sequence, std::move(done)});
  if (waiting_.size() > 1) return;
  patience_.expires_after(kPatience);
  patience_.async_wait([this](auto error) {
    if (!error) answer_waiting();
  });
}

void Breakers::answer_waiting() {
  patience_.cancel();
  for (auto& waiting : std::exchange(waiting_, {}))
    waiting.done(log_.after(waiting.after), log_.last());
}

}  // namespace weft::app
