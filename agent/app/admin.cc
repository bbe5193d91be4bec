#include "agent/app/admin.h"

#include <boost/asio/post.hpp>
#include <memory>
#include <utility>

namespace weft::app {

observe::AdminHandlers admin_handlers(AdminParts given) {
  const auto shared = std::make_shared<const AdminParts>(std::move(given));
  // What is called on the server's thread, made on the control thread.
  const auto on_control = [shared](auto call) {
    return [shared, call](auto... asked) {
      boost::asio::post(shared->control, [shared, call, ... asked = std::move(asked)]() mutable {
        call(*shared, std::move(asked)...);
      });
    };
  };
  observe::AdminHandlers handlers;
  handlers.confirm = on_control([](auto& parts, auto done) { done(parts.confirm()); });
  handlers.audit = on_control([](auto& parts, auto done) { parts.audit(std::move(done)); });
  handlers.proxy_reload = on_control([](auto& parts, auto done) { done(parts.proxy.reload()); });
  handlers.caller =
      on_control([](auto& parts, auto cookie, auto done) { done(parts.proxy.caller(cookie)); });
  handlers.handover = on_control([](auto& parts, auto done) {
    // Only whoever knows what the kernel holds can say that another may have it.
    if (!parts.in_force()) return done(absl::UnavailableError("it is not ready itself yet"));
    done(parts.listener());
  });
  handlers.handed_over = on_control([](auto& parts) { parts.hand_over(); });
  handlers.breaker = on_control([](auto& parts, auto order, auto done) {
    if (!parts.in_force()) return done(absl::UnavailableError("the data path is not in force yet"));
    done(parts.breakers.carry_out(order));
  });
  handlers.events = on_control([](auto& parts, auto after, auto done) {
    parts.breakers.wait_for_events(after, std::move(done));
  });
  return handlers;
}

}  // namespace weft::app
