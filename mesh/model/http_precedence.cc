#include "mesh/model/http_precedence.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace weft::model {
namespace {

int kind_rank(const HttpMatch& match) {
  if (!match.path) return 3;
  if (match.path->kind == PathMatch::Kind::kExact) return 0;
  return match.path->kind == PathMatch::Kind::kRegex ? 1 : 2;
}

// The smaller is tried first. Files and lines are no age here: the specification has names instead.
auto rank_of(const RankedRule& ranked) {
  const auto& match = ranked.rule.matches[0];
  const auto most = std::numeric_limits<std::size_t>::max();
  const auto& meta = ranked.route->meta;
  return std::tuple(kind_rank(match), most - (match.path ? match.path->text.size() : 0),
                    match.method ? 0 : 1, most - match.headers.size(), most - match.query.size(),
                    meta.created.value_or(std::numeric_limits<std::int64_t>::max()),
                    std::tie(meta.namespace_name, meta.name));
}

}  // namespace

std::vector<RankedRule> in_order_of_trial(const std::vector<const HttpRouteObject*>& routes) {
  std::vector<RankedRule> ranked;
  for (const auto* route : routes)
    for (const auto& rule : route->rules) {
      auto matches = rule.matches;
      if (matches.empty()) matches.emplace_back();
      for (auto& match : matches) {
        ranked.push_back({route, rule});
        ranked.back().rule.matches = {std::move(match)};
      }
    }
  std::stable_sort(ranked.begin(), ranked.end(), [](const RankedRule& a, const RankedRule& b) {
    return rank_of(a) < rank_of(b);
  });
  return ranked;
}

}  // namespace weft::model
