// HTTP routes and requests at random, out of few enough texts that rules collide and requests hit:
// what the compiled table, the wire and the fuzzers are compared with. The same seed gives the
// same.
#pragma once

#include <array>
#include <chrono>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "mesh/model/http.h"

namespace weft::tests {

class RandomRoutes {
 public:
  explicit RandomRoutes(std::uint64_t seed) : rng_(seed) {}

  int below(int n) { return static_cast<int>(rng_() % static_cast<unsigned>(n)); }
  bool one_in(int n) { return below(n) == 0; }
  template <std::size_t N>
  std::string of(const std::array<const char*, N>& texts) {
    return texts[static_cast<std::size_t>(below(N))];
  }

  model::HttpRoutes routes(int rules) {
    model::HttpRoutes routes;
    for (int i = 0; i < 3; ++i)
      routes.clusters.push_back(
          {"shop", "web" + std::to_string(i), i ? "v1" : "", 80, i == 2 ? "gone" : ""});
    routes.otherwise = static_cast<model::HttpRoutes::Otherwise>(below(2));
    routes.kind = one_in(2) ? "HTTPRoute" : "VirtualService";
    for (int i = 0; i < rules; ++i) routes.rules.push_back(rule());
    return routes;
  }

  std::string path() {
    std::string path;
    for (int segments = below(4); segments >= 0; --segments) path += "/" + of(kSegments);
    if (one_in(4)) path += "/";
    return one_in(12) ? "/" : one_in(40) ? "*" : path;
  }
  std::string method() { return of(kMethods); }
  std::string authority() { return of(kAuthorities); }
  std::string header() { return of(kHeaders); }
  std::string value() { return of(kValues); }
  std::string parameter() { return of(kParameters); }
  std::string label_value() { return one_in(2) ? "one" : "two"; }

  model::HttpRule rule() {
    model::HttpRule rule;
    if (one_in(2)) rule.name = "r" + std::to_string(below(9));
    rule.object = "VirtualService shop/web";
    if (one_in(2)) rule.origin = {std::make_shared<std::string>("web.yaml"), below(100)};
    for (int matches = below(4); matches > 0; --matches) rule.matches.push_back(match());
    if (rule.matches.empty() && !one_in(6)) rule.matches.push_back(match());
    const int kind = below(6);
    if (kind == 0) rule.action = redirect();
    if (kind == 1) rule.action = model::DirectResponse{418, value(), one_in(2) ? "text/plain" : ""};
    if (kind > 1) rule.action = forward();
    if (one_in(3)) rule.request_headers = edits();
    if (one_in(3)) rule.response_headers = edits();
    if (one_in(3)) rule.cors = cors();
    if (one_in(3)) rule.retries = retries();
    if (one_in(3)) rule.timeout = std::chrono::milliseconds(below(5000));
    return rule;
  }

  model::HttpMatch match() {
    model::HttpMatch match;
    if (!one_in(4)) match.path = path_match();
    if (one_in(6)) match.method = text_match(method());
    if (one_in(8)) match.authority = text_match(authority());
    if (one_in(20)) match.scheme = text_match("http");
    if (one_in(4)) match.headers.push_back(header_match());
    if (one_in(8)) match.headers.push_back(header_match());
    if (one_in(8)) match.query.push_back({parameter(), text_match(value()), one_in(8)});
    if (one_in(12)) match.source_labels["app"] = label_value();
    if (one_in(12)) match.source_namespace = label_value();
    return match;
  }

 private:
  static constexpr std::array kSegments{"a", "b", "ab", "A", "shop", "v1", "aB"};
  static constexpr std::array kMethods{"GET", "POST", "get"};
  static constexpr std::array kAuthorities{"web",      "web:80", "WEB.shop", "web.shop:8080",
                                           "[::1]:80", "[::1]",  "other",    ""};
  static constexpr std::array kHeaders{"x-user", "x-group", "host", "cookie"};
  static constexpr std::array kValues{"", "a", "A", "ab", "a,b", "b", "a b", "a%20b", "1"};
  static constexpr std::array kParameters{"v", "V", "x y", "user"};
  static constexpr std::array kRegexes{".*",
                                       "a+",
                                       "/a|/b/.*",
                                       "/shop/v1.*",
                                       "/[Aa]b?(/b)*",
                                       "/a(/.*)?",
                                       "[ab]{1,2}",
                                       "(web|other)(:80)?",
                                       ""};

  model::TextMatch text_match(const std::string& exact) {
    const auto kind = static_cast<model::TextMatch::Kind>(one_in(2) ? 0 : below(4));
    const bool regex = kind == model::TextMatch::Kind::kRegex;
    const auto text = kind == model::TextMatch::Kind::kPrefix ? exact.substr(0, 2) : exact;
    return {kind, regex ? of(kRegexes) : text, one_in(4)};
  }
  model::FieldMatch header_match() { return {header(), text_match(value()), one_in(5)}; }
  model::PathMatch path_match() {
    const auto kind = static_cast<model::PathMatch::Kind>(below(4));
    if (kind == model::PathMatch::Kind::kRegex) return {kind, of(kRegexes), one_in(4)};
    auto text = path();
    if (kind == model::PathMatch::Kind::kPrefix) text.resize(text.size() - one_in(3));
    return {kind, text, one_in(4)};
  }
  model::PathEdit path_edit() {
    const auto kind = static_cast<model::PathEdit::Kind>(below(3));
    const bool regex = kind == model::PathEdit::Kind::kRegex;
    return {kind, regex ? "/\\1" : one_in(6) ? "" : path(), regex ? "/(a|b)" : ""};
  }
  model::HeaderEdits edits() {
    model::HeaderEdits edits;
    if (one_in(2)) edits.remove.push_back(header());
    if (one_in(2)) edits.set.emplace_back(header(), value());
    if (one_in(2)) edits.add.emplace_back(header(), value());
    return edits;
  }
  model::Forward forward() {
    model::Forward forward;
    for (int count = below(4); count > 0; --count) forward.destinations.push_back(destination());
    if (one_in(3)) forward.path = path_edit();
    if (one_in(4)) forward.authority = authority();
    if (one_in(4)) forward.mirrors.push_back({static_cast<std::uint32_t>(below(3)), 500000});
    return forward;
  }
  model::HttpDestination destination() {
    model::HttpDestination destination;
    destination.cluster = static_cast<std::uint32_t>(below(3));
    destination.weight = static_cast<std::uint32_t>(below(5) * 25);
    if (one_in(4)) destination.request_headers = edits();
    if (one_in(4)) destination.response_headers = edits();
    if (one_in(4)) destination.authority = authority();
    if (one_in(4)) destination.path = path_edit();
    return destination;
  }
  model::Redirect redirect() {
    model::Redirect redirect;
    redirect.status = one_in(2) ? 302 : 308;
    if (one_in(2)) redirect.scheme = "https";
    if (one_in(2)) redirect.authority = authority();
    if (one_in(2)) redirect.port = 8443;
    if (one_in(2)) redirect.path = path_edit();
    return redirect;
  }
  model::Cors cors() {
    model::Cors cors;
    cors.allow_origins.push_back(text_match("https://a"));
    if (one_in(2)) cors.allow_methods = {"GET", "PUT"};
    if (one_in(2)) cors.allow_headers = {header()};
    if (one_in(2)) cors.expose_headers = {header(), header()};
    if (one_in(2)) cors.max_age = std::chrono::seconds(below(100));
    if (one_in(2)) cors.allow_credentials = one_in(2);
    cors.forward_unmatched_preflights = one_in(2);
    return cors;
  }
  model::Retries retries() {
    model::Retries retries;
    retries.attempts = static_cast<std::uint32_t>(below(5));
    retries.on = static_cast<std::uint16_t>(below(128));
    if (one_in(2)) retries.statuses = {503, 599};
    if (one_in(2)) retries.per_try_timeout = std::chrono::milliseconds(below(5000));
    retries.backoff = std::chrono::milliseconds(1 + below(100));
    return retries;
  }

  std::mt19937_64 rng_;
};

}  // namespace weft::tests
