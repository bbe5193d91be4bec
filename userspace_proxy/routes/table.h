// model::HttpRoutes compiled for matching: what a request of one service port is compared with.
// Immutable; a worker swaps the pointer to a new one and a request keeps the one it began with.
// Pure: no I/O, no clock, no random numbers but the caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "mesh/model/http.h"
#include "userspace_proxy/http/message.h"

namespace weft::routes {

// Who asks, as far as rules look at it.
struct Caller {
  std::string namespace_name;
  std::map<std::string, std::string> labels;
};

struct Request {
  std::string_view method;
  std::string_view authority;
  std::string_view path;  // normalized (http/path.h)
  std::string_view query;
  const http::Fields* fields = nullptr;
  const Caller* caller = nullptr;
};

// Instructions of RE2's program, which is what one byte of a text costs at worst. Envoy refuses
// from 100 on unless told otherwise, Istio tells it 32,768: this admits what people write (an
// alternation of fifty names) and keeps a head full of a hostile header under 0.1 s.
inline constexpr std::size_t kRegexBudget = model::kRegexBudget;
inline constexpr std::size_t kTableRegexBudget = 131072;  // all of one table together

// `rule` is an index into HttpRoutes::rules; kNone: nothing matched.
inline constexpr std::uint32_t kNone = ~0u;
struct Match {
  std::uint32_t rule = kNone;
  std::uint32_t match = 0;  // which of the rule's matches; for PathEdit::kPrefix
};

struct Explanation;

class Table {
 public:
  // Fails where a regular expression does not compile or is too large, or all of them together.
  static absl::StatusOr<std::shared_ptr<const Table>> compile(model::HttpRoutes routes);
  ~Table();

  Match match(const Request& request) const;

  // The destination a random number (whole range of 32 bits) leads to; kNone where there is none.
  static std::uint32_t destination(const model::Forward& forward, std::uint32_t random);

  // The path after the edit; `matched` says what a prefix was.
  std::string edited_path(const model::PathEdit& edit, Match matched, std::string_view path) const;

  const model::HttpRoutes& routes() const;

 private:
  friend std::vector<Explanation> explain(const Table& table, const Request& request);
  struct Index;
  explicit Table(std::unique_ptr<Index> index);
  std::unique_ptr<Index> index_;
};

// Why a rule won or did not, in the order of trial, for `weftctl why`: by the same comparisons as
// match().
struct Explanation {
  std::uint32_t rule = 0;
  bool won = false;
  std::string why;  // "path /a is not /b"; empty where it won
};
std::vector<Explanation> explain(const Table& table, const Request& request);

}  // namespace weft::routes
