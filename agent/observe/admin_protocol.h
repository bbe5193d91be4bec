// The admin socket's language, apart from the socket: one JSON request, one line of JSON as the
// answer. Pure; JSON stays in admin_protocol.cc.
//
//   {"version":1,"command":"status"}                      -> {"version":1,"ok":true,"result":{...}}
//   {"version":1,"command":"audit"}                       -> result {"differences":["..."]}
//   {"version":1,"command":"confirm"}            (root)   -> result {"applied":true}
//   {"version":1,"command":"workloads"}                   -> result [{namespace, name, uid,
//       service_account, cgroup, cgroup_id, netns_cookie, known, enrolled, reason}]
//   {"version":1,"command":"health"}                      -> result [{service, address, port,
//   health,
//       reason}] of endpoints that are checked; health is "healthy", "unhealthy", or "unknown"
//       before the first verdict; reason is what the last check found
//   {"version":1,"command":"service","service":"ns/name"} -> result {"file","line","balancer",
//       "routes":[{port, virtual_service, file, line}]}
//   {"version":1,"command":"handover"}   (root)   -> result {"listener":bool}, and with the first
//       byte the listening socket of /metrics (SCM_RIGHTS); the agent then lets go of the node
//   {"version":1,"command":"breaker","action":"open"|"close"|"reset","endpoints":[ID, ...],
//    "expires_ms":N, "reason":"operator"|"cluster","epoch":N}  (root) -> result as of events
//   {"version":1,"command":"proxy","action":"reload"}  (root) -> result {"reloading":true}
//   {"version":1,"command":"events","after":N} -> result {"last":N,"events":[{sequence, time_ms,
//       service, port, endpoint, id, from, to, reason, ejections, for_ms}]}, at once where there
//       are events after N, else with the next or, after some seconds, with none; without "after"
//       only the newest number, at once. Numbers grow from one agent to the next
//   {"version":1,"command":"routes"}, {"version":1,"command":"explain"}: agent/observe/routes.h
//   anything else                                         -> {"version":1,"ok":false,"error":"..."}
//
// The result of status: {pid, node, version, uptime_seconds, generation, ready,
//   sources:[{uri, state, age_seconds|null, error}], features:[{name, enabled, reason}],
//   proxy:{state, pid, generation, connections, requests, draining, restarts, workloads, captured,
//   error},
//   notices:[{severity, file, line, object, message}], notices_omitted, held_back: text|null,
//   refused:[text], last_apply:{writes, duration_seconds, error}}. Texts that say nothing are "".
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/observe/breaker_log.h"
#include "agent/observe/routes.h"
#include "agent/observe/snapshot.h"

namespace weft::observe {

inline constexpr int kAdminVersion = 1;
inline constexpr std::size_t kMaxAdminRequest = 64 * 1024;  // bytes
inline constexpr std::size_t kMaxNotices = 1000;            // in one status; the worst ones

enum class AdminCommand {
  kStatus,
  kAudit,
  kConfirm,
  kService,
  kWorkloads,
  kHealth,
  kHandover,
  kBreaker,
  kEvents,
  kProxyReload,
  kRoutes,
  kExplain,
};

// Of kBreaker: what an operator or the control plane says of breakers.
struct BreakerOrder {
  std::string action;  // "open", "close", "reset"
  std::vector<std::uint32_t> endpoints;
  std::chrono::milliseconds expires{0};  // of "open"; never endless
  bool from_cluster = false;
  std::uint32_t epoch = 0;  // of the control plane's: an older one is ignored
};

struct AdminRequest {
  AdminCommand command = AdminCommand::kStatus;
  std::string service;  // of kService and kExplain: "ns/name"; of kRoutes that, or empty
  RouteQuestion route;  // of kExplain
  BreakerOrder breaker;
  std::optional<std::uint64_t> after;  // of kEvents; absent: no events, only the newest number
};
absl::StatusOr<AdminRequest> parse_request(std::string_view text);
bool changes_something(AdminCommand command);  // for root only

// The client's half of a handover: its request, and why the answer is none; empty: it is.
std::string handover_request();
std::string refusal_in(std::string_view reply);

// Whole answers, ending in a newline.
std::string error_reply(std::string_view message);
std::string status_reply(const Snapshot& snapshot, int pid, Clock::time_point now);
std::string audit_reply(const std::vector<std::string>& differences);
std::string confirm_reply();
std::string proxy_reply();
std::string handover_reply(bool listener);
std::string workloads_reply(const Snapshot& snapshot);
std::string health_reply(const Snapshot& snapshot);
std::string events_reply(const std::vector<BreakerEvent>& events, std::uint64_t last);
std::string service_reply(const Snapshot& snapshot, const std::string& service);

}  // namespace weft::observe
