// Circuit breakers as the agent sees them. The kernel decides; this reads what it tells of its
// decisions, keeps the set of endpoints that are out, and carries out what people say. Belongs to
// the control thread.
#pragma once

#include <absl/status/statusor.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "agent/kernel/breaker.h"
#include "agent/observe/admin_server.h"
#include "agent/observe/breaker_log.h"
#include "mesh/model/mesh.h"

namespace weft::app {

class Breakers {
 public:
  // `touched` is told of services whose endpoints went out or came back; none: the service has left
  // the mesh, too. Never from within a call of moved().
  using Touched = std::function<void(const std::set<model::ServiceKey>&)>;
  Breakers(boost::asio::io_context& io, kernel::Maps& maps, kernel::Pins pins, Touched touched);

  // Once the data path is in force: counts what is out, then follows the kernel. What was told
  // while no agent ran comes first.
  absl::Status start();

  // Ids of endpoints whose breaker is not closed, as it is now. The set stays where it is.
  const std::set<std::uint32_t>& ejected();
  const observe::BreakerLog& log() const { return log_; }

  // What a proxy has done to a breaker; the kernel tells of its own.
  void hear(const weft_transition& told);

  // The maps were written: an endpoint has left while its breaker was not closed, or is ready
  // again.
  void moved(const weft_transition& told, const weft_endpoint& endpoint);

  // As an operator or the control plane says. NotFound where an id is in use by nobody.
  absl::StatusOr<std::vector<observe::BreakerEvent>> carry_out(const observe::BreakerOrder& order);

  // Events after that number, as soon as there is one, at the latest after a while (then none).
  void wait_for_events(std::optional<std::uint64_t> after, observe::AdminHandlers::EventsDone done);

 private:
  void listen();
  void read();
  std::optional<observe::BreakerEvent> note(const weft_transition& told);
  void tell(const observe::BreakerEvent& event);
  observe::BreakerEvent add(const weft_transition& told, const weft_endpoint* endpoint);
  observe::BreakerEvent in_words(const weft_transition& told, const weft_endpoint* endpoint) const;
  void look_at_all();
  void answer_waiting();

  boost::asio::io_context& io_;
  kernel::Maps& maps_;
  kernel::Pins pins_;
  Touched touched_;
  std::optional<kernel::Transitions> transitions_;
  boost::asio::posix::stream_descriptor readable_{io_};
  std::set<std::uint32_t> ejected_;
  observe::BreakerLog log_{kernel::now_ms()};
  struct Waiting {
    std::uint64_t after;
    observe::AdminHandlers::EventsDone done;
  };
  std::vector<Waiting> waiting_;
  boost::asio::steady_timer patience_{io_};
};

}  // namespace weft::app
