#include "agent/observe/admin_protocol.h"

#include <optional>

#include "agent/kernel/breaker.h"
#include "agent/observe/reply.h"

namespace weft::observe {
namespace {

using nlohmann::json;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

json sources_of(const Snapshot& snapshot, Clock::time_point now) {
  json list = json::array();
  for (const auto& source : snapshot.sources) {
    json age;
    if (source.changed != Clock::time_point{}) age = seconds(now - source.changed);
    list.push_back({{"uri", source.uri},
                    {"state", source.state},
                    {"age_seconds", age},
                    {"error", source.error}});
  }
  return list;
}

json features_of(const Snapshot& snapshot) {
  json list = json::array();
  for (const auto& feature : snapshot.features)
    list.push_back(
        {{"name", feature.name}, {"enabled", feature.enabled}, {"reason", feature.reason}});
  return list;
}

json neighbours_of(const Snapshot& snapshot) {
  json list = json::array();
  for (const auto& neighbour : snapshot.neighbours)
    list.push_back({{"name", neighbour.name}, {"what", neighbour.what}});
  return list;
}

json proxy_of(const ProxyStatus& proxy) {
  return {{"state", proxy.state},           {"pid", proxy.pid},
          {"generation", proxy.generation}, {"connections", proxy.connections},
          {"requests", proxy.requests},     {"draining", proxy.draining},
          {"restarts", proxy.restarts},     {"workloads", proxy.workloads},
          {"captured", proxy.captured},     {"error", proxy.error}};
}

// Warnings and worse, the worst first; the second value: how many had no room.
std::pair<json, std::size_t> notices_of(const Snapshot& snapshot) {
  using model::Severity;
  json list = json::array();
  std::size_t omitted = 0;
  for (const auto severity : {Severity::kRejected, Severity::kNotEnforced, Severity::kWarning})
    for (const auto& notice : *snapshot.mesh->notices) {
      if (notice.severity != severity) continue;
      if (list.size() == kMaxNotices) {
        ++omitted;
        continue;
      }
      list.push_back({{"severity", model::to_text(severity)},
                      {"file", file_of(notice.origin)},
                      {"line", notice.origin.line},
                      {"object", notice.object},
                      {"message", notice.message}});
    }
  return {std::move(list), omitted};
}

std::optional<AdminCommand> command_of(const std::string& name) {
  if (name == "status") return AdminCommand::kStatus;
  if (name == "audit") return AdminCommand::kAudit;
  if (name == "confirm") return AdminCommand::kConfirm;
  if (name == "service") return AdminCommand::kService;
  if (name == "workloads") return AdminCommand::kWorkloads;
  if (name == "health") return AdminCommand::kHealth;
  if (name == "handover") return AdminCommand::kHandover;
  if (name == "breaker") return AdminCommand::kBreaker;
  if (name == "events") return AdminCommand::kEvents;
  if (name == "proxy") return AdminCommand::kProxyReload;
  if (name == "routes") return AdminCommand::kRoutes;
  if (name == "explain") return AdminCommand::kExplain;
  return std::nullopt;
}

std::optional<std::uint64_t> number_at(const json& request, const char* key) {
  const auto at = request.find(key);
  if (at == request.end() || !at->is_number_unsigned()) return std::nullopt;
  return at->get<std::uint64_t>();
}

absl::StatusOr<BreakerOrder> breaker_order(const json& request) {
  BreakerOrder order;
  order.action = request.value("action", json()).is_string() ? request.value("action", "") : "";
  if (order.action != "open" && order.action != "close" && order.action != "reset")
    return absl::InvalidArgumentError("the command breaker needs \"action\": open, close or reset");
  const auto endpoints = request.find("endpoints");
  if (endpoints == request.end() || !endpoints->is_array() || endpoints->empty())
    return absl::InvalidArgumentError("the command breaker needs \"endpoints\":[ID, ...]");
  for (const auto& id : *endpoints) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > 0xffffffffu)
      return absl::InvalidArgumentError("an endpoint is named by its id, a number");
    order.endpoints.push_back(id.get<std::uint32_t>());
  }
  const auto expires = number_at(request, "expires_ms").value_or(0);
  if (order.action == "open" &&
      (!expires || expires > static_cast<std::uint64_t>(kernel::kLongestVerdict.count())))
    return absl::InvalidArgumentError(
        "to open a breaker needs \"expires_ms\", at most 30 days: nothing stays out for ever");
  order.expires = std::chrono::milliseconds(expires);
  order.from_cluster = request.value("reason", json()) == "cluster";
  if (request.contains("epoch")) {
    const auto epoch = number_at(request, "epoch");
    if (!epoch || *epoch > 0xffffffffu)
      return absl::InvalidArgumentError("\"epoch\" is a number below 2^32");
    order.epoch = static_cast<std::uint32_t>(*epoch);
  }
  return order;
}

absl::StatusOr<RouteQuestion> route_question(const json& request) {
  RouteQuestion question;
  const auto port = number_at(request, "port").value_or(0);
  if (!port || port > 0xffff)
    return absl::InvalidArgumentError("the command explain needs \"port\":N");
  question.port = static_cast<std::uint16_t>(port);
  const std::pair<const char*, std::string*> texts[] = {{"method", &question.method},
                                                        {"authority", &question.authority},
                                                        {"target", &question.target}};
  for (const auto& [key, text] : texts)
    if (const auto at = request.find(key); at != request.end() && at->is_string())
      *text = at->get<std::string>();
  for (const auto& field : request.value("headers", json::array())) {
    if (!field.is_array() || field.size() != 2 || !field[0].is_string() || !field[1].is_string())
      return absl::InvalidArgumentError("\"headers\" are [[\"name\",\"value\"], ...]");
    question.headers.emplace_back(field[0].get<std::string>(), field[1].get<std::string>());
  }
  question.netns_cookie = number_at(request, "netns_cookie").value_or(0);
  return question;
}

}  // namespace

absl::StatusOr<AdminRequest> parse_request(std::string_view text) {
  const json request = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!request.is_object()) return absl::InvalidArgumentError("the request is not a JSON object");
  const auto text_at = [&](const char* key) {
    const auto at = request.find(key);
    return at != request.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  const auto version = request.find("version");
  if (version == request.end() || *version != kAdminVersion)
    return absl::InvalidArgumentError("this weftd speaks version " + std::to_string(kAdminVersion) +
                                      " of the admin protocol; the request must say so");
  const auto command = command_of(text_at("command"));
  if (!command)
    return absl::InvalidArgumentError(
        "unknown command; known are status, audit, confirm, service, workloads, health, handover, "
        "breaker, events, proxy, routes and explain");
  AdminRequest parsed;
  parsed.command = *command;
  parsed.service = text_at("service");
  if (*command == AdminCommand::kProxyReload && text_at("action") != "reload")
    return absl::InvalidArgumentError("the command proxy needs \"action\":\"reload\"");
  if (*command == AdminCommand::kBreaker) {
    auto order = breaker_order(request);
    if (!order.ok()) return order.status();
    parsed.breaker = *std::move(order);
  }
  if (*command == AdminCommand::kExplain) {
    auto question = route_question(request);
    if (!question.ok()) return question.status();
    parsed.route = *std::move(question);
  }
  parsed.after = number_at(request, "after");
  const bool needs_service =
      *command == AdminCommand::kService || *command == AdminCommand::kExplain;
  if (needs_service && !model::ServiceKey::parse(parsed.service))
    return absl::InvalidArgumentError("the command " + text_at("command") +
                                      " needs \"service\":\"NAMESPACE/NAME\"");
  return parsed;
}

bool changes_something(AdminCommand command) {
  return command == AdminCommand::kConfirm || command == AdminCommand::kHandover ||
         command == AdminCommand::kBreaker || command == AdminCommand::kProxyReload;
}

std::string error_reply(std::string_view message) {
  return line_of({{"version", kAdminVersion}, {"ok", false}, {"error", std::string(message)}});
}

std::string status_reply(const Snapshot& snapshot, int pid, Clock::time_point now) {
  auto [notices, omitted] = notices_of(snapshot);
  json held_back;
  if (snapshot.held_back) held_back = snapshot.held_back_text;
  return ok_reply({
      {"pid", pid},
      {"node", snapshot.node},
      {"version", snapshot.version},
      {"uptime_seconds", seconds(now - snapshot.started)},
      {"generation", snapshot.generation},
      {"ready", snapshot.ready},
      {"sources", sources_of(snapshot, now)},
      {"features", features_of(snapshot)},
      {"neighbours", neighbours_of(snapshot)},
      {"proxy", proxy_of(snapshot.proxy)},
      {"bypass",
       {{"mode", snapshot.bypass.mode},
        {"reason", snapshot.bypass.reason},
        {"differences", snapshot.bypass.differences}}},
      {"notices", std::move(notices)},
      {"notices_omitted", omitted},
      {"held_back", held_back},
      {"refused", snapshot.refused},
      {"last_apply",
       {{"writes", snapshot.apply.last_writes},
        {"duration_seconds", seconds(snapshot.apply.last_duration)},
        {"error", snapshot.apply.last_error}}},
  });
}

std::string audit_reply(const std::vector<std::string>& differences) {
  return ok_reply({{"differences", differences}});
}

std::string confirm_reply() { return ok_reply({{"applied", true}}); }
std::string proxy_reply() { return ok_reply({{"reloading", true}}); }

std::string handover_request() {
  return line_of({{"version", kAdminVersion}, {"command", "handover"}});
}

std::string refusal_in(std::string_view text) {
  const json reply = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!reply.is_object()) return "the answer is not JSON";
  const auto ok = reply.find("ok"), error = reply.find("error");
  if (ok != reply.end() && ok->is_boolean() && ok->get<bool>()) return "";
  return error != reply.end() && error->is_string() ? error->get<std::string>() : "it refused";
}

std::string handover_reply(bool listener) { return ok_reply({{"listener", listener}}); }

std::string workloads_reply(const Snapshot& snapshot) {
  json list = json::array();
  for (const auto& workload : *snapshot.workloads)
    list.push_back({{"namespace", workload.namespace_name},
                    {"name", workload.name},
                    {"uid", workload.uid},
                    {"service_account", workload.service_account},
                    {"cgroup", workload.cgroup},
                    {"cgroup_id", workload.cgroup_id},
                    {"netns_cookie", workload.netns_cookie},
                    {"known", workload.known},
                    {"enrolled", workload.verdict.enrolled},
                    {"reason", workload.verdict.reason}});
  return ok_reply(std::move(list));
}

std::string health_reply(const Snapshot& snapshot) {
  json list = json::array();
  for (const auto& endpoint : *snapshot.health)
    list.push_back({{"service", endpoint.service.to_text()},
                    {"address", endpoint.address.to_text()},
                    {"port", endpoint.port},
                    {"health", !endpoint.healthy   ? "unknown"
                               : *endpoint.healthy ? "healthy"
                                                   : "unhealthy"},
                    {"reason", endpoint.reason}});
  return ok_reply(std::move(list));
}

std::string events_reply(const std::vector<BreakerEvent>& events, std::uint64_t last) {
  json list = json::array();
  for (const auto& event : events)
    list.push_back({{"sequence", event.sequence},
                    {"time_ms", event.time_ms},
                    {"service", event.service_text()},
                    {"port", event.port},
                    {"endpoint", event.endpoint},
                    {"id", event.endpoint_id},
                    {"from", event.from},
                    {"to", event.to},
                    {"reason", event.reason},
                    {"ejections", event.ejections},
                    {"for_ms", event.for_ms}});
  return ok_reply({{"last", last}, {"events", std::move(list)}});
}

std::string service_reply(const Snapshot& snapshot, const std::string& service) {
  const auto key = model::ServiceKey::parse(service);
  const auto* found = key ? snapshot.mesh->services.find(*key) : nullptr;
  if (!found) return error_reply("no source has a service " + service);
  json routes = json::array(), policies = json::array();
  for (const auto& port : (*found)->ports) {
    if (port.policy)
      policies.push_back({{"port", port.port},
                          {"protocol", model::to_text(port.protocol)},
                          {"balancer", model::to_text(port.policy->balancer)}});
    if (port.routed_by)
      routes.push_back({{"port", port.port},
                        {"virtual_service", port.routed_by->virtual_service},
                        {"file", file_of(port.routed_by->origin)},
                        {"line", port.routed_by->origin.line}});
  }
  return ok_reply({{"file", file_of((*found)->origin)},
                   {"line", (*found)->origin.line},
                   {"balancer", model::to_text((*found)->balancer)},
                   {"port_policies", std::move(policies)},
                   {"routes", std::move(routes)}});
}

}  // namespace weft::observe
