// What finding a route costs, with one route on the service and with a thousand: nanoseconds a
// request, by kind of rule. A whole proxied request costs some 12 us, and may cost 5 % more with a
// thousand routes, which is 0.6 us.
//
//   weft_routes_bench [--benchmark_filter=exact]
//
// The request asks for the route in the middle; "miss" for none. "alike" are regular expressions
// that have no beginning to tell them apart by.
#include <benchmark/benchmark.h>

#include <string>

#include "userspace_proxy/routes/table.h"

namespace {

using namespace weft;
using model::HttpMatch;
using model::PathMatch;
using model::TextMatch;

enum Kind { kExact, kPrefix, kSegments, kHeader, kHeaderBelowRoot, kRegex, kRegexAlike };

std::string path_of(int i) { return "/shop/v1/things/" + std::to_string(i * 37) + "/parts"; }

HttpMatch match_of(Kind kind, int i) {
  HttpMatch match;
  if (kind == kExact) match.path = PathMatch{PathMatch::Kind::kExact, path_of(i)};
  if (kind == kPrefix) match.path = PathMatch{PathMatch::Kind::kPrefix, path_of(i)};
  if (kind == kSegments) match.path = PathMatch{PathMatch::Kind::kSegmentPrefix, path_of(i)};
  if (kind == kHeaderBelowRoot) match.path = PathMatch{PathMatch::Kind::kSegmentPrefix, "/"};
  if (kind == kHeader || kind == kHeaderBelowRoot)
    match.headers.push_back({"x-user", TextMatch{TextMatch::Kind::kExact, path_of(i)}});
  if (kind == kRegex) match.path = PathMatch{PathMatch::Kind::kRegex, path_of(i) + "(/.*)?"};
  if (kind == kRegexAlike)
    match.path = PathMatch{PathMatch::Kind::kRegex, "/[a-z]+" + path_of(i).substr(5)};
  return match;
}

void find(benchmark::State& state, Kind kind, bool hit) {
  const int count = static_cast<int>(state.range(0));
  model::HttpRoutes routes;
  for (int i = 0; i < count; ++i) {
    routes.rules.emplace_back();
    routes.rules.back().matches.push_back(match_of(kind, i));
  }
  const auto table = *routes::Table::compile(std::move(routes));
  const std::string asked = hit ? path_of(count / 2) : "/shop/v1/things/none";
  http::Fields fields;
  for (const char* name : {"Host", "User-Agent", "Accept", "Accept-Encoding", "x-request-id",
                           "traceparent", "x-b3-traceid", "Cookie"})
    fields.add(name, "some value", http::Known::kOther);
  fields.add("X-User", asked, http::Known::kOther);
  const routes::Request request{"GET", "web.shop", asked, "", &fields, nullptr};
  if ((table->match(request).rule == routes::kNone) == hit) state.SkipWithError("wrong route");
  for (auto _ : state) benchmark::DoNotOptimize(table->match(request));
}

void one_and_a_thousand(benchmark::internal::Benchmark* benchmark) { benchmark->Arg(1)->Arg(1000); }

BENCHMARK_CAPTURE(find, exact, kExact, true)->Apply(one_and_a_thousand);
BENCHMARK_CAPTURE(find, exact_miss, kExact, false)->Apply(one_and_a_thousand);
BENCHMARK_CAPTURE(find, prefix, kPrefix, true)->Apply(one_and_a_thousand);
BENCHMARK_CAPTURE(find, segments, kSegments, true)->Apply(one_and_a_thousand);
BENCHMARK_CAPTURE(find, segments_miss, kSegments, false)->Apply(one_and_a_thousand);
BENCHMARK_CAPTURE(find, header, kHeader, true)->Apply(one_and_a_thousand);
BENCHMARK_CAPTURE(find, header_below_root, kHeaderBelowRoot, true)->Apply(one_and_a_thousand);
BENCHMARK_CAPTURE(find, header_miss, kHeader, false)->Apply(one_and_a_thousand);
BENCHMARK_CAPTURE(find, regex, kRegex, true)->Apply(one_and_a_thousand);
BENCHMARK_CAPTURE(find, regex_miss, kRegex, false)->Apply(one_and_a_thousand);
BENCHMARK_CAPTURE(find, regex_alike, kRegexAlike, true)->Apply(one_and_a_thousand);

}  // namespace

BENCHMARK_MAIN();
