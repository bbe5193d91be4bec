// The admin socket `<run-dir>/weftd.sock`: a Unix stream, mode 0660, one request a connection
// (agent/observe/admin_protocol.h). On a thread of its own; never blocks the control thread.
//
// It is also the lock on the run directory: one weftd a --run-dir.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/observe/admin_protocol.h"
#include "agent/observe/snapshot.h"

namespace weft::observe {

// Called on the server's thread; they post to the control thread and return at once. The function
// they are given takes the answer, once, from any thread, also after the client or the server has
// gone.
struct AdminHandlers {
  using AuditDone =
      std::function<void(absl::StatusOr<std::vector<std::string>>)>;  // the differences
  using ConfirmDone = std::function<void(absl::Status)>;
  std::function<void(AuditDone)> audit;
  std::function<void(ConfirmDone)> confirm;  // apply what is held back
  std::function<void(ConfirmDone)> proxy_reload;
  // The listening socket of /metrics, for the agent that takes over; -1: none. It stays the
  // caller's.
  using HandoverDone = std::function<void(absl::StatusOr<int>)>;
  std::function<void(HandoverDone)> handover;
  std::function<void()> handed_over;  // the successor has been answered: let go of the node
  using BreakerDone = std::function<void(absl::StatusOr<std::vector<BreakerEvent>>)>;
  std::function<void(const BreakerOrder&, BreakerDone)> breaker;
  // Who lives in a network namespace, as the proxy knows it; empty where it does not.
  using CallerDone = std::function<void(routes::Caller)>;
  std::function<void(std::uint64_t netns_cookie, CallerDone)> caller;
  using EventsDone = std::function<void(std::vector<BreakerEvent>, std::uint64_t last)>;
  std::function<void(std::optional<std::uint64_t> after, EventsDone)>
      events;  // waits for the next one
};

struct AdminOptions {
  std::string run_dir = "/run/weft";  // made where it is missing
  std::size_t max_clients = 16;       // more wait in the socket's queue
  // For the request to arrive: a client has it ready when it connects.
  std::chrono::milliseconds request_timeout = std::chrono::seconds(1);
  // For each of: the control thread to answer, the answer to be taken.
  std::chrono::milliseconds timeout = std::chrono::seconds(5);
};

class AdminServer {
 public:
  // Listens when it returns. A dead agent's socket is replaced; AlreadyExists where another agent
  // lives. `board` outlives the server.
  static absl::StatusOr<std::unique_ptr<AdminServer>> start(const AdminOptions& options,
                                                            const Board& board,
                                                            AdminHandlers handlers);
  ~AdminServer();  // removes the socket
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  static std::string socket_path(const std::string& run_dir) { return run_dir + "/weftd.sock"; }

 private:
  struct State;
  explicit AdminServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weft::observe
