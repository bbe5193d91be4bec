// One text of a request against one text of a rule. Letters are ASCII's: what comes in has been
// through normalize_path or the parser, and folding anything else would make two texts equal that
// the endpoint tells apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <re2/re2.h>

#include "mesh/model/http.h"

namespace weft::routes {

// What the regular expressions of one table may cost. RE2 is linear in the text, but falls back to
// program size times text size when its state cache thrashes: the budgets are what bounds that, and
// the caches.
class RegexBudget {
 public:
  // `regexes`: how many there will be; the memory for their caches is divided among them.
  explicit RegexBudget(std::size_t regexes);

  absl::StatusOr<std::shared_ptr<const re2::RE2>> compile(const std::string& text,
                                                          bool ignore_case);

 private:
  std::int64_t memory_each_;
  std::size_t instructions_ = 0;
};

// `name` in any case against one that is in lower case.
bool equals_folded(std::string_view text, std::string_view lower);
bool starts_folded(std::string_view text, std::string_view lower);

class Pattern {
 public:
  enum class Kind : std::uint8_t { kExact, kPrefix, kSegmentPrefix, kRegex, kPresent };

  static absl::StatusOr<Pattern> compile(const model::TextMatch& match, RegexBudget& budget);
  static absl::StatusOr<Pattern> compile(const model::PathMatch& match, RegexBudget& budget);

  bool holds(std::string_view text) const;
  // "is not /b", "does not begin with /b": the end of a sentence that begins with what was given.
  std::string complaint() const;

  Kind kind() const { return kind_; }
  bool ignores_case() const { return ignore_case_; }
  // In lower case where case does not matter. Of a prefix of segments: without its last "/", which
  // is therefore empty for "/". Of a regular expression: what every match begins with, if anything.
  const std::string& text() const { return text_; }

 private:
  Kind kind_ = Kind::kPresent;
  bool ignore_case_ = false;
  std::string text_, written_;
  std::shared_ptr<const re2::RE2> regex_;
};

// For messages that reach a terminal: control bytes escaped, long texts cut.
std::string readable(std::string_view text);

}  // namespace weft::routes
