#include "userspace_proxy/routes/pattern.h"

#include <algorithm>
#include <utility>

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include "mesh/base/text.h"
#include "userspace_proxy/routes/table.h"

namespace weft::routes {
namespace {

// What hostile texts can make the state caches of a table grow to is a third of this, the part of
// max_mem that RE2 gives to the one direction and kind of match used here. A program of
// kRegexBudget needs kLeastEach to compile at all; where its cache is too small for it, it matches
// slowly, but correctly.
constexpr std::int64_t kCacheMemory = 64 << 20;
constexpr std::int64_t kMostEach = 1 << 20;
constexpr std::int64_t kLeastEach = 128 << 10;

// Latin-1: a byte is a character, so that "." means any byte and no invalid UTF-8 slips past a
// rule. dot_nl for the same reason: a query parameter may be decoded to a line feed.
re2::RE2::Options options(std::int64_t memory, bool ignore_case) {
  re2::RE2::Options chosen;
  chosen.set_encoding(re2::RE2::Options::EncodingLatin1);
  chosen.set_max_mem(memory);
  chosen.set_log_errors(false);
  chosen.set_dot_nl(true);
  chosen.set_case_sensitive(!ignore_case);
  return chosen;
}

absl::Status too_large(const std::string& text) {
  return absl::InvalidArgumentError(absl::StrCat(
      "regular expression ", readable(text), " needs more than ", kRegexBudget, " instructions"));
}

// What all that lies between two texts begins with is what the two begin with.
std::string common_beginning(const model::TextMatch& match) {
  constexpr int kLongest = 128;
  const re2::RE2 anchored("\\A(?:" + match.text + ")\\z", options(kMostEach, match.ignore_case));
  std::string least, greatest;
  if (!anchored.ok() || !anchored.PossibleMatchRange(&least, &greatest, kLongest)) return "";
  const auto end = std::mismatch(least.begin(), least.end(), greatest.begin(), greatest.end());
  least.erase(end.first, least.end());
  return match.ignore_case ? absl::AsciiStrToLower(least) : least;
}

}  // namespace

RegexBudget::RegexBudget(std::size_t regexes)
    : memory_each_(
          std::clamp(kCacheMemory / static_cast<std::int64_t>(std::max<std::size_t>(regexes, 1)),
                     kLeastEach, kMostEach)) {}

absl::StatusOr<std::shared_ptr<const re2::RE2>> RegexBudget::compile(const std::string& text,
                                                                     bool ignore_case) {
  auto regex = std::make_shared<re2::RE2>(text, options(memory_each_, ignore_case));
  if (regex->error_code() == re2::RE2::ErrorPatternTooLarge) return too_large(text);
  if (!regex->ok())
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression ", readable(text), ": ", readable(regex->error())));
  const auto size = static_cast<std::size_t>(std::max(regex->ProgramSize(), 0));
  if (size > kRegexBudget) return too_large(text);
  instructions_ += size;
  if (instructions_ > kTableRegexBudget)
    return absl::InvalidArgumentError(
        absl::StrCat("the regular expressions of one service need more than ", kTableRegexBudget,
                     " instructions together, from ", readable(text), " on"));
  return regex;
}

bool equals_folded(std::string_view text, std::string_view lower) {
  return text.size() == lower.size() && starts_folded(text, lower);
}

bool starts_folded(std::string_view text, std::string_view lower) {
  if (text.size() < lower.size()) return false;
  for (std::size_t i = 0; i < lower.size(); ++i)
    if (absl::ascii_tolower(static_cast<unsigned char>(text[i])) != lower[i]) return false;
  return true;
}

absl::StatusOr<Pattern> Pattern::compile(const model::TextMatch& match, RegexBudget& budget) {
  static constexpr Kind kKinds[] = {Kind::kExact, Kind::kPrefix, Kind::kRegex, Kind::kPresent};
  Pattern pattern;
  pattern.kind_ = kKinds[static_cast<std::size_t>(match.kind)];
  pattern.ignore_case_ = match.ignore_case;
  pattern.written_ = match.text;
  pattern.text_ = match.ignore_case ? absl::AsciiStrToLower(match.text) : match.text;
  if (pattern.kind_ != Kind::kRegex) return pattern;
  auto regex = budget.compile(match.text, match.ignore_case);
  if (!regex.ok()) return regex.status();
  pattern.regex_ = *std::move(regex);
  pattern.text_ = common_beginning(match);
  return pattern;
}

absl::StatusOr<Pattern> Pattern::compile(const model::PathMatch& match, RegexBudget& budget) {
  using Text = model::TextMatch::Kind;
  static constexpr Text kKinds[] = {Text::kExact, Text::kPrefix, Text::kPrefix, Text::kRegex};
  auto pattern = compile(
      model::TextMatch{kKinds[static_cast<std::size_t>(match.kind)], match.text, match.ignore_case},
      budget);
  if (!pattern.ok() || match.kind != model::PathMatch::Kind::kSegmentPrefix) return pattern;
  pattern->kind_ = Kind::kSegmentPrefix;
  if (pattern->text_.ends_with('/')) pattern->text_.pop_back();
  return pattern;
}

bool Pattern::holds(std::string_view text) const {
  const auto begins = [&] {
    return ignore_case_ ? starts_folded(text, text_) : text.starts_with(text_);
  };
  switch (kind_) {
    case Kind::kExact:
      return text.size() == text_.size() && begins();
    case Kind::kPrefix:
      return begins();
    case Kind::kSegmentPrefix:
      return begins() && (text.size() == text_.size() || text[text_.size()] == '/');
    case Kind::kRegex:
      return re2::RE2::FullMatch(re2::StringPiece(text.data(), text.size()), *regex_);
    case Kind::kPresent:
      return true;
  }
  return false;
}

std::string Pattern::complaint() const {
  static constexpr const char* kWords[] = {"is not", "does not begin with", "is not below",
                                           "does not match", "is absent, not"};
  return absl::StrCat(kWords[static_cast<std::size_t>(kind_)], " ", readable(written_),
                      ignore_case_ ? " in any case" : "");
}

std::string readable(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  if (text.empty()) return "\"\"";
  const auto escaped = absl::Utf8SafeCHexEscape(base::to_absl(text.substr(0, kLongest)));
  return text.size() <= kLongest ? escaped : escaped + "...";
}

}  // namespace weft::routes
