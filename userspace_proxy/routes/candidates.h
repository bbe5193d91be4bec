// Which matches a request could fulfil at all, without asking each: 1,000 routes on a service must
// cost what one does. Every match is filed under one thing that it asks for, the one that the
// fewest others ask for, too: its path (exact, prefix, or what a regular expression begins with),
// or a header's exact value. So a thousand HTTPRoutes that all have path "/" and differ in a header
// lie apart as well. What has neither is asked one by one, in order.
//
// Only conditions decide; being visited says nothing but "perhaps".
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/container/inlined_vector.h>
#include <absl/strings/ascii.h>

#include "mesh/base/text.h"
#include "userspace_proxy/routes/condition.h"
#include "userspace_proxy/routes/given.h"

namespace weft::routes {

using Ids = std::vector<std::uint32_t>;  // of matches, ascending

// Exact paths and prefixes. One pass over the path, a rolling hash, and a look-up at every length
// that some prefix has.
class PathIndex {
 public:
  explicit PathIndex(bool fold) : fold_(fold) {}

  void add(const Pattern& pattern, std::uint32_t id);
  bool empty() const { return entries_.empty(); }

  // visit(Ids) for all that the path may fulfil.
  template <class F>
  void visit(std::string_view path, F&& visit) const;

 private:
  struct Entry {
    std::string text;
    Ids exact, prefix, segments;
  };
  std::uint64_t extend(std::uint64_t hash, std::string_view text) const;
  template <class F>
  void visit_at(std::uint64_t hash, std::size_t length, std::string_view path, F&& visit) const;

  bool fold_;
  std::size_t longest_ = 0;
  std::vector<std::size_t> lengths_;  // of prefixes, ascending
  // Texts of one hash (never yet seen) share a list; texts are compared.
  absl::flat_hash_map<std::uint64_t, std::vector<Entry>> entries_;
};

class HeaderIndex {
 public:
  static constexpr std::size_t kLongestName = 63;

  static bool takes(const Condition& condition);
  void add(const Condition& condition, std::uint32_t id);

  template <class F>
  void visit(const Request& request, F&& visit) const;

 private:
  using Values = absl::flat_hash_map<std::string, Ids>;
  static std::uint64_t length_bit(std::string_view name) { return 1ull << name.size(); }
  const Values* find(std::string_view name) const;

  std::uint64_t lengths_ = 0;  // which lengths names have: most fields of a request need no hash
  absl::flat_hash_map<std::string, Values> names_;
};

class Candidates {
 public:
  // matches[id]: the conditions of one match, in the order of trial.
  explicit Candidates(std::span<const std::vector<Condition>> matches);

  // visit(Ids): lists in no order; what is asked one by one comes last, when most requests already
  // know an id above which nothing matters.
  template <class F>
  void visit(const Request& request, F&& visit) const {
    as_written_.visit(request.path, visit);
    folded_.visit(request.path, visit);
    headers_.visit(request, visit);
    visit(others_);
  }

 private:
  PathIndex as_written_{false}, folded_{true};
  HeaderIndex headers_;
  Ids others_;
};

inline std::uint64_t PathIndex::extend(std::uint64_t hash, std::string_view text) const {
  // FNV-1a. Who sends paths cannot make it slow: buckets are made of configured texts only.
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    hash = (hash ^ (fold_ ? static_cast<unsigned char>(absl::ascii_tolower(byte)) : byte)) *
           0x100000001b3u;
  }
  return hash;
}

template <class F>
void PathIndex::visit_at(std::uint64_t hash, std::size_t length, std::string_view path,
                         F&& visit) const {
  const auto at = entries_.find(hash);
  if (at == entries_.end()) return;
  const auto begin = path.substr(0, length);
  for (const auto& entry : at->second) {
    if (fold_ ? !equals_folded(begin, entry.text) : begin != entry.text) continue;
    if (!entry.prefix.empty()) visit(entry.prefix);
    if (length == path.size() && !entry.exact.empty()) visit(entry.exact);
    if (!entry.segments.empty() && (length == path.size() || path[length] == '/'))
      visit(entry.segments);
  }
}

template <class F>
void PathIndex::visit(std::string_view path, F&& visit) const {
  if (entries_.empty()) return;
  std::uint64_t hash = 0xcbf29ce484222325u;
  std::size_t done = 0;
  bool whole = false;
  for (const auto length : lengths_) {
    if (length > path.size()) break;
    hash = extend(hash, path.substr(done, length - done));
    done = length;
    whole = length == path.size();
    visit_at(hash, length, path, visit);
  }
  if (whole || path.size() > longest_) return;
  visit_at(extend(hash, path.substr(done)), path.size(), path, visit);
}

template <class F>
void HeaderIndex::visit(const Request& request, F&& visit) const {
  if (names_.empty()) return;
  absl::InlinedVector<const Values*, 8> seen;  // each name once, however often a request says it
  std::string room;
  const auto look_up = [&](const Values* values, std::string_view value) {
    if (const auto at = values->find(base::to_absl(value)); at != values->end()) visit(at->second);
  };
  if (const auto* values = find("host")) look_up(values, request.authority);
  if (!request.fields) return;
  for (const auto& field : request.fields->all()) {
    if (field.dropped || field.name.size() > kLongestName || !(lengths_ & length_bit(field.name)))
      continue;
    char lower[kLongestName];
    for (std::size_t i = 0; i < field.name.size(); ++i)
      lower[i] = absl::ascii_tolower(static_cast<unsigned char>(field.name[i]));
    const std::string_view name(lower, field.name.size());
    const auto* values = find(name);
    if (!values || name == "host" || std::find(seen.begin(), seen.end(), values) != seen.end())
      continue;
    seen.push_back(values);
    look_up(values, *header_value(*request.fields, name, room));
  }
}

}  // namespace weft::routes
