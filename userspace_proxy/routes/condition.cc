#include "userspace_proxy/routes/condition.h"

#include <utility>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

#include "userspace_proxy/routes/given.h"

namespace weft::routes {
namespace {

using Subject = Condition::Subject;
using TextKind = model::TextMatch::Kind;

std::optional<std::string_view> label(const Caller* caller, const std::string& name) {
  if (!caller) return std::nullopt;
  const auto at = caller->labels.find(name);
  if (at == caller->labels.end()) return std::nullopt;
  return at->second;
}

// Collects the conditions of one match, and the first thing that is wrong with them.
class Builder {
 public:
  explicit Builder(RegexBudget& budget) : budget_(budget) {}

  template <class M>
  void add(Subject subject, std::string name, const M& match, bool inverted = false) {
    auto pattern = Pattern::compile(match, budget_);
    if (!pattern.ok()) return status_.Update(pattern.status());
    done_.push_back({subject, std::move(name), *std::move(pattern), inverted});
  }

  void add_authority(model::TextMatch match) {
    match.ignore_case = true;
    const bool strip = match.kind != TextKind::kRegex && without_port(match.text) == match.text;
    add(Subject::kAuthority, "", match);
    if (status_.ok()) done_.back().strip_port = strip;
  }

  void add_query(model::FieldMatch field) {
    if (field.value.kind != TextKind::kRegex) {
      const std::string written = std::exchange(field.value.text, {});
      percent_decode(written, field.value.text);
    }
    add(Subject::kQuery, field.name, field.value, field.inverted);
  }

  absl::StatusOr<std::vector<Condition>> take() {
    if (!status_.ok()) return status_;
    return std::move(done_);
  }

 private:
  RegexBudget& budget_;
  std::vector<Condition> done_;
  absl::Status status_;
};

model::TextMatch exactly(std::string text) { return {TextKind::kExact, std::move(text), false}; }

std::string subject_text(const Condition& condition) {
  switch (condition.subject) {
    case Subject::kPath:
      return "path";
    case Subject::kMethod:
      return "method";
    case Subject::kAuthority:
      return "authority";
    case Subject::kScheme:
      return "scheme";
    case Subject::kHeader:
      return absl::StrCat("header ", readable(condition.name));
    case Subject::kQuery:
      return absl::StrCat("query parameter ", readable(condition.name));
    case Subject::kSourceNamespace:
      return "the caller's namespace";
    case Subject::kSourceLabel:
      return absl::StrCat("the caller's label ", readable(condition.name));
  }
  return "";
}

}  // namespace

std::optional<std::string_view> Condition::given(const Request& request, std::string& room) const {
  switch (subject) {
    case Subject::kPath:
      return request.path;
    case Subject::kMethod:
      return request.method;
    case Subject::kAuthority:
      return strip_port ? without_port(request.authority) : request.authority;
    case Subject::kScheme:
      return "http";
    case Subject::kHeader:
      if (name == "host") return request.authority;
      return request.fields ? header_value(*request.fields, name, room) : std::nullopt;
    case Subject::kQuery:
      return query_value(request.query, name, room);
    case Subject::kSourceNamespace:
      if (!request.caller) return std::nullopt;
      return request.caller->namespace_name;
    case Subject::kSourceLabel:
      return label(request.caller, name);
  }
  return std::nullopt;
}

bool Condition::holds(const Request& request) const {
  std::string room;
  const auto text = given(request, room);
  if (inverted && pattern.kind() == Pattern::Kind::kPresent) return !text;
  if (inverted) return !pattern.holds(text.value_or(""));
  if (!text) return false;
  if (pattern.holds(*text)) return true;
  return subject == Subject::kAuthority && pattern.kind() == Pattern::Kind::kRegex &&
         pattern.holds(without_port(*text));
}

std::string Condition::why_not(const Request& request) const {
  std::string room;
  const auto text = given(request, room);
  const auto what = subject_text(*this);
  if (inverted)
    return absl::StrCat(what, text ? " is " : " is absent", text ? readable(*text) : "",
                        ", which the rule excludes");
  if (!text) return absl::StrCat(what, " is absent");
  return absl::StrCat(what, " ", readable(*text), " ", pattern.complaint());
}

absl::StatusOr<std::vector<Condition>> conditions(const model::HttpMatch& match,
                                                  RegexBudget& budget) {
  Builder builder(budget);
  if (match.path) builder.add(Subject::kPath, "", *match.path);
  if (match.method) builder.add(Subject::kMethod, "", *match.method);
  if (match.scheme) builder.add(Subject::kScheme, "", *match.scheme);
  if (!match.source_namespace.empty())
    builder.add(Subject::kSourceNamespace, "", exactly(match.source_namespace));
  if (match.authority) builder.add_authority(*match.authority);
  for (const auto& header : match.headers)
    builder.add(Subject::kHeader, absl::AsciiStrToLower(header.name), header.value,
                header.inverted);
  for (const auto& parameter : match.query) builder.add_query(parameter);
  for (const auto& [name, value] : match.source_labels)
    builder.add(Subject::kSourceLabel, name, exactly(value));
  return builder.take();
}

std::size_t count_regexes(const model::HttpMatch& match) {
  std::size_t count = match.path && match.path->kind == model::PathMatch::Kind::kRegex;
  for (const auto* text : {&match.method, &match.authority, &match.scheme})
    count += *text && (*text)->kind == TextKind::kRegex;
  for (const auto* fields : {&match.headers, &match.query})
    for (const auto& field : *fields) count += field.value.kind == TextKind::kRegex;
  return count;
}

}  // namespace weft::routes
