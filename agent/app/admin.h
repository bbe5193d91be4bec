// The admin socket's requests, brought to the control thread: they are called on the server's.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>

#include "agent/app/breakers.h"
#include "agent/app/proxy.h"
#include "agent/observe/admin_server.h"

namespace weft::app {

// All of it is used on the control thread alone, and outlives the server.
struct AdminParts {
  boost::asio::io_context& control;
  Breakers& breakers;
  Proxy& proxy;
  std::function<bool()> in_force;  // the data path is: only then there is something to hand over
  std::function<absl::Status()> confirm;
  std::function<void(observe::AdminHandlers::AuditDone)> audit;
  std::function<int()> listener;  // of /metrics
  std::function<void()> hand_over;
};

observe::AdminHandlers admin_handlers(AdminParts parts);

}  // namespace weft::app
