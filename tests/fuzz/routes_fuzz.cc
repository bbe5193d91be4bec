// Any bytes as HTTP rules and requests: compiled, matched, explained, paths edited. A line is one
// letter and its text, so that a corpus can be read and written by hand:
//   r new rule               m new match of it
//   e p s x path: exact, prefix, segments, regular expression; in capitals in any case
//   h name:text header, exact; H regular expression; n not exact; N not there
//   q name=text parameter, exact; Q regular expression
//   a authority, exact; A regular expression; k method
//   b prefix edit; w whole; g regular expression and text, parted by ">"
//   d weight of another destination
//   ? path?query of a request; + name:text a header of the requests that follow
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>
#include <string_view>

#include "userspace_proxy/routes/table.h"

namespace {

using namespace weft;
using Path = model::PathMatch::Kind;
using Text = model::TextMatch::Kind;
using Edit = model::PathEdit::Kind;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

std::pair<std::string, std::string> parted(std::string_view text, char at) {
  const auto place = text.find(at);
  if (place == std::string_view::npos) return {std::string(text), ""};
  return {std::string(text.substr(0, place)), std::string(text.substr(place + 1))};
}

class Reader {
 public:
  model::HttpRoutes routes;
  std::deque<std::string> requests;
  std::deque<std::pair<std::string, std::string>> headers;

  void line(char letter, std::string_view text) {
    if (letter == '?') return requests.emplace_back(text), void();
    if (letter == '+') return headers.push_back(parted(text, ':')), void();
    if (letter == 'r' || routes.rules.empty()) add_rule();
    if (letter == 'm' || rule().matches.empty()) rule().matches.emplace_back();
    path_or_field(letter, text);
    action(letter, text);
  }

 private:
  model::HttpRule& rule() { return routes.rules.back(); }
  void add_rule() {
    routes.rules.emplace_back();
    rule().action = model::Forward{};
  }

  void path_or_field(char letter, std::string_view text) {
    auto& match = rule().matches.back();
    static constexpr std::string_view kPaths = "epsxEPSX";
    if (const auto at = kPaths.find(letter); at != std::string_view::npos)
      match.path = model::PathMatch{static_cast<Path>(at % 4), std::string(text), at >= 4};
    if (letter == 'h' || letter == 'H' || letter == 'n' || letter == 'N') {
      const auto [name, value] = parted(text, ':');
      const auto kind = letter == 'H'   ? Text::kRegex
                        : letter == 'N' ? Text::kPresent
                                        : Text::kExact;
      match.headers.push_back({name, {kind, value}, letter == 'n' || letter == 'N'});
    }
    if (letter == 'q' || letter == 'Q') {
      const auto [name, value] = parted(text, '=');
      match.query.push_back({name, {letter == 'Q' ? Text::kRegex : Text::kExact, value}, false});
    }
    if (letter == 'a' || letter == 'A')
      match.authority =
          model::TextMatch{letter == 'A' ? Text::kRegex : Text::kExact, std::string(text)};
    if (letter == 'k') match.method = model::TextMatch{Text::kExact, std::string(text)};
  }

  void action(char letter, std::string_view text) {
    auto& forward = std::get<model::Forward>(rule().action);
    if (letter == 'w') forward.path = model::PathEdit{Edit::kWhole, std::string(text), ""};
    if (letter == 'b') forward.path = model::PathEdit{Edit::kPrefix, std::string(text), ""};
    if (letter == 'g') {
      const auto [regex, edited] = parted(text, '>');
      forward.path = model::PathEdit{Edit::kRegex, edited, regex};
    }
    if (letter != 'd') return;
    forward.destinations.emplace_back();
    forward.destinations.back().weight =
        static_cast<std::uint32_t>(std::strtoul(std::string(text).c_str(), nullptr, 10));
  }
};

void check_forward(const routes::Table& table, routes::Match match, std::string_view path) {
  const auto& forward = std::get<model::Forward>(table.routes().rules[match.rule].action);
  for (const auto random : {0u, 1u << 31, ~0u}) {
    const auto chosen = routes::Table::destination(forward, random);
    require(chosen == routes::kNone || forward.destinations.at(chosen).weight > 0,
            "who is chosen has a weight");
  }
  if (forward.path)
    require(table.edited_path(*forward.path, match, path).starts_with('/'),
            "an edited path begins with a slash");
}

void check_request(const routes::Table& table, const routes::Request& request) {
  const auto match = table.match(request);
  const auto explanations = routes::explain(table, request);
  require(explanations.size() == table.routes().rules.size(), "every rule is explained");
  for (const auto& explanation : explanations) {
    require(explanation.won == (explanation.rule == match.rule), "who won is who matched");
    require(explanation.why.empty() == explanation.won, "who did not win is told why");
    for (const unsigned char c : explanation.why)
      require(c >= 0x20 && c != 0x7f, "an explanation holds no control character");
  }
  if (match.rule != routes::kNone) check_forward(table, match, request.path);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  Reader read;
  while (!rest.empty()) {
    const auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (!line.empty()) read.line(line[0], line.substr(1));
  }
  const auto table = routes::Table::compile(std::move(read.routes));
  if (!table.ok()) return require(!table.status().message().empty(), "a refusal says why"), 0;
  http::Fields fields;
  for (const auto& [name, value] : read.headers)
    if (fields.all().size() < http::kMaxFields) fields.add(name, value, http::Known::kOther);
  for (const auto& text : read.requests) {
    const auto [path, query] = parted(text, '?');
    check_request(**table, {"GET", "web.shop:8080", path, query, &fields, nullptr});
  }
  return 0;
}
