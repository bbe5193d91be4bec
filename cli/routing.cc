#include "cli/routing.h"

#include <map>

#include "cli/admin_client.h"

namespace weft::cli {
namespace {

// "web.shop:80" -> "web.shop": what a client sends as Host.
std::string host_of(const std::string& to) {
  return to.ends_with(":80") ? to.substr(0, to.size() - 3) : to;
}

std::string lower(std::string text) {
  for (auto& c : text)
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  return text;
}

std::string verdict_text(const Json& routing) {
  if (const auto refused = routing.value("refused", ""); !refused.empty()) return refused;
  if (routing["rule"].is_null())
    return "none matches: " + routing.value("otherwise", "") +
           (routing["clusters"].empty() ? "" : ", the service that was dialled");
  const auto& rule = routing["rules"].at(routing["rule"].get<std::size_t>());
  return rule["number"].dump() + ", " + place_text(rule);
}

std::string action_text(const Json& routing) {
  return routing["rule"].is_null()
             ? ""
             : routing["rules"].at(routing["rule"].get<std::size_t>()).value("action", "");
}

std::string clusters_table(const Json& routing) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& cluster : routing["clusters"]) {
    const auto name = cluster.value("name", ""), weight = cluster["weight"].dump();
    if (cluster["endpoints"].empty()) {
      const auto missing = cluster.value("missing", "");
      rows.push_back({name, weight, "none", missing.empty() ? "it has no endpoint" : missing});
    }
    for (const auto& endpoint : cluster["endpoints"])
      rows.push_back({name, weight,
                      endpoint.value("address", "") + " port " + endpoint["port"].dump(),
                      endpoint.value("state", "")});
  }
  return rows.empty() ? "" : "\n" + layout({"CLUSTER", "WEIGHT", "ENDPOINT", "STATE"}, rows);
}

}  // namespace

absl::StatusOr<Json> ask_routing(const Context& context, const std::string& service,
                                 std::uint16_t port, const std::string& to,
                                 const HttpQuestion& question, std::uint64_t netns_cookie) {
  Json request{{"command", "explain"},
               {"service", service},
               {"port", port},
               {"method", question.method.empty() ? "GET" : question.method},
               {"authority", host_of(to)},
               {"target", question.path.empty() ? "/" : question.path},
               {"netns_cookie", netns_cookie},
               {"headers", Json::array()}};
  for (const auto& header : question.headers) {
    const auto equals = header.find('=');
    if (equals == 0 || equals == std::string::npos)
      return absl::InvalidArgumentError("--header " + header + " is not NAME=VALUE");
    const auto name = header.substr(0, equals), value = header.substr(equals + 1);
    if (lower(name) == "host")
      request["authority"] = value;
    else
      request["headers"].push_back({name, value});
  }
  const auto method = request["method"], authority = request["authority"];
  auto answer = send_request(context.run_dir, std::move(request));
  if (!answer.ok() || answer->is_null()) return answer;
  (*answer)["method"] = method;
  (*answer)["authority"] = authority;
  return answer;
}

void add_states(Json& routing, const compile::MapState& state, const StateOf& state_of) {
  std::map<std::string, Json> services;
  for (auto& cluster : routing["clusters"]) {
    const auto key = model::ServiceKey::parse(cluster.value("service", ""));
    if (!key) continue;
    auto& known = services[key->to_text()];
    if (known.is_null()) known = endpoints_json(state, &*key, state_of);
    for (auto& endpoint : cluster["endpoints"])
      for (const auto& one : known)
        if (one["address"] == endpoint["address"] && one["target_port"] == endpoint["port"])
          endpoint["state"] = one["state"];
  }
}

std::string place_text(const Json& rule) {
  const auto name = rule.value("name", ""), file = rule.value("file", "");
  return rule.value("object", "") + (name.empty() ? "" : " \"" + name + "\"") +
         (file.empty() ? "" : ", " + file + ":" + rule["line"].dump());
}

std::string matches_text(const Json& rule) {
  std::string text;
  for (const auto& match : rule["matches"])
    text += (text.empty() ? "" : " | ") + match.get<std::string>();
  return text.empty() ? "everything" : text;
}

std::string routing_text(const Json& routing) {
  std::string text = "request     " + routing.value("method", "") + " " +
                     routing.value("authority", "") + " " + routing.value("path", "") +
                     "\nrule        " + verdict_text(routing) + "\n";
  if (const auto action = action_text(routing); !action.empty())
    text += "action      " + action + "\n";
  std::vector<std::vector<std::string>> rows;
  for (const auto& rule : routing["rules"])
    rows.push_back({rule["number"].dump(), place_text(rule), matches_text(rule),
                    rule.value("won", false) ? "(it won)" : rule.value("why", "")});
  if (!rows.empty()) text += "\n" + layout({"RULE", "DESCRIBED", "MATCHES", "WHY NOT"}, rows);
  return text + clusters_table(routing);
}

}  // namespace weft::cli
