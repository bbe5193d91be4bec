#include "userspace_proxy/routes/candidates.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

namespace weft::routes {
namespace {

// Of a regular expression, beginning with "/" says nothing.
bool has_path_key(const Condition& condition) {
  return condition.subject == Condition::Subject::kPath &&
         (condition.pattern.kind() != Pattern::Kind::kRegex || condition.pattern.text().size() > 1);
}

// What a match could be filed under, as one string; empty: this condition is no key.
std::string key_of(const Condition& condition) {
  const auto& pattern = condition.pattern;
  if (has_path_key(condition))
    return absl::StrCat("path ", static_cast<int>(pattern.kind()), pattern.ignores_case(), " ",
                        pattern.text());
  if (HeaderIndex::takes(condition))
    return absl::StrCat("header ", condition.name, ":", pattern.text());
  return "";
}

}  // namespace

void PathIndex::add(const Pattern& pattern, std::uint32_t id) {
  const auto& text = pattern.text();
  auto& texts = entries_[extend(0xcbf29ce484222325u, text)];
  auto at = std::find_if(texts.begin(), texts.end(), [&](auto& e) { return e.text == text; });
  if (at == texts.end()) at = texts.insert(texts.end(), Entry{text, {}, {}, {}});
  longest_ = std::max(longest_, text.size());
  if (pattern.kind() == Pattern::Kind::kExact) return at->exact.push_back(id);
  (pattern.kind() == Pattern::Kind::kSegmentPrefix ? at->segments : at->prefix).push_back(id);
  const auto place = std::lower_bound(lengths_.begin(), lengths_.end(), text.size());
  if (place == lengths_.end() || *place != text.size()) lengths_.insert(place, text.size());
}

bool HeaderIndex::takes(const Condition& condition) {
  return condition.subject == Condition::Subject::kHeader && !condition.inverted &&
         condition.pattern.kind() == Pattern::Kind::kExact && !condition.pattern.ignores_case() &&
         condition.name.size() <= kLongestName;
}

void HeaderIndex::add(const Condition& condition, std::uint32_t id) {
  lengths_ |= length_bit(condition.name);
  names_[condition.name][condition.pattern.text()].push_back(id);
}

const HeaderIndex::Values* HeaderIndex::find(std::string_view name) const {
  const auto at = names_.find(base::to_absl(name));
  return at == names_.end() ? nullptr : &at->second;
}

Candidates::Candidates(std::span<const std::vector<Condition>> matches) {
  absl::flat_hash_map<std::string, std::size_t> asked_by;
  for (const auto& conditions : matches)
    for (const auto& condition : conditions) ++asked_by[key_of(condition)];
  for (std::uint32_t id = 0; id < matches.size(); ++id) {
    const Condition* rarest = nullptr;
    std::size_t fewest = 0;
    for (const auto& condition : matches[id]) {
      const auto key = key_of(condition);
      if (key.empty() || (rarest && asked_by[key] >= fewest)) continue;
      rarest = &condition;
      fewest = asked_by[key];
    }
    if (!rarest)
      others_.push_back(id);
    else if (has_path_key(*rarest))
      (rarest->pattern.ignores_case() ? folded_ : as_written_).add(rarest->pattern, id);
    else
      headers_.add(*rarest, id);
  }
}

}  // namespace weft::routes
