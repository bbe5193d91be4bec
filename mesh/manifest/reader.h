// Manifest bytes -> objects. Pure: bytes in, values out; the same reader serves files and API
// servers.
//
// Untrusted input: bounded in size and depth, YAML aliases and duplicate keys refused, every error
// names file, line and reason. One bad document never takes its neighbours with it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/model/notice.h"
#include "mesh/model/object.h"

namespace weft::manifest {

inline constexpr std::size_t kMaxFileBytes = 64u << 20;
inline constexpr int kMaxDepth = 64;

struct ParseResult {
  std::vector<std::shared_ptr<const model::Object>> objects;
  std::vector<model::Notice> notices;
  std::vector<model::ObjectId>
      rejected;  // documents that are wrong, but whose identity could be read
  bool unidentified_rejection =
      false;  // something could not be read so far that we know whose it was
};

enum class Format { kYaml, kJson };

// `file` is what notices call it. Never throws; never fails as a whole: what is wrong is in the
// result.
ParseResult parse(std::string_view bytes, const std::string& file, Format format);

// One item of an API server's list or watch, which leaves its kind and apiVersion to what it came
// in. `origin` is what notices call it.
struct ItemKind {
  std::string_view kind, api_version;  // "EndpointSlice", "discovery.k8s.io/v1"
};
ParseResult parse_item(std::string_view json, const std::string& origin, const ItemKind& kind);

// "The last good version stays": the unit to use after `fresh` was read where `previous` was in
// force. Objects of `previous` that `fresh` lacks stay if `fresh` rejected their document, or
// rejected something it could not identify (a syntax error hides everything behind it). Null
// previous: none.
std::shared_ptr<const model::Unit> carry_over(const std::shared_ptr<const model::Unit>& previous,
                                              ParseResult fresh);

}  // namespace weft::manifest
