// One thing that a rule's match asks of a request. match() and explain() go through the same
// holds(), so that an explanation cannot differ from what was done.
//
// What is compared, where Istio and Gateway API leave it open or differ:
//   path       as normalized, without the query. The rule's own is taken as written.
//   method     with case, unless ignore_case.
//   authority  in any case, always: hosts have none (RFC 3986 3.2.2). Where the rule names no port,
//              the request's is left out of the comparison; a regular expression is tried on both.
//   scheme     "http": what is captured and has TLS is never taken for HTTP.
//   headers    see header_value(). "host" is the authority, which is what routing goes by where an
//              absolute target and Host differ (RFC 9112 3.2.2).
//   query      see query_value(). A rule's exact text or prefix is decoded, too: rules written for
//              Envoy, which compares undecoded, mean the same here.
//   inverted   an absent field counts as an empty one, as Istio tells Envoy
//              (treat_missing_header_as_empty); inverted kPresent holds where it is absent.
//   source     a caller who is not known has no labels and no namespace.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "mesh/model/http.h"
#include "userspace_proxy/routes/pattern.h"
#include "userspace_proxy/routes/table.h"

namespace weft::routes {

struct Condition {
  enum class Subject : std::uint8_t {
    kPath,
    kMethod,
    kAuthority,
    kScheme,
    kHeader,
    kQuery,
    kSourceNamespace,
    kSourceLabel,
  };
  Subject subject = Subject::kPath;
  std::string name;  // of a header (lower case), a parameter, a label
  Pattern pattern;
  bool inverted = false;
  bool strip_port = false;  // of the request's authority, before it is compared

  bool holds(const Request& request) const;
  // "path /a is not /b". Asked only where it does not hold.
  std::string why_not(const Request& request) const;

 private:
  std::optional<std::string_view> given(const Request& request, std::string& room) const;
};

// All must hold; in the order that is cheapest to ask.
absl::StatusOr<std::vector<Condition>> conditions(const model::HttpMatch& match,
                                                  RegexBudget& budget);

// How many regular expressions there are in it, for RegexBudget.
std::size_t count_regexes(const model::HttpMatch& match);

}  // namespace weft::routes
