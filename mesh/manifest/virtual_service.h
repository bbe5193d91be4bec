// The parts of a VirtualService's http rules, one file each. `path` is the part's own. What is said
// to be passed over has no effect as a whole: a rule that applies to more requests than it was
// written for is worse than none.
#pragma once

#include <optional>
#include <string>

#include "mesh/manifest/decode.h"

namespace weft::manifest {

// Whether `gateways` of a VirtualService or of a match include the mesh itself, as they do where
// there are none.
bool for_the_mesh(Decoder& decoder, Value parent, const std::string& path);

// virtual_service_http.cc
void decode_http_rules(Decoder& decoder, Value spec, model::VirtualServiceObject& routes);
// The Destination that is parent's field `key`: host, subset, port.
std::optional<model::HttpBackend> decode_http_backend(Decoder& decoder, Value parent,
                                                      const std::string& parent_path,
                                                      std::string_view key);

// virtual_service_match.cc. False: the rule is passed over.
bool decode_http_matches(Decoder& decoder, Value rule, const std::string& path,
                         model::HttpRuleSpec& into);
// exact, prefix or regex; without one of them, where that is allowed, what is there at all.
std::optional<model::TextMatch> decode_string_match(Decoder& decoder, Value value,
                                                    const std::string& path, bool may_be_empty);

// virtual_service_actions.cc. False: the rule is passed over.
bool decode_redirect(Decoder& decoder, Value value, const std::string& path, model::HttpRule& rule);
void decode_direct_response(Decoder& decoder, Value value, const std::string& path,
                            model::HttpRule& rule);
void decode_rewrite(Decoder& decoder, Value value, const std::string& path, model::HttpRule& rule);

// virtual_service_policies.cc
void decode_headers(Decoder& decoder, Value headers, const std::string& path,
                    model::HeaderEdits& request, model::HeaderEdits& response,
                    std::optional<std::string>& authority);
void decode_retries(Decoder& decoder, Value value, const std::string& path, model::HttpRule& rule);
void decode_cors(Decoder& decoder, Value value, const std::string& path, model::HttpRule& rule);
void decode_mirrors(Decoder& decoder, Value rule, const std::string& path, model::Forward& forward,
                    std::vector<model::HttpBackend>& backends);

}  // namespace weft::manifest
