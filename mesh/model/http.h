// HTTP routes of a service port, as they are decided: rules in the order in which they are tried,
// whoever wrote them (Istio VirtualService, Gateway API HTTPRoute). Plain values. The manifest
// readers and merge fill them; userspace_proxy/routes compiles them into what a request is matched
// with; weftctl explains them.
//
// A ServicePort without them is served by the kernel alone.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "mesh/model/address.h"
#include "mesh/model/notice.h"

namespace weft::model {

// Instructions of RE2's program that a regular expression may have; larger ones are rejected when
// they are read. What that costs: userspace_proxy/routes/table.h.
inline constexpr std::size_t kRegexBudget = 1000;

struct TextMatch {
  enum class Kind : std::uint8_t { kExact, kPrefix, kRegex, kPresent };
  Kind kind = Kind::kExact;
  std::string text;  // a regular expression is RE2's, and matches the whole
  bool ignore_case = false;

  bool operator==(const TextMatch&) const = default;
};

struct PathMatch {
  enum class Kind : std::uint8_t {
    kExact,
    kPrefix,         // of the string: Istio's
    kSegmentPrefix,  // of whole segments: Gateway API's PathPrefix, "/a" is no prefix of "/ab"
    kRegex,
  };
  Kind kind = Kind::kExact;
  std::string text;
  bool ignore_case = false;

  bool operator==(const PathMatch&) const = default;
};

// Of a header (name in lower case) or a query parameter (name as written).
struct FieldMatch {
  std::string name;
  TextMatch value;
  bool inverted = false;  // Istio's withoutHeaders

  bool operator==(const FieldMatch&) const = default;
};

// All that is given must hold.
struct HttpMatch {
  std::optional<PathMatch> path;
  std::optional<TextMatch> method, authority, scheme;
  std::vector<FieldMatch> headers, query;
  std::map<std::string, std::string> source_labels;
  std::string source_namespace;  // empty: any

  bool operator==(const HttpMatch&) const = default;
};

// In this order: removed, set (replaces all of that name), added (beside what is there).
struct HeaderEdits {
  std::vector<std::string> remove;  // in lower case
  std::vector<std::pair<std::string, std::string>> set, add;

  bool empty() const { return remove.empty() && set.empty() && add.empty(); }
  bool operator==(const HeaderEdits&) const = default;
};

// How a path is replaced, in a rewrite or a redirect.
struct PathEdit {
  enum class Kind : std::uint8_t {
    kWhole,   // the whole path by `text`
    kPrefix,  // what the match's prefix was by `text`; of an exact one or a regex the whole path
    kRegex,   // every match of `regex` by `text`, with \1 .. \9
  };
  Kind kind = Kind::kWhole;
  std::string text;
  std::string regex;

  bool operator==(const PathEdit&) const = default;
};

struct HttpDestination {
  std::uint32_t cluster = 0;  // index into HttpRoutes::clusters
  std::uint32_t weight = 1;   // against the rule's other destinations
  HeaderEdits request_headers, response_headers;
  std::optional<std::string>
      authority;  // rewritten for this destination only (URLRewrite of a backendRef)
  std::optional<PathEdit> path;

  bool operator==(const HttpDestination&) const = default;
};

struct Redirect {
  std::uint16_t status = 301;
  std::optional<std::string> scheme, authority;
  std::optional<std::uint16_t> port;
  std::optional<PathEdit> path;

  bool operator==(const Redirect&) const = default;
};

struct DirectResponse {
  std::uint16_t status = 200;
  std::string body;
  std::string content_type;  // empty: none said

  bool operator==(const DirectResponse&) const = default;
};

struct Mirror {
  std::uint32_t cluster = 0;
  std::uint32_t parts_per_million = 1000000;

  bool operator==(const Mirror&) const = default;
};

struct Cors {
  std::vector<TextMatch> allow_origins;  // exact "*": every origin
  std::vector<std::string> allow_methods, allow_headers, expose_headers;
  std::optional<std::chrono::seconds> max_age;
  std::optional<bool> allow_credentials;
  bool forward_unmatched_preflights = false;

  bool operator==(const Cors&) const = default;
};

enum class RetryOn : std::uint16_t {
  kConnectFailure = 1,
  kRefusedStream = 2,
  kReset = 4,          // the connection broke before a byte of the response
  kGateway = 8,        // 502, 503, 504
  k5xx = 16,           // any 5xx, and all of the above
  kRetriable4xx = 32,  // 409
  kStatuses = 64,      // `statuses`
};

struct Retries {
  std::uint32_t attempts = 2;  // beside the first
  std::uint16_t on = 0;        // RetryOn, or-ed; 0: as where there are no Retries
  std::vector<std::uint16_t> statuses;
  std::optional<std::chrono::milliseconds> per_try_timeout;
  std::chrono::milliseconds backoff =
      std::chrono::milliseconds(25);  // base; full jitter, at most ten times it

  bool operator==(const Retries&) const = default;
};

struct Forward {
  std::vector<HttpDestination> destinations;  // none, or weights all 0: 500 (Gateway API), flag NR
  std::optional<PathEdit> path;
  std::optional<std::string> authority;
  std::vector<Mirror> mirrors;

  bool operator==(const Forward&) const = default;
};

struct HttpRule {
  std::string name;                // as written; may be empty
  std::string object;              // "VirtualService shop/web"
  Origin origin;                   // of the rule
  std::vector<HttpMatch> matches;  // one must hold; none: everything matches
  std::variant<Forward, Redirect, DirectResponse> action;
  HeaderEdits request_headers, response_headers;
  std::optional<Cors> cors;
  std::optional<Retries> retries;                    // absent: the defaults of docs/proxy.md
  std::optional<std::chrono::milliseconds> timeout;  // of the whole request; 0: none

  bool operator==(const HttpRule&) const = default;
};

// Limits of requests, from connectionPool.http. 0: none.
struct HttpLimits {
  std::uint32_t max_pending = 0;         // http1MaxPendingRequests
  std::uint32_t max_requests = 0;        // http2MaxRequests: in flight, of every protocol
  std::uint32_t max_per_connection = 0;  // maxRequestsPerConnection
  std::uint32_t max_retries = 0;         // maxRetries: in flight
  std::chrono::milliseconds idle_timeout = std::chrono::hours(1);  // of upstream connections

  bool operator==(const HttpLimits&) const = default;
};

// Endpoints of one service port, or of a subset of it.
struct HttpCluster {
  std::string namespace_name;
  std::string service;
  std::string subset;      // empty: all
  std::uint16_t port = 0;  // of the Service; host order. 0: there is no such service or port
  std::string
      missing;  // why it has no endpoints ("there is no Service ..."), empty where it has a service

  std::string name() const;  // "ns/service:port" or "ns/service:port/subset"
  bool operator==(const HttpCluster&) const = default;
};

struct HttpRoutes {
  enum class Otherwise : std::uint8_t {
    kNotFound,  // nothing matched: 404, flag NR
    kService,   // ... : to the service that was dialled, as if there were no rules; always
                // clusters[0]
  };
  std::vector<HttpRule> rules;  // in the order in which they are tried
  Otherwise otherwise = Otherwise::kNotFound;
  std::vector<HttpCluster> clusters;  // [0] is the service itself; no duplicates
  std::string kind;                   // "VirtualService", "HTTPRoute": whose rules they are

  bool operator==(const HttpRoutes&) const = default;
};

// The name of a rule that ends what is meant for some callers only: its 404 is as if nothing had
// matched.
inline constexpr char kNothingMatched[] = "nothing matched";

// One line a rule and match, in the order of trial; for golden tests and `route list`.
std::string to_text(const HttpRoutes& routes);

}  // namespace weft::model
