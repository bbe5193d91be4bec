#include <arpa/inet.h>

#include "agent/kernel/breaker.h"
#include "cli/admin_client.h"
#include "cli/cli.h"
#include "cli/collect.h"
#include "mesh/base/duration.h"
#include "mesh/base/text.h"

namespace weft::cli {
namespace {

struct Order {
  std::string endpoint;  // as it was written
  std::string service;
  std::string expires = "10m";
};

std::string endpoint_text(const compile::PlacedEndpoint& endpoint) {
  const auto text = endpoint.address.to_text();
  return (endpoint.address.family() == model::Family::kIpv6 ? "[" + text + "]" : text) + ":" +
         std::to_string(endpoint.port);
}

Json breaker_json(const model::ServiceKey& service, const compile::PlacedPort& port,
                  const compile::PlacedEndpoint& endpoint, const weft_endpoint_state& state,
                  std::uint64_t now) {
  const auto word = state.breaker;
  const bool is_out = weft_breaker_state(word) != WEFT_BREAKER_CLOSED;
  const auto until = weft_breaker_until_ms(word);
  const auto reason = weft_breaker_reason(word);
  const bool by_sockets = reason >= WEFT_BREAKER_REFUSED && reason <= WEFT_BREAKER_GATEWAY;
  return {{"id", endpoint.id},
          {"service", service.to_text()},
          {"port", port.key.port},
          {"endpoint", endpoint_text(endpoint)},
          {"state", kernel::breaker_state_text(weft_breaker_state(word))},
          {"reason", kernel::breaker_reason_text(reason)},
          {"consecutive_failures", state.consecutive},
          {"ejected_for_seconds", is_out && until > now ? (until - now) / 1000.0 : 0.0},
          {"ejections", weft_breaker_ejections(word)},
          {"observers", is_out && by_sockets ? 1 : 0}};
}

template <class F>
void for_each_endpoint(const compile::MapState& state, F&& visit) {
  std::map<model::ServiceKey, const compile::PlacedService*> sorted;
  state.services.for_each([&](const auto& service) {
    if (!service->key.namespace_name.empty()) sorted[service->key] = service.get();
  });
  for (const auto& [key, service] : sorted)
    for (const auto& port : service->ports)
      for (const auto& endpoint : port.endpoints)
        if (in_use(port, endpoint)) visit(key, port, endpoint);
}

void list(Context& context, const std::string& service) {
  const auto maps = open_maps(context);
  if (!maps) return;
  const auto state = kernel::read_settled_state(*maps);
  if (!state.ok()) return fail(context, state.status());
  Json all = Json::array();
  for_each_endpoint(*state, [&](const auto& key, const auto& port, const auto& endpoint) {
    const auto counters = maps->endpoint_states.at(endpoint.id);
    if (has_breaker(port, counters) && (service.empty() || service == key.to_text()))
      all.push_back(breaker_json(key, port, endpoint, counters, kernel::now_ms()));
  });
  if (context.wants_json()) return print_json(context, all);
  std::vector<std::vector<std::string>> rows;
  for (const auto& b : all)
    rows.push_back({b["id"].dump(), b["service"], b["port"].dump(), b["endpoint"], b["state"],
                    b["reason"], b["consecutive_failures"].dump(), b["ejections"].dump(),
                    b["ejected_for_seconds"].dump()});
  print_table({"ID", "SERVICE", "PORT", "ENDPOINT", "STATE", "REASON", "FAILURES", "EJECTIONS",
               "SECONDS LEFT"},
              rows);
}

// An id, or ADDRESS:PORT in whichever services it serves.
std::vector<std::uint32_t> ids_of(const compile::MapState& state, const Order& order) {
  std::vector<std::uint32_t> ids;
  const auto number = base::parse_number<std::uint32_t>(order.endpoint);
  for_each_endpoint(state, [&](const auto& key, const auto&, const auto& endpoint) {
    if (!order.service.empty() && order.service != key.to_text()) return;
    if (number ? endpoint.id == *number : endpoint_text(endpoint) == order.endpoint)
      ids.push_back(endpoint.id);
  });
  return ids;
}

// With the agent down it is done all the same, by the same compare-and-exchange; only nobody tells
// of it.
void change_directly(Context& context, const std::string& action,
                     const std::vector<std::uint32_t>& ids, std::chrono::milliseconds expires) {
  const auto maps = open_maps(context, kernel::Access::kReadWrite);
  if (!maps) return;
  using Action = kernel::Verdict::Action;
  kernel::Verdict verdict;
  verdict.action = action == "open"    ? Action::kOpen
                   : action == "close" ? Action::kClose
                                       : Action::kReset;
  verdict.expires = expires;
  for (const auto id : ids) kernel::carry_out(*maps, id, verdict);
  std::fprintf(stderr, "no agent runs: done in the kernel maps; no event tells of it\n");
}

void change(Context& context, const std::string& action, const Order& order) {
  const auto expires = base::parse_duration(order.expires);
  if (!expires || expires->count() <= 0)
    return fail(context, "--for " + order.expires + " is no time: write 30s, 10m or 2h");
  if (*expires > kernel::kLongestVerdict)
    return fail(context, "--for " + order.expires +
                             " is more than 30 days (720h): nothing stays out for ever");
  std::vector<std::uint32_t> ids;
  {
    const auto maps = open_maps(context);
    if (!maps) return;
    const auto state = kernel::read_settled_state(*maps);
    if (!state.ok()) return fail(context, state.status());
    ids = ids_of(*state, order);
  }
  if (ids.empty())
    return fail(context, "no endpoint is " + order.endpoint +
                             (order.service.empty() ? "" : " of service " + order.service) +
                             ": weftctl endpoint list shows ids and addresses");
  const auto answer = send_request(context.run_dir, Json{{"command", "breaker"},
                                                         {"action", action},
                                                         {"endpoints", ids},
                                                         {"expires_ms", expires->count()}});
  if (absl::IsUnavailable(answer.status()))
    change_directly(context, action, ids, *expires);
  else if (!answer.ok())
    return fail(context, answer.status());
  if (context.exit_code) return;
  if (context.wants_json())
    print_json(context, answer.ok() ? (*answer)["events"] : Json::array());
  else
    std::printf("%s: %zu endpoint%s\n", action.c_str(), ids.size(), ids.size() == 1 ? "" : "s");
}

}  // namespace

void add_breaker(CLI::App& root, Context& context) {
  auto& noun = add_noun(root, "breaker", "Circuit breakers: which endpoints are cut off, and why");
  auto service = std::make_shared<std::string>();
  add_command(noun, "list",
              "Breakers of services with outlier detection, and any that was ever open",
              [&context, service] { list(context, *service); })
      .add_option("--service", *service, "NAMESPACE/NAME");
  const std::pair<const char*, const char*> actions[] = {
      {"open", "Cut an endpoint off for --for; then one connection probes it"},
      {"close", "Let connections through again"},
      {"reset", "As if it had never opened: ejections and failures are forgotten"}};
  for (const auto& [action, help] : actions) {
    auto order = std::make_shared<Order>();
    auto& command = add_command(noun, action, help, [&context, order, name = std::string(action)] {
      change(context, name, *order);
    });
    command
        .add_option("ENDPOINT", order->endpoint,
                    "Its id, or ADDRESS:PORT in every service it serves")
        ->required();
    command.add_option("--service", order->service, "Of this service only: NAMESPACE/NAME");
    if (std::string(action) == "open")
      command.add_option("--for", order->expires, "How long: 30s, 10m, 2h")->capture_default_str();
  }
}

}  // namespace weft::cli
