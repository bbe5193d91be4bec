// match() against a reference that knows no index and shares no code with it: every rule in order,
// every comparison written out plainly.
#include <gtest/gtest.h>
#include <re2/re2.h>

#include <cctype>

#include "tests/random_routes.h"
#include "userspace_proxy/routes/table.h"

namespace weft::routes {
namespace {

using model::HttpMatch;
using tests::RandomRoutes;

std::string lower(std::string text) {
  for (auto& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool full_match(const std::string& text, const std::string& regex, bool ignore_case) {
  return re2::RE2::FullMatch(text,
                             re2::RE2((ignore_case ? "(?is)" : "(?s)") + regex, re2::RE2::Latin1));
}

bool text_holds(const model::TextMatch& match, std::string text) {
  using Kind = model::TextMatch::Kind;
  if (match.kind == Kind::kPresent) return true;
  if (match.kind == Kind::kRegex) return full_match(text, match.text, match.ignore_case);
  std::string wanted = match.text;
  if (match.ignore_case) wanted = lower(wanted), text = lower(text);
  return match.kind == Kind::kExact ? text == wanted : text.compare(0, wanted.size(), wanted) == 0;
}

bool path_holds(const model::PathMatch& match, std::string path) {
  using Kind = model::PathMatch::Kind;
  if (match.kind == Kind::kRegex) return full_match(path, match.text, match.ignore_case);
  std::string wanted = match.text;
  if (match.ignore_case) wanted = lower(wanted), path = lower(path);
  if (match.kind == Kind::kExact) return path == wanted;
  if (match.kind == Kind::kPrefix) return path.compare(0, wanted.size(), wanted) == 0;
  if (!wanted.empty() && wanted.back() == '/') wanted.pop_back();
  return path == wanted || path.compare(0, wanted.size() + 1, wanted + "/") == 0;
}

std::string port_removed(const std::string& authority) {
  static const re2::RE2 kPort(R"((\[[^\]]*\]|[^:]*):[0-9]*)");
  std::string host;
  return re2::RE2::FullMatch(authority, kPort, &host) ? host : authority;
}

bool authority_holds(model::TextMatch match, const std::string& authority) {
  match.ignore_case = true;
  if (match.kind == model::TextMatch::Kind::kRegex)
    return text_holds(match, authority) || text_holds(match, port_removed(authority));
  const bool has_port = port_removed(match.text) != match.text;
  return text_holds(match, has_port ? authority : port_removed(authority));
}

// What is asked, as plain values that own their text.
struct Question {
  std::string method, authority, path;
  std::vector<std::pair<std::string, std::string>> headers, query;  // query: decoded
  std::string query_text;
  std::optional<Caller> caller;
};

using Values = std::vector<std::pair<std::string, std::string>>;

std::optional<std::string> value_of(const Values& values, const std::string& name, bool joined) {
  std::optional<std::string> value;
  for (const auto& [key, text] : values)
    if (key == name && (joined || !value)) value = value ? *value + "," + text : text;
  return value;
}

bool field_holds(const model::FieldMatch& field, const std::optional<std::string>& value) {
  if (field.value.kind == model::TextMatch::Kind::kPresent)
    return value.has_value() != field.inverted;
  if (field.inverted) return !text_holds(field.value, value.value_or(""));
  return value && text_holds(field.value, *value);
}

bool query_holds(model::FieldMatch field, const Question& question) {
  if (field.value.text == "a%20b") field.value.text = "a b";
  return field_holds(field, value_of(question.query, field.name, false));
}

bool header_holds(const model::FieldMatch& field, const Question& question) {
  if (field.name == "host") return field_holds(field, question.authority);
  return field_holds(field, value_of(question.headers, field.name, true));
}

bool match_holds(const HttpMatch& match, const Question& question) {
  const auto caller = question.caller.value_or(Caller{});
  bool holds = !match.path || path_holds(*match.path, question.path);
  holds = holds && (!match.method || text_holds(*match.method, question.method));
  holds = holds && (!match.authority || authority_holds(*match.authority, question.authority));
  holds = holds && (!match.scheme || text_holds(*match.scheme, "http"));
  for (const auto& field : match.headers) holds = holds && header_holds(field, question);
  for (const auto& field : match.query) holds = holds && query_holds(field, question);
  for (const auto& [name, value] : match.source_labels)
    holds = holds && caller.labels.count(name) && caller.labels.at(name) == value;
  return holds &&
         (match.source_namespace.empty() || match.source_namespace == caller.namespace_name);
}

Match reference(const model::HttpRoutes& routes, const Question& question) {
  for (std::uint32_t rule = 0; rule < routes.rules.size(); ++rule) {
    const auto& matches = routes.rules[rule].matches;
    if (matches.empty()) return {rule, 0};
    for (std::uint32_t i = 0; i < matches.size(); ++i)
      if (match_holds(matches[i], question)) return {rule, i};
  }
  return {};
}

std::string encoded(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == ' ' ? "%20" : c == '%' ? "%25" : std::string(1, c);
  return out;
}

Question question(RandomRoutes& random) {
  Question question;
  question.method = random.method();
  question.authority = random.authority();
  question.path = random.path();
  for (int i = random.below(4); i > 0; --i)
    question.headers.emplace_back(random.header(), random.value());
  for (int i = random.below(3); i > 0; --i) {
    const auto value = random.value();
    question.query.emplace_back(random.parameter(), value);
    question.query_text += (question.query_text.empty() ? "" : "&") +
                           encoded(question.query.back().first) + "=" + encoded(value);
  }
  if (random.one_in(2))
    question.caller = Caller{random.label_value(), {{"app", random.label_value()}}};
  return question;
}

Request request_of(const Question& question, http::Fields& fields) {
  for (const auto& [name, value] : question.headers) fields.add(name, value, http::Known::kOther);
  return {question.method, question.authority,
          question.path,   question.query_text,
          &fields,         question.caller ? &*question.caller : nullptr};
}

void check_explanation(const Table& table, const Request& request, const Match& match) {
  const auto explanations = explain(table, request);
  ASSERT_EQ(explanations.size(), table.routes().rules.size());
  for (const auto& explanation : explanations) {
    EXPECT_EQ(explanation.won, explanation.rule == match.rule);
    EXPECT_EQ(explanation.why.empty(), explanation.won);
  }
}

void compare(std::uint64_t seed, int rules, int requests) {
  RandomRoutes random(seed);
  const auto routes = random.routes(rules);
  const auto table = Table::compile(routes);
  ASSERT_TRUE(table.ok()) << table.status();
  for (int i = 0; i < requests; ++i) {
    const auto asked = question(random);
    http::Fields fields;
    const auto request = request_of(asked, fields);
    const auto expected = reference(routes, asked);
    const auto found = (*table)->match(request);
    ASSERT_EQ(found.rule, expected.rule) << "seed " << seed << " path " << asked.path;
    ASSERT_EQ(found.match, expected.match) << "seed " << seed << " path " << asked.path;
    check_explanation(**table, request, found);
  }
}

TEST(MatchProperty, EqualsTheNaiveReferenceOnThousandsOfSmallTables) {
  for (std::uint64_t seed = 0; seed < 3000 && !HasFatalFailure(); ++seed)
    compare(seed, static_cast<int>(seed % 7), 10);
}

TEST(MatchProperty, EqualsTheNaiveReferenceOnLargeTables) {
  for (std::uint64_t seed = 0; seed < 20 && !HasFatalFailure(); ++seed)
    compare(10000 + seed, 150, 30);
}

}  // namespace
}  // namespace weft::routes
