#include <limits>
#include <memory>
#include <optional>

#include "mesh/wire/check.h"
#include "mesh/wire/http.h"

namespace weft::wire {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Reads one HttpRoutes; `check` holds the first thing that is wrong.
class Reader {
 public:
  explicit Reader(std::size_t clusters) : clusters_(clusters) {}

  Check check;

  model::HttpRule rule(const weft::v1::HttpRule& from) {
    model::HttpRule rule;
    rule.name = from.name();
    rule.object = from.object();
    rule.origin = origin(from.origin());
    for (const auto& one : from.matches()) rule.matches.push_back(match(one));
    read_action(from, rule.action);
    rule.request_headers = edits(from.request_headers());
    rule.response_headers = edits(from.response_headers());
    if (from.has_cors()) rule.cors = cors(from.cors());
    if (from.has_retries()) rule.retries = retries(from.retries());
    if (from.has_timeout_ms())
      rule.timeout = check.duration<milliseconds>(from.timeout_ms(), "timeout");
    return rule;
  }

 private:
  template <class Match>  // model::TextMatch or model::PathMatch
  Match text(const weft::v1::Text& from, typename Match::Kind last) {
    return {check.enumeration(from.kind(), last, "kind of match"), from.text(), from.ignore_case()};
  }
  model::TextMatch text(const weft::v1::Text& from) {
    return text<model::TextMatch>(from, model::TextMatch::Kind::kPresent);
  }

  std::vector<model::FieldMatch> fields(const auto& from) {
    std::vector<model::FieldMatch> fields;
    for (const auto& field : from)
      fields.push_back({field.name(), text(field.value()), field.inverted()});
    return fields;
  }

  model::HttpMatch match(const weft::v1::HttpMatch& from) {
    model::HttpMatch match;
    if (from.has_path())
      match.path = text<model::PathMatch>(from.path(), model::PathMatch::Kind::kRegex);
    if (from.has_method()) match.method = text(from.method());
    if (from.has_authority()) match.authority = text(from.authority());
    if (from.has_scheme()) match.scheme = text(from.scheme());
    match.headers = fields(from.headers());
    match.query = fields(from.query());
    match.source_labels.insert(from.source_labels().begin(), from.source_labels().end());
    match.source_namespace = from.source_namespace();
    return match;
  }

  std::uint32_t cluster(std::uint32_t index) {
    if (index < clusters_) return index;
    check.fail(absl::StrCat("cluster ", index, " of ", clusters_));
    return 0;
  }

  std::vector<std::pair<std::string, std::string>> headers(const auto& from) {
    std::vector<std::pair<std::string, std::string>> headers;
    for (const auto& header : from)
      headers.emplace_back(check.header_name(header.name()),
                           check.line(header.value(), "a header's value"));
    return headers;
  }

  model::HeaderEdits edits(const weft::v1::HeaderEdits& from) {
    model::HeaderEdits edits;
    for (const auto& name : from.remove()) edits.remove.push_back(check.header_name(name));
    edits.set = headers(from.set());
    edits.add = headers(from.add());
    return edits;
  }

  model::PathEdit path(const weft::v1::PathEdit& from) {
    return {check.enumeration(from.kind(), model::PathEdit::Kind::kRegex, "kind of path edit"),
            check.target(from.text(), "a path"), from.regex()};
  }

  model::HttpDestination destination(const weft::v1::Destination& from) {
    model::HttpDestination destination;
    destination.cluster = cluster(from.cluster());
    destination.weight = from.weight();
    destination.request_headers = edits(from.request_headers());
    destination.response_headers = edits(from.response_headers());
    if (from.has_authority()) destination.authority = check.target(from.authority(), "authority");
    if (from.has_path()) destination.path = path(from.path());
    return destination;
  }

  model::Forward forward(const weft::v1::Forward& from) {
    model::Forward forward;
    for (const auto& one : from.destinations()) {
      const Check::Place place(check, absl::StrCat("destination ", forward.destinations.size()));
      forward.destinations.push_back(destination(one));
    }
    if (from.has_path()) forward.path = path(from.path());
    if (from.has_authority()) forward.authority = check.target(from.authority(), "authority");
    for (const auto& mirror : from.mirrors()) {
      const Check::Place place(check, absl::StrCat("mirror ", forward.mirrors.size()));
      forward.mirrors.push_back(
          {cluster(mirror.cluster()), static_cast<std::uint32_t>(check.number(
                                          mirror.parts_per_million(), 0, 1000000, "share"))});
    }
    return forward;
  }

  std::uint16_t status(std::uint32_t value, std::uint16_t least, std::uint16_t most) {
    return static_cast<std::uint16_t>(check.number(value, least, most, "status"));
  }

  model::Redirect redirect(const weft::v1::Redirect& from) {
    model::Redirect redirect;
    redirect.status = status(from.status(), 300, 399);
    if (from.has_scheme()) redirect.scheme = check.target(from.scheme(), "scheme");
    if (from.has_authority()) redirect.authority = check.target(from.authority(), "authority");
    if (from.port()) redirect.port = check.port(from.port());
    if (from.has_path()) redirect.path = path(from.path());
    return redirect;
  }

  void read_action(const weft::v1::HttpRule& from, auto& action) {
    switch (from.action_case()) {
      case weft::v1::HttpRule::kForward:
        action = forward(from.forward());
        return;
      case weft::v1::HttpRule::kRedirect:
        action = redirect(from.redirect());
        return;
      case weft::v1::HttpRule::kDirect:
        action =
            model::DirectResponse{status(from.direct().status(), 200, 599), from.direct().body(),
                                  check.line(from.direct().content_type(), "a content type")};
        return;
      case weft::v1::HttpRule::ACTION_NOT_SET:
        break;
    }
    check.fail("no action that is known");
  }

  std::vector<std::string> lines(const auto& from, const char* what) {
    std::vector<std::string> lines;
    for (const auto& line : from) lines.push_back(check.line(line, what));
    return lines;
  }

  model::Cors cors(const weft::v1::Cors& from) {
    model::Cors cors;
    for (const auto& origin : from.allow_origins()) cors.allow_origins.push_back(text(origin));
    cors.allow_methods = lines(from.allow_methods(), "a method");
    cors.allow_headers = lines(from.allow_headers(), "a header's name");
    cors.expose_headers = lines(from.expose_headers(), "a header's name");
    if (from.has_max_age_seconds())
      cors.max_age = check.duration<seconds>(from.max_age_seconds(), "max age");
    if (from.has_allow_credentials()) cors.allow_credentials = from.allow_credentials();
    cors.forward_unmatched_preflights = from.forward_unmatched_preflights();
    return cors;
  }

  model::Retries retries(const weft::v1::Retries& from) {
    constexpr std::uint32_t kAll = 2 * static_cast<std::uint32_t>(model::RetryOn::kStatuses) - 1;
    model::Retries retries;
    retries.attempts = from.attempts();
    retries.on = static_cast<std::uint16_t>(check.number(from.on(), 0, kAll, "retry on"));
    for (const auto one : from.statuses()) retries.statuses.push_back(status(one, 100, 599));
    if (from.has_per_try_timeout_ms())
      retries.per_try_timeout =
          check.duration<milliseconds>(from.per_try_timeout_ms(), "per try timeout");
    retries.backoff = check.duration<milliseconds>(from.backoff_ms(), "backoff");
    return retries;
  }

  // Rules of one file share its name, as they did when they were read.
  model::Origin origin(const weft::v1::Origin& from) {
    if (!from.file().empty() && (!file_ || *file_ != from.file()))
      file_ = std::make_shared<const std::string>(from.file());
    const auto line = check.number(from.line(), 0, std::numeric_limits<int>::max(), "line");
    return {from.file().empty() ? nullptr : file_, static_cast<int>(line)};
  }

  std::size_t clusters_;
  std::shared_ptr<const std::string> file_;
};

model::HttpCluster cluster_from(const weft::v1::ClusterName& name, Check& check) {
  return {name.namespace_name(), name.service(), name.subset(), check.port(name.port(), 0),
          name.missing()};
}

}  // namespace

absl::StatusOr<model::HttpCluster> from_wire(const weft::v1::ClusterName& name) {
  Check check;
  auto cluster = cluster_from(name, check);
  if (!check.status().ok()) return check.status();
  return cluster;
}

absl::StatusOr<model::HttpRoutes> from_wire(const weft::v1::HttpRoutes& from) {
  Reader reader(static_cast<std::size_t>(from.clusters_size()));
  model::HttpRoutes routes;
  routes.kind = from.kind();
  routes.otherwise = reader.check.enumeration(from.otherwise(),
                                              model::HttpRoutes::Otherwise::kService, "otherwise");
  if (from.clusters().empty() && routes.otherwise == model::HttpRoutes::Otherwise::kService)
    reader.check.fail("no cluster, though what no rule matches goes to the service");
  for (const auto& name : from.clusters()) {
    const Check::Place place(reader.check, absl::StrCat("cluster ", routes.clusters.size()));
    routes.clusters.push_back(cluster_from(name, reader.check));
  }
  for (const auto& rule : from.rules()) {
    const Check::Place place(reader.check,
                             absl::StrCat("rule ", routes.rules.size(), " (", rule.object(), ")"));
    routes.rules.push_back(reader.rule(rule));
    if (!reader.check.status().ok()) break;
  }
  if (!reader.check.status().ok()) return reader.check.status();
  return routes;
}

}  // namespace weft::wire
