#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "agent/kernel/breaker.h"
#include "agent/kernel/datapath.h"
#include "cli/admin_client.h"
#include "cli/cli.h"
#include "cli/collect.h"
#include "cli/routing.h"
#include "mesh/base/fd.h"
#include "mesh/base/text.h"

namespace weft::cli {
namespace {

struct Question {
  std::string from, to;
  bool udp = false;
  bool v6only = false;
  HttpQuestion http;
};

// The cookie by which programs know the network namespace of a process; 0 where it cannot be had.
std::uint64_t netns_cookie_of(const std::string& pid) {
  constexpr int kSoNetnsCookie = 71;  // SO_NETNS_COOKIE, Linux 5.14
  std::uint64_t cookie = 0;
  // On a thread of its own: the namespace ends with it.
  std::thread([&] {
    const base::Fd netns(open(("/proc/" + pid + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC));
    if (!netns || setns(netns.get(), CLONE_NEWNET)) return;
    const base::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    socklen_t length = sizeof cookie;
    if (!fd || getsockopt(fd.get(), SOL_SOCKET, kSoNetnsCookie, &cookie, &length)) cookie = 0;
  }).join();
  return cookie;
}

std::optional<model::Address> first_address(const compile::PlacedService& service) {
  for (const auto& port : service.ports)
    if (!port.frontends.empty()) return port.frontends.front();
  return std::nullopt;
}

// "web.shop", "web.shop.svc.cluster.local", or a ServiceEntry's host: the first address of that
// service.
std::optional<model::Address> resolve(const std::string& host, const compile::MapState& state) {
  if (const auto address = model::Address::parse(host)) return address;
  std::optional<model::Address> named;
  state.services.for_each([&](const auto& service) {
    if (service->key.name == host && host.find('.') != host.npos && !named)
      named = first_address(*service);
  });
  const auto dot = host.find('.');
  if (dot == std::string::npos) return std::nullopt;
  const auto end = host.find('.', dot + 1);
  const auto* service = state.services.find(
      {host.substr(dot + 1, end == std::string::npos ? end : end - dot - 1), host.substr(0, dot)});
  return service ? first_address(**service) : named;
}

struct Found {
  const compile::PlacedService* service = nullptr;
  const compile::PlacedPort* port = nullptr;
};

Found find_index(const compile::MapState& state, std::uint32_t index) {
  Found found;
  state.services.for_each([&](const auto& service) {
    for (const auto& port : service->ports)
      if (port.index == index) found = {service.get(), &port};
  });
  return found;
}

const char* verdict_name(unsigned verdict) {
  switch (verdict) {
    case WEFT_VERDICT_PASS:
      return "pass";
    case WEFT_VERDICT_TRANSLATE:
      return "translate";
    case WEFT_VERDICT_REFUSE_NO_ENDPOINT:
      return "refuse_no_endpoint";
    case WEFT_VERDICT_REFUSE_FAMILY:
      return "refuse_family";
    case WEFT_VERDICT_REFUSE_EJECTED:
      return "refuse_ejected";
    case WEFT_VERDICT_REFUSE_LIMIT:
      return "refuse_limit";
    case WEFT_VERDICT_CAPTURE:
      return "capture";
    case WEFT_VERDICT_REFUSE_PROXY_DOWN:
      return "refuse_proxy_down";
    default:
      return "refuse_stale";
  }
}

std::string verdict_text(unsigned verdict, const std::string& endpoint) {
  switch (verdict) {
    case WEFT_VERDICT_PASS:
      return "no service of weft: connect() goes on untouched";
    case WEFT_VERDICT_TRANSLATE:
      return "connect() goes to " + endpoint + " next";
    case WEFT_VERDICT_REFUSE_NO_ENDPOINT:
      return "refused with ECONNREFUSED: no endpoint of the service is ready";
    case WEFT_VERDICT_REFUSE_FAMILY:
      return "refused with ECONNREFUSED: the socket cannot reach the endpoint's address family";
    case WEFT_VERDICT_REFUSE_EJECTED:
      return "refused with ECONNREFUSED: the breakers of all endpoints tried are open (weftctl "
             "breaker list)";
    case WEFT_VERDICT_REFUSE_LIMIT:
      return "refused with ECONNREFUSED: maxConnections is reached";
    case WEFT_VERDICT_CAPTURE:
      return "connect() goes to the node's proxy, which decides by the HTTP rules";
    case WEFT_VERDICT_REFUSE_PROXY_DOWN:
      return "refused with ECONNREFUSED: the service is the proxy's, and none serves here";
    default:
      return "refused: the slot range is not the service's (weftctl audit says what is wrong)";
  }
}

// What its breaker and its limit have to say; empty where nothing keeps connections from it.
std::string why_cut_off(const compile::PlacedPort& port, const weft_endpoint_state& state,
                        std::uint32_t ejected) {
  if (weft_breaker_counts(state.breaker) && ejected > port.policy.max_ejected)
    return "its breaker is not closed, but more are out than may be: it serves all the same";
  const std::string reason = kernel::breaker_reason_text(weft_breaker_reason(state.breaker));
  const std::uint64_t until = weft_breaker_until_ms(state.breaker), now = kernel::now_ms();
  if (weft_breaker_state(state.breaker) == WEFT_BREAKER_HALF_OPEN)
    return "its breaker is half-open (" + reason + "): a probe is under way";
  if (weft_breaker_state(state.breaker) == WEFT_BREAKER_OPEN)
    return "its breaker is open (" + reason + "): " +
           (until > now ? std::to_string(until - now) + " ms until a probe"
                        : "the next connection is the probe");
  const auto connections = weft_connections(&state.active, state.connections);
  if (port.policy.max_per_endpoint && connections >= port.policy.max_per_endpoint)
    return "it has " + std::to_string(connections) + " connections, as many as it may";
  return "";
}

std::string why_out(const compile::PlacedPort& port, const compile::PlacedEndpoint& endpoint,
                    const weft_endpoint_state& state, std::uint32_t ejected, bool in_rotation) {
  if (in_rotation) return why_cut_off(port, state, ejected);
  if (std::find(port.spares.begin(), port.spares.end(), endpoint.id) != port.spares.end())
    return "priority " + std::to_string(endpoint.priority) +
           ": a spare while enough before it are healthy";
  if (endpoint.state == model::EndpointState::kNotReady) return "not ready";
  if (endpoint.state == model::EndpointState::kDraining) return "terminating, and others are ready";
  return port.slots.empty() ? "no endpoint is in rotation" : "its weight is 0";
}

Json candidates_json(const compile::PlacedPort& port, const kernel::Maps& maps) {
  Json all = Json::array();
  for (const auto& endpoint : port.endpoints) {
    const bool in =
        std::find(port.slots.begin(), port.slots.end(), endpoint.id) != port.slots.end();
    const auto counters = maps.endpoint_states.at(endpoint.id);
    all.push_back({{"id", endpoint.id},
                   {"address", endpoint.address.to_text()},
                   {"target_port", endpoint.port},
                   {"state", state_text(endpoint, counters)},
                   {"in_rotation", in},
                   {"why_out", why_out(port, endpoint, counters,
                                       maps.service_states.at(port.index).ejected, in)}});
  }
  return all;
}

void print(const Json& json) {
  const auto text = [&](const char* key) {
    return json[key].is_string() ? json[key].get<std::string>() : json[key].dump();
  };
  if (!json["service"].is_null()) {
    std::printf("service     %s (generation %s, %s)\n", text("service").c_str(),
                text("generation").c_str(), text("balancer").c_str());
    if (!json["rule"].is_null())
      std::printf("described   %s:%s\n", json["rule"]["file"].get<std::string>().c_str(),
                  json["rule"]["line"].dump().c_str());
  }
  if (const auto& route = json["route"]; !route.is_null())
    std::printf("routed      by VirtualService %s, %s:%d\n",
                route.value("virtual_service", "").c_str(), route.value("file", "").c_str(),
                route.value("line", 0));
  if (json["path"] == "proxy") std::printf("path        proxy\n");
  std::printf("verdict     %s: %s\n", text("verdict").c_str(), text("explanation").c_str());
  if (json["affinity"]) std::printf("affinity    this client keeps that endpoint\n");
  for (const auto& note : json["notes"])
    std::printf("note        %s\n", note.get<std::string>().c_str());
  if (const auto& routing = json["routing"]; !routing.is_null())
    return (void)std::fputs(routing_text(routing).c_str(), stdout);
  // Where the proxy chooses, none of these is what connect() would take.
  if (json["candidates"].empty() || json["path"] == "proxy") return;
  std::printf("\n");
  std::vector<std::vector<std::string>> rows;
  for (const auto& c : json["candidates"])
    rows.push_back({c["id"].dump(),
                    c["address"].get<std::string>() + " port " + c["target_port"].dump(),
                    c["state"], c["in_rotation"] ? "yes" : "no", c["why_out"]});
  print_table({"ID", "CANDIDATE", "STATE", "IN ROTATION", "WHY NOT"}, rows);
}

weft_query query_of(const Question& question, const model::Address& address, std::uint16_t port) {
  weft_query query{};
  query.key = compile::frontend_key(
      address,
      {port, question.udp ? model::Protocol::kUdp : model::Protocol::kTcp, address.family()});
  const bool v4_socket = address.family() == model::Family::kIpv4;
  query.reach = v4_socket         ? WEFT_REACH_V4
                : question.v6only ? WEFT_REACH_V6
                                  : WEFT_REACH_V4 | WEFT_REACH_V6;
  query.mode = WEFT_MODE_DRY;
  return query;
}

bool is_below(const std::string& path, const std::string& directory) {
  return path == directory || path.starts_with(directory + "/");
}

// Directory of the process's cgroup on the mount that shows `served`; empty where it cannot be
// told.
std::string cgroup_of(const std::string& pid, const std::string& served) {
  std::ifstream file("/proc/" + pid + "/cgroup"), mounts("/proc/self/mounts");
  std::string own, line;
  while (std::getline(file, line))
    // In a cgroup namespace others' paths lead out of it: where from, nobody says here.
    if (line.starts_with("0::/.."))
      return "";
    else if (line.starts_with("0::"))
      own = line == "0::/" ? "" : line.substr(3);
  while (std::getline(mounts, line)) {
    std::istringstream words(line);
    std::string device, path, type;
    if (words >> device >> path >> type && type == "cgroup2" && is_below(served, path))
      return path + own;
  }
  return "";
}

// Whether the process is in a pod that is enrolled: its pod's cgroup is one or two levels below.
bool is_enrolled(const kernel::Maps& maps, const std::string& own, const std::string& served) {
  std::size_t end = served.size();
  for (int level = 0; level < 2 && end < own.size(); ++level) {
    end = std::min(own.find('/', end + 1), own.size());
    struct stat info;
    if (stat(own.substr(0, end).c_str(), &info)) continue;
    const auto flags = maps.workloads.lookup(info.st_ino);
    if (flags.ok() && *flags & WEFT_WORKLOAD_ENROLLED) return true;
  }
  return false;
}

// Why weft leaves the call alone whatever it is to; empty where it does not.
std::string not_served(const Context& context, const kernel::Maps& maps, const std::string& pid,
                       model::Family family) {
  const std::string name = family == model::Family::kIpv4 ? "connect4" : "connect6";
  for (const auto& hook : kernel::read_hooks(context.pins(), "")) {
    if (hook.name != name) continue;
    if (!hook.attached) return "hook " + name + " is not attached (weftctl audit)";
    if (!hook.effective) return "hook " + name + " hangs on a cgroup that is gone (weftctl audit)";
    if (pid.empty()) return "";
    const std::string served = kernel::cgroup_path(hook.cgroup_id), own = cgroup_of(pid, served);
    if (served.empty() || own.empty()) return "";
    if (is_below(own, served)) {
      if (!maps.meta.at(0).labelled_only || is_enrolled(maps, own, served)) return "";
      return "process " + pid + " is in no pod that is enrolled (weftctl workload list)";
    }
    return "process " + pid + " is in cgroup " + own + ", outside of " + served +
           ", which weft serves";
  }
  return "";
}

// The cookie of a PID, or of a pod that the agent knows by this name; 0 where there is none.
std::uint64_t cookie_of(const Context& context, const std::string& from) {
  if (base::parse_number<int>(from)) return netns_cookie_of(from);
  const auto pods = ask_agent(context.run_dir, "workloads");
  if (!pods.ok()) return 0;
  for (const auto& pod : *pods)
    if (from == pod.value("namespace", "") + "/" + pod.value("name", "") ||
        from == pod.value("name", ""))
      return pod.value("netns_cookie", std::uint64_t{0});
  return 0;
}

bool is_proxys(unsigned verdict) {
  return verdict == WEFT_VERDICT_CAPTURE || verdict == WEFT_VERDICT_REFUSE_PROXY_DOWN;
}

// What the proxy would do; null, and a note, where nobody can say.
Json routing_of(const Context& context, const Question& question, const Found& found,
                std::uint64_t netns_cookie, Json& notes) {
  auto routing = ask_routing(context, found.service->key.to_text(), found.port->key.port,
                             question.to, question.http, netns_cookie);
  if (routing.ok()) return *std::move(routing);
  notes.push_back((absl::IsUnavailable(routing.status())
                       ? "the HTTP rules are only known with the agent up: "
                       : "") +
                  base::message_of(routing.status()));
  return nullptr;
}

struct Known {
  const kernel::Maps& maps;
  const compile::MapState& state;
  std::uint64_t netns_cookie;
};

// The service's part of the answer.
void describe(const Context& context, const Question& question, const Found& found,
              const Known& known, Json& json, Json& notes) {
  json["service"] = found.service->key.to_text();
  json["generation"] = found.port->generation;
  json["balancer"] = balancer_text(found.port->selector);
  if (const auto agent = ask_agent(context.run_dir, "service", found.service->key.to_text());
      agent.ok()) {
    json["rule"] = {{"file", agent->value("file", "")}, {"line", agent->value("line", 0)}};
    for (const auto& route : agent->value("routes", Json::array()))
      if (route.value("port", 0) == found.port->key.port) json["route"] = route;
  }
  json["candidates"] = candidates_json(*found.port, known.maps);
  if (json["path"] == "kernel") return;
  json["routing"] = routing_of(context, question, found, known.netns_cookie, notes);
  if (!json["routing"].is_null()) add_states(json["routing"], known.state, state_of(known.maps));
}

void why(Context& context, const Question& question) {
  const auto to = parse_host_port(question.to);
  if (!to)
    return fail(context, "--to " + question.to +
                             " is not HOST:PORT, like 10.96.0.1:80, [fd00::1]:80 or web.shop:80");
  const auto maps = open_maps(context);
  if (!maps) return;
  const auto state = kernel::read_settled_state(*maps);
  if (!state.ok()) return fail(context, state.status());
  const auto address = resolve(to->host, *state);
  if (!address)
    return fail(context,
                "--to " + to->host +
                    " is neither an IP address nor a service with an address (NAME.NAMESPACE)");

  auto query = query_of(question, *address, to->port);
  Json notes = Json::array();
  const bool is_pid = base::parse_number<int>(question.from).has_value();
  query.netns_cookie = cookie_of(context, question.from);
  if (is_pid && !query.netns_cookie)
    return fail(context, "--from " + question.from +
                             ": no such process, or its network namespace cannot be entered");
  if (!query.netns_cookie)
    notes.push_back(
        "a pod's name is not known to be any process here: give a PID to have its affinity and "
        "hash");
  auto answer = kernel::ask(context.pins(), query);
  if (!answer.ok()) return fail(context, answer.status());
  const auto unserved =
      not_served(context, *maps, is_pid ? question.from : "",
                 query.reach == WEFT_REACH_V4 ? model::Family::kIpv4 : model::Family::kIpv6);
  if (!unserved.empty()) {
    answer->verdict = WEFT_VERDICT_PASS;
    notes.push_back(unserved + ": the service's own verdict plays no part");
  }

  const auto found = find_index(*state, answer->service);
  const bool chosen = answer->verdict == WEFT_VERDICT_TRANSLATE;
  const std::string endpoint = compile::from_abi(answer->addr).to_text() + " port " +
                               std::to_string(__builtin_bswap16(answer->port));
  Json json{{"from", question.from},
            {"to", question.to},
            {"service", nullptr},
            {"generation", nullptr},
            {"balancer", nullptr},
            {"rule", nullptr},
            {"route", nullptr},
            {"path", is_proxys(answer->verdict) ? "proxy" : "kernel"},
            {"verdict", verdict_name(answer->verdict)},
            {"explanation", unserved.empty()
                                ? verdict_text(answer->verdict, endpoint)
                                : "weft leaves this call alone: connect() goes on untouched"},
            {"endpoint", nullptr},
            {"affinity", answer->affinity != 0},
            {"candidates", Json::array()},
            {"routing", nullptr},
            {"notes", Json::array()}};
  if (found.service)
    describe(context, question, found, {*maps, *state, query.netns_cookie}, json, notes);
  if (json["path"] == "kernel" && !question.http.empty())
    notes.push_back("--method, --path and --header play no part: no HTTP rule decides this call");
  json["notes"] = notes;
  if (chosen)
    json["endpoint"] = {{"id", answer->endpoint},
                        {"address", compile::from_abi(answer->addr).to_text()},
                        {"port", __builtin_bswap16(answer->port)}};
  context.wants_json() ? print_json(context, json) : print(json);
}

}  // namespace

void add_why(CLI::App& root, Context& context) {
  auto question = std::make_shared<Question>();
  auto& command =
      add_command(root, "why", "What connect() would do, decided by the same code, and why",
                  [&context, question] { why(context, *question); });
  add_help(command);
  command.add_option("--from", question->from, "Who dials: a PID, or a pod's name")->required();
  command
      .add_option("--to", question->to,
                  "What is dialled: HOST:PORT; HOST is an address or NAME.NAMESPACE")
      ->required();
  command.add_flag("--udp", question->udp, "A UDP socket instead of TCP");
  command.add_flag("--v6only", question->v6only, "An IPv6 socket that is V6ONLY");
  command.add_option("--method", question->http.method,
                     "HTTP method, for a port with HTTP rules (GET)");
  command.add_option("--path", question->http.path, "HTTP path and query (/)");
  command
      .add_option("--header", question->http.headers,
                  "HTTP header K=V; repeatable. host=NAME is what is asked for")
      ->check([](const std::string& text) {
        const auto equals = text.find('=');
        return equals && equals != std::string::npos ? "" : text + " is not NAME=VALUE";
      });
}

}  // namespace weft::cli
