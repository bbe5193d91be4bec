// Where a matched request goes, and under which path.
#include <algorithm>
#include <string>
#include <utility>

#include <absl/numeric/int128.h>

#include "userspace_proxy/routes/index.h"
#include "userspace_proxy/routes/table.h"

namespace weft::routes {
namespace {

// How much of the path the match stands for. What Gateway API's table says of "/foo" and "/foo/"
// alike follows from leaving a prefix's last "/" to the rest. A rule that names no path stands for
// its "/", as "PathPrefix /" does. An exact path and a regular expression are the whole.
std::size_t matched_length(const std::vector<model::HttpMatch>& matches, std::uint32_t number,
                           std::string_view path) {
  if (number >= matches.size() || !matches[number].path) return 0;
  const auto& match = *matches[number].path;
  if (match.kind == model::PathMatch::Kind::kPrefix) return match.text.size();
  if (match.kind != model::PathMatch::Kind::kSegmentPrefix) return path.size();
  return match.text.size() - (match.text.ends_with('/') ? 1 : 0);
}

// Two slashes that meet at the seam become one: the endpoint would not be sent a normalized path.
std::string replace_prefix(std::string_view text, std::string_view rest) {
  if (text.ends_with('/') && rest.starts_with('/')) rest.remove_prefix(1);
  return std::string(text).append(rest);
}

std::string beginning_with_slash(std::string path) {
  if (!path.starts_with('/')) path.insert(path.begin(), '/');
  return path;
}

}  // namespace

std::uint32_t Table::destination(const model::Forward& forward, std::uint32_t random) {
  std::uint64_t total = 0;
  for (const auto& destination : forward.destinations) total += destination.weight;
  if (total == 0) return kNone;
  // [0, 2^32) onto [0, total): every boundary is off by less than one random number.
  const auto at = absl::Uint128Low64((absl::uint128(random) * total) >> 32);
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < forward.destinations.size(); ++i) {
    sum += forward.destinations[i].weight;
    if (at < sum) return i;
  }
  return kNone;
}

std::string Table::edited_path(const model::PathEdit& edit, Match matched,
                               std::string_view path) const {
  switch (edit.kind) {
    case model::PathEdit::Kind::kWhole:
      return beginning_with_slash(edit.text);
    case model::PathEdit::Kind::kPrefix: {
      const auto& rules = index_->routes.rules;
      const auto length = matched.rule < rules.size()
                              ? matched_length(rules[matched.rule].matches, matched.match, path)
                              : 0;
      return beginning_with_slash(
          replace_prefix(edit.text, path.substr(std::min(length, path.size()))));
    }
    case model::PathEdit::Kind::kRegex: {
      std::string edited(path);
      const auto regex = index_->edits.find(edit.regex);
      if (regex != index_->edits.end()) re2::RE2::GlobalReplace(&edited, *regex->second, edit.text);
      return beginning_with_slash(std::move(edited));
    }
  }
  return std::string(path);
}

}  // namespace weft::routes
