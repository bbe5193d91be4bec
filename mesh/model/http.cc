// HTTP routes as golden files and `weftctl route list` show them. Only what differs from the
// default, so that a plain rule is a plain line.
#include "mesh/model/http.h"

namespace weft::model {
namespace {

std::string ms(std::chrono::milliseconds value) { return std::to_string(value.count()) + "ms"; }

std::string to_text(const TextMatch& match) {
  static constexpr const char* kKinds[] = {"=", "^=", "~", " present"};
  return kKinds[static_cast<int>(match.kind)] + match.text +
         (match.ignore_case ? " (any case)" : "");
}

std::string to_text(const PathMatch& match) {
  static constexpr const char* kKinds[] = {"path ", "prefix ", "segments ", "regex "};
  return kKinds[static_cast<int>(match.kind)] + match.text +
         (match.ignore_case ? " (any case)" : "");
}

std::string to_text(const char* what, const FieldMatch& match) {
  return std::string(match.inverted ? "not " : "") + what + " " + match.name + to_text(match.value);
}

std::string to_text(const PathEdit& edit) {
  switch (edit.kind) {
    case PathEdit::Kind::kWhole:
      return edit.text;
    case PathEdit::Kind::kPrefix:
      return "PREFIX>" + edit.text;
    case PathEdit::Kind::kRegex:
      break;
  }
  return edit.regex + ">" + edit.text;
}

std::string to_text(const char* what, const HeaderEdits& edits) {
  std::string text;
  for (const auto& name : edits.remove) text += std::string(" ") + what + "-" + name;
  for (const auto& [name, value] : edits.set)
    text += std::string(" ") + what + "=" + name + ":" + value;
  for (const auto& [name, value] : edits.add)
    text += std::string(" ") + what + "+" + name + ":" + value;
  return text;
}

std::string cluster_text(const HttpRoutes& routes, std::uint32_t at) {
  return at < routes.clusters.size() ? routes.clusters[at].name() : "?";
}

std::string to_text(const HttpDestination& to, bool alone, const HttpRoutes& routes) {
  std::string text = cluster_text(routes, to.cluster);
  if (!alone) text += " weight=" + std::to_string(to.weight);
  if (to.authority) text += " authority=" + *to.authority;
  if (to.path) text += " path=" + to_text(*to.path);
  return text + to_text("request", to.request_headers) + to_text("response", to.response_headers);
}

std::string to_text(const Forward& forward, const HttpRoutes& routes) {
  std::string text;
  const auto& all = forward.destinations;
  for (const auto& to : all)
    text += (text.empty() ? "" : " | ") + to_text(to, all.size() == 1, routes);
  if (all.empty()) text = "nobody (500)";
  if (forward.path) text += " path=" + to_text(*forward.path);
  if (forward.authority) text += " authority=" + *forward.authority;
  for (const auto& mirror : forward.mirrors) {
    text += " mirror=" + cluster_text(routes, mirror.cluster);
    if (mirror.parts_per_million != 1000000)
      text += "(" + std::to_string(mirror.parts_per_million) + "ppm)";
  }
  return text;
}

std::string to_text(const Redirect& redirect) {
  std::string text = "redirect " + std::to_string(redirect.status);
  if (redirect.scheme) text += " scheme=" + *redirect.scheme;
  if (redirect.authority) text += " authority=" + *redirect.authority;
  if (redirect.port) text += " port=" + std::to_string(*redirect.port);
  if (redirect.path) text += " path=" + to_text(*redirect.path);
  return text;
}

std::string chosen_text(const HttpRule& rule, const HttpRoutes& routes) {
  if (const auto* forward = std::get_if<Forward>(&rule.action)) return to_text(*forward, routes);
  if (const auto* redirect = std::get_if<Redirect>(&rule.action)) return to_text(*redirect);
  const auto& response = std::get<DirectResponse>(rule.action);
  return "answer " + std::to_string(response.status) +
         (response.body.empty() ? "" : " with " + std::to_string(response.body.size()) + " bytes");
}

std::string to_text(const Retries& retries) {
  static constexpr std::pair<RetryOn, const char*> kNames[] = {
      {RetryOn::kConnectFailure, "connect-failure"},
      {RetryOn::kRefusedStream, "refused-stream"},
      {RetryOn::kReset, "reset"},
      {RetryOn::kGateway, "gateway-error"},
      {RetryOn::k5xx, "5xx"},
      {RetryOn::kRetriable4xx, "retriable-4xx"}};
  std::string text = " retries(" + std::to_string(retries.attempts);
  for (const auto& [on, name] : kNames)
    if (retries.on & static_cast<std::uint16_t>(on)) text += std::string(" ") + name;
  for (const auto status : retries.statuses) text += " " + std::to_string(status);
  if (retries.per_try_timeout) text += " try=" + ms(*retries.per_try_timeout);
  if (retries.backoff != Retries{}.backoff) text += " backoff=" + ms(retries.backoff);
  return text + ")";
}

std::string to_text(const Cors& cors) {
  std::string text = " cors(origins";
  for (const auto& origin : cors.allow_origins) text += to_text(origin);
  const auto list = [&](const char* name, const std::vector<std::string>& values) {
    if (values.empty()) return;
    text += std::string(" ") + name;
    for (const auto& value : values) text += "=" + value;
  };
  list("methods", cors.allow_methods);
  list("headers", cors.allow_headers);
  list("expose", cors.expose_headers);
  if (cors.max_age) text += " max_age=" + std::to_string(cors.max_age->count()) + "s";
  if (cors.allow_credentials) text += *cors.allow_credentials ? " credentials" : " no-credentials";
  if (cors.forward_unmatched_preflights) text += " forward-unmatched";
  return text + ")";
}

// What a rule does besides choosing.
std::string policy_text(const HttpRule& rule) {
  std::string text =
      to_text("request", rule.request_headers) + to_text("response", rule.response_headers);
  if (rule.timeout) text += " timeout=" + ms(*rule.timeout);
  if (rule.retries) text += to_text(*rule.retries);
  if (rule.cors) text += to_text(*rule.cors);
  return text;
}

}  // namespace

std::string to_text(const HttpMatch& match) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (match.path) add(to_text(*match.path));
  if (match.method) add("method" + to_text(*match.method));
  if (match.authority) add("authority" + to_text(*match.authority));
  if (match.scheme) add("scheme" + to_text(*match.scheme));
  for (const auto& header : match.headers) add(to_text("header", header));
  for (const auto& query : match.query) add(to_text("query", query));
  for (const auto& [key, value] : match.source_labels) add("caller " + key + "=" + value);
  if (!match.source_namespace.empty()) add("caller in " + match.source_namespace);
  return text.empty() ? "everything" : text;
}

std::string action_text(const HttpRule& rule, const HttpRoutes& routes) {
  return chosen_text(rule, routes) + policy_text(rule);
}

std::string otherwise_text(const HttpRoutes& routes) {
  return routes.otherwise == HttpRoutes::Otherwise::kNotFound ? "404" : cluster_text(routes, 0);
}

std::string HttpCluster::name() const {
  return namespace_name + "/" + service + ":" + (port ? std::to_string(port) : "?") +
         (subset.empty() ? "" : "/" + subset);
}

std::string to_text(const HttpRoutes& routes) {
  std::string text;
  for (std::size_t i = 0; i < routes.rules.size(); ++i) {
    const auto& rule = routes.rules[i];
    const auto origin = rule.origin.to_text();
    const std::string rest = " -> " + action_text(rule, routes) + " [" + rule.object +
                             (rule.name.empty() ? "" : " \"" + rule.name + "\"") +
                             (origin.empty() ? "" : " " + origin) + "]\n";
    if (rule.matches.empty()) text += std::to_string(i) + " everything" + rest;
    for (const auto& match : rule.matches) text += std::to_string(i) + " " + to_text(match) + rest;
  }
  return text + "otherwise -> " + otherwise_text(routes) + "\n";
}

}  // namespace weft::model
