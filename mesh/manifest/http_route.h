// The parts of an HTTPRoute, one file each. `path` is the part's own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mesh/manifest/decode.h"

namespace weft::manifest {

// A reference to a Service: group "" and kind Service, which only a backendRef may leave out.
// `missing` says why it can be none; nothing where the document is rejected.
std::optional<model::HttpBackend> decode_backend_ref(Decoder& decoder, Value value,
                                                     const std::string& path,
                                                     const std::string& own_namespace);

// http_route_match.cc
void decode_route_matches(Decoder& decoder, Value rule, const std::string& path,
                          model::HttpRule& into);

// http_route_filters.cc. A filter that is not known must not be skipped (HTTPRouteFilter): what it
// was for is answered with an error.
struct RouteFilters {
  model::HeaderEdits request_headers, response_headers;
  std::optional<std::string> authority;
  std::optional<model::PathEdit> path;
  std::optional<model::Redirect> redirect;
  std::vector<model::Mirror> mirrors;
  std::optional<model::Cors> cors;
  std::string unknown;  // the first type that is not known; empty: none
};
RouteFilters decode_filters(Decoder& decoder, Value parent, const std::string& path,
                            const model::ObjectMeta& meta,
                            std::vector<model::HttpBackend>& backends);
// http_route_cors.cc
model::Cors decode_cors_filter(Decoder& decoder, Value value, const std::string& path);

}  // namespace weft::manifest
